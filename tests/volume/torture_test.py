"""Plugins, a keeper and a keystore under readers who never stop, while volumes are published, rotated
and unpublished and plugins and keepers are killed, stopped and upgraded, at random from a seed. Each
read must show the content of one version, none older than one seen before, and none may fail; who
watches is told of each version; what is to be read once is; each open of an audited volume is in the
log. One volume is fast, one audited, one has files with rules. Root.

    torture_test.py BIN_DIR [--seconds=8] [--seed=11] [--volumes=3]
"""

import argparse
import collections
import contextlib
import ctypes
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

from kept_node import KeptNode, eventually
from torture_readers import EVENTS, Reader, Shared, Watcher, content

OBJECTS = """
- {objectName: a, secretPath: secret/data/webapp/config, secretKey: a}
- {objectName: b, secretPath: secret/data/webapp/config, secretKey: b}
"""
RULED = OBJECTS + """
- {objectName: once, secretPath: secret/data/webapp/config, secretKey: a, readOnce: true}
- {objectName: bait, secretPath: secret/data/webapp/config, secretKey: b, canary: true}
"""
# The volumes' classes, in turn: name, objects, what else.
CLASSES = [("fast", OBJECTS, ""), ("audited", OBJECTS, "    audit: opens\n"), ("ruled", RULED, "")]
# What is asserted holds on any machine; what is wanted, 50 ms, is printed.
LONGEST_STALL = 30.0


class TortureNode(KeptNode):
    def flags(self):
        self.audit_log = os.path.join(self.folder, "audit.log")
        return [f"--audit-log={self.audit_log}"]

    def lines(self):
        """of the audit log, by volume; what isn't whole under None"""
        by_volume = collections.defaultdict(list)
        with open(self.audit_log, encoding="utf-8") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                except ValueError:
                    by_volume[None].append(line)
                else:
                    by_volume[entry.get("volume", entry["event"])].append(entry)
        return by_volume


