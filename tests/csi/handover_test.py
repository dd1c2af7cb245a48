"""A plugin that is killed, stopped or without a keystore leaves its tokens to the next one, which goes on with them:
a real keeper, keystore and mounts. Needs root.

    handover_test.py BIN_DIR
"""

import functools
import os
import subprocess
import sys
import unittest
import urllib.request

from node_plugin import Node, WEBAPP_OBJECTS
from coffer_test import eventually as comes_true, free_port

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"
eventually = functools.partial(comes_true, ignore=(OSError,))  # not served yet


class KeptNode(Node):
    """With a keeper, and classes that are read anew every second."""

    def __init__(self, bin_dir):
        self.keeper = None
        self.metrics_port = free_port()
        super().__init__(bin_dir)

    def start(self):
        self.keeper_socket = os.path.join(self.folder, "keeper", "keeper.sock")
        if self.keeper is None:
            with open(os.path.join(self.folder, "keeper.log"), "ab") as log:
                self.keeper = subprocess.Popen(
                    [os.path.join(self.bin_dir, "coffer-keeper"), f"-socket={self.keeper_socket}"],
                    stdout=log, stderr=log)
        super().start()

    def flags(self):
        return [f"--keeper-socket={self.keeper_socket}", f"--metrics-addr=127.0.0.1:{self.metrics_port}"]

    def unseal(self):
        for share in self.shares[:3]:
            self.keystore.must("PUT", "sys/unseal", {"key": share})

    def close(self):
        super().close()
        if self.keeper:
            self.keeper.kill()
            self.keeper.wait()


class HandoverTest(unittest.TestCase):
    def setUp(self):
        self.node = KeptNode(BIN_DIR)
        self.addCleanup(self.node.close)
        self.node.write_class("webapp", WEBAPP_OBJECTS, extra="    rotationInterval: 1s\n")
        self.before = self.tokens()

    def ok(self, answer):
        self.assertEqual(answer[0], "OK", answer)

    def tokens(self):
        """Accessors of all tokens that the keystore knows."""
        listed = self.node.keystore.must("LIST", "auth/token/accessors", token=self.node.root)
        return sorted(listed["data"]["keys"])

    def published(self, pod="1", uid="pod"):
        target = self.node.target(pod)
        self.ok(self.node.publish(target, f"csi-{pod}", "webapp", f"--uid={uid}"))
        return target

    def holds(self, target, number):
        with open(os.path.join(target, "password"), encoding="utf-8") as file:
            return file.read() == f"password-{number}"

    def documents(self):
        """How many the keeper holds, and how many volumes; none while there is no keeper."""
        status = subprocess.run([os.path.join(BIN_DIR, "coffer-keeper"), f"-socket={self.node.keeper_socket}",
                                 "-status"], capture_output=True, text=True, timeout=60, check=False).stdout
        lines = status.splitlines()
        return sum(line.startswith("document:") for line in lines), sum(line.startswith("/") for line in lines)

    def test_the_next_plugin_goes_on(self):
        """killed, then stopped: the same tokens, rotation without a login, revoked when the pods end"""
        node = self.node
        one, two, other = self.published(), self.published("2"), self.published("3", "other")
        tokens = self.tokens()
        self.assertEqual(len(tokens), len(self.before) + 2)  # one a pod
        self.assertEqual(self.documents(), (3, 3))
        for number, end in enumerate((node.kill, node.stop), 2):
            end()
            node.write_token("no longer a token")  # whoever logs in fails
            node.put(number)
            node.start()
            for target in (one, two, other):
                self.assertTrue(eventually(lambda t=target, n=number: self.holds(t, n)), node.log_text())
            self.assertEqual(self.tokens(), tokens)
        self.ok(node.unpublish(one, "csi-1"))
        self.ok(node.unpublish(other, "csi-3"))
        self.assertTrue(eventually(lambda: len(self.tokens()) == len(tokens) - 1), node.log_text())
        self.assertTrue(self.holds(two, 3))
        self.ok(node.unpublish(two, "csi-2"))
        self.assertTrue(eventually(lambda: self.tokens() == self.before), node.log_text())
        self.assertTrue(eventually(lambda: self.documents() == (0, 0)))
        self.assertNotIn("hvs.", node.log_text())

    def test_a_token_that_could_not_be_given_back(self):
        """is given back by a later plugin, as soon as the keystore is there"""
        node = self.node
        target = self.published()
        node.keystore.kill()
        self.ok(node.unpublish(target))
        node.kill()
        node.start()  # the keystore is still away
        node.stop()
        self.assertEqual(self.documents(), (1, 0))
        node.start()
        node.keystore.start()
        node.unseal()
        self.assertTrue(eventually(lambda: self.tokens() == self.before, 120), node.log_text())
        self.assertTrue(eventually(lambda: self.documents() == (0, 0)))

    def test_unpublished_while_no_plugin_ran(self):
        """a volume that is gone when the next plugin starts has its token given back"""
        node = self.node
        target = self.published()
        node.kill()
        subprocess.run(["umount", "-l", target], check=True)
        node.start()
        self.assertTrue(eventually(lambda: self.tokens() == self.before), node.log_text())

    def test_versions_stay(self):
        """also of secrets that have none of their own: a new plugin reads them anew and nothing has changed"""
        node = self.node
        node.keystore.must("POST", "sys/mounts/plain", {"type": "kv"}, node.root)
        node.keystore.must("POST", "plain/a", {"k": "v"}, node.root)
        node.keystore.must("PUT", "sys/policies/acl/webapp",
                           {"policy": 'path "plain/*" { capabilities = ["read"] }'}, node.root)
        node.write_class("plain", "- {objectName: k, secretPath: plain/a, secretKey: k}",
                         extra="    rotationInterval: 1s\n")
        self.ok(node.publish(secret_class="plain"))

        def rotations(rotated):
            text = urllib.request.urlopen(f"http://127.0.0.1:{node.metrics_port}/metrics", timeout=60).read().decode()
            return sum("rotation_reconcile_total{" in line and f'rotated="{rotated}"' in line
                       for line in text.splitlines())
        for end in (node.kill, node.stop):
            end()
            node.start()
            self.assertTrue(eventually(lambda: rotations("false") > 0), node.log_text())
            self.assertEqual(rotations("true"), 0, node.log_text())

    def test_a_keeper_that_restarts_is_told_all(self):
        node = self.node
        target = self.published()
        tokens = self.tokens()
        node.keeper.kill()
        node.keeper.wait()
        node.keeper = subprocess.Popen([os.path.join(BIN_DIR, "coffer-keeper"), f"-socket={node.keeper_socket}"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.assertTrue(eventually(lambda: self.documents() == (1, 1)))
        node.kill()
        node.put(2)
        node.start()
        self.assertTrue(eventually(lambda: self.holds(target, 2)), node.log_text())
        self.assertEqual(self.tokens(), tokens)


if __name__ == "__main__":
    unittest.main(verbosity=2)
