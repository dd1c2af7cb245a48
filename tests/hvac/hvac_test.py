"""hvac, the Python client of Vault, works unchanged against a real keystore.

Usage: hvac_test.py BIN_DIR
"""

import os
import sys
import unittest

import hvac

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from coffer_test import Keystore, TokenSigner  # noqa: E402

BIN_DIR = sys.argv.pop(1)


class HvacTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.keystore = Keystore(BIN_DIR)
        cls.client = hvac.Client(url=cls.keystore.address)
        assert not cls.client.sys.is_initialized()
        made = cls.client.sys.initialize(secret_shares=5, secret_threshold=3)
        cls.shares = made["keys"]
        cls.client.token = made["root_token"]
        assert cls.client.sys.is_sealed()
        cls.client.sys.submit_unseal_keys(cls.shares[1:4])
        assert not cls.client.sys.is_sealed()
        cls.client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})

    @classmethod
    def tearDownClass(cls):
        cls.keystore.stop()

    def with_token(self, token):
        return hvac.Client(url=self.keystore.address, token=token)

    def test_health_and_leader(self):
        self.assertTrue(self.client.sys.read_health_status(method="GET")["initialized"])
        self.assertEqual(self.client.sys.read_health_status(method="HEAD").status_code, 200)
        self.assertFalse(self.client.sys.read_leader_status()["ha_enabled"])
        self.assertTrue(self.client.is_authenticated())

    def test_kv_v2_versions(self):
        kv = self.client.secrets.kv.v2
        kv.create_or_update_secret("app/db", {"user": "a", "password": "1"})
        second = kv.create_or_update_secret("app/db", {"user": "a", "password": "2"}, cas=1)
        self.assertEqual(second["data"]["version"], 2)
        with self.assertRaises(hvac.exceptions.InvalidRequest):
            kv.create_or_update_secret("app/db", {"user": "a"}, cas=1)
        self.assertEqual(kv.read_secret_version("app/db", version=1, raise_on_deleted_version=True)
                         ["data"]["data"]["password"], "1")
        kv.patch("app/db", {"password": "3"})
        read = kv.read_secret_version("app/db", raise_on_deleted_version=True)["data"]
        self.assertEqual(read["data"], {"user": "a", "password": "3"})
        self.assertEqual(read["metadata"]["version"], 3)
        kv.delete_secret_versions("app/db", [3])
        with self.assertRaises(hvac.exceptions.InvalidPath):
            kv.read_secret_version("app/db", raise_on_deleted_version=True)
        kv.undelete_secret_versions("app/db", [3])
        kv.destroy_secret_versions("app/db", [1])
        metadata = kv.read_secret_metadata("app/db")["data"]
        self.assertTrue(metadata["versions"]["1"]["destroyed"])
        self.assertEqual(metadata["current_version"], 3)
        kv.update_metadata("app/db", max_versions=2, custom_metadata={"team": "x"})
        self.assertEqual(kv.list_secrets("app")["data"]["keys"], ["db"])
        self.assertEqual(kv.read_secret_metadata("app/db")["data"]["custom_metadata"], {"team": "x"})
        kv.delete_metadata_and_all_versions("app/db")
        with self.assertRaises(hvac.exceptions.InvalidPath):
            kv.list_secrets("app")

    def test_kv_v2_configuration(self):
        kv = self.client.secrets.kv.v2
        kv.configure(max_versions=7, cas_required=False)
        self.assertEqual(kv.read_configuration()["data"]["max_versions"], 7)

    def test_kv_v1(self):
        self.client.sys.enable_secrets_engine("kv", path="old", options={"version": "1"})
        kv = self.client.secrets.kv.v1
        kv.create_or_update_secret("a/b", {"x": "y", "n": 1}, mount_point="old")
        self.assertEqual(kv.read_secret("a/b", mount_point="old")["data"], {"x": "y", "n": 1})
        self.assertEqual(kv.list_secrets("a", mount_point="old")["data"]["keys"], ["b"])
        kv.delete_secret("a/b", mount_point="old")
        with self.assertRaises(hvac.exceptions.InvalidPath):
            kv.read_secret("a/b", mount_point="old")
        self.client.sys.disable_secrets_engine("old")
        self.assertNotIn("old/", self.client.sys.list_mounted_secrets_engines())

    def test_tokens_and_policies(self):
        self.client.sys.create_or_update_policy(
            "reader", 'path "secret/data/reader/*" { capabilities = ["read"] }')
        self.assertIn("reader", self.client.sys.list_policies()["data"]["policies"])
        self.client.secrets.kv.v2.create_or_update_secret("reader/x", {"k": "v"})
        made = self.client.auth.token.create(policies=["reader"], ttl="1h", meta={"who": "test"})
        reader = self.with_token(made["auth"]["client_token"])
        self.assertEqual(reader.secrets.kv.v2.read_secret_version(
            "reader/x", raise_on_deleted_version=True)["data"]["data"], {"k": "v"})
        with self.assertRaises(hvac.exceptions.Forbidden):
            reader.secrets.kv.v2.create_or_update_secret("reader/x", {"k": "w"})
        looked = reader.auth.token.lookup_self()["data"]
        self.assertEqual(looked["policies"], ["default", "reader"])
        self.assertEqual(looked["meta"], {"who": "test"})
        self.assertLessEqual(looked["ttl"], 3600)
        reader.auth.token.renew_self(increment="30m")
        self.assertEqual(self.client.auth.token.lookup_accessor(looked["accessor"])["data"]["path"],
                         "auth/token/create")
        self.client.auth.token.revoke_accessor(looked["accessor"])
        with self.assertRaises(hvac.exceptions.Forbidden):
            reader.auth.token.lookup_self()

    def test_a_revoked_parent_takes_its_children_along(self):
        parent = self.client.auth.token.create(policies=["root"])["auth"]["client_token"]
        child = self.with_token(parent).auth.token.create(ttl="1h")["auth"]["client_token"]
        orphan = self.with_token(parent).auth.token.create_orphan(ttl="1h")["auth"]["client_token"]
        self.with_token(parent).auth.token.revoke_self()
        with self.assertRaises(hvac.exceptions.Forbidden):
            self.with_token(child).auth.token.lookup_self()
        self.with_token(orphan).auth.token.lookup_self()

    def test_kubernetes_login(self):
        signer = TokenSigner(self.keystore.folder)
        self.client.sys.enable_auth_method("kubernetes")
        self.client.auth.kubernetes.configure(
            kubernetes_host="https://127.0.0.1:6443", pem_keys=[signer.certificate()],
            disable_local_ca_jwt=True)
        self.client.auth.kubernetes.create_role(
            "webapp", bound_service_account_names=["vault"],
            bound_service_account_namespaces=["default"], ttl="24h", policies=["default"],
            audience="vault")
        self.assertEqual(self.client.auth.kubernetes.list_roles()["keys"], ["webapp"])
        anonymous = self.with_token(None)
        auth = anonymous.auth.kubernetes.login("webapp", signer.token())["auth"]
        self.assertEqual(auth["metadata"]["service_account_name"], "vault")
        self.assertEqual(auth["lease_duration"], 86400)
        for wrong in (signer.token(account="other"), signer.token(audience="other"),
                      signer.token(ttl=-3600), "nonsense"):
            with self.assertRaises((hvac.exceptions.Forbidden, hvac.exceptions.InvalidRequest)):
                self.with_token(None).auth.kubernetes.login("webapp", wrong)

    def test_rekey_and_generate_root(self):
        start = self.client.sys.start_rekey(secret_shares=3, secret_threshold=2)
        done = self.client.sys.rekey_multi(self.shares[:3], nonce=start["nonce"])
        self.assertTrue(done["complete"])
        type(self).shares = done["keys"]
        otp_length = self.client.sys.read_root_generation_progress()["otp_length"]
        otp = "A" * otp_length
        attempt = self.client.sys.start_root_token_generation(otp=otp)
        for share in self.shares[:2]:
            last = self.client.sys.generate_root(share, attempt["nonce"])
        self.assertTrue(last["complete"])
        self.assertTrue(last["encoded_token"])
        self.client.sys.rotate_encryption_key()
        self.assertEqual(self.client.sys.get_encryption_key_status()["data"]["term"], 2)

    def test_zz_seal(self):
        self.client.sys.seal()
        self.assertTrue(self.client.sys.is_sealed())
        self.client.sys.submit_unseal_keys(self.shares[:3])
        self.assertFalse(self.client.sys.is_sealed())


if __name__ == "__main__":
    unittest.main(verbosity=2)
