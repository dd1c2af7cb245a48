"""Plugins, a keeper and a keystore under readers who never stop, while volumes are published, rotated
and unpublished and plugins and keepers are killed, stopped and upgraded, at random from a seed. Each
read must show the content of one version, none older than one seen before, and none may fail. Root.

    torture_test.py BIN_DIR [--seconds=8] [--seed=11] [--volumes=3]
"""

import argparse
import collections
import ctypes
import mmap
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
import traceback

from kept_node import KeptNode, eventually

REPEATS = 1500  # of the version, in each file: 15,000 bytes
OBJECTS = """
- {objectName: a, secretPath: secret/data/webapp/config, secretKey: a}
- {objectName: b, secretPath: secret/data/webapp/config, secretKey: b}
"""
# What is asserted holds on any machine; what is wanted, 50 ms, is printed.
LONGEST_STALL = 30.0
EVENTS = ["start", "publish", "unpublish", "rotate", "rotate", "kill", "kill_in_rotation", "stop", "upgrade",
          "kill_standby", "kill_keeper"]  # each as often as any other; "start" once


def content(version):
    return f"{version:09}\n" * REPEATS


def version_of(data):
    version = int(data[:9])
    if data.decode() != content(version):
        raise AssertionError(f"{len(data)} bytes are not the content of one version: "
                             f"{sorted(collections.Counter(data.split()).items())[:5]}")
    return version


class Shared:
    """What the readers' processes and the director see of a volume."""

    def __init__(self):
        value = multiprocessing.RawValue
        self.published = value(ctypes.c_bool, False)
        self.idle = value(ctypes.c_bool, True)  # the reader has seen that it isn't
        self.done = value(ctypes.c_bool, False)
        self.reads = value(ctypes.c_long, 0)
        self.newest = value(ctypes.c_long, 0)
        self.longest = multiprocessing.RawArray(ctypes.c_double, len(EVENTS))  # read during each
        self.error = multiprocessing.RawArray(ctypes.c_char, 4000)


def read_at(path, folder=None, drop_pages=False):
    fd = os.open(path, os.O_RDONLY, dir_fd=folder)
    try:
        if drop_pages:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.read(fd, 100_000)
    finally:
        os.close(fd)


class Reader:
    def __init__(self, target, shared, seed, event):
        self.target, self.shared, self.random, self.event = target, shared, random.Random(seed), event
        self.kept = None  # an open file, and the version it had

    def by_name(self):
        return version_of(read_at(self.target + self.random.choice(["/a", "/b"])))

    def past_the_cache(self):
        return version_of(read_at(self.target + "/a", drop_pages=True))

    def pair(self):
        """two files through one ..data are of one version"""
        folder = os.open(self.target + "/..data", os.O_RDONLY | os.O_DIRECTORY)
        try:
            a, b = version_of(read_at("a", folder)), version_of(read_at("b", folder))
        finally:
            os.close(folder)
        if a != b:
            raise AssertionError(f"a has version {a}, b {b}")
        return a

    def mapped(self):
        with open(self.target + "/a", "rb") as file, \
                mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
            return version_of(pages[:])

    def listed(self):
        names = os.listdir(self.target)
        if not {"..data", "a", "b"} <= set(names) or len(names) != len(set(names)):
            raise AssertionError(f"the folder lists {sorted(names)}")
        if os.stat(self.target + "/a").st_size != len(content(0)):
            raise AssertionError("wrong size")

    def open_file(self):
        """an open file stays what it was"""
        if self.kept is None:
            fd = os.open(self.target + "/a", os.O_RDONLY)
            self.kept = fd, version_of(os.pread(fd, 100_000, 0))
            return self.kept[1]
        fd, version = self.kept
        if version_of(os.pread(fd, 100_000, 0)) != version:
            raise AssertionError("an open file has changed")
        if self.random.random() < 0.1:
            self.let_go()
        return None

    def let_go(self):
        if self.kept:
            os.close(self.kept[0])
            self.kept = None

    def run(self):
        ways = [self.by_name, self.past_the_cache, self.pair, self.mapped, self.listed, self.open_file]
        shared = self.shared
        try:
            while not shared.done.value:
                if not shared.published.value:
                    self.let_go()
                    shared.newest.value = 0
                    shared.idle.value = True
                    time.sleep(0.001)
                    continue
                shared.idle.value = False
                if not shared.published.value:
                    continue
                way = self.random.choice(ways)
                during = self.event.value
                start = time.monotonic()
                version = way()
                took = time.monotonic() - start
                if took > shared.longest[during]:
                    shared.longest[during] = took
                if version is not None and version < shared.newest.value:
                    raise AssertionError(f"{way.__name__}: version {version} after {shared.newest.value}")
                shared.newest.value = max(shared.newest.value, version or 0)
                shared.reads.value += 1
        except BaseException:  # pylint: disable=broad-except
            text = f"{way.__name__}: {traceback.format_exc()}"
            shared.error.value = text.encode()[-3900:]
        shared.idle.value = True


