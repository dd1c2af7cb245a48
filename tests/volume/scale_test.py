"""As much as a node has: many volumes of many files with one reader process each, which see every byte of three
versions, the last of another plugin; and one volume of the largest things. Real plugin, keeper and keystore. Needs
root.

    scale_test.py BIN_DIR [--volumes=60] [--files=64] [--many=2000]

A full node is --volumes=1500 --many=10000, and takes minutes.
"""

import argparse
import contextlib
import ctypes
import hashlib
import multiprocessing
import os
import sys
import time

from kept_node import KeptNode, eventually

PATIENCE = 600
MOST_THREADS = 96  # of a plugin, however many volumes


def text(version, number):
    return f"{version}/{number};" * 20


class Counts:
    def __init__(self):
        value = multiprocessing.Value
        self.version = value(ctypes.c_long, 1)  # what is to be read
        self.saw = value(ctypes.c_long, 0)      # readers that have read all of it
        self.done = value(ctypes.c_bool, False)
        self.errors = value(ctypes.c_long, 0)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def read_all(target, files):
    """Through one ..data, so all of one version: the old one is there for a second, which may be too short."""
    while True:
        folder = os.open(os.path.join(target, "..data"), os.O_RDONLY | os.O_DIRECTORY)
        try:
            return [read(f"/proc/self/fd/{folder}/key-{number}") for number in range(files)]
        except FileNotFoundError:
            if os.path.samestat(os.fstat(folder), os.stat(os.path.join(target, "..data"))):
                raise
        finally:
            os.close(folder)


def reader(target, files, counts):
    """Reads all files until they are of the version that is to come."""
    saw = 0
    try:
        while not counts.done.value:
            if saw == counts.version.value:
                time.sleep(0.02)
                continue
            wanted = counts.version.value
            link = os.readlink(os.path.join(target, "..data"))
            got = read_all(target, files)
            version = int(got[0].split("/")[0])
            if got != [text(version, number) for number in range(files)] or not saw <= version <= wanted:
                raise AssertionError(f"{target}: no version after {saw}: {got[0][:40]}…")
            if version == wanted:
                saw = wanted
                with counts.saw:
                    counts.saw.value += 1
            while saw < wanted and os.readlink(os.path.join(target, "..data")) == link and not counts.done.value:
                time.sleep(0.05)
    except BaseException as error:  # pylint: disable=broad-except
        with counts.errors:
            counts.errors.value += 1
        sys.stderr.write(f"{target}: {error!r}\n")


