"""The node plugin against HashiCorp's Vault itself: real plugin, real mounts. Pods' tokens are checked by the jwt
method here, and by the kubernetes method in kube_vault_test.py. Needs root.

    vault_test.py BIN_DIR VAULT_DIR     (VAULT_DIR: where vault and its plugins lie)
"""

import http.server
import json
import os
import sys
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "csi"))
from node_plugin import POLICY, WEBAPP_OBJECTS, Node  # noqa: E402
from real_vault import RealVault  # noqa: E402
from coffer_test import eventually  # noqa: E402

BIN_DIR = os.path.abspath(sys.argv.pop(1))
VAULT_DIR = os.path.abspath(sys.argv.pop(1))
LEASE = 6  # seconds


class VaultNode(Node):
    """The plugin beside a Vault with the mounts, policies and roles of these tests."""

    def make_keystore(self, storage):
        return RealVault(VAULT_DIR)

    def fill(self):
        self.shares, self.root = self.keystore.initialize()
        self.keystore.add_plugins(self.root)
        for path, mount in (
                ("secret", {"type": "kv", "options": {"version": "2"}}),
                ("old", {"type": "kv", "options": {"version": "1"}}),
                ("pki", {"type": "pki"}), ("rabbitmq", {"type": "rabbitmq"})):
            self.must("POST", f"sys/mounts/{path}", mount)
        self.fill_policy()
        self.must("POST", "sys/auth/jwt", {"type": "jwt"})
        self.must("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [self.signer.public_key]})
        self.write_role("webapp")
        self.put(1)

    def must(self, method, path, body=None):
        return self.keystore.must(method, path, body, self.root)

    def fill_policy(self):
        self.must("PUT", "sys/policies/acl/webapp", {"policy": POLICY})
        self.must("PUT", "sys/policies/acl/all", {"policy": "".join(
            f'path "{path}/*" {{ capabilities = ["read", "list", "update"] }}\n'
            for path in ("secret", "old", "pki", "rabbitmq"))})

    def write_role(self, name, policies="webapp", **more):
        self.must("POST", f"auth/jwt/role/{name}", {
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"],
            "bound_subject": "system:serviceaccount:default:vault", "token_policies": policies,
            "token_ttl": "1h", **more})

    def write_class(self, name, objects, **more):
        super().write_class(name, objects, extra="    vaultAuthMountPath: jwt\n", **more)

    def pods_tokens(self):
        """The accessors of tokens that pods have."""
        found = []
        for accessor in self.must("LIST", "auth/token/accessors")["data"]["keys"]:
            status, answer = self.keystore.request(
                "POST", "auth/token/lookup-accessor", {"accessor": accessor}, self.root)
            if status == 200 and answer["data"]["path"].endswith("/login"):
                found.append(accessor)
        return found


class RabbitMq(http.server.ThreadingHTTPServer):
    """As much of RabbitMQ's management API as Vault asks for: its users."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), RabbitMqHandler)
        self.daemon_threads = True
        self.users, self.made = {}, 0
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()

    def close(self):
        self.shutdown()
        self.thread.join()
        self.server_close()


class RabbitMqHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        self.answer(200, [])

    def do_PUT(self):  # noqa: N802
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.startswith("/api/users/"):
            self.server.users[self.path.split("/")[-1]] = body["password"]
            self.server.made += 1
        self.answer(201)

    def do_DELETE(self):  # noqa: N802
        self.server.users.pop(self.path.split("/")[-1], None)
        self.answer(204)

    def answer(self, status, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class VaultTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = VaultNode(BIN_DIR)
        cls.addClassCleanup(cls.node.close)

    def setUp(self):
        self.pod = self._testMethodName.replace("_", "-")
        self.target = self.node.target(self.pod)

    def publish(self, secret_class="webapp", code="OK", said=""):
        answer = self.node.publish(self.target, f"csi-{self.pod}", secret_class, f"--uid={self.pod}")
        self.assertEqual(answer[0], code, answer)
        self.assertIn(said, answer[1])

    def unpublish(self):
        for _ in range(20):  # a lease's replacement may be under way
            answer = self.node.unpublish(self.target, f"csi-{self.pod}")
            if answer[0] != "ABORTED":
                break
            time.sleep(0.1)
        self.assertEqual(answer[0], "OK", answer)

    def file(self, name):
        with open(os.path.join(self.target, name), encoding="utf-8") as file:
            return file.read()

    def eventually(self, check, seconds=30):
        self.assertTrue(eventually(check, seconds), self.node.log_text()[-3000:])

    def test_a_volume(self):
        """files, a new version at republish, the token revoked at unpublish"""
        self.publish()
        self.assertEqual((self.file("username"), self.file("password")), ("static-user", "password-1"))
        self.assertEqual(len(self.node.pods_tokens()), 1)
        self.node.put(2)
        self.publish()
        self.assertEqual(self.file("password"), "password-2")
        self.assertEqual(len(self.node.pods_tokens()), 1)
        self.unpublish()
        self.eventually(lambda: not self.node.pods_tokens())

    def test_refusals(self):
        """Vault's own words, with the code that the kubelet's user needs"""
        node = self.node
        one = "- {objectName: x, secretPath: %s, secretKey: %s}"
        for name, code, said, objects, role in (
                ("no-role", "INVALID_ARGUMENT", "could not be found", WEBAPP_OBJECTS, "nobody"),
                ("no-policy", "PERMISSION_DENIED", "permission denied", one % ("old/a", "k"), "webapp"),
                ("no-secret", "NOT_FOUND", "secret/data/webapp/none", one % ("secret/data/webapp/none", "k"), "webapp"),
                ("no-key", "NOT_FOUND", "none", one % ("secret/data/webapp/config", "none"), "webapp"),
                ("no-mount", "PERMISSION_DENIED", "", one % ("nowhere/a", "k"), "webapp")):
            with self.subTest(name):
                node.write_class(name, objects, role=role)
                self.publish(name, code, said)
                self.assertFalse(os.path.exists(self.target))
        node.write_token(node.signer.token(account="other"))
        try:
            self.publish("webapp", "INVALID_ARGUMENT", "")
        finally:
            node.write_token(node.signer.token())
        self.eventually(lambda: not node.pods_tokens())

    def test_sealed(self):
        """UNAVAILABLE, and the old content stays"""
        self.publish()
        before = self.file("password")
        self.node.must("PUT", "sys/seal")
        try:
            self.publish(code="UNAVAILABLE", said="sealed")
            self.assertEqual(self.file("password"), before)
        finally:
            for share in self.node.shares[:3]:
                self.node.keystore.must("PUT", "sys/unseal", {"key": share})
            self.eventually(lambda: self.node.keystore.request("GET", "sys/health")[0] == 200)
        self.publish()
        self.unpublish()

    def test_kinds_of_answers(self):
        """kv version 1, a version by query, patterns, whole responses, deleted secrets"""
        node = self.node
        node.write_role("all", "all")
        node.must("POST", "old/a", {"k": "one", "n": 7})
        for value in ("first", "second"):
            node.must("POST", "secret/data/teams/red", {"data": {"k": value}})
        node.must("POST", "secret/data/teams/blue", {"data": {"k": "blue"}})
        node.must("POST", "secret/data/teams/gone", {"data": {"k": "gone"}})
        node.must("DELETE", "secret/data/teams/gone")
        node.write_class("kinds", """
- {objectName: k, secretPath: old/a, secretKey: k}
- {objectName: n, secretPath: old/a, secretKey: n}
- {objectName: first, secretPath: 'secret/data/teams/red?version=1', secretKey: k}
- {objectName: whole, secretPath: secret/data/teams/red}
- {objectName: env, secretPath: old/a, format: env}
- {objectName: gone, secretPath: secret/data/teams/gone, secretKey: k, default: nobody}
- {objectName: teams, secretPath: "secret/data/teams/*", secretKey: k, path: teams}
""", role="all")
        self.publish("kinds")
        self.assertEqual([self.file(name) for name in ("k", "n", "first", "env", "gone")],
                         ["one", "7", "first", "k=one\nn=7\n", "nobody"])
        whole = json.loads(self.file("whole"))
        self.assertEqual((whole["data"]["data"], whole["data"]["metadata"]["version"], whole["request_id"]),
                         ({"k": "second"}, 2, ""))
        self.assertEqual((sorted(os.listdir(self.target + "/teams")), self.file("teams/blue")),
                         (["blue", "red"], "blue"))
        self.unpublish()

    def test_certificates(self):
        """of PKI: kept over republishes, replaced in time by the plugin itself"""
        node = self.node
        node.must("POST", "pki/root/generate/internal", {"common_name": "root", "ttl": "24h"})
        node.must("POST", "pki/roles/web", {"allow_any_name": True, "ttl": f"{LEASE}s", "not_before_duration": "1s"})
        node.write_role("all", "all")
        node.write_class("certificate", """
- objectName: web.pem
  secretPath: pki/issue/web
  method: PUT
  secretArgs: {common_name: web.default.svc}
  format: pem
""", role="all")
        self.publish("certificate")
        first = self.file("web.pem")
        self.assertEqual((first.count("BEGIN CERTIFICATE"), first.count("PRIVATE KEY")), (2, 2))
        self.publish("certificate")
        self.assertEqual(self.file("web.pem"), first)
        self.eventually(lambda: self.file("web.pem") != first)
        self.unpublish()

    def test_leases(self):
        """a dynamic secret's is renewed while that helps, then replaced; given back with the token"""
        node, rabbit = self.node, RabbitMq()
        self.addCleanup(rabbit.close)
        node.must("POST", "rabbitmq/config/connection", {
            "connection_uri": f"http://127.0.0.1:{rabbit.server_address[1]}", "username": "admin", "password": "x"})
        node.must("POST", "rabbitmq/config/lease", {"ttl": LEASE, "max_ttl": 3 * LEASE})
        node.must("POST", "rabbitmq/roles/app", {"vhosts": '{"/":{"write": ".*", "read": ".*"}}'})
        node.write_role("all", "all")
        node.write_class("dynamic", "- {objectName: user, secretPath: rabbitmq/creds/app, secretKey: username}\n"
                                    "- {objectName: pass, secretPath: rabbitmq/creds/app, secretKey: password}",
                         role="all")
        self.publish("dynamic")
        first = self.file("user")
        self.assertEqual(rabbit.users[first], self.file("pass"))
        end = time.time() + 1.5 * LEASE  # past its first lease
        while time.time() < end:
            self.assertEqual(list(rabbit.users), [first], node.log_text()[-3000:])
            time.sleep(0.2)
        self.publish("dynamic")
        self.assertEqual((self.file("user"), rabbit.made), (first, 1))
        self.eventually(lambda: self.file("user") != first, 3 * LEASE)
        self.assertEqual(rabbit.users[self.file("user")], self.file("pass"))
        self.assertEqual(rabbit.made, 2)
        self.unpublish()
        self.eventually(lambda: not rabbit.users)

    def test_tokens(self):
        """renewed, replaced at their longest time, without the policy default, or in a batch"""
        node = self.node
        for role, more, seconds in (
                ("short", {"token_ttl": "4s"}, 8), ("ends", {"token_ttl": "3s", "token_max_ttl": "5s"}, 8),
                ("bare", {"token_no_default_policy": True, "token_ttl": "4s"}, 6),
                ("batch", {"token_type": "batch", "token_ttl": "4s"}, 6)):
            with self.subTest(role):
                node.write_role(role, **more)
                node.write_class(role, WEBAPP_OBJECTS, role=role)
                self.publish(role)
                number = 10
                end = time.time() + seconds
                while time.time() < end:
                    number += 1
                    node.put(number)
                    self.publish(role)
                    self.assertEqual(self.file("password"), f"password-{number}")
                    time.sleep(0.5)
                self.unpublish()
                self.eventually(lambda: not node.pods_tokens())


if __name__ == "__main__":
    unittest.main(verbosity=2)