class Director:
    def __init__(self, node, seed, volumes):
        self.random = random.Random(seed)
        self.node = node
        bin_dir = node.bin_dir
        self.counts = collections.Counter()
        self.version = 0
        self.readers = []
        self.event = multiprocessing.RawValue(ctypes.c_int, 0)  # what happens at the moment, of EVENTS
        self.node.write_class("webapp", OBJECTS)
        self.put()
        self.programs = [os.path.join(bin_dir, "coffer-csi")] + [
            shutil.copy(os.path.join(bin_dir, "coffer-csi"), os.path.join(self.node.folder, f"build-{i}"))
            for i in (1, 2)]
        self.volumes = [Shared() for _ in range(volumes)]
        self.targets = [self.node.target(str(i)) for i in range(volumes)]
        for i, shared in enumerate(self.volumes):
            process = multiprocessing.Process(
                target=Reader(self.targets[i], shared, seed * 1000 + i, self.event).run, daemon=True)
            process.start()
            self.readers.append(process)
            self.publish(i)
        self.node.start_standby()

    def put(self):
        self.version += 1
        text = content(self.version)
        self.node.keystore.must(
            "POST", "secret/data/webapp/config", {"data": {"a": text, "b": text}}, self.node.root)

    def call(self, what, i):
        """As the kubelet does: again and again until it is done."""
        answers = []
        try:
            eventually(lambda: answers.append(what(self.targets[i], f"csi-{i}")) or answers[-1][0] == "OK",
                       f"{what.__name__} of volume {i}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {answers[-1]}") from None

    def whole(self):
        """One plugin serves and has all volumes, another stands by, and the keeper holds them, too."""
        published = sum(shared.published.value for shared in self.volumes)
        pids = [plugin.pid for plugin in self.node.plugins]

        def is_whole():
            status = self.node.status()
            return (status and status[0] == published and status[1] in pids and status[2] == 1
                    and self.node.call("probe")[0] == "OK")

        try:
            eventually(is_whole, "a node that is whole")
        except AssertionError as error:
            raise AssertionError(
                f"{error}: after {EVENTS[self.event.value]}, (volumes, serves, standing by) is {self.node.status()} "
                f"with {published} published and processes {pids}; the log ends:\n"
                + self.node.log_text()[-6000:]) from None

    def active(self):
        return eventually(self.node.serving, "a plugin serves")

    # What happens.

    def publish(self, i=None):
        unpublished = [j for j, shared in enumerate(self.volumes) if not shared.published.value]
        if i is None and not unpublished:
            return self.rotate()
        i = self.random.choice(unpublished) if i is None else i
        self.call(self.node.publish, i)
        self.volumes[i].published.value = True

    def unpublish(self):
        i = self.random.randrange(len(self.volumes))
        shared = self.volumes[i]
        shared.published.value = False
        eventually(lambda: shared.idle.value, "the reader lets go")
        self.call(self.node.unpublish, i)

    def rotate(self):
        self.put()
        for i, shared in enumerate(self.volumes):
            if shared.published.value:
                self.call(self.node.publish, i)
                eventually(lambda shared=shared: shared.newest.value == self.version or shared.error.value,
                           "the reader sees the new version")

    def end(self, process, how):
        process.send_signal(how)
        self.node.wait(process)

    def kill(self):
        self.end(self.active(), signal.SIGKILL)
        self.node.start_standby(program=self.random.choice(self.programs))

    def kill_in_rotation(self):
        """a plugin dies at any moment of a swap"""
        self.put()
        plugin = self.active()
        waiting = multiprocessing.Process(
            target=lambda: (time.sleep(delay), os.kill(plugin.pid, signal.SIGKILL)))
        delay = self.random.uniform(0, 0.06)
        waiting.start()
        for i, shared in enumerate(self.volumes):
            if shared.published.value:
                self.call(self.node.publish, i)
        waiting.join()
        self.node.wait(plugin)
        self.node.start_standby()

    def stop(self):
        self.end(self.active(), signal.SIGTERM)
        self.node.start_standby(program=self.random.choice(self.programs))

    def upgrade(self):
        """as a DaemonSet does with maxSurge: new ones stand by, then the old ones are told to stop"""
        old = list(self.node.plugins)
        for _ in range(2):
            self.node.start_standby(program=self.random.choice(self.programs))
        self.random.shuffle(old)
        for plugin in old:
            plugin.terminate()
        for plugin in old:
            self.node.wait(plugin)

    def kill_standby(self):
        serving = self.active()
        self.end(next(plugin for plugin in self.node.plugins if plugin != serving), signal.SIGKILL)
        self.node.start_standby(program=self.random.choice(self.programs))

    def kill_keeper(self):
        self.node.keeper.kill()
        self.node.keeper.wait()
        time.sleep(self.random.uniform(0, 0.1))
        self.node.start_keeper()

    def run(self, seconds):
        end = time.monotonic() + seconds
        queue = []
        while time.monotonic() < end and not self.errors():
            if not queue:
                queue = self.random.sample(range(1, len(EVENTS)), len(EVENTS) - 1)
            self.event.value = queue.pop()
            name = EVENTS[self.event.value]
            getattr(self, name)()
            self.counts[name] += 1
            self.whole()
        for shared in self.volumes:
            shared.done.value = True
        for process in self.readers:
            process.join(60)

    def longest(self):
        """seconds by event"""
        longest = {}
        for shared in self.volumes:
            for name, seconds in zip(EVENTS, shared.longest):
                longest[name] = max(longest.get(name, 0), seconds)
        return longest

    def errors(self):
        return [f"volume {i}: {shared.error.value.decode()}" for i, shared in enumerate(self.volumes)
                if shared.error.value]

    def close(self):
        for process in self.readers:
            process.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin_dir")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--volumes", type=int, default=3)
    flags = parser.parse_args()
    node = KeptNode(flags.bin_dir)
    director = None
    try:
        director = Director(node, flags.seed, flags.volumes)
        director.run(flags.seconds)
        errors = director.errors()
        reads = sum(shared.reads.value for shared in director.volumes)
        by_event = director.longest()
        longest = max(by_event.values())
        print(f"seed {flags.seed}: {dict(director.counts)}, {reads} reads, {len(errors)} errors, "
              f"longest stall {longest * 1000:.1f} ms (wanted: under 50) of "
              f"{ {name: round(seconds * 1000, 1) for name, seconds in by_event.items()} }")
        if longest > LONGEST_STALL:
            errors.append(f"a reader was stalled for {longest:.1f} s")
        if reads == 0:
            errors.append("nothing was read")
        if errors:
            print(director.node.log_text()[-6000:])
        print("\n".join(errors))
        return 1 if errors else 0
    finally:
        if director is not None:
            director.close()
        node.close()


if __name__ == "__main__":
    sys.exit(main())
