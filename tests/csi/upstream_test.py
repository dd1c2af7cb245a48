"""The upstream Secrets Store CSI driver itself, with Coffer as its provider, on a real kube-apiserver: a cluster that
keeps its driver. Needs root.

    upstream_test.py BIN_DIR TOOLS_DIR     (TOOLS_DIR: what scripts/install --e2e makes; kubernetes/ and upstream/ are of it)
"""

import base64
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import unittest

from kube_node import ApiServer, ClusterNode, NODE, make_pod, prepare
from node_plugin import WEBAPP_OBJECTS
from coffer_test import eventually

BIN_DIR = os.path.abspath(sys.argv.pop(1))
TOOLS = os.path.abspath(sys.argv.pop(1))
DRIVER = "secrets-store.csi.k8s.io"
OBJECTS = WEBAPP_OBJECTS + """
- objectName: all.env
  secretPath: secret/data/webapp/config
  format: env
  path: config/all.env
  filePermission: 0400
"""


class UpstreamNode(ClusterNode):
    """The upstream driver is who is called, and our plugin its provider."""

    def start(self):
        super().start()
        self.driver_socket = os.path.join(self.folder, "driver.sock")
        self.driver_log = os.path.join(self.folder, "driver.log")
        with open(self.driver_log, "wb") as log:
            self.driver = subprocess.Popen([
                os.path.join(TOOLS, "upstream/secrets-store-csi-driver"), f"--endpoint=unix://{self.driver_socket}",
                f"--nodeid={NODE}", f"--provider-volume={self.providers()}", "--metrics-addr=127.0.0.1:18096",
                "--enable-secret-rotation", "--rotation-poll-interval=2s", "-v=5",
            ], stdout=log, stderr=log, env={**os.environ, "KUBECONFIG": self.cluster.kubeconfig})
        end = time.time() + 60
        while not os.path.exists(self.driver_socket) or self.call("probe")[0] != "OK":
            if self.driver.poll() is not None or time.time() > end:
                raise RuntimeError("the upstream driver isn't there:\n" + self.log_text())
            time.sleep(0.1)

    def providers(self):
        return os.path.join(self.folder, "providers")

    def flags(self):
        os.makedirs(self.providers(), exist_ok=True)
        return [f"--provider-socket-dir={self.providers()}"]

    def call(self, command, *arguments, endpoint=None):
        return super().call(command, *arguments, endpoint=endpoint or self.driver_socket)

    def log_text(self):
        with open(self.driver_log, encoding="utf-8", errors="replace") as log:
            return super().log_text()[-3000:] + log.read()[-3000:]

    def target(self, pod="1"):
        folder = os.path.join(self.kubelet, "pods", pod, "volumes/kubernetes.io~csi/secrets")
        os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, "mount")

    def close(self):
        self.driver.terminate()
        self.driver.wait(timeout=30)
        super().close()


class UpstreamTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="coffer-upstream.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.cluster = ApiServer(os.path.join(cls.folder, "k"), os.path.join(TOOLS, "kubernetes"))
        cls.addClassCleanup(cls.cluster.stop)
        prepare(cls.cluster)
        cls.cluster.apply({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": DRIVER},
            "spec": {"podInfoOnMount": True, "attachRequired": False, "volumeLifecycleModes": ["Ephemeral"],
                     "tokenRequests": [{"audience": "vault"}]}})
        cls.node = UpstreamNode(BIN_DIR, cls.cluster)
        cls.addClassCleanup(cls.node.close)

    def publish(self, pod, uid, code="OK", secret_class="webapp"):
        self.node.write_token(self.cluster.kubectl("create", "token", "vault", "--audience=vault").strip())
        answer = self.node.call(
            "publish", f"--volume-id=csi-{pod}", f"--target={self.node.target(uid)}", f"--class={secret_class}",
            f"--pod={pod}", f"--uid={uid}", "--service-account=vault", "--audience=vault",
            f"--token-file={self.node.token_file}")
        self.assertEqual(answer[0], code, f"{answer}\n{self.node.log_text()}")
        return answer[1]

    def eventually(self, check, seconds=60):
        self.assertTrue(eventually(check, seconds), self.node.log_text())

    def test_life_of_a_volume(self):
        """files and their modes, status and Secret as the upstream driver makes them, rotation, the end"""
        self.node.write_class("webapp", OBJECTS)
        uid = make_pod(self.cluster, "web-1")
        self.publish("web-1", uid)
        target = self.node.target(uid)

        def file(name):
            with open(os.path.join(target, name), encoding="utf-8") as opened:
                return opened.read()

        self.assertEqual((file("username"), file("password")), ("static-user", "password-1"))
        self.assertEqual(file("config/all.env"), "password=password-1\nusername=static-user\n")
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(target, "config/all.env")).st_mode), 0o400)
        status = self.cluster.get("secretproviderclasspodstatus", "web-1-default-webapp")["status"]
        self.assertEqual({o["id"] for o in status["objects"]}, {"username", "password", "all.env"})

        def secret():
            value = self.cluster.get("secret", "copy").get("data", {}).get("pw", "")
            return base64.b64decode(value).decode()

        self.eventually(lambda: secret() == "password-1")
        self.node.put(2)
        self.eventually(lambda: file("password") == "password-2")
        self.assertEqual(file("config/all.env"), "password=password-2\nusername=static-user\n")
        self.eventually(lambda: secret() == "password-2")
        answer = self.node.unpublish(target, "csi-web-1")
        self.assertEqual(answer[0], "OK", answer)
        self.assertFalse(os.path.exists(os.path.join(target, "password")))

    def test_refusals(self):
        """the keystore's word for it comes through the upstream driver; nothing is mounted"""
        uid = make_pod(self.cluster, "web-2")
        for name, objects, code, said in (
                ("forbidden", "- {objectName: a, secretPath: secret/data/other, secretKey: k}",
                 "PERMISSION_DENIED", "permission denied"),
                ("once", "- {objectName: a, secretPath: secret/data/webapp/config, secretKey: username, readOnce: true}",
                 "FAILED_PRECONDITION", "let Coffer's driver serve it")):
            with self.subTest(name):
                self.node.write_class(name, objects)
                self.assertIn(said, self.publish("web-2", uid, code, name))
                self.assertEqual(self.node.mounts(), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
