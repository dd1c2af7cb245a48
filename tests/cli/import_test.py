"""Secrets are imported from Kubernetes and from another Vault-API server: real keystores, and a server
that answers lists of Secrets as the API server does.

    import_test.py BIN_DIR [VAULT_DIR]     (VAULT_DIR: HashiCorp's Vault lies there, and is that other server)
"""

import base64
import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vault"))
from coffer_test import Keystore  # noqa: E402
from real_vault import RealVault  # noqa: E402

BIN_DIR = os.path.abspath(sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin")
VAULT_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else ""


def secret(namespace, name, data, kind="Opaque", labels=None):
    return {"apiVersion": "v1", "kind": "Secret", "type": kind,
            "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()}}


class ApiServer(http.server.ThreadingHTTPServer):
    """Lists `secrets` in pages of two; `expire` says how many times a page comes too late."""

    def __init__(self, secrets):
        super().__init__(("127.0.0.1", 0), Handler)
        self.secrets, self.expire, self.requests, self.refuse = secrets, 0, [], False
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def close(self):
        self.shutdown()
        self.server_close()
        self.thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        server = self.server
        url = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        server.requests.append((url.path, query, self.headers.get("Authorization")))
        if server.refuse:
            return self.answer(403, {"kind": "Status", "message": "secrets is forbidden"})
        if "continue" in query and server.expire > 0:
            server.expire -= 1
            return self.answer(410, {"kind": "Status", "reason": "Expired", "message": "too old"})
        parts = url.path.split("/")
        found = [item for item in server.secrets
                 if "namespaces" not in parts or item["metadata"]["namespace"] == parts[4]]
        start = int(query.get("continue", "0"))
        page = {"kind": "SecretList", "items": found[start:start + 2], "metadata": {}}
        if start + 2 < len(found):
            page["metadata"]["continue"] = str(start + 2)
        return self.answer(200, page)

    def answer(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class ImportTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="coffer-import-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.keystores = []
        for kind, folder in ((RealVault, VAULT_DIR) if VAULT_DIR else (Keystore, BIN_DIR), (Keystore, BIN_DIR)):
            keystore = kind(folder)
            cls.addClassCleanup(keystore.stop)
            keystore.root = keystore.initialize(1, 1)[1]
            cls.keystores.append(keystore)
        cls.source, cls.target = cls.keystores
        cls.count = 0

    def mount(self, keystore, version="2"):
        """A fresh mount's name."""
        type(self).count += 1
        name = f"kv{self.count}"
        keystore.must("POST", f"sys/mounts/{name}", {"type": "kv", "options": {"version": version}},
                      keystore.root)
        return name

    def coffer(self, *words, stdin="", code=0, **environment):
        """(standard output, standard error) of a run that ends with `code`."""
        done = subprocess.run(
            [os.path.join(BIN_DIR, "coffer"), *words], input=stdin, text=True, capture_output=True,
            timeout=120, check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": self.folder, "VAULT_ADDR": self.target.address,
                 "VAULT_TOKEN": self.target.root, **environment})
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout, done.stderr

    def report(self, *words, **more):
        return json.loads(self.coffer(*words[:2], "-format=json", *words[2:], **more)[0])

    def counts(self, report):
        return [report[name] for name in ("written", "same", "skipped", "failed")]

    def read(self, keystore, path, version=0):
        return keystore.must("GET", f"{path}?version={version}", token=keystore.root)["data"]

    # Kubernetes

    SECRETS = [
        secret("shop", "db", {"user": b"shop", "password": "pässword".encode()}, labels={"app": "web"}),
        secret("shop", "keystore", {"store.jks": b"\xfe\xed\xfe\xed\x00", "pin": b"1234"}),
        secret("shop", "token", {"token": b"x"}, "kubernetes.io/service-account-token"),
        secret("shop", "tls", {"tls.crt": b"CERT", "tls.key": b"KEY"}, "kubernetes.io/tls"),
        secret("blog", "db", {"user": b"blog"}, labels={"app": "web"}),
    ]

    def api_server(self, secrets=None):
        server = ApiServer(self.SECRETS if secrets is None else secrets)
        self.addCleanup(server.close)
        path = os.path.join(self.folder, "kubeconfig")
        with open(path, "w", encoding="utf-8") as file:
            file.write("current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
                       f"clusters: [{{name: k, cluster: {{server: '{server.address}'}}}}]\n"
                       "users: [{name: u, user: {token: kube-token}}]\n")
        return server, f"-kubeconfig={path}"

    def test_cluster(self):
        """all pages are moved, what the cluster makes is left out; a second run changes nothing"""
        mount = self.mount(self.target)
        server, kubeconfig = self.api_server()
        words = ["import", "k8s-secrets", kubeconfig, f"-mount={mount}"]
        report = self.report(*words, "-dry-run")
        self.assertEqual(self.counts(report), [4, 0, 1, 0])
        self.assertTrue(report["dry_run"])
        self.assertEqual(self.target.request("LIST", f"{mount}/metadata", token=self.target.root)[0], 404)

        report = self.report(*words)
        self.assertEqual(self.counts(report), [4, 0, 1, 0])
        self.assertEqual(server.requests[-1][2], "Bearer kube-token")
        self.assertEqual(self.read(self.target, f"{mount}/data/shop/db")["data"],
                         {"user": "shop", "password": "pässword"})
        self.assertEqual(self.read(self.target, f"{mount}/data/shop/keystore")["data"],
                         {"store.jks": "/u3+7QA=", "pin": "1234"})
        (note,) = [item["reason"] for item in report["secrets"] if item["source"] == "shop/keystore"]
        self.assertIn("store.jks", note)
        self.assertNotIn("pin", note)

        self.assertEqual(self.counts(self.report(*words)), [0, 4, 1, 0])
        self.assertEqual(self.read(self.target, f"{mount}/data/shop/db")["metadata"]["version"], 1)

    def test_broken_off(self):
        """a list whose pages come too late is begun again; what is moved already is told by its content"""
        mount = self.mount(self.target)
        server, kubeconfig = self.api_server()
        words = ["import", "k8s-secrets", kubeconfig, f"-mount={mount}"]
        server.expire = 3
        self.assertEqual(self.counts(self.report(*words)), [4, 0, 1, 0])
        server.secrets = server.secrets + [secret("new", "late", {"a": b"b"})]
        self.assertEqual(self.counts(self.report(*words)), [1, 4, 1, 0])
        server.refuse = True
        out, err = self.coffer(*words, code=2)
        self.assertIn("secrets is forbidden", err)
        self.assertIn("0 written", out)

    def test_selection(self):
        """by namespace, label and type; to paths of another form"""
        server, kubeconfig = self.api_server()
        for flags, paths in [
                (["-from-namespace=blog"], ["blog/db"]),
                (["-selector=app=web,!old"], ["blog/db", "shop/db"]),
                (["-type=kubernetes.io/tls", "-path=tls/{name}-in-{namespace}"],
                 ["tls/tls-in-shop"])]:
            with self.subTest(flags=flags):
                mount = self.mount(self.target)
                report = self.report("import", "k8s-secrets", kubeconfig, f"-mount={mount}", *flags)
                self.assertEqual(sorted(item["path"] for item in report["secrets"]
                                        if item["outcome"] == "written"),
                                 [f"{mount}/{path}" for path in paths])
        self.assertTrue(any(path == "/api/v1/namespaces/blog/secrets" for path, _, _ in server.requests))
        mount = self.mount(self.target)
        report = self.report("import", "k8s-secrets", kubeconfig, f"-mount={mount}", "-path={name}",
                             "-selector=app", code=2)
        self.assertEqual(self.counts(report), [1, 0, 0, 1])  # both are called db
        self.assertIn("-path", report["secrets"][1]["reason"])

    def test_documents(self):
        """what kubectl prints, as JSON and as YAML, from files and standard input, to both versions of kv"""
        documents = {
            "list.json": json.dumps({"kind": "List", "items": self.SECRETS[:2]}),
            "one.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: y, namespace: n}\n"
                        "data: {a: QUFB}\nstringData: {b: '0600'}\n---\n"
                        "kind: Secret\nmetadata: {name: z}\nstringData: {c: d}\n"}
        for name, text in documents.items():
            with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        for version, infix in (("1", ""), ("2", "data/")):
            with self.subTest(version=version):
                mount = self.mount(self.target, version)
                report = self.report("import", "k8s-secrets", f"-mount={mount}",
                                     os.path.join(self.folder, "one.yaml"), "-",
                                     stdin=documents["list.json"])
                self.assertEqual(self.counts(report), [4, 0, 0, 0])
                data = self.target.must("GET", f"{mount}/{infix}n/y", token=self.target.root)["data"]
                self.assertEqual(data if version == "1" else data["data"], {"a": "AAA", "b": "0600"})
                self.target.must("GET", f"{mount}/{infix}default/z", token=self.target.root)

    def test_what_cannot_be_moved(self):
        """conflicts and bad values are reported, the rest is moved, the exit code is 2"""
        mount = self.mount(self.target)
        self.target.must("POST", f"{mount}/data/shop/db", {"data": {"user": "other"}}, self.target.root)
        bad = dict(self.SECRETS[4], data={"user": "***"})
        text = json.dumps({"kind": "List", "items": [self.SECRETS[0], bad, self.SECRETS[1]]})
        words = ["import", "k8s-secrets", f"-mount={mount}"]
        out, err = self.coffer(*words, "-", stdin=text, code=2)
        self.assertIn("1 written, 0 the same already, 0 skipped, 2 not moved", out)
        self.assertRegex(err, r"NOT MOVED  shop/db -> kv\d+/shop/db: the mount holds something else")
        self.assertRegex(err, r"NOT MOVED  blog/db -> \S+: data.user ")
        self.assertEqual(self.read(self.target, f"{mount}/data/shop/db")["data"], {"user": "other"})
        for value in ("pässword", "***", "1234"):
            self.assertNotIn(value, out + err)

        report = self.report(*words, "-overwrite", "-", stdin=text, code=2)
        self.assertEqual(self.counts(report), [1, 1, 0, 1])
        self.assertEqual(self.read(self.target, f"{mount}/data/shop/db")["metadata"]["version"], 2)
        self.assertEqual(self.read(self.target, f"{mount}/data/shop/db", 1)["data"], {"user": "other"})

    def test_refusals(self):
        for code, message, words, stdin in [
                (1, "-path must have {name}", ["-path=all", "-"], ""),
                (1, "-selector: ", ["-selector=a in (b)", "-"], ""),
                (2, "kind \"Pod\"", ["-"], '{"kind": "Pod"}'),
                (2, "standard input: ", ["-"], "{"),
                (2, "No such file", ["/no/such/file"], ""),
                (2, "kubeconfig", ["-kubeconfig=/no/such/file"], ""),
                (2, "Error looking at the mount", ["-mount=nowhere", "-"], "{}")]:
            with self.subTest(words=words):
                if not any(word.startswith("-mount") for word in words):
                    words = [f"-mount={self.mount(self.target)}", *words]
                _, err = self.coffer("import", "k8s-secrets", *words, stdin=stdin, code=code)
                self.assertIn(message, err)

    # Vault

    def vault(self, source, target, *more, **kwargs):
        return self.report("import", "vault", f"-from-address={self.source.address}",
                           f"-from-mount={source}", f"-mount={target}", *more,
                           COFFER_FROM_TOKEN=self.source.root, **kwargs)

    def put(self, keystore, path, data):
        keystore.must("POST", path, {"data": data}, keystore.root)

    def test_newest(self):
        """the newest versions of a whole tree, with their metadata; deleted ones are left out"""
        source, target = self.mount(self.source), self.mount(self.target)
        root = self.source.root
        for i in (1, 2):
            self.put(self.source, f"{source}/data/web/db", {"n": str(i)})
        self.put(self.source, f"{source}/data/top", {"nested": {"list": [1, 2.5, True, None]}})
        self.put(self.source, f"{source}/data/web/gone", {"x": "y"})
        self.source.must("DELETE", f"{source}/data/web/gone", token=root)
        self.source.must("POST", f"{source}/metadata/web/db", {
            "max_versions": 5, "cas_required": True, "custom_metadata": {"owner": "web"}}, root)
        self.assertEqual(self.counts(self.vault(source, target, "-dry-run")), [2, 0, 1, 0])
        self.assertEqual(self.counts(self.vault(source, target)), [2, 0, 1, 0])
        self.assertEqual(self.read(self.target, f"{target}/data/web/db")["data"], {"n": "2"})
        self.assertEqual(self.read(self.target, f"{target}/data/top")["data"],
                         {"nested": {"list": [1, 2.5, True, None]}})
        metadata = self.target.must("GET", f"{target}/metadata/web/db", token=self.target.root)["data"]
        self.assertEqual([metadata["max_versions"], metadata["cas_required"],
                          metadata["custom_metadata"]], [5, True, {"owner": "web"}])
        self.assertEqual(self.counts(self.vault(source, target)), [0, 2, 1, 0])
        self.put(self.source, f"{source}/data/top", {"changed": "1"})
        self.assertEqual(self.counts(self.vault(source, target, code=2)), [0, 1, 1, 1])
        self.assertEqual(self.counts(self.vault(source, target, "-overwrite")), [1, 1, 1, 0])

    def test_all_versions(self):
        """all versions in their order; a run that was broken off goes on where it ended"""
        source, target = self.mount(self.source), self.mount(self.target)
        for i in range(1, 13):
            self.source.must("POST", f"{source}/metadata/s", {"max_versions": 20}, self.source.root)
            self.put(self.source, f"{source}/data/s", {"n": str(i)})
        # As a run leaves it that ended after three versions.
        for i in range(1, 4):
            self.put(self.target, f"{target}/data/s", {"n": str(i)})
        self.assertEqual(self.counts(self.vault(source, target, "-versions=all")), [1, 0, 0, 0])
        for i in (1, 3, 4, 12):
            self.assertEqual(self.read(self.target, f"{target}/data/s", i)["data"], {"n": str(i)})
        self.assertEqual(self.counts(self.vault(source, target, "-versions=all")), [0, 1, 0, 0])

        self.source.must("POST", f"{source}/destroy/s", {"versions": [2]}, self.source.root)
        self.assertEqual(self.counts(self.vault(source, target, "-versions=all", code=2)), [0, 0, 0, 1])
        fresh = self.mount(self.target)
        report = self.vault(source, fresh, "-versions=all")
        self.assertIn("numbered anew", report["secrets"][0]["reason"])
        self.assertEqual(self.read(self.target, f"{fresh}/data/s", 2)["data"], {"n": "3"})

    @staticmethod
    def rest_of(screen):
        """What a terminal that nobody has open any more still shows; closes it."""
        text = b""
        with contextlib.suppress(OSError):  # EIO: that was all
            while piece := os.read(screen, 4096):
                text += piece
        os.close(screen)
        return text.decode()

    def test_killed_and_told_to_stop(self):
        """killed at any moment, or stopped with a report of what was done: the next run goes on"""
        source = self.mount(self.source)
        for i in range(300):
            self.put(self.source, f"{source}/data/d{i % 7}/s{i}", {"n": str(i)})
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number.name):
                target = self.mount(self.target)
                screen, terminal = os.openpty()
                running = subprocess.Popen(
                    [os.path.join(BIN_DIR, "coffer"), "import", "vault", "-format=json",
                     f"-from-address={self.source.address}", f"-from-mount={source}", f"-mount={target}"],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal, text=True,
                    env={"PATH": "/usr/bin:/bin", "HOME": self.folder, "VAULT_ADDR": self.target.address,
                         "VAULT_TOKEN": self.target.root, "COFFER_FROM_TOKEN": self.source.root})
                os.close(terminal)
                said = ""
                while not re.search(r"[1-9]\d* of 300", said):
                    said += os.read(screen, 4096).decode()
                running.send_signal(number)
                out, _ = running.communicate(timeout=60)
                said += self.rest_of(screen)
                if number == signal.SIGKILL:
                    self.assertEqual((running.returncode, out), (-number, ""))
                else:
                    report = json.loads(out)
                    self.assertEqual((running.returncode, report["complete"]), (2, False))
                    self.assertIn("broken off", said)
                    self.assertLess(0, report["written"])
                    self.assertLess(report["written"], 300)
                    self.assertEqual(len(report["secrets"]), report["written"])
                again = self.vault(source, target)
                self.assertTrue(again["complete"])
                self.assertEqual(again["written"] + again["same"], 300)
                self.assertGreater(again["same"], 0)
                for i in (0, 150, 299):
                    self.assertEqual(self.read(self.target, f"{target}/data/d{i % 7}/s{i}")["data"], {"n": str(i)})

    def test_version_1(self):
        """kv version 1 and 2, either way; one version alone fits into version 1"""
        one, two = self.mount(self.source, "1"), self.mount(self.source)
        self.source.must("POST", f"{one}/a/b", {"k": "v"}, self.source.root)
        self.put(self.source, f"{two}/data/a/b", {"k": "v"})
        self.put(self.source, f"{two}/data/a/b", {"k": "w"})
        for source, version in ((one, "1"), (one, "2"), (two, "1")):
            with self.subTest(source=source, version=version):
                target = self.mount(self.target, version)
                self.assertEqual(self.counts(self.vault(source, target)), [1, 0, 0, 0])
                self.assertEqual(self.counts(self.vault(source, target)), [0, 1, 0, 0])
        target = self.mount(self.target, "1")
        report = self.vault(two, target, "-versions=all", code=2)
        self.assertIn("kv version 1", report["secrets"][0]["reason"])

    def test_prefix_and_refusals(self):
        source, target = self.mount(self.source), self.mount(self.target)
        for path in ("in/a", "in/b/c", "out"):
            self.put(self.source, f"{source}/data/{path}", {"p": path})
        report = self.vault(source, target, "-prefix=in")
        self.assertEqual([item["path"] for item in report["secrets"]],
                         [f"{target}/in/a", f"{target}/in/b/c"])
        for code, message, words in [
                (1, "-from-address is missing", []),
                (1, "no token for the source", [f"-from-address={self.source.address}"]),
                (1, "-versions must be", [f"-from-address={self.source.address}", "-versions=2"])]:
            with self.subTest(words=words):
                self.assertIn(message, self.coffer("import", "vault", *words, code=code)[1])
        _, err = self.coffer("import", "vault", f"-from-address={self.source.address}",
                             f"-mount={target}", code=2, COFFER_FROM_TOKEN="wrong")
        self.assertIn("Error looking at the source", err)
        self.assertNotIn("wrong", err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
