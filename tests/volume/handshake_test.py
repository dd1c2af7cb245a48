"""Keeper and plugin of different ages: the real coffer-keeper with plugins of any version, the real coffer-csi with
keepers of any version, in the words of keeper/protocol.h. Needs root.

    handshake_test.py BIN_DIR
"""

import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

from kept_node import KeptNode, eventually

BIN_DIR = os.path.abspath(sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin")
KINDS = ["hello", "welcome", "busy", "refuse", "clear", "put", "add", "remove", "drop", "take", "look", "volume", "image",
         "end", "standby", "gone"]
# What both speak.
OLDEST, NEWEST = map(int, re.search(r"protocol (\d+) to (\d+)", subprocess.run(
    [os.path.join(BIN_DIR, "coffer-keeper"), "-version"], check=True, capture_output=True, text=True).stdout).groups())
HEAD = struct.Struct("IHHQ")


def versions(oldest, newest):
    return oldest << 32 | newest


class Peer:
    """One side of a connection."""

    def __init__(self, connection):
        self.connection = connection
        connection.settimeout(60)

    def say(self, kind, number=0, target="", facts="", fds=()):
        head = HEAD.pack(KINDS.index(kind) + 1, len(target), len(facts), number)
        socket.send_fds(self.connection, [head + target.encode() + facts.encode()], fds)

    def hear(self):
        """(kind, number, target, facts), or None when the other side has closed."""
        try:
            data, fds, _, _ = socket.recv_fds(self.connection, 8192, 2)
        except ConnectionResetError:
            return None
        for fd in fds:
            os.close(fd)
        if not data:
            return None
        kind, target, facts, number = HEAD.unpack(data[:HEAD.size])
        text = data[HEAD.size:].decode()
        return KINDS[kind - 1], number, text[:target], text[target:target + facts]

    def close(self):
        self.connection.close()


class KeeperTest(unittest.TestCase):
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="coffer-handshake-"))
        self.socket = os.path.join(folder, "keeper.sock")
        with open(os.path.join(folder, "log"), "wb") as log:
            keeper = subprocess.Popen([os.path.join(BIN_DIR, "coffer-keeper"), f"-socket={self.socket}"], stderr=log)
        self.addCleanup(keeper.wait)
        self.addCleanup(keeper.kill)
        eventually(self.listens, "the keeper listens")

    def listens(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            return connection.connect_ex(self.socket) == 0

    def plugin(self, oldest, newest):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(connection.close)
        connection.connect(self.socket)
        peer = Peer(connection)
        peer.say("hello", versions(oldest, newest))
        return peer

    def test_the_newest_that_both_speak(self):
        for theirs, wanted in [((1, 1), 1), ((1, 2), 2), ((2, 2), 2), ((1, NEWEST), NEWEST), ((NEWEST, NEWEST), NEWEST),
                               ((2, 99), NEWEST)]:
            with self.subTest(plugin=theirs):
                plugin = self.plugin(*theirs)
                self.assertEqual(plugin.hear()[:2], ("welcome", wanted))
                plugin.close()

    def test_none_that_both_speak(self):
        """is refused with what the keeper speaks, whoever serves; who serves isn't disturbed"""
        serves = self.plugin(1, NEWEST)
        self.assertEqual(serves.hear()[0], "welcome")
        for theirs in [(NEWEST + 1, 99), (0, 0), (99, NEWEST + 1)]:
            with self.subTest(plugin=theirs):
                plugin = self.plugin(*theirs)
                self.assertEqual(plugin.hear()[:2], ("refuse", versions(OLDEST, NEWEST)))
                self.assertIsNone(plugin.hear())
        serves.say("take")
        self.assertEqual(serves.hear()[0], "end")

    def test_a_second_plugin(self):
        """of version 1 is told that another one serves, and comes again; a newer one stands by"""
        serves = self.plugin(1, 1)
        self.assertEqual(serves.hear()[:2], ("welcome", 1))
        for _ in range(3):
            old = self.plugin(1, 1)
            self.assertEqual(old.hear()[0], "busy")
            self.assertIsNone(old.hear())
        new = self.plugin(1, NEWEST)
        self.assertEqual(new.hear()[0], "standby")
        old = self.plugin(1, 1)
        self.assertEqual(old.hear()[0], "busy")
        serves.close()
        self.assertEqual(new.hear()[:2], ("welcome", NEWEST))

    def test_upgrade_and_back(self):
        """what a plugin of version 1 has given is taken by one of version 2, and again by one of version 1"""
        fuse, memory = os.open(os.devnull, os.O_RDWR), os.memfd_create("image")
        self.addCleanup(os.close, fuse)
        self.addCleanup(os.close, memory)
        os.write(memory, b"content")
        giver = self.plugin(1, 1)
        giver.hear()
        giver.say("clear")
        giver.say("put", 7, "/one", "facts", [fuse, memory])
        giver.say("put", 8, "/two", "facts", [fuse, memory])
        giver.say("drop", 0, "/two")
        giver.close()
        for version in (2, 1):
            plugin = self.plugin(1, version)
            self.assertEqual(plugin.hear()[:2], ("welcome", version))
            plugin.say("take")
            self.assertEqual(plugin.hear(), ("volume", 1, "/one", "facts"))
            self.assertEqual(plugin.hear()[:3], ("image", 7, "/one"))
            self.assertEqual(plugin.hear()[0], "end")
            plugin.close()


class ScriptedKeeper:
    """Answers each hello by the next of `answers`, the last of them again and again; holds nothing, and remembers what it
    was told."""

    def __init__(self, path, *answers):
        self.answers, self.told, self.hellos = list(answers), [], []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                peer = Peer(self.listener.accept()[0])
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        try:
            while (packet := peer.hear()) is not None:
                if packet[0] == "hello":
                    self.hellos.append(packet[1])
                    answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                    peer.say(*answer)
                    if answer[0] in ("busy", "refuse"):
                        return
                elif packet[0] in ("take", "look"):
                    peer.say("end")
                else:
                    self.told.append((packet[0], packet[2]))
        except OSError:
            pass  # the plugin has ended
        finally:
            peer.close()


class OneNode(KeptNode):
    """With a keeper of the test's own."""

    def __init__(self, *answers):
        self.answers = answers
        super().__init__(BIN_DIR)

    def start_keeper(self):
        os.makedirs(os.path.dirname(self.keeper_socket))
        self.scripted = ScriptedKeeper(self.keeper_socket, *self.answers)

    def close(self):
        self.scripted.listener.close()
        super().close()


class PluginTest(unittest.TestCase):
    def start(self, *answers):
        node = OneNode(*answers)
        self.addCleanup(node.close)
        return node

    def live(self, node):
        """published, rotated, unpublished"""
        for number in (1, 2):
            node.put(number)
            self.assertEqual(node.publish()[0], "OK")
            with open(os.path.join(node.target(), "password"), encoding="utf-8") as file:
                self.assertEqual(file.read(), f"password-{number}")
        self.assertEqual(node.unpublish()[0], "OK")
        self.assertEqual(node.mounts(), [])

    def test_keeper_of_version_1(self):
        """which is busy while another plugin serves, and is told all that a keeper is to hold"""
        node = self.start(("busy",), ("busy",), ("welcome", 1))
        self.assertEqual(set(node.scripted.hellos), {versions(OLDEST, NEWEST)})
        self.assertEqual(len(node.scripted.hellos), 3)
        self.assertIn("another plugin serves", node.log_text())
        self.live(node)
        volume = node.target()
        eventually(lambda: ("drop", volume) in node.scripted.told, "the keeper hears of the unpublish")
        self.assertEqual([kind for kind, target in node.scripted.told if target == volume][:2], ["put", "add"])
        self.assertLessEqual({kind for kind, _ in node.scripted.told}, {"clear", "put", "add", "remove", "drop"})

    def test_keeper_that_is_newer(self):
        """than the plugin can speak: it says so, and serves without"""
        node = self.start(("refuse", versions(NEWEST + 1, NEWEST + 6)))
        self.assertIn(f"the keeper speaks versions {NEWEST + 1} to {NEWEST + 6} of the protocol, this plugin {OLDEST} to "
                      f"{NEWEST}: update the older one", node.log_text())
        self.live(node)
        self.assertEqual(node.scripted.told, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
