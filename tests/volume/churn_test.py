"""Volumes that are published, rotated and unpublished at random, for seconds or for hours: a real plugin,
keystore and keeper, real mounts. Every content is checked; at the end nothing is left over and nothing has grown. Needs root.

    churn_test.py BIN_DIR [--seconds=8] [--seed=1] [--slots=24] [--threads=4]
"""

import argparse
import os
import random
import sys
import threading
import time

from kept_node import KeptNode

# What a plugin has at most, whatever it does: its pools of threads, and what gRPC has beside them.
MOST_THREADS = 96
PATIENCE = 120


class Slot:
    """One pod's volume, with a secret of its own."""

    def __init__(self, node, number):
        self.node, self.number = node, number
        self.name = f"slot-{number}"
        self.target = node.target(self.name)
        self.version = 0
        self.published = False
        self.put()
        node.write_class(self.name, "\n".join(
            f"- {{objectName: {key}, secretPath: secret/data/webapp/{self.name}, secretKey: {key}}}"
            for key in ("number", "twice", "long")))

    def put(self):
        self.version += 1
        self.node.keystore.must("POST", f"secret/data/webapp/{self.name}", {"data": self.content()}, self.node.root)

    def content(self):
        text = f"{self.name}:{self.version}"
        return {"number": text, "twice": text + text, "long": text * (1 + self.version * 131 % 700)}

    def check(self):
        for key, wanted in self.content().items():
            with open(os.path.join(self.target, key), encoding="utf-8") as file:
                got = file.read()
            assert got == wanted, f"{self.target}/{key} holds {got[:60]!r}…, not {wanted[:60]!r}…"

    def publish(self):
        answer = self.node.publish(self.target, self.name, self.name, f"--uid={self.name}", f"--pod={self.name}")
        assert answer[0] == "OK", answer
        self.published = True
        self.check()

    def rotate(self):
        self.put()
        self.publish()

    def unpublish(self):
        answer = self.node.unpublish(self.target, self.name)
        assert answer[0] == "OK", answer
        self.published = False
        assert not os.path.exists(self.target), f"{self.target} is left"

    def step(self, dice):
        if not self.published:
            self.publish()
        else:
            dice.choice([self.rotate, self.rotate, self.publish, self.unpublish])()


class Facts:
    """What could grow."""

    def __init__(self, node):
        pid = node.plugins[0].pid
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            status = dict(line.split(":", 1) for line in file)
        # Not the pages of the program itself, which come and go.
        self.kib = int(status["RssAnon"].split()[0])
        self.threads = int(status["Threads"])
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        self.kept = len(os.listdir(f"/proc/{node.keeper.pid}/fd"))
        self.mounts = len(node.mounts())

    def __str__(self):
        return (f"{self.kib / 1024:.1f} MiB of its own, {self.threads} threads, {self.descriptors} descriptors, "
                f"{self.kept} of the keeper, {self.mounts} mounts")


def tokens(node):
    return len(node.keystore.must("LIST", "auth/token/accessors", token=node.root)["data"]["keys"])


def settled(what, check):
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def churn(slots, seconds, threads, seed):
    """Each thread has slots of its own. The number of steps."""
    end = time.monotonic() + seconds
    steps, errors = [0] * threads, []

    def run(number):
        dice = random.Random(seed * 1000 + number)
        mine = slots[number::threads]
        try:
            while time.monotonic() < end and not errors:
                dice.choice(mine).step(dice)
                steps[number] += 1
        except Exception as error:  # pylint: disable=broad-except
            errors.append(error)

    workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    return sum(steps)


def clear(node, slots, before):
    for slot in slots:
        if slot.published:
            slot.unpublish()
    settled(lambda: f"{tokens(node)} tokens are left of {before}", lambda: tokens(node) <= before)
    settled(lambda: f"the keeper holds {Facts(node).kept} descriptors", lambda: Facts(node).kept < 12)
    return Facts(node)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin_dir", nargs="?", default="build/release/bin")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slots", type=int, default=24)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    node = KeptNode(options.bin_dir)
    try:
        before = tokens(node)
        slots = [Slot(node, number) for number in range(options.slots)]
        for slot in slots:
            slot.publish()
        steps = churn(slots, options.seconds / 4, options.threads, options.seed)
        first = clear(node, slots, before)
        print(f"after {steps} steps: {first}", flush=True)
        steps = churn(slots, options.seconds * 3 / 4, options.threads, options.seed + 1)
        busy = Facts(node)
        last = clear(node, slots, before)
        print(f"after {steps} more: {last}; before the last were unpublished: {busy}", flush=True)
        assert last.mounts == 0, node.mounts()
        assert max(busy.threads, last.threads) <= MOST_THREADS, f"{busy.threads} threads"
        # Connections to the keystore and threads that wait for work come and go by a few.
        assert last.descriptors <= first.descriptors + 24, f"{first.descriptors} → {last.descriptors} descriptors"
        assert last.kib <= first.kib + 8 * 1024, f"{first.kib} → {last.kib} KiB"
        assert node.plugins[0].poll() is None, "the plugin has ended"
        log = node.log_text()
        assert "static-user" not in log and "slot-0:1" not in log, "a secret is in the log"
    except BaseException:
        sys.stderr.write(node.log_text()[-5000:])
        raise
    finally:
        node.close()


if __name__ == "__main__":
    main()
