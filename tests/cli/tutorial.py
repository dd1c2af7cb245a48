"""The tutorial's commands, word for word, through the link `vault` and a real keystore over LMDB:
steps 2 to 12 and 15 of TUTORIAL.md, their output and exit codes.

Usage: tutorial.py BIN_DIR [VAULT_DIR]     (VAULT_DIR: where the `vault` lies that is tried instead of ours)
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
from coffer_test import Keystore, TokenSigner, free_port  # noqa: E402
from shell import ShellTest  # noqa: E402

BIN_DIR = os.path.abspath(sys.argv.pop(1))
VAULT_DIR = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else BIN_DIR
OURS = VAULT_DIR == BIN_DIR

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
SHARE = r"[A-Za-z0-9+/]{44}"

METADATA = f"""====== Secret Path ======
secret/data/webapp/config

======= Metadata =======
Key                Value
---                -----
created_time       {TIME}
custom_metadata    <nil>
deletion_time      n/a
destroyed          false
version            1
"""

INITIALIZED = """
Vault initialized with 5 key shares and a key threshold of 3. Please securely
distribute the key shares printed above. When the Vault is re-sealed,
restarted, or stopped, you must supply at least 3 of these keys to unseal it
before it can start servicing requests.

Vault does not store the generated root key. Without at least 3 keys to
reconstruct the root key, Vault will remain permanently sealed!

