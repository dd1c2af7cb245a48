"""The upstream provider protocol between processes: the plugin with a vendor's provider, and with another plugin that
is one (--provider-socket-dir). Real keystore, real mounts. Needs root.

    provider_test.py BIN_DIR
"""

import json
import os
import subprocess
import sys
import time
import unittest

from node_plugin import Node, WEBAPP_OBJECTS, class_yaml
from process_memory import in_memory

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


class BankNode(Node):
    """A node with a folder for vendors' sockets, and classes of the vendor "bank"."""

    def flags(self):
        self.vendors = os.path.join(self.folder, "vendors")
        os.makedirs(self.vendors, exist_ok=True)
        return [f"--provider-volume={self.vendors}", "--rotation-poll-interval=0"]

    def write_bank_class(self, extra=""):
        text = class_yaml("bank", self.keystore.address, WEBAPP_OBJECTS, extra=extra)
        with open(os.path.join(self.classes, "bank.yaml"), "w", encoding="utf-8") as file:
            file.write(text.replace("provider: vault", "provider: bank"))


class ProviderTest(unittest.TestCase):
    def setUp(self):
        self.node = BankNode(BIN_DIR)
        self.addCleanup(self.node.close)
        self.node.write_bank_class()

    def started(self, *command):
        with open(os.path.join(self.node.folder, "other.log"), "ab") as log:
            process = subprocess.Popen([os.path.join(BIN_DIR, command[0]), *command[1:]], stdout=log, stderr=log)
        self.addCleanup(lambda: process.poll() is not None or (process.kill(), process.wait()))
        return process

    def publish(self, number=1):
        return self.node.publish(self.node.target(str(number)), f"csi-{number}", "bank", f"--uid=uid-{number}")

    def published(self, number=1):
        """Until it is: the plugin finds a socket that comes, or comes back, by itself."""
        for _ in range(200):
            answer = self.publish(number)
            if answer[0] not in ("FAILED_PRECONDITION", "UNAVAILABLE"):
                break
            time.sleep(0.05)
        self.assertEqual(answer[0], "OK", answer)
        return self.node.target(str(number))

    def tokens(self):
        return len(self.node.keystore.must("LIST", "auth/token/accessors", token=self.node.root)["data"]["keys"])


class VendorTest(ProviderTest):
    def setUp(self):
        super().setUp()
        self.answer_path = os.path.join(self.node.folder, "answer.json")
        self.requests_path = os.path.join(self.node.folder, "requests")
        self.answer(1)
        self.vendor = self.start_vendor()

    def start_vendor(self):
        return self.started("coffer-test-vendor", os.path.join(self.node.vendors, "bank.sock"), self.answer_path,
                            self.requests_path)

    def answer(self, version, **more):
        more = more or {"files": [{"path": "keys/main", "mode": 0o400, "contents": f"key {version}\n"},
                                  {"path": "note", "mode": 0o644, "contents": "the same"}],
                        "versions": [{"id": "main", "version": str(version)}]}
        with open(self.answer_path + ".new", "w", encoding="utf-8") as file:
            json.dump(more, file)
        os.rename(self.answer_path + ".new", self.answer_path)

    def requests(self):
        return [json.loads(line) for line in read(self.requests_path).splitlines()]

    def test_life_of_a_volume(self):
        """the provider is sent what the upstream driver sends; its files are our volume's, and rotate"""
        target = self.published()
        self.assertEqual(read(target, "keys", "main"), "key 1\n")
        self.assertEqual(os.stat(os.path.join(target, "keys", "main")).st_mode & 0o7777, 0o400)
        self.assertEqual(os.readlink(os.path.join(target, "note")), "..data/note")
        seen = self.requests()[-1]
        self.assertEqual(seen["target_path"], target)
        self.assertEqual(seen["permission"], "420")
        self.assertEqual(seen["versions"], [])
        self.assertEqual(seen["attributes"]["roleName"], "webapp")
        self.assertEqual(seen["attributes"]["csi.storage.k8s.io/pod.uid"], "uid-1")
        tokens = json.loads(seen["attributes"]["csi.storage.k8s.io/serviceAccount.tokens"])
        self.assertEqual(tokens["vault"]["token"], read(self.node.token_file).strip())
        self.answer(2)
        self.published()
        self.assertEqual(self.requests()[-1]["versions"], [{"id": "main", "version": "1"}])
        self.assertEqual(read(target, "keys", "main"), "key 2\n")
        self.assertEqual(self.node.unpublish(target)[0], "OK")
        self.assertEqual(self.node.mounts(), [])

    def test_its_failures(self):
        """the provider's word is the answer, nothing is mounted, and what is mounted stays"""
        self.published()
        refusals = [({"status": 7, "message": "no identity"}, "PERMISSION_DENIED", "no identity"),
                    ({"error": "Throttled"}, "UNAVAILABLE", "error code Throttled"),
                    ({"files": []}, "FAILED_PRECONDITION", "answered no files"),
                    ({"files": [{"path": "../etc/x", "mode": 0o400, "contents": "x"}]}, "INVALID_ARGUMENT", "../etc/x")]
        for answer, code, text in refusals:
            with self.subTest(answer):
                self.answer(0, **answer)
                for number in (1, 2):
                    refused = self.publish(number)
                    self.assertEqual(refused[0], code, refused)
                    self.assertIn(text, refused[1])
                self.assertEqual(read(self.node.target(), "keys", "main"), "key 1\n")
                self.assertEqual(len(self.node.mounts()), 1)

    def test_its_death(self):
        """what is mounted stays; the next provider is found"""
        target = self.published()
        self.vendor.kill()
        self.vendor.wait()
        self.assertEqual(self.publish()[0], "UNAVAILABLE")
        self.assertEqual(read(target, "keys", "main"), "key 1\n")
        self.answer(2)
        self.start_vendor()
        self.published()
        self.assertEqual(read(target, "keys", "main"), "key 2\n")


