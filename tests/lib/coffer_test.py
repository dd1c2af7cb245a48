"""What the Python tests share: a real keystore process, and ServiceAccount tokens signed on the spot."""

import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(check, seconds=60, ignore=()):
    """Whether `check` comes true within that time; an exception of `ignore` says not yet."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(*ignore):
            if check():
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


class Keystore:
    """A coffer-keystore over LMDB in a folder of its own, on a free port of the loopback."""

    def __init__(self, bin_dir, folder=None, extra_config="", storage=""):
        self.bin_dir = bin_dir
        self.owns_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="coffer-test-")
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.config = os.path.join(self.folder, "keystore.hcl")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(
                self.storage_config(storage) +
                f'listener "tcp" {{\n  address = "127.0.0.1:{self.port}"\n  tls_disable = true\n}}\n'
                + extra_config
            )
        self.process = None
        self.start()

    def storage_config(self, more):
        return f'storage "lmdb" {{ path = "{self.folder}/data"\n{more} }}\n'

    def command(self):
        return [os.path.join(self.bin_dir, "coffer-keystore"), f"-config={self.config}"]

    def start(self):
        self.log = open(os.path.join(self.folder, "keystore.log"), "ab")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log)
        for _ in range(1500):
            if self.process.poll() is not None:
                break
            try:
                self.request("GET", "sys/seal-status")
                return
            except OSError:
                time.sleep(0.02)
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            raise RuntimeError(f"{self.command()[0]} doesn't answer:\n" + log.read())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)
        self.log.close()
        if self.owns_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def request(self, method, path, body=None, token=None, headers=None):
        """(status, decoded JSON or None)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = dict(headers or {})
            if token:
                sent["X-Vault-Token"] = token
            data = None if body is None else json.dumps(body)
            connection.request(method, "/v1/" + path, data, sent)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def must(self, method, path, body=None, token=None):
        status, answer = self.request(method, path, body, token)
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status} {answer}")
        return answer

    def fill(self, token):
        """Writes to kv version 1 at full/ until nothing more fits; returns the refusal."""
        self.must("POST", "sys/mounts/full", {"type": "kv", "options": {"version": "1"}}, token)
        size, number = 1 << 16, 0
        while True:
            status, answer = self.request("POST", f"full/{number}", {"x": "x" * size}, token)
            number += 1
            if status >= 300:
                if size == 1:
                    return status, answer
                size //= 4

    def initialize(self, shares=5, threshold=3):
        """Initialises and unseals: (shares, root token)."""
        made = self.must("PUT", "sys/init", {"secret_shares": shares, "secret_threshold": threshold})
        for share in made["keys_base64"][:threshold]:
            self.must("PUT", "sys/unseal", {"key": share})
        return made["keys_base64"], made["root_token"]


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenSigner:
    """Signs ServiceAccount tokens as the API server does, with a key made on the spot (RS256)."""

    def __init__(self, folder):
        self.key = os.path.join(folder, "sa.key")
        subprocess.run(["openssl", "genrsa", "-out", self.key, "2048"], check=True, capture_output=True)
        self.public_key = subprocess.run(
            ["openssl", "rsa", "-in", self.key, "-pubout"], check=True, capture_output=True, text=True
        ).stdout.strip()

    def certificate(self):
        """The public key as a self-signed certificate: hvac takes nothing else."""
        return subprocess.run(
            ["openssl", "req", "-x509", "-key", self.key, "-subj", "/CN=sa", "-days", "1"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()

    def sign(self, claims, header=None):
        header = {"alg": "RS256", "kid": "test"} if header is None else header
        text = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key], input=text.encode(), check=True,
            capture_output=True,
        ).stdout
        return text + "." + base64url(signature)

    def token(self, account="vault", namespace="default", audience="vault", ttl=3600, pod="webapp-0"):
        now = int(time.time())
        return self.sign({
            "iss": "https://kubernetes.default.svc.cluster.local",
            "aud": [audience], "iat": now, "nbf": now, "exp": now + ttl,
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": account, "uid": "11111111-1111-1111-1111-111111111111"},
                "pod": {"name": pod, "uid": "22222222-2222-2222-2222-222222222222"},
            },
        })
