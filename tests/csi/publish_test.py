"""The node plugin as the kubelet uses it: a real keystore, real FUSE mounts. Needs root.

    publish_test.py BIN_DIR
"""

import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import unittest

from node_plugin import Node, WEBAPP_OBJECTS
from coffer_test import eventually

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


class PublishTest(unittest.TestCase):
    def setUp(self):
        self.node = Node(BIN_DIR)
        self.addCleanup(self.node.close)

    def ok(self, answer):
        self.assertEqual(answer[0], "OK", answer)

    def tokens(self):
        """How many tokens the keystore knows."""
        listed = self.node.keystore.must("LIST", "auth/token/accessors", token=self.node.root)
        return len(listed["data"]["keys"])

    def assert_nothing_left(self, target):
        self.assertFalse(os.path.exists(target))
        self.assertTrue(os.path.isdir(os.path.dirname(target)))
        self.assertEqual(self.node.mounts(), [])

    def test_life_of_a_volume(self):
        """published, idempotent, new version seen through ..data, unpublished without a trace"""
        node = self.node
        target = node.target()
        before = self.tokens()
        self.ok(node.publish())
        self.assertEqual(read(target, "username"), "static-user")
        self.assertEqual(read(target, "password"), "password-1")
        self.assertEqual(os.readlink(os.path.join(target, "password")), "..data/password")
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(target, "password")).st_mode), 0o644)
        with self.assertRaises(OSError):
            with open(os.path.join(target, "new"), "w", encoding="utf-8"):
                pass
        data = os.readlink(os.path.join(target, "..data"))
        self.ok(node.publish())
        self.assertEqual(os.readlink(os.path.join(target, "..data")), data)
        self.assertEqual(len(node.mounts()), 1)
        self.assertEqual(self.tokens(), before + 1)  # one login for all of it

        old = open(os.path.join(target, "password"), encoding="utf-8")
        node.put(2)
        self.ok(node.publish())
        self.assertEqual(read(target, "password"), "password-2")
        self.assertNotEqual(os.readlink(os.path.join(target, "..data")), data)
        self.assertEqual(old.read(), "password-1")  # an open file keeps what it opened
        old.close()

        self.ok(node.unpublish())
        self.assert_nothing_left(target)
        self.ok(node.unpublish())
        self.assertTrue(eventually(lambda: self.tokens() == before, 10), "the token is not revoked")

    def test_a_pod_logs_in_once(self):
        """volumes of one pod share a token, which the last one gives back"""
        node = self.node
        first, second = node.target("1"), node.target("2")
        before = self.tokens()
        self.ok(node.publish(first, "csi-1"))
        self.ok(node.publish(second, "csi-2"))
        self.assertEqual(self.tokens(), before + 1)
        self.ok(node.unpublish(first, "csi-1"))
        node.put(2)
        self.ok(node.publish(second, "csi-2"))
        self.assertEqual(read(second, "password"), "password-2")
        self.assertEqual(self.tokens(), before + 1)
        self.ok(node.unpublish(second, "csi-2"))
        self.assertTrue(eventually(lambda: self.tokens() == before, 60), "the token is not revoked")

    def test_batch_tokens(self):
        """a role may give batch tokens, which can't be revoked and needn't be"""
        node = self.node
        node.keystore.must("POST", "auth/kubernetes/role/webapp", {
            "bound_service_account_names": "vault", "bound_service_account_namespaces": "default",
            "token_policies": "webapp", "token_ttl": "1h", "token_type": "batch"}, node.root)
        before = self.tokens()
        self.ok(node.publish())
        node.put(2)
        self.ok(node.publish())
        self.assertEqual(read(node.target(), "password"), "password-2")
        self.assertEqual(self.tokens(), before)
        self.ok(node.unpublish())
        self.assertEqual(node.stop(), 0)
        self.assertNotIn("revoked", node.log_text())

    def test_tokens_in_secrets(self):
        """the tokens may come in the request's secrets, as from Kubernetes 1.35 on"""
        self.ok(self.node.publish(None, "csi-1", "webapp", "--tokens-in-secrets"))
        self.assertEqual(read(self.node.target(), "password"), "password-1")

    def test_unmounted_by_someone_else(self):
        """a volume that someone has unmounted is mounted anew by the next publish"""
        node = self.node
        self.ok(node.publish())
        subprocess.run(["umount", "-l", node.target()], check=True)
        self.ok(node.publish())
        self.assertEqual(read(node.target(), "password"), "password-1")
        self.assertEqual(len(node.mounts()), 1)
        self.ok(node.unpublish())
        self.assert_nothing_left(node.target())

    def test_unpublish_passes_a_hanging_keystore(self):
        """publishes that hang don't keep others from being unpublished, nor the plugin from stopping"""
        node = self.node
        self.ok(node.publish())
        hanging = socket.socket()
        self.addCleanup(hanging.close)
        hanging.bind(("127.0.0.1", 0))
        hanging.listen(64)
        node.write_class("hang", WEBAPP_OBJECTS, address=f"http://127.0.0.1:{hanging.getsockname()[1]}")
        calls = [subprocess.Popen([
            os.path.join(BIN_DIR, "coffer-csi-client"), f"--endpoint=unix://{node.socket}", "publish",
            f"--volume-id=hang-{i}", f"--target={node.target(f'hang-{i}')}", "--class=hang",
            "--service-account=vault", "--audience=vault", f"--token-file={node.token_file}"],
            stdout=subprocess.DEVNULL) for i in range(20)]
        time.sleep(1)
        start = time.time()
        self.ok(node.unpublish())
        self.assertLess(time.time() - start, 2)
        start = time.time()
        node.stop()
        self.assertLess(time.time() - start, 20)
        for call in calls:
            self.assertNotEqual(call.wait(timeout=30), 0)
        self.assertEqual(node.mounts(), [])

    def test_every_kind_of_object(self):
        node = self.node
        node.keystore.must("POST", "secret/data/webapp/blob", {"data": {
            "b64": "aGVsbG8=", "hex": "68656c6c6f", "number": 5, "list": [1, "a"]}}, node.root)
        node.write_class("all", """
- {objectName: whole, secretPath: secret/data/webapp/config}
- {objectName: b64, secretPath: secret/data/webapp/blob, secretKey: b64, encoding: base64}
- {objectName: hex, secretPath: secret/data/webapp/blob, secretKey: hex, encoding: hex}
- {objectName: number, secretPath: secret/data/webapp/blob, secretKey: number}
- {objectName: list, secretPath: secret/data/webapp/blob, secretKey: list}
- {objectName: old, secretPath: "secret/data/webapp/config?version=1", secretKey: password}
- {objectName: private, secretPath: secret/data/webapp/config, secretKey: password, filePermission: 0400}
- {objectName: folder/in/it, secretPath: secret/data/webapp/config, secretKey: password}
""", extra="    someoneElses: parameter\n")
        node.put(2)
        target = node.target()
        self.ok(node.publish(secret_class="all"))
        whole = json.loads(read(target, "whole"))
        self.assertEqual(whole["data"]["data"]["password"], "password-2")
        self.assertEqual(whole["data"]["metadata"]["version"], 2)
        expected = {"b64": "hello", "hex": "hello", "number": "5", "list": '[1,"a"]',
                    "old": "password-1", "private": "password-2", "folder/in/it": "password-2"}
        for name, content in expected.items():
            self.assertEqual(read(target, name), content, name)
        mode = os.stat(os.path.join(target, "private")).st_mode
        self.assertEqual(stat.S_IMODE(mode), 0o400)
        self.assertIn("spec.parameters.someoneElses: unknown, and ignored", node.log_text())
        data = os.readlink(os.path.join(target, "..data"))
        self.ok(node.publish(secret_class="all"))  # another request_id is no new content
        self.assertEqual(os.readlink(os.path.join(target, "..data")), data)

    def test_bad_input(self):
        """the right code, the field or path in the message, and nothing left behind"""
        node = self.node
        target = node.target()
        config = "secret/data/webapp/config"
        classes = {
            "no-key": (f"- {{objectName: a, secretPath: {config}, secretKey: nope}}", {}),
            "no-path": ("- {objectName: a, secretPath: secret/data/webapp/none}", {}),
            "denied": ("- {objectName: a, secretPath: secret/data/other}", {}),
            "slash": (f"- {{objectName: a//b, secretPath: {config}}}", {}),
            "dots": (f"- {{objectName: ../../etc/passwd, secretPath: {config}}}", {}),
            "typo": (f"- {{objectname: a, secretPath: {config}}}", {}),
            "yaml": ("- {", {}),
            "role": (WEBAPP_OBJECTS, {"role": "nobody", "extra": "    vaultRole: webapp\n"}),
            "gone": (WEBAPP_OBJECTS, {"address": "http://127.0.0.1:9"}),
            "text": (WEBAPP_OBJECTS, {"address": "vault"}),
            "audience": (WEBAPP_OBJECTS, {"extra": "    audience: other\n"}),
        }
        for name, (objects, more) in classes.items():
            node.write_class(name, objects, **more)
        os.symlink("/tmp", os.path.join(node.kubelet, "pods", "link"))
        cases = [
            ({"secret_class": "no-key"}, "NOT_FOUND", 'object "a": GET ' + config),
            ({"secret_class": "no-path"}, "NOT_FOUND", "secret/data/webapp/none"),
            ({"secret_class": "denied"}, "PERMISSION_DENIED", "secret/data/other"),
            ({"secret_class": "slash"}, "INVALID_ARGUMENT", "objects[0].objectName: has an empty"),
            ({"secret_class": "dots"}, "INVALID_ARGUMENT", "objects[0].objectName"),
            ({"secret_class": "typo"}, "INVALID_ARGUMENT", "objects[0].objectname: is unknown"),
            ({"secret_class": "yaml"}, "INVALID_ARGUMENT", "objects: line"),
            ({"secret_class": "role"}, None, 'role "nobody"'),
            ({"secret_class": "role"}, None, "(spec.parameters.vaultRole: unknown, and ignored)"),
            ({"secret_class": "gone"}, "UNAVAILABLE", "127.0.0.1:9"),
            ({"secret_class": "text"}, "INVALID_ARGUMENT", "vaultAddress"),
            ({"secret_class": "audience"}, "FAILED_PRECONDITION", 'audience "other"'),
            ({"secret_class": "missing"}, "NOT_FOUND", "SecretProviderClass default/missing"),
            ({"volume": ""}, "INVALID_ARGUMENT", "volume id"),
            ({"volume": "v" * 129}, "INVALID_ARGUMENT", "volume id"),
            ({"target": "relative/mount"}, "INVALID_ARGUMENT", "absolute"),
            ({"target": "/etc/mount"}, "INVALID_ARGUMENT", "kubelet"),
            ({"target": f"{node.kubelet}/pods/../mount"}, "INVALID_ARGUMENT", '".."'),
            ({"target": f"{node.kubelet}/pods/link/mount"}, "INVALID_ARGUMENT", "link"),
            ({"target": f"{node.kubelet}/pods/none/mount"}, "NOT_FOUND", "none/mount"),
        ]
        flags = [
            (["--readonly=false"], "INVALID_ARGUMENT", "readOnly: true"),
            (["--access=block"], "INVALID_ARGUMENT", "mount"),
            (["--access=none"], "INVALID_ARGUMENT", "capability is missing"),
            (["--group=staff"], "INVALID_ARGUMENT", "mount.volume_mount_group"),
            (["--context=secretProviderClass="], "INVALID_ARGUMENT", "secretProviderClass is missing"),
            (["--context=csi.storage.k8s.io/pod.uid="], "INVALID_ARGUMENT", "pod.uid is missing"),
            (["--context=csi.storage.k8s.io/ephemeral=false"], "INVALID_ARGUMENT", "ephemeral"),
            (["--context=csi.storage.k8s.io/serviceAccount.tokens={"], "INVALID_ARGUMENT", "not valid JSON"),
            (["--context=csi.storage.k8s.io/serviceAccount.tokens="], "FAILED_PRECONDITION", "tokenRequests"),
        ]
        before = self.tokens()
        for arguments, code, words in cases:
            with self.subTest(arguments):
                got, message = node.publish(**arguments)
                self.assertIn(got, [code] if code else ["INVALID_ARGUMENT", "PERMISSION_DENIED"])
                self.assertIn(words, message)
                self.assertNotIn("password-1", message)
                self.assert_nothing_left(target)
        for more, code, words in flags:
            with self.subTest(more):
                got, message = node.publish(None, "csi-1", "webapp", *more)
                self.assertEqual(got, code, message)
                self.assertIn(words, message)
                self.assert_nothing_left(target)
        self.assertFalse(os.path.exists("/tmp/mount"))
        self.assertTrue(eventually(lambda: self.tokens() == before, 10), "tokens are left behind")
        log = node.log_text()
        self.assertNotIn("password-1", log)
        self.assertNotIn(read(node.token_file), log)
        self.assertNotIn("hvs.", log)
        self.ok(node.publish())  # the plugin lives on

    def test_bad_tokens(self):
        """a pod that may not is refused, and the error says who asked"""
        node = self.node
        now = int(time.time())
        for token in [
            "not-a-jwt",
            node.signer.token(account="default"),
            node.signer.token(namespace="other"),
            node.signer.token(ttl=-3600),
            node.signer.sign({"sub": "system:serviceaccount:default:vault", "exp": now + 60},
                             header={"alg": "none"}),
        ]:
            node.write_token(token)
            code, message = node.publish()
            self.assertIn(code, ["PERMISSION_DENIED", "INVALID_ARGUMENT"], message)
            self.assertIn("service account default/vault", message)
            self.assertNotIn(token, message)
        self.assert_nothing_left(node.target())

    def test_keystore_sealed_and_gone(self):
        """new pods wait with a retryable error, running pods keep their files, all goes on afterwards"""
        node = self.node
        self.ok(node.publish())
        other = node.target("2")
        node.keystore.must("PUT", "sys/seal", token=node.root)
        code, message = node.publish(other, "csi-2")
        self.assertEqual(code, "UNAVAILABLE", message)
        self.assertFalse(os.path.exists(other))
        self.assertEqual(node.publish()[0], "UNAVAILABLE")
        self.assertEqual(read(node.target(), "password"), "password-1")
        node.keystore.kill()
        code, message = node.publish(other, "csi-2")
        self.assertEqual(code, "UNAVAILABLE", message)
        self.assertIn(node.keystore.address, message)
        self.assertEqual(read(node.target(), "password"), "password-1")
        self.ok(node.unpublish())  # doesn't need the keystore
        self.assertFalse(os.path.exists(node.target()))

        node.keystore.start()
        for share in node.shares[:3]:
            node.keystore.must("PUT", "sys/unseal", {"key": share})
        self.ok(node.publish(other, "csi-2"))
        self.assertEqual(read(other, "password"), "password-1")
        # The token of the volume that went meanwhile is revoked, as soon as that is possible.
        self.assertTrue(eventually(lambda: self.tokens() == 2, 90))  # root's and csi-2's

    def test_restart(self):
        """a plugin that was killed leaves dead mounts, the next one clears them and publishes anew"""
        node = self.node
        self.ok(node.publish())
        read(node.target(), "password")
        os.stat(node.target())
        node.kill()
        with self.assertRaises(OSError):  # nor can the kernel know it
            read(node.target(), "username")
        node.start()
        self.assertEqual(node.mounts(), [])
        self.ok(node.publish())
        self.assertEqual(read(node.target(), "password"), "password-1")
        self.ok(node.unpublish())
        self.assert_nothing_left(node.target())

    def test_restart_between_publish_and_unpublish(self):
        node = self.node
        self.ok(node.publish())
        node.kill()
        node.start()
        self.ok(node.unpublish())
        self.assert_nothing_left(node.target())

    def test_more_volumes_than_descriptors_at_the_start(self):
        """a runtime that allows 64 of them, as others 1,024, sets no limit"""
        node = self.node
        node.kill()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        node.start()
        self.ok(node.call(
            "publish-many", "--count=80", "--parallel=4", f"--target={os.path.dirname(node.target('many'))}",
            "--class=webapp", "--service-account=vault", "--audience=vault", f"--token-file={node.token_file}"))
        self.assertEqual(len(node.mounts()), 80)

    def test_stop(self):
        """SIGTERM: exit code 0, sockets gone, tokens given back"""
        node = self.node
        before = self.tokens()
        self.ok(node.publish())
        self.assertEqual(node.stop(), 0)
        self.assertFalse(os.path.exists(node.socket))
        self.assertFalse(os.path.exists(node.registration))
        self.assertEqual(self.tokens(), before)
        self.assertEqual(len(node.mounts()), 1)  # left to the next one

    def test_missing_folders(self):
        """a folder of the command line that isn't there is told at the start"""
        node = self.node
        node.kill()
        node.flags = lambda: ["--kubelet-root=/nowhere", "--secret-provider-class-dir=/nothing"]
        node.start()
        for words in ("flag=--kubelet-root folder=/nowhere", "flag=--secret-provider-class-dir folder=/nothing"):
            self.assertIn(f"a folder isn't there {words}", node.log_text())

    def test_stop_while_a_call_hangs(self):
        """the same where another call waits for a keystore that doesn't answer"""
        node = self.node
        before = self.tokens()
        self.ok(node.publish())
        with socket.create_server(("127.0.0.1", 0)) as hanging:
            node.write_class("hang", WEBAPP_OBJECTS, address=f"http://127.0.0.1:{hanging.getsockname()[1]}")
            call = threading.Thread(target=node.publish, args=(node.target("2"), "csi-2", "hang"))
            call.start()
            asked, _ = hanging.accept()
            self.assertEqual(node.stop(), 0)
            self.assertEqual(self.tokens(), before)
            asked.close()
        call.join()

    def test_registration_and_sockets(self):
        node = self.node
        code, text = node.call("register", endpoint=node.registration)
        self.assertEqual(code, "OK", text)
        self.assertIn("type: CSIPlugin\nname: secrets-store.csi.k8s.io\n", text)
        self.assertIn(f"endpoint: {node.socket}\nversions: 1.0.0\n", text)
        for path in (node.socket, node.registration):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        code, text = node.call("info")
        self.assertIn("name: secrets-store.csi.k8s.io\n", text)
        self.assertIn("node: node-1\n", text)
        self.assertIn("ready: true", node.call("probe")[1])

    def test_many(self):
        """110 pods at once, without an error; gone again, without a trace"""
        node = self.node
        arguments = ["--count=110", "--parallel=110", f"--target={node.kubelet}/pods", "--class=webapp",
                     "--service-account=vault", "--audience=vault", f"--token-file={node.token_file}"]
        before = self.tokens()
        code, text = node.call("publish-many", *arguments)
        self.assertEqual(code, "OK", text)
        print(text.splitlines()[0])
        self.assertEqual(len(node.mounts()), 110)
        for i in range(110):
            self.assertEqual(read(node.kubelet, "pods", str(i), "mount", "password"), "password-1")
        code, text = node.call("unpublish-many", *arguments)
        self.assertEqual(code, "OK", text)
        self.assertEqual(node.mounts(), [])
        self.assertTrue(eventually(lambda: self.tokens() == before, 10))

    def test_malformed_bytes(self):
        """a socket that is sent rubbish serves on"""
        node = self.node
        for rubbish in [b"\x00" * 100, b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096),
                        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(2000)]:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(node.socket)
                try:
                    connection.sendall(rubbish)
                    connection.settimeout(0.2)
                    connection.recv(1000)
                except OSError:
                    pass
        self.ok(node.publish())

    def test_malformed_messages(self):
        """what comes in a valid gRPC frame and is no message of the call is refused, and the socket serves on"""
        node = self.node
        unreadable = {"12", "13"}  # what gRPC itself answers, by its version: UNIMPLEMENTED, INTERNAL
        incomplete = {"3"}  # INVALID_ARGUMENT
        cases = [
            ("no tag", b"\xff" * 40, unreadable),
            ("a field without its length", b"\x0a", unreadable),
            ("a field longer than the message", b"\x0a\x7fshort", unreadable),
            ("a number without end", b"\x08" + b"\xff" * 10, unreadable),
            ("a group without end", b"\x0b", unreadable),
            ("text that isn't UTF-8", b"\x0a\x02\xff\xfe", unreadable),
            ("nothing", b"", incomplete),
            ("a field that nobody knows", b"\x7a\x03abc", incomplete),
        ]
        frame = os.path.join(node.folder, "frame")
        for call in ("NodePublishVolume", "NodeUnpublishVolume"):
            for name, body, statuses in cases:
                with self.subTest(f"{call}: {name}"):
                    with open(frame, "wb") as file:
                        file.write(b"\0" + len(body).to_bytes(4, "big") + body)
                    run = subprocess.run(
                        ["curl", "-sS", "--max-time", "20", "--http2-prior-knowledge", "--unix-socket", node.socket,
                         "-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", "@" + frame,
                         "-o", os.devnull, "-D", "-", f"http://localhost/csi.v1.Node/{call}"],
                        capture_output=True, text=True, check=False)
                    self.assertIn(re.search(r"(?m)^grpc-status: (\d+)", run.stdout)[1], statuses, run)
        self.assertEqual(node.mounts(), [])
        self.ok(node.publish())


