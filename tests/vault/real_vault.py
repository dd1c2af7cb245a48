"""HashiCorp's Vault as a keystore of the tests; scripts/install --e2e builds it as go.mod says."""

import hashlib
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from coffer_test import Keystore  # noqa: E402

# Who is no part of a minimal Vault, and runs as its plugin: kind, name, program.
PLUGINS = (("auth", "kubernetes", "vault-plugin-auth-kubernetes"), ("secret", "rabbitmq", "rabbitmq"))


class RealVault(Keystore):
    """Vault in memory; `bin_dir` is where it and its plugins lie."""

    def storage_config(self, more):
        return (f'storage "inmem" {{ {more} }}\napi_addr = "{self.address}"\ndisable_mlock = true\n'
                f'plugin_directory = "{os.path.realpath(self.bin_dir)}"\n')

    def command(self):
        return [os.path.join(self.bin_dir, "vault"), "server", f"-config={self.config}"]

    def request(self, *arguments, **more):
        """kv version 2 is made ready after its mount has been answered: waits for that."""
        for _ in range(300):
            answer = super().request(*arguments, **more)
            if answer[0] != 400 or "Upgrading from non-versioned" not in str(answer[1]):
                break
            time.sleep(0.1)
        return answer

    def add_plugins(self, root):
        for kind, name, program in PLUGINS:
            with open(os.path.join(self.bin_dir, program), "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self.must("PUT", f"sys/plugins/catalog/{kind}/{name}", {"sha256": digest, "command": program}, root)
