"""Rotation that the plugin itself does, by interval and after failures: real keystore, real mounts. Needs root.

    rotation_test.py BIN_DIR
"""

import functools
import os
import re
import sys
import unittest
import urllib.request

from node_plugin import Node, WEBAPP_OBJECTS
from coffer_test import eventually as comes_true, free_port

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"
eventually = functools.partial(comes_true, ignore=(OSError,))  # not served yet
INTERVAL = "    rotationInterval: {}\n"


class RotatingNode(Node):
    def __init__(self, bin_dir, *flags):
        self.more = flags
        self.metrics_port = free_port()
        super().__init__(bin_dir)

    def flags(self):
        return [f"--metrics-addr=127.0.0.1:{self.metrics_port}", *self.more]

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=60) as answer:
            return answer.read().decode()


class RotationTest(unittest.TestCase):
    def start(self, *flags):
        self.node = RotatingNode(BIN_DIR, *flags)
        self.addCleanup(self.node.close)
        return self.node

    def published(self, name="webapp", extra="", pod="1"):
        self.node.write_class(name, WEBAPP_OBJECTS, extra=extra)
        target = self.node.target(pod)
        self.ok(self.publish(target, name, pod))
        return target

    def publish(self, target, name, pod="1"):
        return self.node.publish(target, f"csi-{pod}", name, f"--uid=pod-{pod}")

    def ok(self, answer):
        self.assertEqual(answer[0], "OK", answer)

    def holds(self, target, number):
        with open(os.path.join(target, "password"), encoding="utf-8") as file:
            return file.read() == f"password-{number}"

    def tokens(self):
        listed = self.node.keystore.must("LIST", "auth/token/accessors", token=self.node.root)
        return len(listed["data"]["keys"])

    def test_by_the_plugin(self):
        """a class with an interval is read anew without any republish, with the same token"""
        node = self.start()
        fast = self.published("fast", INTERVAL.format("1s"))
        off = self.published("off", '    rotation: "off"\n' + INTERVAL.format("1s"), "2")
        tokens = self.tokens()
        node.put(2)
        self.assertTrue(eventually(lambda: self.holds(fast, 2)))
        self.ok(self.publish(off, "off", "2"))
        self.assertTrue(self.holds(off, 1))
        self.assertEqual(self.tokens(), tokens)
        self.ok(node.unpublish(fast))
        self.assertTrue(eventually(lambda: self.tokens() == tokens - 1))

    def test_republish_before_the_interval(self):
        """is OK and asks nobody: the keystore may be away"""
        node = self.start("--enable-secret-rotation", "--rotation-poll-interval=1h")
        target = self.published()
        often = self.published("often", INTERVAL.format("0"), "2")
        node.put(2)
        self.ok(self.publish(target, "webapp"))
        self.assertTrue(self.holds(target, 1))
        self.ok(self.publish(often, "often", "2"))
        self.assertTrue(self.holds(often, 2))
        node.keystore.kill()
        self.ok(self.publish(target, "webapp"))
        self.assertEqual(self.publish(often, "often", "2")[0], "UNAVAILABLE")

    def test_the_log(self):
        """a line with pod and class for each thing that happened; that nothing did is for level debug"""
        node = self.start("--rotation-poll-interval=0")
        target = self.published()
        self.ok(self.publish(target, "webapp"))
        node.put(2)
        self.ok(self.publish(target, "webapp"))
        self.ok(node.unpublish(target))
        lines = re.findall(r"\[(\w+)\] (published|rotated|read anew: nothing new|unpublished) "
                           r"pod=default/web class=webapp target=(\S+)", node.log_text())
        self.assertEqual(lines, [("info", "published", target), ("debug", "read anew: nothing new", target),
                                 ("info", "rotated", target), ("info", "unpublished", target)])

    def test_switched_off(self):
        node = self.start("--enable-secret-rotation=false")
        target = self.published()
        node.put(2)
        self.ok(self.publish(target, "webapp"))
        self.assertTrue(self.holds(target, 1))

    def test_a_failing_keystore(self):
        """the old content stays, metrics and log say so, and it is tried again without the kubelet"""
        node = self.start()
        target = self.published("fast", INTERVAL.format("1s"))
        node.keystore.must("PUT", "sys/seal", {}, node.root)
        self.assertTrue(eventually(lambda: "\nrotation_reconcile_error_total{" in node.metrics()))
        self.assertTrue(self.holds(target, 1))
        self.assertIn('error_type="FailedToRotate"', node.metrics())
        self.assertRegex(node.log_text(), r"\[warn\] a volume was not read anew and keeps its content "
                                          r"pod=default/web class=fast target=\S+ .*status=\"UNAVAILABLE")
        for share in node.shares[:3]:
            node.keystore.must("PUT", "sys/unseal", {"key": share})
        node.put(2)
        self.assertTrue(eventually(lambda: self.holds(target, 2), 240))

    def test_flags_without_effect_are_explained(self):
        node = self.start("--provider-health-check", "--enable-pprof=true")
        self.assertIn("--provider-health-check (providers are asked when a class needs them); "
                      "--enable-pprof (this is no Go program)", node.log_text())


if __name__ == "__main__":
    unittest.main(verbosity=2)
