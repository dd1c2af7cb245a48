"""Rotation as applications notice it: inotify, polling, opening anew, and the watchers of languages, as
far as those are installed; what a subPath mount sees. Needs root.

    watchers_test.py BIN_DIR [TOOLS_DIR]
"""

import ctypes
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

from kept_node import PATIENCE, Node, eventually

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"
TOOLS = sys.argv.pop(1) if len(sys.argv) > 1 else ".cache/tools"
HERE = os.path.dirname(os.path.abspath(__file__))

LIBC = ctypes.CDLL(None, use_errno=True)
NAMES = {0x2: "MODIFY", 0x4: "ATTRIB", 0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE", 0x200: "DELETE",
         0x400: "DELETE_SELF", 0x800: "MOVE_SELF", 0x2000: "UNMOUNT", 0x8000: "IGNORED"}
FOLDER_BIT = 0x40000000


class Inotify:
    def __init__(self, path, mask=0xfce):  # all but accesses, opens and closes
        self.fd = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if LIBC.inotify_add_watch(self.fd, path.encode(), mask) < 0:
            raise OSError(ctypes.get_errno(), path)
        self.events = []

    def read(self):
        """All events until now: (what, name)."""
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return self.events
            while data:
                _, mask, _, size = struct.unpack_from("iIII", data)
                name = data[16:16 + size].rstrip(b"\0").decode()
                self.events.append((NAMES.get(mask & ~FOLDER_BIT, hex(mask)), name))
                data = data[16 + size:]

    def close(self):
        os.close(self.fd)


class WatchersTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(BIN_DIR)
        cls.addClassCleanup(cls.node.close)
        cls.number = 1

    def setUp(self):
        self.target = self.node.target(self.id().rsplit(".", 1)[-1])
        self.publish()
        self.addCleanup(lambda: self.node.unpublish(self.target, self.target[-100:]))

    def publish(self):
        answer = self.node.publish(self.target, self.target[-100:])
        self.assertEqual(answer[0], "OK", answer)

    def rotate(self):
        type(self).number += 1
        self.node.put(self.number)
        self.publish()

    def password(self, path=None):
        with open(path or os.path.join(self.target, "password"), encoding="utf-8") as file:
            return file.read()

    def new(self):
        return f"password-{self.number}"

    def test_events_of_the_folder(self):
        """in the kubelet's order, with the new content there at the event of ..data"""
        watch = Inotify(self.target)
        self.addCleanup(watch.close)
        old = os.readlink(os.path.join(self.target, "..data"))
        self.rotate()
        eventually(lambda: ("MOVED_TO", "..data") in watch.read(), "..data is moved to")
        self.assertEqual(self.password(), self.new())
        new = os.readlink(os.path.join(self.target, "..data"))
        eventually(lambda: ("DELETE", old) in watch.read(), "the old folder is removed")
        self.assertEqual(watch.events, [
            ("CREATE", new), ("CREATE", "..data_tmp"), ("MOVED_FROM", "..data_tmp"), ("MOVED_TO", "..data"),
            ("DELETE", old)])

    def test_events_of_a_file(self):
        """a watch on the file behind the links ends when the old one goes: as with the kubelet's volumes"""
        watch = Inotify(os.path.join(self.target, "password"))
        self.addCleanup(watch.close)
        self.rotate()
        eventually(lambda: {"DELETE_SELF", "IGNORED"} <= {what for what, _ in watch.read()}, "its end is told")
        self.assertEqual(self.password(), self.new())

    def test_names_come_and_go(self):
        """links are made after ..data has moved, and removed after that"""
        watch = Inotify(self.target)
        self.addCleanup(watch.close)
        objects = """
- {objectName: password, secretPath: secret/data/webapp/config, secretKey: password}
- {objectName: other, secretPath: secret/data/webapp/config, secretKey: username}
"""
        self.node.write_class("other", objects)
        answer = self.node.publish(self.target, self.target[-100:], "other")
        self.assertEqual(answer[0], "OK", answer)
        eventually(lambda: ("DELETE", "username") in watch.read(), "the old name goes")
        names = [event for event in watch.events if event[1] in ("..data", "other", "username")]
        self.assertEqual(names, [("MOVED_TO", "..data"), ("CREATE", "other"), ("DELETE", "username")])

    def test_polling(self):
        """the time of change and the number of the file are others"""
        path = os.path.join(self.target, "password")
        before = os.stat(path)
        self.rotate()
        after = os.stat(path)
        self.assertGreater(after.st_mtime_ns, before.st_mtime_ns)
        self.assertNotEqual(after.st_ino, before.st_ino)

    def test_open_file(self):
        """who has it open reads the old content to the end, who opens it anew, as nginx does, the new"""
        with open(os.path.join(self.target, "password"), encoding="utf-8") as file:
            old, name = self.new(), os.readlink(os.path.join(self.target, "..data"))
            self.rotate()
            self.assertEqual(self.password(), self.new())
            eventually(lambda: name not in os.listdir(self.target), "the old folder is removed")
            self.assertEqual(file.read(), old)

    def test_envoy(self):
        """a watch for moves in the folder alone, then a read"""
        watch = Inotify(self.target, 0x80)
        self.addCleanup(watch.close)
        for _ in range(3):
            self.rotate()
            eventually(lambda: watch.read(), "a move")
            self.assertEqual(self.password(), self.new())
            watch.events = []

    def test_sub_path(self):
        """a subPath is a bind mount of the file that the links lead to: it stays what it was"""
        folder = tempfile.mkdtemp(prefix="coffer-subpath-")
        self.addCleanup(os.rmdir, folder)
        place = os.path.join(folder, "password")
        with open(place, "w", encoding="utf-8"):
            pass
        self.addCleanup(os.remove, place)
        subprocess.run(["mount", "--bind", os.path.realpath(os.path.join(self.target, "password")), place],
                       check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", place], check=True)
        whole = os.path.join(folder, "whole")
        os.mkdir(whole)
        self.addCleanup(os.rmdir, whole)
        subprocess.run(["mount", "--bind", self.target, whole], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", whole], check=True)
        old, name = self.new(), os.readlink(os.path.join(self.target, "..data"))
        self.rotate()
        eventually(lambda: name not in os.listdir(self.target), "the old folder is removed")
        self.assertEqual(self.password(place), old)
        self.assertEqual(self.password(os.path.join(whole, "password")), self.new())

    def watched_by(self, command, pattern):
        """A watcher that prints its events sees the rotation."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines = []
        thread = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)
        thread.start()
        try:
            eventually(lambda: "ready" in "".join(lines) or process.poll() is not None, "it watches")
            if process.poll() is not None:
                self.skipTest(f"{command[0]} doesn't run here: {''.join(lines)[:300]}")
            self.rotate()
            try:
                eventually(lambda: re.search(pattern, "".join(lines)), f"{pattern} in what {command[0]} prints")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{''.join(lines)}") from None
            self.assertEqual(self.password(), self.new())
        finally:
            process.kill()
            process.wait()
            thread.join(PATIENCE)
            process.stdout.close()

    def found(self, program, *more):
        path = shutil.which(program) or next((p for p in more if os.access(p, os.X_OK)), None)
        if path is None:
            self.skipTest(f"{program} is not installed")
        return path

    def test_node(self):
        self.watched_by([self.found("node"), os.path.join(HERE, "watchers", "watch.js"), self.target],
                        r"rename \.\.data\n")

    def test_java(self):
        self.found("javac")
        self.watched_by([self.found("java"), os.path.join(HERE, "watchers", "Watch.java"), self.target],
                        r"ENTRY_CREATE \.\.data\n")

    def test_fsnotify(self):
        self.watched_by([self.found("fsnotify", os.path.join(TOOLS, "fsnotify", "fsnotify")), "watch", self.target],
                        r'CREATE +"\S*/\.\.data"')

    def test_watchdog(self):
        python = os.path.join(TOOLS, "watchdog", "bin", "python3")
        if subprocess.run([python, "-c", "import watchdog"], capture_output=True, check=False).returncode \
                if os.access(python, os.X_OK) else True:
            self.skipTest("watchdog is not installed")
        self.watched_by([python, os.path.join(HERE, "watchers", "watch_watchdog.py"), self.target],
                        r"moved \S*/\.\.data_tmp \S*/\.\.data\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
