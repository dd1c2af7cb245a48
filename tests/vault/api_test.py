"""HashiCorp's Vault and the keystore, request by request: the same status and the same document, but for ids and times.
What differs on purpose stands in docs/keystore.md and isn't asked here.

    api_test.py BIN_DIR VAULT_DIR     (VAULT_DIR: where vault and its plugins lie)
"""

import os
import re
import sys
import unittest

from real_vault import RealVault
from coffer_test import Keystore

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


class Api(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.both = RealVault(VAULT_DIR), Keystore(BIN_DIR)
        cls.roots = []
        for keystore in cls.both:
            cls.addClassCleanup(keystore.stop)
            cls.roots.append(keystore.initialize()[1])

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
