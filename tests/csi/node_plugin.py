"""What the node plugin's tests share: a keystore filled as in the tutorial, and a coffer-csi process."""

import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from coffer_test import Keystore, TokenSigner  # noqa: E402

POLICY = 'path "secret/data/webapp/*" { capabilities = ["read"] }'


def class_yaml(name, address, objects, role="webapp", namespace="default", extra=""):
    return (
        "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        "spec:\n  provider: vault\n  parameters:\n"
        f"    vaultAddress: {address}\n    roleName: {role}\n{extra}"
        "    objects: |\n" + "".join(f"      {line}\n" for line in objects.strip().splitlines())
    )


WEBAPP_OBJECTS = """
- objectName: username
  secretPath: secret/data/webapp/config
  secretKey: username
- objectName: password
  secretPath: secret/data/webapp/config
  secretKey: password
"""


class Node:
    """A filled keystore, a kubelet's folder, a folder of classes, and the plugin."""

    lacks = ()  # what the plugin's kernel is without: see tests/lib/older_kernel.cc

    def __init__(self, bin_dir, storage=""):
        self.bin_dir = bin_dir
        self.folder = tempfile.mkdtemp(prefix="coffer-node-")
        self.kubelet = os.path.join(self.folder, "kubelet")
        self.classes = os.path.join(self.folder, "classes")
        os.makedirs(os.path.join(self.kubelet, "pods"))
        os.makedirs(self.classes)
        self.socket = os.path.join(self.folder, "csi.sock")
        self.registration = os.path.join(self.folder, "secrets-store.csi.k8s.io-reg.sock")
        self.signer = TokenSigner(self.folder)
        self.token_file = os.path.join(self.folder, "token")
        self.write_token(self.signer.token())
        self.keystore = self.make_keystore(storage)
        self.fill()
        self.write_class("webapp", WEBAPP_OBJECTS)
        self.log_path = os.path.join(self.folder, "csi.log")
        self.plugin = None
        self.start()

    def make_keystore(self, storage):
        return Keystore(self.bin_dir, storage=storage)

    def fill(self):
        self.shares, self.root = self.keystore.initialize()
        must = self.keystore.must
        must("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}, self.root)
        self.put(1)
        self.fill_policy()
        must("POST", "sys/auth/kubernetes", {"type": "kubernetes"}, self.root)
        must("POST", "auth/kubernetes/config", {
            "kubernetes_host": "https://127.0.0.1:6443",
            "pem_keys": [self.signer.public_key],
        }, self.root)
        must("POST", "auth/kubernetes/role/webapp", {
            "bound_service_account_names": "vault",
            "bound_service_account_namespaces": "default",
            "token_policies": "webapp", "token_ttl": "1h",
        }, self.root)

    def fill_policy(self):
        self.keystore.must("PUT", "sys/policies/acl/webapp", {"policy": POLICY}, self.root)

    def put(self, number):
        self.keystore.must("POST", "secret/data/webapp/config", {
            "data": {"username": "static-user", "password": f"password-{number}"}}, self.root)

    def write_token(self, token):
        with open(self.token_file, "w", encoding="utf-8") as file:
            file.write(token)

    def write_class(self, name, objects, **more):
        more.setdefault("address", self.keystore.address)
        path = os.path.join(self.classes, f"{name}.yaml")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(class_yaml(name, more.pop("address"), objects, **more))
        os.rename(path + ".new", path)

    def start(self):
        self.log = open(self.log_path, "ab")
        self.plugin = subprocess.Popen([
            os.path.join(self.bin_dir, "coffer-csi"), f"--endpoint=unix://{self.socket}",
            "--nodeid=node-1", f"--kubelet-root={self.kubelet}",
            f"--secret-provider-class-dir={self.classes}", "--log-level=debug",
            f"--plugin-registration-dir={self.folder}",
            f"--kubelet-registration-path={self.socket}",
            *self.flags(),
        ], stdout=self.log, stderr=self.log, env=self.environment())
        for _ in range(200):
            if self.plugin.poll() is not None:
                raise RuntimeError("coffer-csi ended:\n" + self.log_text())
            if os.path.exists(self.registration) and self.call("probe")[0] == "OK":
                return
            time.sleep(0.02)
        raise RuntimeError("coffer-csi doesn't answer:\n" + self.log_text())

    def flags(self):
        """More of them, for the plugin."""
        return []

    def environment(self):
        if not self.lacks:
            return None
        kernel = os.path.abspath(os.path.join(self.bin_dir, "older_kernel.so"))
        return {**os.environ, "LD_PRELOAD": kernel, "COFFER_WITHOUT": ",".join(self.lacks)}

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def call(self, command, *arguments, endpoint=None, timeout=150):
        """(code, text): the client's last line taken apart."""
        run = subprocess.run(
            [os.path.join(self.bin_dir, "coffer-csi-client"),
             f"--endpoint=unix://{endpoint or self.socket}", command, *arguments],
            capture_output=True, text=True, timeout=timeout, check=False)
        last = run.stdout.strip().splitlines()[-1] if run.stdout.strip() else run.stderr
        if last.startswith("OK"):
            return "OK", run.stdout
        code, _, message = last.partition(": ")
        return code, message

    def target(self, pod="1"):
        folder = os.path.join(self.kubelet, "pods", pod)
        os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, "mount")

    def publish(self, target=None, volume="csi-1", secret_class="webapp", *more):
        return self.call(
            "publish", f"--volume-id={volume}", f"--target={target or self.target()}",
            f"--class={secret_class}", "--service-account=vault", "--audience=vault",
            f"--token-file={self.token_file}", *more)

    def unpublish(self, target=None, volume="csi-1"):
        return self.call("unpublish", f"--volume-id={volume}", f"--target={target or self.target()}")

    def mounts(self):
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            return [line for line in file if f" {self.folder}/" in line]

    def kill(self):
        self.plugin.kill()
        self.plugin.wait()
        self.log.close()

    def stop(self):
        """The plugin's exit code."""
        self.plugin.terminate()
        code = self.plugin.wait(timeout=30)
        self.log.close()
        return code

    def close(self):
        if self.plugin and self.plugin.poll() is None:
            self.kill()
        self.keystore.stop()
        for line in self.mounts():
            subprocess.run(["umount", "-l", line.split()[4]], check=False)
        subprocess.run(["rm", "-rf", self.folder], check=False)