class StartTest(unittest.TestCase):
    """errors at start are one clear line"""

    def run_plugin(self, *arguments):
        return subprocess.run([os.path.join(BIN_DIR, "coffer-csi"), *arguments], capture_output=True,
                              text=True, timeout=20, check=False)

    def test_start_errors(self):
        cases = [
            ([], 2, "--nodeid is missing"),
            (["--nodeid=n", "--what"], 2, "unknown flag --what"),
            (["--nodeid=n", "--endpoint=tcp://x"], 1, "must be unix://"),
            (["--nodeid=n", "--kubeconfig=/nowhere"], 1, "kubeconfig: open /nowhere: No such file"),
            (["--nodeid=n"], 1, "not in a cluster"),
            (["--nodeid=n", "--secret-provider-class-dir=/tmp",
              "--endpoint=unix:///nowhere/csi.sock"], 1, "/nowhere/csi.sock"),
            (["--nodeid=n", "--secret-provider-class-dir=/tmp",
              "--endpoint=unix:///etc/passwd"], 1, "isn't a socket"),
        ]
        for arguments, code, words in cases:
            with self.subTest(arguments):
                run = self.run_plugin(*arguments)
                self.assertEqual(run.returncode, code)
                self.assertIn(words, run.stderr)
                self.assertEqual(len(run.stderr.strip().splitlines()), 1, run.stderr)
        self.assertTrue(os.path.exists("/etc/passwd"))
        self.assertIn("--nodeid", self.run_plugin("--help").stdout)
        self.assertTrue(self.run_plugin("--version").stdout.startswith("coffer-csi "))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    unittest.main(verbosity=2)
