"""A changed secret is in the pods' files at once: keystore, events, node plugin and mounts, all real.
Needs root.

    events_test.py BIN_DIR
"""

import statistics
import sys
import time
import unittest

from node_plugin import Node, WEBAPP_OBJECTS

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"

NODE_POLICY = """
path "sys/events/subscribe/*" { capabilities = ["read"] }
path "secret/data/*" { capabilities = ["subscribe"] }
path "secret/metadata/*" { capabilities = ["subscribe"] }
"""


class EventNode(Node):
    def flags(self):
        return [f"--vault-addr={self.keystore.address}", "--events-role=node",
                f"--events-token-file={self.token_file}"]

    def fill(self):
        super().fill()
        self.keystore.must("PUT", "sys/policies/acl/node", {"policy": NODE_POLICY}, self.root)
        self.keystore.must("POST", "auth/kubernetes/role/node", {
            "bound_service_account_names": "vault", "bound_service_account_namespaces": "default",
            "token_policies": "node", "token_ttl": "1h"}, self.root)


def seconds_until(check, limit=5.0):
    start = time.perf_counter()
    while not check():
        if time.perf_counter() - start > limit:
            raise AssertionError(f"not within {limit} s")
        time.sleep(0.001)
    return time.perf_counter() - start


class EventsTest(unittest.TestCase):
    def setUp(self):
        self.node = EventNode(BIN_DIR)
        self.addCleanup(self.node.close)
        self.heard(1)

    def heard(self, times):
        seconds_until(
            lambda: self.node.log_text().count("events of the keystore are heard") >= times, 20)

    def holds(self, target, text):
        with open(f"{target}/password", encoding="utf-8") as file:
            return file.read() == text

    def published(self, **more):
        target = self.node.target(more.pop("pod", "1"))
        answer = self.node.publish(target, **more)
        self.assertEqual(answer[0], "OK", answer)
        return target

    def test_new_versions_are_seen_at_once(self):
        """the median of 20 is under 100 ms"""
        target = self.published()
        times = []
        for number in range(2, 22):
            self.node.put(number)
            times.append(seconds_until(lambda n=number: self.holds(target, f"password-{n}")))
        print(f"new version in the file: median {statistics.median(times) * 1000:.1f} ms, "
              f"longest {max(times) * 1000:.1f} ms")
        self.assertLess(statistics.median(times), 0.1)

    def test_other_volumes_are_left_alone_and_patterns_are_heard(self):
        """only volumes whose class reads the path are read anew"""
        node = self.node
        node.write_class("all", "- objectName: all\n  secretPath: secret/data/webapp/*\n"
                                "  keys: '*'\n  path: all")
        node.keystore.must("PUT", "sys/policies/acl/webapp", {
            "policy": 'path "secret/data/webapp/*" { capabilities = ["read"] }\n'
                      'path "secret/metadata/webapp/*" { capabilities = ["list"] }\n'
                      'path "secret/metadata/webapp" { capabilities = ["list"] }'}, node.root)
        single = self.published()
        every = self.published(pod="2", volume="csi-2", secret_class="all")
        node.keystore.must("POST", "secret/data/webapp/new", {"data": {"k": "v"}}, node.root)

        def has_new():
            try:
                with open(f"{every}/all/new/k", encoding="utf-8") as file:
                    return file.read() == "v"
            except FileNotFoundError:
                return False
        seconds_until(has_new)
        self.assertTrue(self.holds(single, "password-1"))

    def test_a_gap_is_made_up_for(self):
        """after a keystore that was sealed, what changed meanwhile is read"""
        node = self.node
        target = self.published()
        node.keystore.must("PUT", "sys/seal", {}, node.root)
        seconds_until(lambda: "the keystore was sealed" in node.log_text(), 10)
        for share in node.shares[:3]:
            node.keystore.must("PUT", "sys/unseal", {"key": share})
        node.put(2)
        self.heard(2)
        seconds_until(lambda: self.holds(target, "password-2"), 10)


if __name__ == "__main__":
    unittest.main()
