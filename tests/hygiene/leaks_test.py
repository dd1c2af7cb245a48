"""Where a secret is not: known secrets are looked for in the memory of plugin and keeper, in their logs, in
the kubelet's folder, in all files that were written, and in the page cache of a volume that is gone. Needs
root.

    leaks_test.py BIN_DIR
"""

import ctypes
import mmap
import os
import re
import secrets
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "volume"))
from kept_node import KeptNode, eventually  # noqa: E402
from process_memory import in_memory  # noqa: E402

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"
LIBC = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE


def in_files(folder, needles):
    """The files below the folder, on its file system, that hold one of the needles."""
    device = os.stat(folder).st_dev
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if os.lstat(os.path.join(path, name)).st_dev == device]
        for name in files:
            whole = os.path.join(path, name)
            if os.path.islink(whole) or not os.path.isfile(whole):
                continue
            with open(whole, "rb") as file:
                data = file.read()
            found += [whole for needle in needles if needle in data or needle in name.encode()]
    return found


class LeaksTest(unittest.TestCase):
    lacks = ()

    def setUp(self):
        self.node = KeptNode(BIN_DIR, self.lacks)
        self.addCleanup(self.node.close)
        self.node.start_standby()

    def put(self):
        """A new secret: what to look for. In two parts that meet in the process alone, so that no memory of
        this test's is taken for one of theirs."""
        secret = secrets.token_hex(24)
        self.node.keystore.must("POST", "secret/data/webapp/config", {
            "data": {"username": "static-user", "password": secret}}, self.node.root)
        return secret.encode()

    def publish(self):
        answer = self.node.publish()
        self.assertEqual(answer[0], "OK", answer)
        with open(os.path.join(self.node.target(), "password"), "rb") as file:
            return file.read()

    def processes(self):
        return [plugin.pid for plugin in self.node.plugins] + [self.node.keeper.pid]

    def assert_in_no_memory(self, needles, when):
        def clean():
            for pid in self.processes():
                found, looked = in_memory(pid, needles)
                self.assertGreater(looked, 100_000, f"the memory of {pid} can't be read")
                if found:
                    return False
            return True
        eventually(clean, f"no process holds the secrets {when}")

    def test_the_search_finds(self):
        needle = secrets.token_hex(24).encode()
        holder = subprocess.Popen(
            [sys.executable, "-c", "import sys; x = sys.stdin.readline(); print('ready', flush=True); "
             "sys.stdin.readline()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            holder.stdin.write(needle + b"\n")
            holder.stdin.flush()
            holder.stdout.readline()
            self.assertEqual(in_memory(holder.pid, [needle])[0], {needle})
        finally:
            holder.kill()
            holder.communicate()
        with open(os.path.join(self.node.folder, "leak"), "wb") as file:
            file.write(b"xx" + needle)
        self.assertEqual(in_files(self.node.folder, [needle]), [file.name])

    def test_wiped(self):
        """after rotation the old secret, after unpublish the new one, is nowhere"""
        first = self.put()
        self.assertEqual(self.publish(), first)
        old = os.readlink(os.path.join(self.node.target(), "..data"))
        second = self.put()
        self.assertEqual(self.publish(), second)
        eventually(lambda: old not in os.listdir(self.node.target()), "the old folder is removed")
        self.assert_in_no_memory([first], "after rotation")
        # The next plugin has been handed the memory, and nothing but that.
        self.node.serving().kill()
        eventually(lambda: self.node.serving() is not None, "the standby serves")
        third = self.put()
        eventually(lambda: self.node.publish()[0] == "OK", "the standby publishes")
        self.node.plugins = [plugin for plugin in self.node.plugins if plugin.poll() is None]
        answer = self.node.unpublish()
        self.assertEqual(answer[0], "OK", answer)
        self.assert_in_no_memory([first, second, third], "after unpublish")
        needles = [first, second, third]
        self.assertEqual(in_files(self.node.folder, needles), [])  # logs and the kubelet's folder, too
        self.assertEqual(in_files(self.node.keystore.folder, needles), [])
        self.assertEqual(self.node.mounts(), [])

    def token(self):
        with open(self.node.token_file, encoding="utf-8") as file:
            return file.read().strip()[-60:].encode()

    def test_refused(self):
        """of a publish that is refused no token is left with its answer"""
        token = self.token()
        for flag in 4 * ["--readonly=false", "--access=block", "--target="]:
            self.assertEqual(self.node.publish(None, "csi-1", "webapp", flag)[0], "INVALID_ARGUMENT")
            for pid in self.processes():
                self.assertEqual(in_memory(pid, [token])[0], set())

    def test_token(self):
        """of a request nothing is left with its answer, and of a pod that is gone no token"""
        token = self.token()
        self.put()
        for _ in range(12):
            self.publish()
            for pid in self.processes():  # what is kept for rotation has no JSON around it
                self.assertEqual(in_memory(pid, [token + b'"}}'])[0], set())
        self.assertEqual(self.node.unpublish()[0], "OK")
        self.assert_in_no_memory([token], "after unpublish")

    def test_one_trace(self):
        """nothing but the mount is left in the kubelet's folder while a volume is published"""
        secret = self.put()
        self.publish()
        files = [os.path.join(path, name) for path, folders, names in os.walk(self.node.kubelet)
                 if not path.startswith(self.node.target()) for name in names]
        self.assertEqual(files, [])
        self.assertEqual(in_files(self.node.folder, [secret]), [])

    def test_page_cache(self):
        """pages that a reader still has mapped are gone after the unmount"""
        self.put()
        self.publish()
        fd = os.open(os.path.join(self.node.target(), "password"), os.O_RDONLY)
        self.addCleanup(os.close, fd)
        LIBC.mmap.restype = ctypes.c_void_p
        LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                              ctypes.c_long]
        LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        address = LIBC.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        ctypes.string_at(address, 8)

        def resident():
            flags = ctypes.create_string_buffer(1)
            self.assertEqual(LIBC.mincore(address, PAGE, flags), 0)
            return flags.raw[0] & 1

        self.assertEqual(resident(), 1)
        answer = self.node.unpublish()
        self.assertEqual(answer[0], "OK", answer)
        self.assertEqual(resident(), 0)
        with self.assertRaises(OSError):
            os.pread(fd, 100, 0)

    def test_no_core(self):
        """a plugin that crashes leaves no image of itself"""
        secret = self.put()
        self.publish()
        plugin, there = self.node.serving(), set(os.listdir("."))
        with open(f"/proc/{plugin.pid}/limits", encoding="utf-8") as limits:
            self.assertTrue(re.search(r"Max core file size +0 +0 ", limits.read()))
        self.node.keeper.kill()  # nobody holds anything any more
        self.node.keeper.wait()
        plugin.send_signal(6)
        self.node.wait(plugin)
        self.assertEqual(in_files(self.node.folder, [secret]), [])
        self.assertEqual([name for name in set(os.listdir(".")) - there if name.startswith("core")], [])


class LockedMemfdTest(LeaksTest):
    """the same where the kernel has no memfd_secret"""
    lacks = ("memfd_secret",)
    test_the_search_finds = test_refused = test_token = test_one_trace = test_page_cache = None

    def test_no_core(self):
        self.assertIn("memfd_secret is missing", self.node.log_text())
        super().test_no_core()


if __name__ == "__main__":
    unittest.main(verbosity=2)
