"""Plugins, a keeper and a keystore under readers who never stop, while volumes are published, rotated
and unpublished and plugins and keepers are killed, stopped and upgraded, at random from a seed. Each
read must show the content of one version, none older than one seen before, and none may fail, for
signals neither; who watches is told of each version; what is to be read once is; what is there for a
time is gone after it; who isn't to be let in never is; each open of an audited volume and each refused
one is in the log. One volume is fast, one audited, one has files with rules, one is on tmpfs. Root.

    torture_test.py BIN_DIR [--seconds=8] [--seed=11] [--volumes=4]
"""

import argparse
import collections
import concurrent.futures
import contextlib
import ctypes
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import torture_gates
from kept_node import PATIENCE, KeptNode, eventually
from torture_readers import EVENTS, VERSIONS, Reader, Shared, Watcher, content, version_of

OBJECTS = """
- {objectName: a, secretPath: secret/data/webapp/config, secretKey: a}
- {objectName: b, secretPath: secret/data/webapp/config, secretKey: b}
"""
# The volumes' classes, in turn: name, objects, what else.
CLASSES = [("fast", OBJECTS, ""), ("audited", OBJECTS, "    audit: opens\n"),
           ("ruled", OBJECTS + torture_gates.OBJECTS.lstrip(), ""), ("tmpfs", OBJECTS, "")]
ON_TMPFS = "--volume-backend=tmpfs"
# What is asserted holds on any machine; what is wanted where one stands by, 50 ms, is printed.
LONGEST_STALL = 30.0


class TortureNode(KeptNode):
    def __init__(self, bin_dir):
        self.read_to = 0  # of the audit log
        self.lines = collections.Counter()  # by volume (or event) and result
        self.canaries = set()
        self.broken = []
        super().__init__(bin_dir)

    def flags(self):
        self.audit_log = os.path.join(self.folder, "audit.log")
        return [f"--audit-log={self.audit_log}"]

    def read_audit_log(self):
        """what has come since the last time"""
        with open(self.audit_log, "rb") as file:
            file.seek(self.read_to)
            data = file.read()
        data = data[:data.rfind(b"\n") + 1]
        self.read_to += len(data)
        for line in data.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                self.broken.append(line)
                continue
            self.lines[entry.get("volume", entry["event"]), entry.get("result")] += 1
            if entry.get("canary"):
                self.canaries.add(entry["volume"])