class CofferTest(ProviderTest):
    def start_provider(self):
        folder = os.path.join(self.node.folder, "served")
        for name in (folder, os.path.join(folder, "kubelet"), os.path.join(folder, "classes")):
            os.makedirs(name, exist_ok=True)
        return self.started("coffer-csi", f"--endpoint=unix://{folder}/csi.sock", "--nodeid=node-1",
                            f"--kubelet-root={folder}/kubelet", f"--secret-provider-class-dir={folder}/classes",
                            f"--provider-socket-dir={folder}")

    def setUp(self):
        super().setUp()
        self.before = self.tokens()
        self.provider = self.start_provider()
        os.symlink(os.path.join(self.node.folder, "served", "vault.sock"),
                   os.path.join(self.node.vendors, "bank.sock"))

    def test_life_of_volumes(self):
        """one login a volume, used again for rotation; all are given back when the provider stops"""
        for number in (1, 2, 3):
            target = self.published(number)
            self.assertEqual(read(target, "password"), "password-1")
            self.assertEqual(read(target, "username"), "static-user")
        self.node.put(2)
        for number in (1, 2, 3):
            self.assertEqual(read(self.published(number), "password"), "password-2")
        self.assertEqual(self.tokens(), self.before + 3)
        self.provider.terminate()
        self.assertEqual(self.provider.wait(30), 0)
        self.assertEqual(self.tokens(), self.before)
        self.assertEqual(self.publish()[0], "FAILED_PRECONDITION")  # its socket is gone
        self.assertEqual(read(self.node.target(), "password"), "password-2")
        self.provider = self.start_provider()
        self.node.put(3)
        self.assertEqual(read(self.published(), "password"), "password-3")

    def test_token(self):
        """of a request nothing is left in the provider's memory with its answer"""
        token = read(self.node.token_file).strip()[-60:].encode()
        for _ in range(12):
            self.published()
            # In the attributes, which are JSON within the JSON that the driver sends.
            self.assertEqual(in_memory(self.provider.pid, [token + b'\\"}}', token + b'"}}'])[0], set())

    def test_refusals(self):
        """the keystore's word arrives; what the protocol can't carry is refused by name"""
        self.published()
        self.node.write_bank_class('    owner: "1000"\n')
        refused = self.publish(2)
        self.assertEqual(refused[0], "FAILED_PRECONDITION", refused)
        self.assertIn("owner, group, audit", refused[1])
        self.node.write_bank_class()
        self.node.keystore.must("DELETE", "sys/policies/acl/webapp", token=self.node.root)
        refused = self.publish(2)
        self.assertEqual(refused[0], "PERMISSION_DENIED", refused)
        self.assertIn("secret/data/webapp/config", refused[1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