class Director:
    def __init__(self, node, seed, volumes):
        self.random = random.Random(seed)
        self.node = node
        bin_dir = node.bin_dir
        self.counts = collections.Counter()
        self.version = 0
        self.readers = []
        self.event = multiprocessing.RawValue(ctypes.c_int, 0)  # what happens at the moment, of EVENTS
        for name, objects, extra in CLASSES:
            self.node.write_class(name, objects, extra=extra)
        self.put()
        self.programs = [os.path.join(bin_dir, "coffer-csi")] + [
            shutil.copy(os.path.join(bin_dir, "coffer-csi"), os.path.join(self.node.folder, f"build-{i}"))
            for i in (1, 2)]
        self.volumes = [Shared() for _ in range(volumes)]
        self.targets = [self.node.target(str(i)) for i in range(volumes)]
        for i, shared in enumerate(self.volumes):
            reader = Reader(self.targets[i], self.class_of(i), shared, seed * 1000 + i, self.event)
            for run in (reader.run, Watcher(self.targets[i], shared).run):
                process = multiprocessing.Process(target=run, daemon=True)
                process.start()
                self.readers.append(process)
            self.publish(i)
        self.node.start_standby()

    def class_of(self, i):
        return CLASSES[i % len(CLASSES)][0]

    def put(self):
        self.version += 1
        text = content(self.version)
        self.node.keystore.must(
            "POST", "secret/data/webapp/config", {"data": {"a": text, "b": text}}, self.node.root)

    def call(self, what, i, *more):
        """As the kubelet does: again and again until it is done."""
        answers = []
        try:
            eventually(lambda: answers.append(what(self.targets[i], f"csi-{i}", *more)) or answers[-1][0] == "OK",
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
        self.refresh(i)
        self.volumes[i].published.value = True

    def refresh(self, i):
        self.call(self.node.publish, i, self.class_of(i))

    def let_go(self):
        """Of one volume, which nobody reads from then on."""
        i = self.random.randrange(len(self.volumes))
        shared = self.volumes[i]
        shared.published.value = False
        eventually(lambda: shared.idle.value and shared.watcher_idle.value, "the readers let go")
        return i

    def unpublish(self):
        self.call(self.node.unpublish, self.let_go())

    def rotate(self):
        self.put()
        for i, shared in enumerate(self.volumes):
            if shared.published.value:
                self.refresh(i)
                self.seen(shared)

    def seen(self, shared):
        for version, who in ((shared.newest, "the reader sees"), (shared.watched, "the watcher is told of")):
            eventually(lambda version=version: version.value == self.version or shared.error.value,
                       f"{who} the new version")

    def end(self, process, how):
        process.send_signal(how)
        self.node.wait(process)

    def kill(self):
        self.end(self.active(), signal.SIGKILL)
        self.node.start_standby(program=self.random.choice(self.programs))

    def kill_during(self, calls):
        """a plugin dies at any moment of them"""
        plugin = self.active()
        delay = self.random.uniform(0, 0.06)
        waiting = multiprocessing.Process(
            target=lambda: (time.sleep(delay), os.kill(plugin.pid, signal.SIGKILL)))
        waiting.start()
        calls()
        waiting.join()
        self.node.wait(plugin)
        self.node.start_standby()

    def kill_in_rotation(self):
        self.put()
        published = [i for i, shared in enumerate(self.volumes) if shared.published.value]
        self.kill_during(lambda: [self.refresh(i) for i in published])
        for i in published:
            self.seen(self.volumes[i])

    def kill_in_unpublish(self):
        i = self.let_go()
        self.kill_during(lambda: self.call(self.node.unpublish, i))
        mounts = [line for line in self.node.mounts() if f" {self.targets[i]} " in line]
        assert not mounts and not os.path.exists(self.targets[i]), mounts

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

    def errors(self):
        return [f"volume {i}: {shared.error.value.decode()}" for i, shared in enumerate(self.volumes)
                if shared.error.value]

    def longest(self):
        """seconds by event"""
        longest = {}
        for shared in self.volumes:
            for name, seconds in zip(EVENTS, shared.longest):
                longest[name] = max(longest.get(name, 0), seconds)
        return longest

    def untold(self):
        """What the audit log lacks, and what was never read."""
        lines, errors = self.node.lines(), []
        kills = sum(self.counts[name] for name in ("kill", "kill_in_rotation", "kill_in_unpublish"))
        if len(lines[None]) > kills or lines["lost"]:
            errors.append(f"in the audit log, of {kills} plugins that were killed: {lines[None]}, {lines['lost']}")
        for i, shared in enumerate(self.volumes):
            kind, told = self.class_of(i), lines[f"csi-{i}"]
            opened = sum(line["result"] == "ok" for line in told)
            if kind == "audited" and opened < shared.opens.value:
                errors.append(f"volume {i}: {shared.opens.value} opens, of which {opened} are in the audit log")
            if kind == "fast" and told:
                errors.append(f"volume {i} isn't audited, but {told[0]}")
            if kind == "ruled" and (shared.once.value == 0 or not any(line.get("canary") for line in told)):
                errors.append(f"volume {i}: {shared.once.value} reads of a file that can be read once; told: {told[:3]}")
        return errors

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
    node = TortureNode(flags.bin_dir)
    director = None
    try:
        director = Director(node, flags.seed, flags.volumes)
        director.run(flags.seconds)
        errors = director.errors()
        if not errors:
            # Of a plugin that stopped, or was killed unseen by the keeper, the next one writes what is left later.
            with contextlib.suppress(AssertionError):
                eventually(lambda: not director.untold(), "all opens are told")
            errors = director.untold()
        reads = sum(shared.reads.value for shared in director.volumes)
        by_event = director.longest()
        longest = max(by_event.values())
        opens = sum(shared.opens.value for shared in director.volumes)
        print(f"seed {flags.seed}: {dict(director.counts)}, {reads} reads, {opens} opens, {len(errors)} errors, "
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
