"""HashiCorp's Vault and the keystore, request by request: the same status and the same document, but for ids and times.
What differs on purpose stands in docs/keystore.md and isn't asked here.

    api_test.py BIN_DIR VAULT_DIR     (VAULT_DIR: where vault and its plugins lie)
"""

import http.server
import json
import os
import re
import sys
import tempfile
import threading
import unittest

from real_vault import RealVault
from coffer_test import Keystore, TokenSigner, eventually

BIN_DIR = os.path.abspath(sys.argv.pop(1))
VAULT_DIR = os.path.abspath(sys.argv.pop(1))

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
WRAP = {"X-Vault-Wrap-TTL": "1h"}
# Who made it, when: what two runs can't have in common.
OWN = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "TIME"),
    (r"hvs\.[\w-]{20,}", "TOKEN"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"\b([a-z_]+)_[0-9a-f]{8}\b", r"\1_ID"),
    (r"\b[A-Za-z0-9]{24}\b", "ACCESSOR"),
)
# Members that one of the two alone has something to say in.
UNEQUAL = {"created_by", "deleted_by", "last_updated_by", "running_plugin_version", "mount_type", "request_id",
           "creation_time", "ttl"}

KV = (
    ("POST", "kv/data/a", {"data": {"k": "v"}, "unknown": 1}),
    ("GET", "kv/data/a?unknown=1"),
    *((method, path) for path in ("kv/data", "kv/data/", "kv/data/a/", "kv/subkeys/") for method in ("GET", "LIST")),
    ("POST", "kv/data/a/", {"data": {}}),
    ("DELETE", "kv/data/a/"),
    ("GET", "kv/metadata/"),
    ("POST", "kv/data/a..b", {"data": {"k": 1}}),
    ("GET", "kv/data/a..b"),
    ("LIST", "kv/metadata"),
    *(("POST", "kv/data/cas", {"data": {}, "options": {"cas": cas}}) for cas in (0, "1", 7, -1, "x", 1.5, "", [])),
    ("POST", "kv/metadata/a", {"custom_metadata": {"a": "b"}, "delete_version_after": "1h", "unknown": 1}),
    ("GET", "kv/metadata/a"),
    ("POST", "kv/config", {"delete_version_after": None, "max_versions": "3"}),
    ("GET", "kv/config"),
    *(("POST", f"kv/{change}/a", {"versions": versions})
      for change in ("delete", "undelete", "destroy") for versions in ([1, 1], ["1"], [99], [-1], [], "1,2")),
    ("GET", "kv/data/a"),
    ("PATCH", "kv/data/a", {"data": {"k": 1}}, None, MERGE_PATCH),
)
MOUNTS = (
    ("GET", "sys/mounts/none"),
    ("GET", "sys/auth/none"),
    ("POST", "sys/mounts/m", {"type": "kv", "config": {"max_lease_ttl": "2h", "audit_non_hmac_request_keys": "a,b"}}),
    ("POST", "sys/mounts/m", {"type": "kv"}),
    ("GET", "sys/mounts/m"),
    ("POST", "sys/mounts/m/tune", {"description": "d", "default_lease_ttl": "", "max_lease_ttl": "", "options": None}),
    ("GET", "sys/mounts/m/tune"),
    ("POST", "sys/mounts/m/tune", {"audit_non_hmac_request_keys": "", "listing_visibility": "unauth", "unknown": 1}),
    ("GET", "sys/mounts/m/tune"),
    ("GET", "sys/internal/ui/mounts", None, ""),
    ("POST", "sys/mounts/m/", {"type": "kv"}),
    ("POST", "sys/mounts/cubbyhole/tune", {"max_lease_ttl": "1h"}),
    ("DELETE", "sys/mounts/m"),
    ("DELETE", "sys/mounts/m"),
    ("GET", "sys/mounts/m"),
)
MOVES = (  # from, to
    (None, None), ("engine", None), (None, "x"), ("", "x"), ("none", "x"), ("none", "//x"), ("engine", "engine"),
    ("engine/", "/engine/"), ("engine", "engine/x"), ("engine", "team"), ("engine", "team/a"), ("engine", "team/a/b"),
    ("team/a", "team"), ("sys", "x"), ("cubbyhole/", "x"), ("identity", "x"), ("audit", "x"), ("engine", "sys"),
    ("engine", "sys/x"), ("engine", "cubbyhole/x"), ("engine", "identity"), ("engine", "audit/"), ("engine", "auth/x"),
    ("engine ", "x"), ("engine", " x"), ("auth/token", "auth/x"), ("auth/none", "auth/x"), ("auth/method", "x"),
    ("auth/method", "auth/method"), ("auth/method", "auth/method/x"), ("auth/method", "auth/token/x"),
    ("auth", "auth/x"), ("auth/method", "auth"),
    ("engine", "b"), ("b/", "/c/d/"), ("c/d", "engine"), ("auth/method", "/auth/other/"), ("auth/other", "auth/method"),
)
TOKENS = (
    ("POST", "auth/token/create", {"policies": ["b", "a", "a", "A"], "explicit_max_ttl": "1h", "display_name": "x y"}),
    ("POST", "auth/token/create", {"policies": ["a"], "ttl": "30m", "explicit_max_ttl": "10m", "meta": {"k": 1}}),
    ("POST", "auth/token/create", {"policies": ["default"], "no_default_policy": True}),
    ("POST", "auth/token/create/", {"policies": ["a"]}),
    ("POST", "auth/token/roles/r", {"allowed_policies": "a,b", "period": "1h", "unknown": 1}),
    ("GET", "auth/token/roles/r"),
    ("POST", "auth/token/create/r", {"policies": ["c"]}),
    ("POST", "auth/token/create/r", {}),
    ("POST", "sys/policies/acl/Upper", {"policy": 'path "a" {}'}),
    ("GET", "sys/policy/UPPER"),
)