class Director:
    def __init__(self, node, seed, volumes):
        self.random = random.Random(seed)
        self.node = node
        bin_dir = node.bin_dir
        self.counts = collections.Counter()
        self.kills = 0  # of plugins
        self.version = 0
        self.readers = []  # two of each volume
        self.event = multiprocessing.RawValue(ctypes.c_int, 0)  # what happens at the moment, of EVENTS
        for name, objects, extra in CLASSES:
            self.node.write_class(name, objects, extra=extra)
        self.programs = [os.path.join(bin_dir, "coffer-csi")] + [
            shutil.copy(os.path.join(bin_dir, "coffer-csi"), os.path.join(self.node.folder, f"build-{i}"))
            for i in (1, 2)]
        self.volumes = [Shared() for _ in range(volumes)]
        self.targets = [self.node.target(str(i)) for i in range(volumes)]
        self.put()
        self.complete()
        for i, shared in enumerate(self.volumes):
            kind = torture_gates.GatedReader if self.class_of(i) == "ruled" else Reader
            reader = kind(self.targets[i], shared, seed * 1000 + i, self.event)
            for run in (reader.run, Watcher(self.targets[i], shared).run):
                process = multiprocessing.Process(target=run, daemon=True)
                process.start()
                self.readers.append(process)
            self.publish(i)

    def class_of(self, i):
        return CLASSES[i % len(CLASSES)][0]

    def published(self):
        return [i for i, shared in enumerate(self.volumes) if shared.published.value]

    def kept(self):
        """Of the published ones, those that hang on plugin and keeper."""
        return [i for i in self.published() if self.class_of(i) != "tmpfs"]

    def begins(self, i):
        """The content of this version may come into the volume from now on."""
        self.volumes[i].ended[self.version % VERSIONS] = 0
        self.volumes[i].began[self.version % VERSIONS] = time.monotonic()

    def put(self):
        self.version += 1
        for i in range(len(self.volumes)):
            self.begins(i)
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
        kept = len(self.kept())
        pids = [plugin.pid for plugin in self.node.plugins]

        def is_whole():
            status = self.node.status()
            return (status and status[0] == kept and status[1] in pids and status[2] == 1
                    and self.node.call("probe")[0] == "OK")

        try:
            eventually(is_whole, "a node that is whole")
        except AssertionError as error:
            raise AssertionError(
                f"{error}: after {EVENTS[self.event.value]}, (volumes, serves, standing by) is {self.node.status()} "
                f"with {kept} published and processes {pids}; the log ends:\n"
                + self.node.log_text()[-6000:]) from None

    def active(self):
        return eventually(self.node.serving, "a plugin serves")

    def standby(self, serving):
        return next(plugin for plugin in self.node.plugins if plugin != serving)

    def complete(self):
        """One serves and one stands by, of any build."""
        while len(self.node.plugins) < 2:
            start = self.node.start_standby if self.node.plugins else self.node.start_plugin
            start(program=self.random.choice(self.programs))
            self.active()

    def end(self, plugin, how):
        self.kills += how == signal.SIGKILL
        plugin.send_signal(how)
        self.node.wait(plugin)

    # What happens.

    def publish(self, i=None, during=lambda publish: publish()):
        unpublished = [j for j, shared in enumerate(self.volumes) if not shared.published.value]
        if i is None and not unpublished:
            return self.rotate()
        i = self.random.choice(unpublished) if i is None else i
        on_tmpfs = self.class_of(i) == "tmpfs"
        self.begins(i)
        with self.plugins_for_tmpfs() if on_tmpfs else contextlib.nullcontext():
            during(lambda: self.refresh(i))
        mounts = [line for line in self.node.mounts() if f" {self.targets[i]} " in line]
        assert len(mounts) == 1 and (" - tmpfs " in mounts[0]) == on_tmpfs, mounts
        self.volumes[i].published.value = True

    @contextlib.contextmanager
    def plugins_for_tmpfs(self):
        """One serves and one stands by, meanwhile."""
        for _ in range(2):
            self.node.start_standby(ON_TMPFS)
        self.end(self.active(), signal.SIGTERM)
        yield
        for plugin in [plugin for plugin in self.node.plugins if ON_TMPFS in plugin.args]:
            self.end(plugin, self.random.choice([signal.SIGTERM, signal.SIGKILL]))
        self.complete()

    def refresh(self, i):
        self.call(self.node.publish, i, self.class_of(i))
        ended, at = self.volumes[i].ended, self.version % VERSIONS
        ended[at] = ended[at] or time.monotonic()

    def refresh_all(self):
        for i in self.published():
            self.refresh(i)

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
        for i in self.published():
            self.refresh(i)
            self.seen(i)

    def seen(self, i):
        shared = self.volumes[i]
        for version, who in ((shared.newest, "the reader sees"), (shared.watched, "the watcher is told of")):
            eventually(lambda version=version: version.value == self.version or shared.error.value,
                       f"{who} the new version")

    def seen_by_all(self):
        for i in self.published():
            self.seen(i)

    def kill(self):
        self.end(self.active(), signal.SIGKILL)
        self.complete()

    def kill_both(self):
        """In a rotation, so that all wait for one that has yet to be started; of who waits, some are killed."""
        self.put()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            rotation = pool.submit(self.refresh_all)
            time.sleep(self.random.uniform(0, 0.06))
            for plugin in self.random.sample(self.node.plugins, 2):
                self.end(plugin, signal.SIGKILL)
            waiting = [subprocess.Popen(["cat", self.targets[i] + "/b"], stdout=subprocess.PIPE)
                       for i in 2 * self.published()]
            time.sleep(self.random.uniform(0, 0.05))
            for process in waiting[::2]:
                process.kill()
            self.complete()
            rotation.result()
        for process in waiting:
            data, _ = process.communicate(timeout=PATIENCE)
            if process.returncode == 0:
                version_of(data)
            elif process.returncode != -signal.SIGKILL or process not in waiting[::2]:
                raise AssertionError(f"{process.args}: {process.returncode}")
        self.seen_by_all()

    def kill_during(self, calls):
        """a plugin dies at any moment of them"""
        plugin = self.active()
        delay = self.random.uniform(0, 0.06)
        waiting = multiprocessing.Process(
            target=lambda: (time.sleep(delay), os.kill(plugin.pid, signal.SIGKILL)))
        waiting.start()
        calls()
        waiting.join()
        self.kills += 1
        self.node.wait(plugin)
        self.complete()

    def kill_in_rotation(self):
        self.put()
        self.kill_during(self.refresh_all)
        self.seen_by_all()

    def kill_in_publish(self):
        self.publish(during=self.kill_during)

    def kill_in_unpublish(self):
        i = self.let_go()
        self.kill_during(lambda: self.call(self.node.unpublish, i))
        mounts = [line for line in self.node.mounts() if f" {self.targets[i]} " in line]
        assert not mounts and not os.path.exists(self.targets[i]), mounts

    def stop(self):
        self.end(self.active(), signal.SIGTERM)
        self.complete()

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
        self.end(self.standby(self.active()), signal.SIGKILL)
        self.complete()

    def kill_keeper(self):
        self.node.keeper.kill()
        self.node.keeper.wait()
        time.sleep(self.random.uniform(0, 0.1))
        self.node.start_keeper()

    def end_in_refill(self):
        """While the plugin tells a new keeper what it holds, that one is killed, too, or a plugin ends."""
        serving = self.active()
        standby = self.standby(serving)
        self.kill_keeper()
        time.sleep(self.random.uniform(0, 0.06))
        self.random.choice([self.kill_keeper, lambda: self.end(serving, signal.SIGTERM),
                            lambda: self.end(standby, signal.SIGKILL)])()
        self.complete()
        self.rotate()

    def lose(self):
        """Plugin and keeper are gone nearly at once: what neither has told the other's next one is published anew."""
        serving, doubtful = self.active(), [self.volumes[i] for i in self.kept()]
        for shared in doubtful:
            shared.doubtful.value = True
        eventually(lambda: all(shared.doubted.value and shared.watcher_idle.value for shared in doubtful)
                   or self.errors(), "the readers doubt")
        eventually(lambda: not self.untold(), "all opens are told")
        self.kills += 1
        if self.random.random() < 0.5:
            self.kill_keeper()
            time.sleep(self.random.uniform(0, 0.06))
            serving.kill()
        else:
            serving.kill()
            time.sleep(self.random.uniform(0, 0.02))
            self.kill_keeper()
        self.node.wait(serving)
        self.complete()
        for shared in doubtful:
            shared.ended[self.version % VERSIONS] = 0
        self.refresh_all()
        for shared in doubtful:
            shared.doubtful.value = False
        self.rotate()

    def stop_keeper(self):
        """It stands still, and volumes don't wait for it."""
        self.node.keeper.send_signal(signal.SIGSTOP)
        for _ in range(self.random.choice([1, 1, 5])):
            self.rotate()
        self.node.keeper.send_signal(signal.SIGCONT)

    def stop_readers(self):
        """They stand still, maybe until what is old has been removed, and go on with what they have open."""
        stopped = [i for i in self.published() if self.random.random() < 0.5]

        def tell(how):
            for i in stopped:
                self.volumes[i].stops.value += 1
                for process in self.readers[2 * i:2 * i + 2]:
                    os.kill(process.pid, how)

        tell(signal.SIGSTOP)
        self.put()
        self.refresh_all()
        time.sleep(self.random.choice([0, 0, 0, 1.2]))
        tell(signal.SIGCONT)
        self.seen_by_all()

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
        dead = [f"a reader of volume {i // 2} has ended with {process.exitcode}"
                for i, process in enumerate(self.readers) if process.exitcode]
        return dead + [f"volume {i}: {shared.error.value.decode()}" for i, shared in enumerate(self.volumes)
                       if shared.error.value]

    def longest(self):
        """seconds by event"""
        longest = {}
        for shared in self.volumes:
            for name, seconds in zip(EVENTS, shared.longest):
                longest[name] = max(longest.get(name, 0), seconds)
        return longest

    def untold(self):
        """What the audit log lacks."""
        self.node.read_audit_log()
        lines, errors = self.node.lines, []
        if len(self.node.broken) > self.kills or lines["lost", None]:
            errors.append(f"in the audit log, of {self.kills} plugins that were killed: {self.node.broken}, "
                          f"{lines['lost', None]} notes of lost lines")
        for i, shared in enumerate(self.volumes):
            kind, told, refused = self.class_of(i), lines[f"csi-{i}", "ok"], lines[f"csi-{i}", "refused"]
            if kind == "audited" and told < shared.opens.value:
                errors.append(f"volume {i}: {shared.opens.value} opens, of which {told} are in the audit log")
            if kind in ("fast", "tmpfs") and told + refused:
                errors.append(f"volume {i} isn't audited, but {told + refused} opens are")
            if refused < shared.refused.value:
                errors.append(f"volume {i}: {shared.refused.value} opens were refused, {refused} are in the audit log")
        return errors

    def unseen(self):
        """What should have happened to readers, and hasn't."""
        errors = []
        for i, shared in enumerate(self.volumes):
            seen = {"read": shared.reads.value}
            if self.class_of(i) == "ruled":
                seen |= {"read once": shared.once.value, "there for a time": shared.brief.value,
                         "gone after it": shared.over.value, "refused": shared.refused.value,
                         "told of as an opened canary": f"csi-{i}" in self.node.canaries}
            errors += [f"volume {i}: nothing was {what}" for what, count in seen.items() if not count]
        return errors

    def close(self):
        for process in self.readers:
            process.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin_dir")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--volumes", type=int, default=4)
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
            errors = director.untold() + director.unseen()
        reads = sum(shared.reads.value for shared in director.volumes)
        late = max(shared.late.value for shared in director.volumes)
        by_event = director.longest()
        longest = max(seconds for name, seconds in by_event.items() if name != "kill_both")
        opens = sum(shared.opens.value for shared in director.volumes)
        print(f"seed {flags.seed}: {dict(director.counts)}, {reads} reads, {opens} opens, {len(errors)} errors, "
              f"what was over read for {late * 1000:.1f} ms by who had it open, "
              f"longest stall {longest * 1000:.1f} ms (wanted: under 50) of "
              f"{ {name: round(seconds * 1000, 1) for name, seconds in by_event.items()} }")
        if longest > LONGEST_STALL:
            errors.append(f"a reader was stalled for {longest:.1f} s")
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