It is possible to generate new unseal keys, provided you have a quorum of
existing unseal keys shares. See "vault operator rekey" for more information.
"""


class Tutorial(ShellTest):
    """The steps build on each other: they run in the order of their names, in one shell's world."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="coffer-tutorial-")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-keyout", cls.folder + "/tls.key", "-out", cls.folder + "/tls.crt",
                        "-subj", "/CN=vault", "-addext", "subjectAltName=DNS:vault.vault,IP:127.0.0.1"],
                       check=True, capture_output=True)
        cls.tls_port = free_port()
        cls.keystore = Keystore(BIN_DIR, cls.folder, f"""
listener "tcp" {{
  address = "127.0.0.1:{cls.tls_port}"
  tls_cert_file = "{cls.folder}/tls.crt"
  tls_key_file = "{cls.folder}/tls.key"
}}
""")
        cls.home = os.path.join(cls.folder, "home")
        os.mkdir(cls.home)
        cls.environment = {
            "PATH": VAULT_DIR + ":" + os.environ["PATH"],
            "HOME": cls.home,
            "VAULT_ADDR": cls.keystore.address,
            "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
        }

    @classmethod
    def tearDownClass(cls):
        cls.keystore.stop()
        shutil.rmtree(cls.folder)

    def unseal_with(self, shares):
        for share in shares:
            out = self.shell(f"vault operator unseal {share}")
        return out

    def test_02_init(self):
        out = self.shell("vault status", code=2)
        self.has_lines(out, r"Seal Type +shamir", r"Initialized +false", r"Sealed +true")
        self.shell("vault operator init -status", code=2)
        out = self.shell("vault operator init")
        keys = "".join(f"Unseal Key {i}: ({SHARE})\n" for i in range(1, 6))
        self.matches(keys + r"\nInitial Root Token: (hvs\.\S{24,})\n" + re.escape(INITIALIZED), out)
        type(self).shares = re.findall(r"Unseal Key \d: (\S+)", out)
        type(self).root = re.search(r"Initial Root Token: (\S+)", out)[1]
        self.assertEqual(self.shell("vault operator init -status"), "Vault is initialized\n")
        self.shell("vault operator init", code=2)
        self.assertIn("Error initializing: Error making API request.\n\n"
                      f"URL: PUT {self.keystore.address}/v1/sys/init\nCode: 400. Errors:\n\n* ",
                      self.error)

    def test_03_unseal(self):
        one, two, three = self.shares[4], self.shares[0], self.shares[2]
        out = self.shell(f"vault operator unseal {one}")
        self.has_lines(out, r"Key +Value", r"Sealed +true", r"Total Shares +5", r"Threshold +3",
                       r"Unseal Progress +1/3", f"Unseal Nonce +{UUID}")
        # The same share twice counts once.
        self.has_lines(self.shell(f"vault operator unseal {one}"), r"Unseal Progress +1/3")
        self.has_lines(self.shell(f"vault operator unseal {two}"), r"Unseal Progress +2/3")
        # A wrong share is refused at the end, and the progress starts over.
        wrong = ("A" if three[0] != "A" else "B") + three[1:]
        self.shell(f"vault operator unseal {wrong}", code=2)
        self.has_lines(self.shell("vault status", code=2), r"Unseal Progress +0/3")
        # From standard input, by a terminal that hides it, and as an argument.
        from_input = ("vault operator unseal -", one + "\n") if OURS else (f"vault operator unseal {one}", "")
        self.has_lines(self.shell(from_input[0], stdin=from_input[1]), r"Unseal Progress +1/3")
        if OURS:  # Vault's own hides it after it has asked: too late for this terminal
            screen = self.by_terminal(["vault", "operator", "unseal"], two)
            self.assertIn("Unseal Key (will be hidden): ", screen)
            self.assertNotIn(two, screen)
            self.assertRegex(screen, r"Unseal Progress +2/3")
            self.assertIn("user canceled",
                          self.by_terminal(["vault", "operator", "unseal"], "\x03", code=1))
        self.has_lines(self.shell("vault operator unseal -reset"), r"Unseal Progress +0/3")
        self.has_lines(self.unseal_with([one, two, three]), r"Sealed +false")

    def test_04_status(self):
        out = self.shell("vault status")
        self.matches(
            r"Key             Value\n"
            r"---             -----\n"
            r"Seal Type       shamir\n"
            r"Initialized     true\n"
            r"Sealed          false\n"
            r"Total Shares    5\n"
            r"Threshold       3\n"
            r"Version         \S.*\n"
            r"Build Date      \S.*\n"
            r"Storage Type    lmdb\n"
            r"Cluster Name    vault-cluster-[0-9a-f]+\n"
            rf"Cluster ID      {UUID}\n"
            r"HA Enabled      false\n", out)
        status = json.loads(self.shell("vault status -format=json"))
        self.assertEqual((status["sealed"], status["t"], status["n"]), (False, 3, 5))
        self.shell("vault status -address=http://127.0.0.1:1", code=1)

    def test_05_login(self):
        out = self.shell(f"vault login {self.root}")
        self.matches(
            "Success! You are now authenticated. The token information displayed below\n"
            "is already stored in the token helper. You do NOT need to run \"vault login\"\n"
            "again. Future Vault requests will automatically use this token.\n\n"
            "Key                  Value\n"
            "---                  -----\n"
            rf"token                {re.escape(self.root)}\n"
            r"token_accessor       \S+\n"
            "token_duration       ∞\n"
            "token_renewable      false\n"
            r'token_policies       \["root"\]' "\n"
            r"identity_policies    \[\]\n"
            r'policies             \["root"\]' "\n", out)
        self.assertEqual(os.stat(self.home + "/.vault-token").st_mode & 0o777, 0o600)
        self.shell("vault policy write admin - <<EOF\n"
                   'path "*" {\n  capabilities = ["create", "read", "update", "delete", "list", '
                   '"patch", "sudo"]\n}\nEOF')
        out = self.shell("vault token create -policy=admin")
        self.has_lines(out, r"Key                  Value", r"---                  -----",
                       r"token                hvs\.\S+", r"token_accessor       \S+",
                       r"token_duration       768h", r"token_renewable      true",
                       r'token_policies       \["admin" "default"\]', r"identity_policies    \[\]",
                       r'policies             \["admin" "default"\]')
        admin = re.search(r"^token +(\S+)", out, re.M)[1]
        # An orphan, so that it outlives the root token that makes it.
        admin = self.shell("vault token create -policy=admin -orphan -field=token")
        type(self).admin = admin
        self.shell(f"vault login -no-print {admin}")
        self.assertEqual(self.shell("vault print token"), admin + "\n")
        self.assertEqual(self.shell(f"vault token revoke {self.root}"),
                         "Success! Revoked token (if it existed)\n")
        # A revoked token is refused everywhere at once.
        for command in ("token lookup", "secrets list", "kv get secret/x", "policy list"):
            self.shell(f"VAULT_TOKEN={self.root} vault {command}", code=2)
            self.assertRegex(self.error, r"Code: 403. Errors:\n\n\* (.|\n)*permission denied")
        self.has_lines(self.shell("vault token lookup"), r"accessor +\S+", r"policies +\[admin default\]",
                       r"ttl +76[78]h.*")

    def test_06_secrets_engines(self):
        self.assertEqual(self.shell("vault secrets enable -path=secret kv-v2"),
                         "Success! Enabled the kv-v2 secrets engine at: secret/\n")
        self.assertEqual(self.shell("vault secrets enable -path=old kv-v1"),
                         "Success! Enabled the kv-v1 secrets engine at: old/\n")
        self.assertEqual(self.shell("vault secrets enable -version=1 -path=older kv"),
                         "Success! Enabled the kv secrets engine at: older/\n")
        out = self.shell("vault secrets list")
        self.has_lines(out, r"Path +Type +Accessor +Description", r"old/ +kv +kv_\S+ +n/a",
                       r"older/ +kv .*", r"secret/ +kv +kv_\S+ +n/a", r"sys/ +system .*")
        self.shell("vault secrets enable -path=secret kv-v2", code=2)
        self.assertIn("* path is already in use at secret/", self.error)
        for mount in ("old", "older"):
            self.assertEqual(self.shell(f"vault kv put {mount}/a k=v"),
                             f"Success! Data written to: {mount}/a\n")
            self.assertEqual(self.shell(f"vault kv get {mount}/a"),
                             "== Data ==\nKey    Value\n---    -----\nk      v\n")
        self.assertEqual(self.shell("vault secrets disable older"),
                         "Success! Disabled the secrets engine (if it existed) at: older/\n")

    def test_07_kv_put(self):
        out = self.shell(
            'vault kv put secret/webapp/config username="static-user" password="static-password"')
        self.matches(METADATA, out)

    def test_08_kv_get(self):
        out = self.shell("vault kv get secret/webapp/config")
        self.matches(METADATA + """
====== Data ======
Key         Value
---         -----
password    static-password
username    static-user
""", out)
        self.assertEqual(self.shell("vault kv get -mount=secret webapp/config"), out)
        self.assertEqual(self.shell("vault kv get -field=password secret/webapp/config"),
                         "static-password")
        data = json.loads(self.shell("vault kv get -format=json secret/webapp/config"))["data"]
        self.assertEqual(data["data"], {"password": "static-password", "username": "static-user"})
        self.assertIn("\n    password: static-password\n",
                      self.shell("vault kv get -format=yaml secret/webapp/config"))
        self.assertEqual(self.shell("vault kv list secret"), "Keys\n----\nwebapp/\n")
        self.shell("vault kv get secret/nothing", code=2)
        self.assertEqual(self.error, "No value found at secret/data/nothing\n")

    def test_08_kv_versions(self):
        with open(self.home + "/cert.pem", "w", encoding="utf-8") as file:
            file.write("-----BEGIN-----\nabc\n")
        self.shell("vault kv put secret/more a=1 b=@$HOME/cert.pem c=-", stdin="typed")
        self.shell("vault kv put -cas=0 secret/more a=2", code=2)
        self.assertIn("check-and-set", self.error)
        self.shell("vault kv put secret/more -", stdin='{"a": {"b": [1, true, null]}}')
        self.assertEqual(self.shell("vault kv get -field=a secret/more"), "map[b:[1 true <nil>]]")
        self.assertEqual(self.shell("vault kv get -version=1 -field=b secret/more"),
                         "-----BEGIN-----\nabc\n")
        self.shell("vault kv patch secret/more d=4")
        self.shell("vault kv patch -method=rw secret/more e=5")
        self.assertEqual(json.loads(self.shell("vault kv get -format=json -field=data secret/more")),
                         {"a": {"b": [1, True, None]}, "d": "4", "e": "5"})
        self.assertEqual(self.shell("vault kv delete secret/more"),
                         "Success! Data deleted (if it existed) at: secret/data/more\n")
        self.assertNotIn("== Data ==", self.shell("vault kv get secret/more"))
        self.assertEqual(self.shell("vault kv undelete -versions=4 secret/more"),
                         "Success! Data written to: secret/undelete/more\n")
        self.shell("vault kv destroy -versions=2 secret/more")
        self.shell("vault kv rollback -version=1 secret/more")
        self.shell("vault kv rollback -version=2 secret/more", code=2)
        self.assertEqual(self.shell("vault kv get -field=c secret/more"), "typed")
        self.shell("vault kv metadata put -custom-metadata=team=x -max-versions=3 secret/more")
        out = self.shell("vault kv metadata get secret/more")
        self.has_lines(out, r"=+ Metadata Path =+", r"secret/metadata/more", r"=+ Metadata =+",
                       r"current_version +5", r"custom_metadata +map\[team:x\]", r"max_versions +3",
                       r"=+ Version 4 =+", r"=+ Version 5 =+", r"destroyed +false")
        self.assertEqual(self.shell("vault kv metadata delete secret/more"),
                         "Success! Data deleted (if it existed) at: secret/metadata/more\n")
        self.shell("vault kv metadata get secret/more", code=2)
        # The keystore doesn't turn version 1 into version 2 in place, and says what to do.
        self.shell("vault kv enable-versioning old", code=2)
        self.assertIn("kv version 1", self.error)
        self.shell("vault kv get old/a")

    def test_09_auth_enable(self):
        self.assertEqual(self.shell("vault auth enable kubernetes"),
                         "Success! Enabled kubernetes auth method at: kubernetes/\n")
        self.has_lines(self.shell("vault auth list"), r"Path +Type +Accessor +Description.*",
                       r"kubernetes/ +kubernetes +auth_kubernetes_\S+ .*",
                       r"token/ +token +auth_token_\S+ .*")

    def test_10_kubernetes_config(self):
        self.assertEqual(
            self.shell("vault write auth/kubernetes/config "
                       'kubernetes_host="https://$KUBERNETES_PORT_443_TCP_ADDR:443"'),
            "Success! Data written to: auth/kubernetes/config\n")
        self.assertEqual(self.shell("vault read -field=kubernetes_host auth/kubernetes/config"),
                         "https://10.96.0.1:443")

    def test_11_policy(self):
        self.assertEqual(self.shell("""vault policy write webapp - <<EOF
path "secret/data/webapp/config" {
  capabilities = ["read"]
}
EOF"""), "Success! Uploaded policy: webapp\n")
        self.assertEqual(self.shell("vault policy read webapp"),
                         'path "secret/data/webapp/config" {\n  capabilities = ["read"]\n}\n')
        self.assertEqual(set(self.shell("vault policy list").split()),
                         {"admin", "default", "root", "webapp"})
        self.shell("vault policy read nothing", code=2)
        self.assertEqual(self.error, "No policy named: nothing\n")

    def test_12_kubernetes_role(self):
        self.assertEqual(
            self.shell("vault write auth/kubernetes/role/webapp bound_service_account_names=vault "
                       "bound_service_account_namespaces=default policies=webapp ttl=24h"),
            "Success! Data written to: auth/kubernetes/role/webapp\n")
        self.assertEqual(self.shell("vault list auth/kubernetes/role"), "Keys\n----\nwebapp\n")

    def test_13_a_pod_logs_in(self):
        # Where the cluster's API server isn't at hand, its public key checks the pod's token.
        signer = TokenSigner(self.keystore.folder)
        with open(self.home + "/sa.pem", "w", encoding="utf-8") as file:
            file.write(signer.public_key)
        self.shell('vault write auth/kubernetes/config kubernetes_host="https://10.96.0.1:443" '
                   "pem_keys=@$HOME/sa.pem disable_local_ca_jwt=true")
        out = self.shell("vault write auth/kubernetes/login role=webapp jwt=-", stdin=signer.token())
        self.has_lines(out, r"token +hvs\.\S+", r"token_duration +24h", r"token_renewable +true",
                       r'token_policies +\["default" "webapp"\]')
        for line in (r"token_meta_role +webapp", r"token_meta_service_account_name +vault"):
            self.has_lines(out, line)  # in any order
        login = ("vault login -method=kubernetes -token-only role=webapp jwt=-" if OURS else
                 "vault write -field=token auth/kubernetes/login role=webapp jwt=-")
        pod = self.shell(login, stdin=signer.token())
        get = "vault kv get -field=password secret/webapp/config"
        self.assertEqual(self.shell(f"VAULT_TOKEN={pod} {get}"), "static-password")
        self.shell(f"VAULT_TOKEN={pod} vault kv put secret/webapp/config password=x", code=2)
        self.assertIn("Error writing data to secret/data/webapp/config: Error making API request.\n\n"
                      f"URL: PUT {self.keystore.address}/v1/secret/data/webapp/config\n"
                      "Code: 403. Errors:\n\n", self.error)
        self.assertEqual(
            self.shell(f"VAULT_TOKEN={pod} vault token capabilities secret/data/webapp/config"),
            "read\n")

    def test_15_rekey(self):
        out = self.shell("vault operator rekey -init -key-shares=3 -key-threshold=2")
        self.has_lines(out, r"Key +Value", f"Nonce +{UUID}", r"Started +true",
                       r"Rekey Progress +0/3", r"New Shares +3", r"New Threshold +2",
                       r"Verification Required +false")
        nonce = re.search(f"Nonce +({UUID})", out)[1]
        self.shell("vault operator rekey " + self.shares[0], code=1)
        self.assertEqual(self.error, "Missing nonce value: specify it via the -nonce flag\n")
        for done, share in enumerate(self.shares[:2], 1):
            self.has_lines(self.shell(f"vault operator rekey -nonce={nonce} {share}"),
                           f"Rekey Progress +{done}/3")
        out = self.shell(f"vault operator rekey -nonce={nonce} -", stdin=self.shares[2])
        self.matches("\n" + "".join(f"Key {i}: {SHARE}\n" for i in (1, 2, 3))
                     + f"\nOperation nonce: {UUID}\n\nVault unseal keys rekeyed with 3 key shares and a key "
                     r"threshold of 2\.(.|\n)*", out)
        type(self).old_shares, type(self).shares = self.shares, re.findall(r"Key \d: (\S+)", out)
        self.assertEqual(self.shell("vault operator rekey -cancel"),
                         "Success! Canceled rekeying (if it was started)\n")
        self.shell("vault operator rekey -nonce=x KEY", code=1)

    def test_15_rekey_with_verification(self):
        out = self.shell("vault operator rekey -init -verify -key-shares=5 -key-threshold=3")
        nonce = re.search(f"Nonce +({UUID})", out)[1]
        self.shell(f"vault operator rekey -nonce={nonce} {self.shares[0]}")
        out = self.shell(f"vault operator rekey -nonce={nonce} {self.shares[1]}")
        fresh = re.findall(r"^Key \d: (\S+)", out, re.M)
        self.has_lines(out, r"Key +Value", r"Started +true", r"New Shares +5", r"New Threshold +3",
                       f"Verification Nonce +{UUID}", r"Verification Progress +0/3")
        nonce = re.search(f"^Verification Nonce +({UUID})", out, re.M)[1]
        for share in fresh[:3]:
            out = self.shell(f"vault operator rekey -verify -nonce={nonce} {share}")
        self.assertEqual(out, "Rekey verification successful. The rekey operation is complete and the new\n"
                              "keys are now active.\n")
        type(self).old_shares, type(self).shares = self.shares, fresh

    def test_15_rotate(self):
        out = self.shell("vault operator rotate")
        self.matches(r"Success! Rotated key\n\nKey Term            2\nInstall Time        "
                     r"\d\d [A-Z][a-z]{2} \d\d \d\d:\d\d UTC\nEncryption Count    \d+\n", out)
        self.has_lines(self.shell("vault operator key-status"), r"Key Term +2")
        self.assertEqual(self.shell("vault kv get -field=password secret/webapp/config"),
                         "static-password")

    def test_15_generate_root(self):
        out = self.shell("vault operator generate-root -init")
        self.has_lines(out, f"Nonce +{UUID}", r"Started +true", r"Progress +0/3", r"Complete +false",
                       r"OTP +\S+", r"OTP Length +\d+")
        nonce = re.search(f"Nonce +({UUID})", out)[1]
        otp = re.search(r"OTP +(\S+)", out)[1]
        for share in self.shares[:3]:
            out = self.shell(f"vault operator generate-root -nonce={nonce} -", stdin=share)
        self.has_lines(out, r"Progress +3/3", r"Complete +true", r"Encoded Token +\S+")
        encoded = re.search(r"Encoded Token +(\S+)", out)[1]
        root = self.shell(f"vault operator generate-root -decode={encoded} -otp={otp}")
        self.assertRegex(root, r"^hvs\.\S{24,}$")
        self.has_lines(self.shell(f"VAULT_TOKEN={root} vault token lookup"), r"policies +\[root\]",
                       r"ttl +0s")
        otp = self.shell("vault operator generate-root -generate-otp")
        self.shell(f"vault operator generate-root -init -otp={otp}")
        self.assertEqual(self.shell("vault operator generate-root -cancel"),
                         "Success! Root token generation canceled (if it was started)\n")
        self.shell(f"VAULT_TOKEN={root} vault token revoke -self")

    def test_15_seal(self):
        self.assertEqual(self.shell("vault operator seal"), "Success! Vault is sealed.\n")
        self.has_lines(self.shell("vault status", code=2), r"Sealed +true", r"Unseal Progress +0/3")
        self.shell("vault kv get secret/webapp/config", code=2)
        self.assertIn("Code: 503. Errors:\n\n* ", self.error)
        # The shares from before the rekeying open nothing.
        for share in self.old_shares[:2]:
            self.shell(f"vault operator unseal {share}")
        self.has_lines(self.shell("vault operator unseal -reset"), r"Unseal Progress +0/3")
        self.has_lines(self.unseal_with(self.shares[1:4]), r"Sealed +false")
        self.assertEqual(self.shell("vault kv get -field=password secret/webapp/config"),
                         "static-password")

    def test_16_a_restarted_keystore_opens_with_the_same_shares(self):
        self.keystore.kill()
        self.keystore.start()
        self.shell("vault status", code=2)
        self.unseal_with(self.shares[2:5])
        self.assertEqual(self.shell("vault kv get -field=username secret/webapp/config"),
                         "static-user")

    def test_17_nothing_readable_is_stored(self):
        words = [b"static-password", b"static-user", b"webapp", b"username", b"kubernetes", b"secret/",
                 self.admin.encode(), self.shares[0].encode()]
        seen = 0
        for folder, _, names in os.walk(self.keystore.folder + "/data"):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    text = file.read()
                seen += len(text)
                for word in words:
                    self.assertNotIn(word, text, f"{word} is readable in {name}")
        self.assertGreater(seen, 0)

    def test_18_other_commands(self):
        self.assertRegex(self.shell("vault version"),
                         r"^Coffer v\d+\.\d+\.\d+ \(Vault API\)\n$" if OURS else r"^Vault v")
        self.assertIn("kubernetes_host", self.shell("vault path-help auth/kubernetes/config"))
        self.assertEqual(self.shell("vault secrets tune -max-lease-ttl=48h secret"),
                         "Success! Tuned the secrets engine at: secret/\n")
        self.assertEqual(self.shell("vault read -field=max_lease_ttl sys/mounts/secret/tune"), "172800")
        child = self.shell("vault token create -ttl=1h -policy=webapp -field=token")
        self.has_lines(self.shell(f"vault token renew -increment=30m {child}"),
                       r"token_duration +30m")
        self.assertEqual(self.shell(f"vault token revoke {child}"),
                         "Success! Revoked token (if it existed)\n")
        curl = self.shell("vault kv get -output-curl-string secret/webapp/config")
        headers = ['-H "X-Vault-Request: true"', '-H "X-Vault-Token: $(vault print token)"']
        url = f"{self.keystore.address}/v1/secret/data/webapp/config\n"
        orders = [headers] if OURS else [headers, headers[::-1]]
        self.assertIn(curl, [" ".join(("curl", *order, url)) for order in orders])
        self.assertEqual(self.shell("vault auth disable kubernetes"),
                         "Success! Disabled the auth method (if it existed) at: kubernetes/\n")

    def test_19_tls(self):
        address = f"https://127.0.0.1:{self.tls_port}"
        certificate = self.folder + "/tls.crt"
        # A certificate of an unknown authority is refused before anything is sent.
        self.shell(f"vault status -address={address}", code=1)
        self.assertIn("certificate", self.error)
        for options in (f"-ca-cert={certificate}", "-tls-skip-verify",
                        f"-ca-cert {certificate} -tls-server-name vault.vault"):
            self.shell(f"vault status -address={address} {options}")
        self.shell(f"VAULT_ADDR={address} VAULT_CACERT={certificate} vault status")
        self.shell(f"VAULT_ADDR={address} VAULT_SKIP_VERIFY=1 vault status")
        self.shell(f"vault status -address={address} -ca-cert={certificate} "
                   "-tls-server-name=other.host", code=1)
        self.shell(f"vault status -address={address} -ca-cert=/nowhere", code=1)

    def test_20_a_dev_server(self):
        port = free_port()
        with open(self.folder + "/dev.log", "wb") as log:
            server = subprocess.Popen(
                ["vault", "server", "-dev", "-dev-root-token-id=root",
                 f"-dev-listen-address=127.0.0.1:{port}"], env=self.environment, stdout=log, stderr=log)
        try:
            self.environment.update(VAULT_ADDR=f"http://127.0.0.1:{port}", VAULT_TOKEN="root")
            for _ in range(200):
                if subprocess.run(["vault", "status"], env=self.environment,
                                  capture_output=True).returncode == 0:
                    break
                time.sleep(0.05)
            self.shell("vault kv put secret/a k=v")
            self.assertEqual(self.shell("vault kv get -field=k secret/a"), "v")
        finally:
            server.send_signal(signal.SIGTERM)
            self.assertEqual(server.wait(20), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2, failfast=True, exit=True)