class Scale:
    def __init__(self, bin_dir, volumes, files):
        self.node = KeptNode(bin_dir)
        self.volumes, self.files = volumes, files
        self.counts = Counts()
        self.readers = []

    def put(self, version):
        data = {f"key-{number}": text(version, number) for number in range(self.files)}
        self.node.keystore.must("POST", "secret/data/webapp/many", {"data": data}, self.node.root)

    def many(self, command):
        start, code = time.monotonic(), "ABORTED"
        while code == "ABORTED":  # the plugin is at one of them by itself: the kubelet comes again
            code, message = self.node.call(
                command, f"--count={self.volumes}", "--parallel=32", f"--target={self.node.kubelet}/pods",
                "--class=many", "--service-account=vault", "--audience=vault",
                f"--token-file={self.node.token_file}", f"--timeout={PATIENCE}", timeout=PATIENCE)
        assert code == "OK", (code, message)
        return time.monotonic() - start

    def all_see(self, version):
        start = time.monotonic()
        eventually(lambda: self.counts.saw.value == self.volumes * version or self.counts.errors.value,
                   f"all readers see version {version}", PATIENCE)
        assert self.counts.errors.value == 0, f"{self.counts.errors.value} readers failed"
        return time.monotonic() - start

    def facts(self):
        with open(f"/proc/{self.node.serving().pid}/status", encoding="utf-8") as file:
            status = dict(line.split(":", 1) for line in file)
        threads = int(status["Threads"])
        assert threads <= MOST_THREADS, f"{threads} threads"
        return f"{threads} threads, {int(status['VmRSS'].split()[0]) // 1024} MiB"

    def run_many(self):
        node = self.node
        self.put(1)
        node.write_class("many", '- {objectName: all, secretPath: secret/data/webapp/many, keys: "*"}')
        published = self.many("publish-many")
        for number in range(self.volumes):
            target = os.path.join(node.kubelet, "pods", str(number), "mount")
            process = multiprocessing.Process(target=reader, args=(target, self.files, self.counts), daemon=True)
            process.start()
            self.readers.append(process)
        saw = self.all_see(1)
        self.put(2)
        self.counts.version.value = 2
        rotated = self.many("publish-many")
        late = self.all_see(2)
        facts = self.facts()
        node.start_standby()
        node.serving().kill()
        self.put(3)
        self.counts.version.value = 3
        eventually(lambda: node.serving() and node.call("probe")[0] == "OK", "the standby serves")
        self.many("publish-many")
        self.all_see(3)
        self.counts.done.value = True
        for process in self.readers:
            process.join(PATIENCE)
        unpublished = self.many("unpublish-many")
        assert node.mounts() == []
        print(f"{self.volumes} volumes of {self.files} files, a reader each: published in {published:.1f} s, read in "
              f"{saw:.1f} s, rotated in {rotated:.1f} s, seen {late:.1f} s later, unpublished in {unpublished:.1f} s; "
              f"{facts}", flush=True)

    def run_large(self, many):
        """1 MiB, many files, names of 255 bytes in UTF-8: of one volume"""
        node = self.node
        big = "".join(hashlib.sha256(str(i).encode()).hexdigest() for i in range(1 << 14))  # 1 MiB
        names = ["ü" * 127 + "n", "秘" * 85, "🔑" * 63 + "abc"]
        assert all(len(name.encode()) == 255 for name in names) and len(big) == 1 << 20
        put = node.keystore.must
        put("POST", "secret/data/webapp/big", {"data": {"big": big}}, node.root)
        for part in range(0, many, 1000):
            put("POST", f"secret/data/webapp/part-{part}",
                {"data": {f"file-{i}": text(1, i) for i in range(part, part + 1000)}}, node.root)
        node.write_class("large", "- {objectName: big, secretPath: secret/data/webapp/big, secretKey: big}\n" + "".join(
            f"- {{objectName: {name}, secretPath: secret/data/webapp/big, secretKey: big}}\n" for name in names) +
            "".join(f'- {{objectName: part-{part}, secretPath: secret/data/webapp/part-{part}, keys: "*"}}\n' for part in range(0, many, 1000)))
        target = node.target("large")
        for _ in range(2):
            start = time.monotonic()
            answer = node.publish(target, "large", "large")
            assert answer[0] == "OK", answer
            took = time.monotonic() - start
        listed = os.listdir(target)
        assert len(listed) == many + len(names) + 3, len(listed)  # big, ..data, its folder
        for name in [*names, "big"]:
            assert read(os.path.join(target, name)) == big, name
        for i in range(many):
            assert read(os.path.join(target, f"file-{i}")) == text(1, i), i
        assert node.unpublish(target, "large")[0] == "OK"
        print(f"one volume of {many} files, of 1 MiB and of names of 255 bytes: republished in {took:.2f} s", flush=True)

    def close(self):
        self.counts.done.value = True
        for process in self.readers:
            with contextlib.suppress(OSError):
                process.kill()
        self.node.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin_dir", nargs="?", default="build/release/bin")
    parser.add_argument("--volumes", type=int, default=60)
    parser.add_argument("--files", type=int, default=64)
    parser.add_argument("--many", type=int, default=2000, help="files of one volume, in thousands")
    options = parser.parse_args()
    scale = Scale(options.bin_dir, options.volumes, options.files)
    try:
        scale.run_many()
        scale.run_large(options.many)
    except BaseException:
        sys.stderr.write(scale.node.log_text()[-5000:])
        raise
    finally:
        scale.close()


if __name__ == "__main__":
    main()
