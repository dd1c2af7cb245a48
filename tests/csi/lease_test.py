"""Leased credentials in a pod, from a server that speaks Vault's answers: ours makes no dynamic
secrets. Real plugin, real mounts. Needs root.

    lease_test.py BIN_DIR
"""

import http.server
import json
import os
import sys
import threading
import time
import unittest

from node_plugin import Node
from coffer_test import eventually

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"
LEASE = 6  # seconds


class Vault:
    """Logs pods in, makes database credentials with a lease, renews and takes back."""

    def __init__(self):
        vault = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with vault.lock:
                    status, answer = vault.answer(f"{self.command} {self.path}", self.headers, body)
                text = json.dumps(answer).encode() if answer is not None else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *arguments):
                pass

        self.lock = threading.Lock()
        self.live = set()  # tokens
        self.made = 0
        self.renewed = []  # lease ids
        self.refuses = False
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, call, headers, body):
        if call == "POST /v1/auth/kubernetes/login":
            token = f"hvs.{len(self.live)}-{time.time_ns()}"
            self.live.add(token)
            return 200, {"auth": {"client_token": token, "lease_duration": 3600, "renewable": True}}
        token = headers.get("X-Vault-Token")
        if token not in self.live:
            return 403, {"errors": ["permission denied"]}
        if call == "POST /v1/auth/token/revoke-self":
            self.live.remove(token)
            return 204, None
        if call == "GET /v1/database/creds/app":
            self.made += 1
            return 200, {"lease_id": f"database/creds/app/{self.made}", "lease_duration": LEASE,
                         "renewable": True, "data": {"password": f"made-{self.made}"}}
        if call == "PUT /v1/sys/leases/renew" and not self.refuses:
            lease = json.loads(body)["lease_id"]
            self.renewed.append(lease)
            return 200, {"lease_id": lease, "lease_duration": LEASE, "renewable": True}
        return 400, {"errors": ["lease not found"]}


class LeaseTest(unittest.TestCase):
    def setUp(self):
        self.vault = Vault()
        self.addCleanup(self.vault.close)
        self.node = Node(BIN_DIR)
        self.addCleanup(self.node.close)

    def test_a_lease_is_renewed_replaced_and_given_back(self):
        """between two publishes, by the plugin itself; at the end with the token"""
        node, vault = self.node, self.vault
        node.write_class("dynamic", "- {objectName: db, secretPath: database/creds/app, secretKey: password}",
                         address=vault.address)
        target = node.target()
        answer = node.publish(target, "csi-1", "dynamic")
        self.assertEqual(answer[0], "OK", answer)

        def password():
            with open(os.path.join(target, "db"), encoding="utf-8") as file:
                return file.read()

        self.assertEqual(password(), "made-1")
        self.assertTrue(eventually(lambda: vault.renewed), node.log_text())
        with vault.lock:
            vault.refuses = True
            before = vault.made
        self.assertTrue(eventually(lambda: int(password().removeprefix("made-")) > before),
                        node.log_text())
        answer = node.unpublish(target)
        self.assertEqual(answer[0], "OK", answer)
        self.assertTrue(eventually(lambda: not vault.live), "the token is not revoked")


if __name__ == "__main__":
    unittest.main(verbosity=2)
