"""The real plugin on kernels that lack things, and with volumes on tmpfs: each is found at the start, said once, shown
by `coffer csi status`, and volumes live as docs/node-plugin.md says. Needs root.

    fallback_test.py BIN_DIR
"""

import json
import os
import stat
import subprocess
import sys
import time
import unittest

from kept_node import KeptNode, eventually

BIN_DIR = os.path.abspath(sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin")


class FallbackNode(KeptNode):
    def __init__(self, lacks=(), backend="auto"):
        self.backend = backend
        super().__init__(BIN_DIR, lacks)

    def flags(self):
        self.admin = os.path.join(self.folder, "admin.sock")
        return [f"--volume-backend={self.backend}", f"--admin-socket={self.admin}"]

    def facts(self):
        run = subprocess.run([os.path.join(BIN_DIR, "coffer"), "csi", "status", "-format=json"], check=True,
                             capture_output=True, text=True, timeout=60,
                             env={"HOME": self.folder, "COFFER_CSI_SOCKET": self.admin})
        return json.loads(run.stdout)["facts"]

    def said(self, words):
        return sum(words in line for line in self.log_text().splitlines())


class FallbackTest(unittest.TestCase):
    def start(self, *lacks, backend="auto"):
        node = FallbackNode(lacks, backend)
        self.addCleanup(node.close)
        return node

    def ok(self, answer):
        self.assertEqual(answer[0], "OK", answer)

    def password(self, node):
        with open(os.path.join(node.target(), "password"), encoding="utf-8") as file:
            return file.read()

    def mount(self, node):
        """Of the only one its options, the file system's type and options."""
        (line,) = node.mounts()
        fields = line.split()
        return fields[5].split(","), fields[fields.index("-") + 1], fields[-1].split(",")

    def assert_life_on_tmpfs(self, node):
        """published, rotated, without a plugin, rotated by the next one, unpublished"""
        target = node.target()
        self.ok(node.publish())
        options, kind, of_all = self.mount(node)
        self.assertEqual((kind, "ro" in options), ("tmpfs", True))
        self.assertEqual("noswap" in of_all, "noswap" not in node.lacks)
        self.assertEqual(self.password(node), "password-1")
        self.assertEqual(os.readlink(os.path.join(target, "password")), "..data/password")
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(target, "password")).st_mode), 0o644)
        with self.assertRaises(OSError):
            os.remove(os.path.join(target, "password"))
        data = os.readlink(os.path.join(target, "..data"))
        with open(os.path.join(target, "password"), encoding="utf-8") as old:
            node.put(2)
            self.ok(node.publish())
            self.assertEqual(self.password(node), "password-2")
            self.assertEqual(old.read(), "password-1")
        self.assertNotEqual(os.readlink(os.path.join(target, "..data")), data)
        eventually(lambda: data not in os.listdir(target), "the old folder is removed")

        node.serving().kill()
        self.assertEqual(self.password(node), "password-2")
        self.next_plugin(node)
        self.assertEqual(self.password(node), "password-2")
        node.put(3)
        self.ok(node.publish())
        self.assertEqual(self.password(node), "password-3")
        self.assertEqual(len(node.mounts()), 1)
        self.ok(node.unpublish())
        self.assertEqual(node.mounts(), [])
        self.assertFalse(os.path.exists(target))
        self.assertNotIn("password-", node.log_text())

    def test_tmpfs_by_flag(self):
        node = self.start(backend="tmpfs")
        self.assertEqual(node.facts()["volumes"], "tmpfs, never swapped out (--volume-backend=tmpfs)")
        self.assertEqual(node.facts()["hand-over"], "tmpfs needs none")
        self.assertEqual(node.said("volumes are plain tmpfs"), 1)
        self.assert_life_on_tmpfs(node)

    def test_no_fuse(self):
        """in the container, nor tmpfs that isn't swapped out: the plain one; what a class can't have fails"""
        node = self.start("fuse", "noswap")
        self.assertRegex(node.facts()["volumes"], "^tmpfs, which may be swapped out .*/dev/fuse")
        self.assertEqual(node.said("volumes are plain tmpfs"), 1)
        self.assertEqual(node.said("turn swap off"), 1)
        self.assert_life_on_tmpfs(node)
        node.write_class("audited", "- {objectName: a, secretPath: secret/data/webapp/config}",
                         extra="    audit: opens\n")
        code, message = node.publish(secret_class="audited")
        self.assertEqual(code, "FAILED_PRECONDITION", message)
        self.assertIn("need FUSE", message)
        self.assertEqual(node.mounts(), [])

    def test_nothing_but_fuse(self):
        """--volume-backend=fuse without FUSE isn't ready and publishes nothing, and both say why"""
        node = self.start("fuse", backend="fuse")
        self.assertIn("ready: false", node.call("probe")[1])
        self.assertIn("/dev/fuse", node.facts()["ready"])
        code, message = node.publish()
        self.assertEqual(code, "UNAVAILABLE", message)
        self.assertIn("/dev/fuse", message)
        self.assertEqual(node.mounts(), [])

    def test_older_kernel(self):
        """without memfd_secret and RESEND volumes are FUSE, and outlive a stop and an idle plugin's kill"""
        node = self.start("memfd_secret", "resend")
        facts = node.facts()
        self.assertEqual(facts["volumes"], "FUSE")
        self.assertEqual(facts["memory"], "locked memfd (no memfd_secret)")
        self.assertIn("after a kill if idle", facts["hand-over"])
        self.assertEqual(node.said("memfd_secret is missing"), 1)
        self.assertEqual(node.said("the kernel can't ask again"), 1)
        self.ok(node.publish())
        self.assertEqual(self.mount(node)[1], "fuse.coffer")
        plugin = node.serving()
        plugin.terminate()
        self.assertEqual(node.wait(plugin), 0)
        node.start_plugin()
        self.serves(node)
        self.assertEqual(self.password(node), "password-1")
        node.put(2)
        self.ok(node.publish())
        self.assertEqual(self.password(node), "password-2")
        # Not where the kill hits the moment after the last answer.
        self.assertTrue(any(self.outlives_a_kill(node) for _ in range(20)))
        node.put(3)
        self.ok(node.publish())
        self.assertEqual(self.password(node), "password-3")
        self.ok(node.unpublish())
        self.assertEqual(node.mounts(), [])

    def outlives_a_kill(self, node):
        self.ok(node.publish())
        eventually(lambda: len(os.listdir(node.target())) == 4, "the old folder is removed")
        time.sleep(0.05)
        device = os.stat(node.target()).st_dev
        node.serving().kill()
        self.next_plugin(node)
        if not node.mounts():
            return False
        self.assertEqual(self.password(node), "password-2")
        self.assertEqual(os.stat(node.target()).st_dev, device, "it is another mount")
        return True

    def next_plugin(self, node):
        """Once that of before, which was killed, has ended."""
        for plugin in list(node.plugins):
            node.wait(plugin)
        node.start_plugin()
        self.serves(node)

    def serves(self, node):
        eventually(lambda: node.serving() and node.call("probe")[0] == "OK", "the next plugin serves")


if __name__ == "__main__":
    unittest.main(verbosity=2)
