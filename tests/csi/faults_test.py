"""What may go wrong around a publish: pods that end meanwhile, calls that come twice, a full disk. A real keystore,
real mounts. Needs root.

    faults_test.py BIN_DIR
"""

import os
import signal
import subprocess
import sys
import time
import unittest

from node_plugin import Node
from coffer_test import eventually

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"


class FullKeystoreTest(unittest.TestCase):
    def test_a_keystore_without_room_for_a_login(self):
        """the kubelet is told to come again, not where the keystore's data lies; with room again the pod starts"""
        node = Node(BIN_DIR, storage='map_size = "2MiB"')
        self.addCleanup(node.close)
        self.assertEqual(node.keystore.fill(node.root)[0], 507)
        code, message = node.publish()
        self.assertEqual(code, "UNAVAILABLE", message)
        self.assertIn("the storage is full", message)
        self.assertNotIn(node.keystore.folder, message)
        self.assertEqual(node.mounts(), [])
        self.assertFalse(os.path.exists(node.target()))
        node.keystore.must("DELETE", "full/0", token=node.root)
        self.assertEqual(node.publish()[0], "OK")
        self.assertEqual(node.unpublish()[0], "OK")


class FaultsTest(unittest.TestCase):
    def setUp(self):
        self.node = Node(BIN_DIR)
        self.addCleanup(self.node.close)
        self.before = self.tokens()

    def tokens(self):
        listed = self.node.keystore.must("LIST", "auth/token/accessors", token=self.node.root)
        return len(listed["data"]["keys"])

    def start_publish(self, *more):
        node = self.node
        return subprocess.Popen([
            os.path.join(BIN_DIR, "coffer-csi-client"), f"--endpoint=unix://{node.socket}", "publish",
            "--volume-id=csi-1", f"--target={node.target()}", "--class=webapp", "--service-account=vault",
            "--audience=vault", f"--token-file={node.token_file}", *more],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def assert_nothing_left(self, lost_answers=0):
        """A login whose answer nobody waited for leaves a token that nobody knows; it ends by its TTL."""
        self.assertEqual(self.node.mounts(), [])
        self.assertFalse(os.path.exists(self.node.target()))
        most = self.before + lost_answers
        self.assertTrue(eventually(lambda: self.tokens() <= most), self.node.log_text())

    def test_a_pod_that_ends_during_its_publish(self):
        """the kubelet gives up and unpublishes while the keystore hangs: nothing is left, also of what comes late"""
        node = self.node
        node.keystore.process.send_signal(signal.SIGSTOP)
        try:
            call = self.start_publish("--timeout=2")
            output = call.communicate(timeout=120)[0]
            self.assertIn("DEADLINE_EXCEEDED", output)
            # Another call that the kubelet has forgotten is still at work meanwhile.
            late = self.start_publish("--timeout=100")
            time.sleep(0.5)
            self.assertIn(node.unpublish()[0], ["ABORTED", "OK"])
        finally:
            node.keystore.process.send_signal(signal.SIGCONT)
        late.communicate(timeout=120)
        self.assertTrue(eventually(lambda: node.unpublish()[0] == "OK"))
        self.assert_nothing_left(lost_answers=1)

    def test_many_calls_for_one_volume(self):
        """are OK or asked to come again; there is one mount, with one login"""
        calls = [self.start_publish() for _ in range(12)]
        outputs = [call.communicate(timeout=120)[0] for call in calls]
        for output in outputs:
            self.assertTrue(output.startswith("OK") or output.startswith("ABORTED"), output)
        self.assertTrue(any(output.startswith("OK") for output in outputs), outputs)
        self.assertEqual(len(self.node.mounts()), 1)
        with open(os.path.join(self.node.target(), "password"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "password-1")
        self.assertTrue(eventually(lambda: self.tokens() == self.before + 1))
        self.assertEqual(self.node.unpublish()[0], "OK")
        self.assert_nothing_left()

    def test_a_full_disk(self):
        """no folder can be made for the mount: the error says so, nothing is left, and later all is well"""
        node = self.node
        pods = os.path.join(node.kubelet, "pods")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=16", "full", pods], check=True)
        try:
            node.target()
            number = 0
            try:
                while True:
                    os.mkdir(os.path.join(pods, f"x{number}"))
                    number += 1
            except OSError:
                pass
            code, message = node.publish()
            self.assertNotEqual(code, "OK")
            self.assertIn("o space left", message)
            self.assertTrue(eventually(lambda: self.tokens() == self.before))
            self.assertEqual([line for line in node.mounts() if "/mount " in line], [])
            os.rmdir(os.path.join(pods, "x0"))
            self.assertEqual(node.publish()[0], "OK")
            self.assertEqual(node.unpublish()[0], "OK")
        finally:
            subprocess.run(["umount", "-l", pods], check=True)
        self.assertEqual(node.mounts(), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
