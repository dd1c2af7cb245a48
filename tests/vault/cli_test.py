"""Vault's own command line and `coffer`, one after the other against a Vault of their own: the same output, messages
and exit codes, but for ids and times.

    cli_test.py BIN_DIR VAULT_DIR     (VAULT_DIR: where vault and its plugins lie)
"""

import json
import os
import re
import subprocess
import sys
import unittest

from real_vault import RealVault

BIN_DIR = os.path.abspath(sys.argv.pop(1))
VAULT_DIR = os.path.abspath(sys.argv.pop(1))

COMMANDS = """
status
status -format=json
secrets enable -path=kv kv-v2
secrets enable -path=old -version=1 kv
secrets enable -path=kv kv-v2
kv put kv/a k=v n=1
kv get kv/a
kv get -format=json kv/a
kv get -format=yaml kv/a
kv get -field=k kv/a
kv get -mount=kv a
kv patch kv/a m=2
kv get -version=1 kv/a
kv list kv
kv list -format=json kv
kv get kv/none
kv list kv/none
kv get -field=none kv/a
kv put -cas=7 kv/a k=v
kv delete kv/a
kv get kv/a
kv undelete -versions=2 kv/a
kv rollback -version=1 kv/a
kv destroy -versions=1 kv/a
kv get -version=1 kv/a
kv metadata put -custom-metadata=team=x -max-versions=4 kv/a
kv metadata get kv/a
kv metadata get -format=json kv/a
kv metadata delete kv/a
kv metadata get kv/a
kv put old/a k=v n=1
kv get old/a
kv list old
kv delete old/a
kv get old/a
secrets list
secrets list -format=json
secrets list -detailed
secrets tune -max-lease-ttl=48h kv
read sys/mounts/kv/tune
auth enable kubernetes
auth list
write auth/kubernetes/config kubernetes_host=https://10.96.0.1:443 disable_local_ca_jwt=true
read auth/kubernetes/config
write auth/kubernetes/role/webapp bound_service_account_names=vault bound_service_account_namespaces=default \
policies=webapp ttl=24h audience=vault
read auth/kubernetes/role/webapp
read -format=json auth/kubernetes/role/webapp
list auth/kubernetes/role
list auth/kubernetes/none
read auth/kubernetes/role/none
delete auth/kubernetes/role/webapp
auth move auth/kubernetes /auth/moved/
auth move moved kubernetes
auth move auth/moved kubernetes
auth move auth/moved auth/token
auth move auth/moved
auth move auth/moved auth/a auth/b
auth move -format=yaml auth/moved auth/a
auth disable moved
policy write webapp POLICY
policy read webapp
policy list
policy list -format=json
policy delete webapp
policy read webapp
token create -policy=default -ttl=1h
token create -policy=default -ttl=1h -format=json
token create -type=batch -policy=default -ttl=1h
token lookup
token lookup none
token renew none
token revoke none
token capabilities kv/data/a
token capabilities none none
lease renew none
lease revoke none
lease lookup none
write cubbyhole/a k=v
read cubbyhole/a
read -wrap-ttl=60s cubbyhole/a
list cubbyhole
delete cubbyhole/a
read cubbyhole/a
unwrap none
read sys/none
write sys/none
audit list
operator key-status
operator rotate
operator rekey -status
operator generate-root -status
operator init -status
operator init
secrets move kv /moved/
secrets move none a
secrets move moved moved/a
secrets move moved auth/a
secrets move sys a
secrets move moved
secrets move moved a b
secrets move -format=yaml moved a
secrets disable moved
secrets disable old
kv get kv/a
login none
kv get
kv get -nonsense a
"""
# Who made it, when: what two runs can't have in common.
OWN = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "TIME"),
    (r"\b1\d{9}\b", "TIME"),
    (r"\d+h\d+m\d+s", "SPAN"),
    (r"\d\d [A-Z][a-z]{2} \d\d \d\d:\d\d UTC", "TIME"),
    (r"hv[bs]\.[\w-]{20,}", "TOKEN"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC", "TIME"),
    (r'"?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"?', '"UUID"'),
    (r"\b([a-z_]+)_[0-9a-f]{8}\b", r"\1_ID"),
    (r"\bvault-cluster-[0-9a-f]{8}\b", "CLUSTER"),
    (r"\b[A-Za-z0-9]{24}\b", "ACCESSOR"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"Waiting for terminal status .*\n", ""),  # a move that wasn't done at once
)


class World:
    """A Vault, and a command line that talks to it."""

    def __init__(self, folder):
        self.program = os.path.join(folder, "vault")
        self.vault = RealVault(VAULT_DIR)
        _, self.root = self.vault.initialize()
        self.vault.add_plugins(self.root)
        with open(os.path.join(self.vault.folder, "POLICY"), "w", encoding="utf-8") as file:
            file.write('path "kv/*" { capabilities = ["read"] }\n')

    def run(self, words):
        done = subprocess.run(
            [self.program, *words.split()], text=True, capture_output=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL, cwd=self.vault.folder,
            env={"PATH": "/usr/bin:/bin", "HOME": self.vault.folder, "VAULT_ADDR": self.vault.address,
                 "VAULT_TOKEN": self.root})
        text = f"{done.stdout}--- standard error\n{done.stderr}--- exit code {done.returncode}\n"
        for pattern, word in OWN:
            text = re.sub(pattern, word, text)
        return text


class CommandLine(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.theirs, cls.ours = World(VAULT_DIR), World(BIN_DIR)
        for world in (cls.theirs, cls.ours):
            cls.addClassCleanup(world.vault.stop)

    def test_the_same_answers(self):
        for words in COMMANDS.replace("\\\n", "").strip().splitlines():
            with self.subTest(words):
                theirs, ours = self.theirs.run(words), self.ours.run(words)
                if "-format=json" in words:
                    theirs, ours = (parsed(text) for text in (theirs, ours))
                self.assertEqual(theirs, ours)


def parsed(text):
    """A document whose members may stand in any order; Vault's command line adds empty ones that no answer has."""
    def full(value):
        if not isinstance(value, dict):
            return value
        return {key: full(member) for key, member in value.items() if member not in ("", None)}

    document, rest = text.split("--- standard error\n")
    return full(json.loads(document)), rest


if __name__ == "__main__":
    unittest.main(verbosity=2)