def masked(value):
    """What both must say."""
    if isinstance(value, dict):
        return {key: masked(member) for key, member in value.items() if key not in UNEQUAL}
    if isinstance(value, list):
        return [masked(member) for member in value]
    if isinstance(value, str):
        for pattern, word in OWN:
            value = re.sub(pattern, word, value)
    return value


class TokenReviews:
    """An API server that takes every token for that of the ServiceAccount vault; `jwt` is one."""

    def __init__(self):
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                body = json.dumps({
                    "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                    "status": {"authenticated": True, "audiences": ["vault"],
                               "user": {"username": "system:serviceaccount:default:vault",
                                        "uid": "11111111-1111-1111-1111-111111111111"}}}).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        with tempfile.TemporaryDirectory() as folder:
            self.jwt = TokenSigner(folder).token()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Api(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.both = RealVault(VAULT_DIR), Keystore(BIN_DIR)
        cls.roots = []
        for keystore in cls.both:
            cls.addClassCleanup(keystore.stop)
            cls.roots.append(keystore.initialize()[1])
        cls.both[0].add_plugins(cls.roots[0])

    def same(self, method, path, body=None, tokens=None, headers=None):
        """Asks both, as root if nothing else is said; `tokens`: "" or one of each."""
        tokens = self.roots if tokens is None else tokens or ("", "")
        answers = [keystore.request(method, path, body, token, headers)
                   for keystore, token in zip(self.both, tokens)]
        with self.subTest(f"{method} {path} {body}"):
            theirs, ours = ((status, masked(document)) for status, document in answers)
            self.assertEqual(theirs, ours)
        return [document for _, document in answers]

    def each(self, requests):
        for request in requests:
            self.same(*request)

    def test_kv(self):
        self.same("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
        self.each(KV)

    def test_mounts(self):
        self.each(MOUNTS)

    def move(self, source, target):
        """The documents of both; where it is done, once it is. Vault queues a move, and warns of that."""
        body = {name: path for name, path in (("from", source), ("to", target)) if path is not None}
        answers = [keystore.request("POST", "sys/remount", body, root)
                   for keystore, root in zip(self.both, self.roots)]
        with self.subTest(f"move {source} to {target}"):
            theirs, ours = ((status, masked({**document, "warnings": None})) for status, document in answers)
            self.assertEqual(theirs, ours)
        for keystore, root, (status, document) in zip(self.both, self.roots, answers):
            if status == 200:
                path = f"sys/remount/status/{document['migration_id']}"
                self.assertTrue(eventually(lambda: keystore.must("GET", path, None, root)["data"]["migration_info"][
                    "status"] == "success"))
        return [document for _, document in answers]

    def test_moves(self):
        """what they keep, what they take, and what is refused"""
        config = {"max_lease_ttl": "2h", "listing_visibility": "hidden"}
        self.each((
            ("POST", "sys/mounts/engine", {"type": "kv-v2", "description": "d", "config": config}),
            ("POST", "sys/mounts/team/a", {"type": "kv"}),
            ("POST", "sys/auth/method", {"type": "kubernetes", "description": "d", "config": config}),
            ("POST", "auth/method/role/r", {"bound_service_account_names": "a", "bound_service_account_namespaces": "b",
                                            "audience": "c"}),
            ("POST", "engine/data/a", {"data": {"k": 1}}),
            ("POST", "engine/data/a", {"data": {"k": 2}}),
            ("POST", "engine/metadata/a", {"custom_metadata": {"a": "b"}, "max_versions": 4})))
        wrapped = self.same("GET", "engine/data/a", None, None, WRAP)
        for source, target in MOVES:
            self.move(source, target)
        # What a wrapping token holds is a lease of the engine's, which ends.
        self.same("POST", "sys/wrapping/unwrap", None, [document["wrap_info"]["token"] for document in wrapped])
        before = [[keystore.must("GET", path, None, root)["data"] for path in ("sys/mounts/engine", "sys/auth/method")]
                  for keystore, root in zip(self.both, self.roots)]
        ids = [document["migration_id"] for document in self.move("engine", "moved")]
        self.move("auth/method", "auth/moved")
        for keystore, root, (engine, method), migration in zip(self.both, self.roots, before, ids):
            self.assertEqual(keystore.must("GET", "sys/mounts/moved", None, root)["data"], engine)
            self.assertEqual(keystore.must("GET", "sys/auth/moved", None, root)["data"], method)
            self.assertEqual(keystore.must("GET", f"sys/remount/status/{migration}", None, root)["data"], {
                "migration_id": migration,
                "migration_info": {"source_mount": "engine/", "target_mount": "moved/", "status": "success"}})
        self.each((
            *(("GET", f"moved/{path}") for path in ("data/a", "data/a?version=1", "metadata/a", "config")),
            ("POST", "moved/data/a", {"data": {"k": 3}, "options": {"cas": 2}}),
            *(("GET", path) for path in ("sys/mounts/moved/tune", "sys/auth/moved/tune", "auth/moved/role/r",
                                         "sys/mounts/engine", "sys/auth/method", "engine/data/a",
                                         "auth/method/role/r")),
            *((method, f"sys/remount{path}") for method in ("GET", "DELETE") for path in ("", "/status/none")),
            ("POST", "sys/remount/status/none", {}),
            ("POST", "sys/remount/", {"from": "moved", "to": "x"}),
            ("PUT", "sys/remount", {"from": 1, "to": 2})))

    def test_tokens_end_with_a_move(self):
        """of an auth method, other than batch tokens"""
        review = TokenReviews()
        self.addCleanup(review.stop)
        self.same("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
        for keystore, root in zip(self.both, self.roots):
            keystore.must("POST", "auth/kubernetes/config",
                          {"kubernetes_host": review.address, "disable_local_ca_jwt": True}, root)
        for kind in ("service", "batch"):
            self.same("POST", f"auth/kubernetes/role/{kind}", {
                "bound_service_account_names": "vault", "bound_service_account_namespaces": "default",
                "audience": "vault", "token_type": kind})
        logins = [[keystore.must("POST", "auth/kubernetes/login", {"role": kind, "jwt": review.jwt})
                   for keystore in self.both] for kind in ("service", "batch")]
        self.move("auth/kubernetes", "auth/cluster")
        for both, status in zip(logins, (403, 200)):
            self.assertEqual([keystore.request("GET", "auth/token/lookup-self", None, login["auth"]["client_token"])[0]
                              for keystore, login in zip(self.both, both)], [status, status])
        for keystore in self.both:
            keystore.must("POST", "auth/cluster/login", {"role": "service", "jwt": review.jwt})

    def test_tokens(self):
        """and policies"""
        self.each(TOKENS)

    def test_a_tokens_life(self):
        """shown, renewed, used up and revoked"""
        for body in ({}, {"ttl": "1h", "policies": ["default"]}, {"period": "1h", "policies": ["default"]}):
            made = self.same("POST", "auth/token/create", body)
            tokens = [document["auth"]["client_token"] for document in made]
            self.same("GET", "auth/token/lookup-self", None, tokens)
            for increment in (None, 60, "2h"):
                self.same("POST", "auth/token/renew-self", {"increment": increment} if increment else {}, tokens)
            self.same("POST", "auth/token/revoke-self", None, tokens)
            self.same("GET", "auth/token/lookup-self", None, tokens)

    def test_what_needs_sudo(self):
        for keystore, root in zip(self.both, self.roots):
            keystore.must("PUT", "sys/policies/acl/plain", {
                "policy": 'path "auth/token/*" { capabilities = ["create", "update", "list"] }'}, root)
        made = self.same("POST", "auth/token/create", {"policies": ["plain"]})
        tokens = [document["auth"]["client_token"] for document in made]
        self.same("POST", "auth/token/revoke-orphan", {"token": "x"}, tokens)
        self.same("LIST", "auth/token/accessors", None, tokens)
        self.same("POST", "auth/token/create-orphan", {}, tokens)

    def test_what_a_move_needs(self):
        """update and sudo; its status read"""
        for capabilities in (["update"], ["sudo", "create"], ["sudo", "update"], ["read"]):
            for keystore, root in zip(self.both, self.roots):
                keystore.must("PUT", "sys/policies/acl/mover", {
                    "policy": f'path "sys/remount*" {{ capabilities = {json.dumps(capabilities)} }}'}, root)
            made = self.same("POST", "auth/token/create", {"policies": ["mover"]})
            tokens = [document["auth"]["client_token"] for document in made]
            self.same("POST", "sys/remount", {"from": "none", "to": "x"}, tokens)
            self.same("GET", "sys/remount/status/none", None, tokens)

    def test_wrapping(self):
        """a used token is told apart from one without rights, since that is how a theft is seen"""
        made = self.same("POST", "sys/wrapping/wrap", {"k": "v"}, None, WRAP)
        tokens = [document["wrap_info"]["token"] for document in made]
        for _ in range(2):
            self.same("POST", "sys/wrapping/unwrap", None, tokens)
        made = self.same("POST", "sys/wrapping/wrap", {"k": "v"}, None, WRAP)
        again = [keystore.must("POST", "sys/wrapping/rewrap", {"token": document["wrap_info"]["token"]}, root)
                 for keystore, root, document in zip(self.both, self.roots, made)]
        self.same("POST", "sys/wrapping/unwrap", None, [document["wrap_info"]["token"] for document in again])

    def test_unclean_paths(self):
        """lead to the clean ones"""
        for path in ("/sys/health", "sys//health?standbyok=true", "sys/x/../health", "sys/./health"):
            self.assertEqual([keystore.request("LIST", path)[0] for keystore in self.both], [307, 307], path)


if __name__ == "__main__":
    unittest.main(verbosity=2)
