"""Where a secret is not: on the disk, of which every block is looked at, those of deleted files too; and in swap,
to which all processes' pages are sent. Needs root and a loop device.

    disk_test.py BIN_DIR
"""

import contextlib
import ctypes
import os
import secrets
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "volume"))
from kept_node import KeptNode, eventually  # noqa: E402

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"
LIBC = ctypes.CDLL(None, use_errno=True)
PIDFD_OPEN, PROCESS_MADVISE = 434, 440
MADV_PAGEOUT = 21
PIECE = 1 << 20


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class Disk:
    """A block device of `size` bytes, in a file."""

    def __init__(self, size):
        self.file = tempfile.NamedTemporaryFile(prefix="coffer-disk.", dir="/var/tmp")  # pylint: disable=R1732
        self.file.truncate(size)
        self.device = subprocess.run(["losetup", "--show", "--find", self.file.name], check=True,
                                     capture_output=True, text=True).stdout.strip()

    def holds(self, needle):
        """Whether any of its bytes, in use or not, are these."""
        os.sync()
        rest = b""
        with open(self.file.name, "rb") as image:
            while piece := image.read(PIECE):
                if needle in rest + piece:
                    return True
                rest = piece[-len(needle):]
        return False

    def close(self):
        subprocess.run(["losetup", "--detach", self.device], check=True)
        self.file.close()


def page_out(pid):
    """Sends all pages of the process to swap, but those that are locked."""
    pidfd = LIBC.syscall(PIDFD_OPEN, pid, 0)
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        for line in maps:
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            if end < 1 << 63:
                LIBC.syscall(PROCESS_MADVISE, pidfd, ctypes.byref(Iovec(start, end - start)), ctypes.c_size_t(1),
                             MADV_PAGEOUT, 0)
    os.close(pidfd)


class DiskTest(unittest.TestCase):
    def disk(self, size=256 << 20):
        disk = Disk(size)
        self.addCleanup(disk.close)
        return disk

    def node(self, lacks=()):
        node = KeptNode(BIN_DIR, lacks)
        node.start_standby()
        return node

    def put(self, node):
        secret = secrets.token_hex(24)
        node.keystore.must("POST", "secret/data/webapp/config", {
            "data": {"username": "static-user", "password": secret}}, node.root)
        return secret.encode()

    def publish(self, node, secret):
        self.assertEqual(node.publish()[0], "OK")
        with open(os.path.join(node.target(), "password"), "rb") as file:
            self.assertEqual(file.read(), secret)

    def test_disk(self):
        """after a volume's whole life no block holds what was in it, on a disk that has all that was written"""
        disk = self.disk()
        subprocess.run(["mkfs.ext4", "-q", disk.device], check=True)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["mount", disk.device, folder], check=True)
            try:
                self.assert_life_leaves_nothing(disk, folder)
            finally:
                subprocess.run(["umount", folder], check=True)

    def assert_life_leaves_nothing(self, disk, folder):
        deleted = secrets.token_hex(24).encode()
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(deleted)
            file.flush()
            os.sync()
        self.assertTrue(disk.holds(deleted), "the search would find what a deleted file held")
        temporary, tempfile.tempdir = tempfile.tempdir, folder
        with contextlib.ExitStack() as end:
            end.callback(setattr, tempfile, "tempdir", temporary)
            node = self.node()
            end.callback(node.close)
            needles = [self.put(node)]
            self.publish(node, needles[0])
            needles.append(self.put(node))
            self.publish(node, needles[1])
            node.serving().kill()
            eventually(lambda: node.serving() and node.call("probe")[0] == "OK", "the standby serves")
            node.plugins = [plugin for plugin in node.plugins if plugin.poll() is None]
            needles.append(self.put(node))
            self.publish(node, needles[2])
            self.assertEqual(node.unpublish()[0], "OK")
            for number, needle in enumerate(needles):
                self.assertFalse(disk.holds(needle), f"secret {number} is on the disk")
        for number, needle in enumerate(needles):
            self.assertFalse(disk.holds(needle), f"secret {number} is on the disk at the end")

    def test_swap(self):
        """what can be swapped out of plugins, keeper and keystore, with memfd_secret or without, holds no secret"""
        disk = self.disk()
        subprocess.run(["mkswap", disk.device], check=True, capture_output=True)
        nodes = [self.node(), self.node(("memfd_secret",))]
        for node in nodes:
            self.addCleanup(node.close)
        holder = subprocess.Popen(
            [sys.executable, "-c", "import sys; x = sys.stdin.readline(); print(flush=True); sys.stdin.readline()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(holder.communicate)
        self.addCleanup(holder.kill)
        swapped = secrets.token_hex(24).encode()
        holder.stdin.write(swapped + b"\n")
        holder.stdin.flush()
        holder.stdout.readline()
        published = [self.put(node) for node in nodes]
        for node, secret in zip(nodes, published):
            self.publish(node, secret)
        subprocess.run(["swapon", "--priority=1000", disk.device], check=True)
        try:
            page_out(holder.pid)
            for node in nodes:
                for process in [node.keystore.process, node.keeper, *node.plugins]:
                    page_out(process.pid)
            self.assertTrue(disk.holds(swapped), "the search would find what was swapped out")
            for node, secret in zip(nodes, published):
                self.assertFalse(disk.holds(secret), f"of a kernel without {node.lacks or 'nothing'}")
        finally:
            subprocess.run(["swapoff", disk.device], check=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
