"""The node plugin against a real kube-apiserver, with the rights of its own ServiceAccount alone: classes by
watch, tokens by TokenRequest, statuses, Secrets, Events, metrics, and an API server that goes away.

    kube_test.py BIN_DIR TOOLS_DIR     (TOOLS_DIR: where kube-apiserver lies; etcd and kubectl are on PATH)
Needs root.
"""

import base64
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../.."))
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))
from cluster import Cluster, NODE, NODE_ADDRESS  # noqa: E402
from node_plugin import Node, WEBAPP_OBJECTS, class_yaml  # noqa: E402

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"
TOOLS = sys.argv.pop(1) if len(sys.argv) > 1 else ".cache/tools/kubernetes"

# What the plugin's ClusterRole must grant, and no more.
RULES = [
    {"apiGroups": ["secrets-store.csi.x-k8s.io"], "resources": ["secretproviderclasses"],
     "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["secrets-store.csi.x-k8s.io"], "resources": ["secretproviderclasspodstatuses"],
     "verbs": ["list", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
]
SECRET_OBJECTS = """  secretObjects:
    - secretName: copy
      type: Opaque
      labels: {team: a}
      annotations: {note: b}
      data: [{objectName: password, key: pw}]
"""


class ApiServer(Cluster):
    """No kubelet, no containers: etcd and kube-apiserver."""

    def _start(self):
        for command in (["netns", "add", self.netns], ["-n", self.netns, "link", "set", "lo", "up"],
                        ["-n", self.netns, "addr", "add", f"{NODE_ADDRESS}/32", "dev", "lo"],
                        ["-n", self.netns, "addr", "add", "10.96.0.1/32", "dev", "lo"]):
            subprocess.run(["ip", *command], check=True, capture_output=True)
        self._start_api_server()
        with open(f"/var/run/netns/{self.netns}", encoding="utf-8") as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def restart(self):
        command = self.processes["kube-apiserver"].args[3:]
        self.end("kube-apiserver")
        return lambda: self.spawn("kube-apiserver", *command)


class ClusterNode(Node):
    """The plugin of a node of that cluster, with a ServiceAccount's kubeconfig."""

    def __init__(self, bin_dir, cluster):
        self.cluster = cluster
        self.metrics_port = 18095
        super().__init__(bin_dir)

    def fill(self):
        with open(self.cluster.path("sa.pub"), encoding="utf-8") as file:
            self.signer.public_key = file.read()
        super().fill()

    def write_class(self, name, objects, **more):
        more.setdefault("address", self.keystore.address)
        text = class_yaml(name, more.pop("address"), objects, **more) + SECRET_OBJECTS
        self.cluster.kubectl("apply", "-f", "-", input=text)

    def start(self):
        self.log = open(self.log_path, "ab")
        self.plugin = subprocess.Popen([
            os.path.join(self.bin_dir, "coffer-csi"), f"--endpoint=unix://{self.socket}",
            f"--nodeid={NODE}", f"--kubelet-root={self.kubelet}", "--log-level=debug",
            f"--kubeconfig={self.cluster.path('plugin.kubeconfig')}",
            f"--metrics-addr=127.0.0.1:{self.metrics_port}",
        ], stdout=self.log, stderr=self.log)
        for _ in range(500):
            if self.plugin.poll() is not None:
                raise RuntimeError("coffer-csi ended:\n" + self.log_text())
            if os.path.exists(self.socket) and self.page("readyz")[0] == 200:
                return
            time.sleep(0.02)
        raise RuntimeError("coffer-csi isn't ready:\n" + self.log_text())

    def page(self, name):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/{name}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


class KubeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = ApiServer(os.path.join(tempfile.mkdtemp(prefix="coffer-kube."), "k"), TOOLS)
        try:
            cls.prepare()
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def prepare(cls):
        cluster = cls.cluster
        cluster.kubectl("apply", "-f", os.path.join(ROOT, "deploy/daemonset/crds.yaml"))
        cluster.namespace("default", "vault", "plugin")
        cluster.apply(
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
             "metadata": {"name": "plugin"}, "rules": RULES},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
             "metadata": {"name": "plugin"},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "plugin"},
             "subjects": [{"kind": "ServiceAccount", "name": "plugin", "namespace": "default"}]})
        token = cluster.kubectl("create", "token", "plugin").strip()
        with open(cluster.path("admin.kubeconfig"), encoding="utf-8") as file:
            config = json.load(file)
        config["users"][0]["user"] = {"token": token}
        cluster.write("plugin.kubeconfig", json.dumps(config))
        cls.node = ClusterNode(BIN_DIR, cluster)

    @classmethod
    def tearDownClass(cls):
        if getattr(cls, "node", None):
            cls.node.close()
        cls.cluster.stop()

    def pod(self, name):
        """A pod on the node; its uid."""
        self.cluster.apply(self.cluster.placed({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"serviceAccountName": "vault", "automountServiceAccountToken": False,
                     "containers": [{"name": "app", "image": "none"}]}}))
        self.addCleanup(self.cluster.kubectl, "delete", "pod", name, "--now", "--wait=false")
        return self.cluster.get("pod", name)["metadata"]["uid"]

    def publish(self, pod, uid, code="OK"):
        answer = self.node.call(
            "publish", f"--volume-id=csi-{pod}", f"--target={self.node.target(uid)}", "--class=webapp",
            f"--pod={pod}", f"--uid={uid}", "--service-account=vault")
        self.assertEqual(answer[0], code, answer)
        return answer[1]

    def unpublish(self, pod, uid):
        answer = self.node.unpublish(self.node.target(uid), f"csi-{pod}")
        self.assertEqual(answer[0], "OK", answer)

    def eventually(self, check, seconds=10):
        end = time.time() + seconds
        while not check():
            self.assertLess(time.time(), end, self.node.log_text()[-3000:])
            time.sleep(0.05)

    def status(self, pod):
        return self.cluster.get("secretproviderclasspodstatus", f"{pod}-default-webapp")

    def secret(self):
        value = self.cluster.get("secret", "copy").get("data", {}).get("pw")
        return value and base64.b64decode(value).decode()

    def test_life_of_a_volume_as_the_cluster_sees_it(self):
        """status, Secret, Events, metrics: made, rotated, gone; the pod's token from TokenRequest"""
        uid, other = self.pod("web-1"), self.pod("web-2")
        self.node.put(1)
        self.publish("web-1", uid)
        self.publish("web-2", other)
        target = self.node.target(uid)
        with open(os.path.join(target, "password"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "password-1")
        self.eventually(lambda: self.status("web-1") and self.secret() == "password-1")
        status = self.status("web-1")
        self.assertEqual(status["metadata"]["labels"],
                         {"internal.secrets-store.csi.k8s.io/node-name": NODE})
        self.assertEqual(status["metadata"]["ownerReferences"],
                         [{"apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": uid}])
        self.assertEqual(
            {key: value for key, value in status["status"].items() if key != "objects"},
            {"mounted": True, "podName": "web-1", "secretProviderClassName": "webapp", "targetPath": target})
        before = {o["id"]: o["version"] for o in status["status"]["objects"]}
        self.assertEqual(set(before), {"username", "password"})
        self.eventually(lambda: len(self.cluster.get("secret", "copy")["metadata"]["ownerReferences"]) == 2)
        metadata = self.cluster.get("secret", "copy")["metadata"]
        self.assertEqual(metadata["labels"], {"team": "a", "secrets-store.csi.k8s.io/managed": "true"})
        self.assertEqual(metadata["annotations"], {"note": "b"})

        self.node.put(2)
        self.publish("web-1", uid)
        self.publish("web-2", other)
        self.eventually(lambda: self.secret() == "password-2")
        self.eventually(lambda: {o["id"]: o["version"] for o in self.status("web-1")["status"]["objects"]}
                        != before)
        self.eventually(lambda: any("has new content" in m for m in self.cluster.events("web-1")))
        text = self.node.page("metrics")[1]
        labels = 'os_type="linux",pod_name="web-1",pod_namespace="default",provider="vault",'
        name = 'secret_provider_class="webapp"'
        self.assertIn(f"node_publish_total{{{labels}{name}}} 1\n", text)
        self.assertIn(f'rotation_reconcile_total{{{labels}rotated="true",{name}}} 1\n', text)
        self.assertIn("sync_k8s_secret_total{", text)
        self.assertIn("coffer_csi_volumes 2\n", text)

        self.unpublish("web-1", uid)
        self.eventually(lambda: not self.status("web-1"))
        self.assertEqual(self.secret(), "password-2")
        self.unpublish("web-2", other)
        self.eventually(lambda: not self.status("web-2") and not self.cluster.get("secret", "copy"))

    def test_a_rotation_that_fails_is_told_of(self):
        """old content, an Event with the keystore's word, a metric"""
        uid = self.pod("web-3")
        self.publish("web-3", uid)
        self.node.keystore.must("DELETE", "sys/policies/acl/webapp", token=self.node.root)
        try:
            for _ in range(3):
                self.publish("web-3", uid, code="PERMISSION_DENIED")
        finally:
            self.node.fill_policy()
        self.eventually(lambda: any("keeps its old content" in m and "permission denied" in m
                                    for m in self.cluster.events("web-3")))
        self.assertIn('rotation_reconcile_error_total{error_type="FailedToRotate"', self.node.page("metrics")[1])
        self.unpublish("web-3", uid)

    def test_changes_of_a_class_are_seen_by_watch(self):
        """a class that is changed or deleted counts at once, without a GET at each publish"""
        uid = self.pod("web-4")
        self.publish("web-4", uid)
        self.node.write_class("webapp", WEBAPP_OBJECTS.replace("objectName: password", "objectName: pass"))
        target = self.node.target(uid)
        try:
            self.eventually(lambda: self.publish("web-4", uid) and
                            os.path.exists(os.path.join(target, "pass")))
            # The class no longer has the file that its Secret is of: an Event says so.
            self.eventually(lambda: any('"password" is no file' in m for m in self.cluster.events("web-4")))
        finally:
            self.node.write_class("webapp", WEBAPP_OBJECTS)
        self.eventually(lambda: self.publish("web-4", uid) and
                        os.path.exists(os.path.join(target, "password")))
        self.unpublish("web-4", uid)

    def test_without_the_api_server(self):
        """known classes are published, unpublishing works, what was to be written follows"""
        uid = self.pod("web-5")
        self.publish("web-5", uid)
        self.eventually(lambda: self.status("web-5"))
        start = self.cluster.restart()
        self.node.put(3)
        self.publish("web-5", uid)
        with open(os.path.join(self.node.target(uid), "password"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "password-3")
        self.assertEqual(self.node.page("readyz")[0], 200)
        self.unpublish("web-5", uid)
        start()
        self.cluster.wait("the API server", lambda: self.cluster._quiet(
            "kubectl", "get", "--raw=/readyz") == "ok", 90)
        self.eventually(lambda: not self.status("web-5"), 60)
        self.eventually(lambda: not self.cluster.get("secret", "copy"), 60)

    def test_what_a_killed_plugin_left_is_cleaned_up(self):
        """the status of a volume that is gone is deleted when the plugin starts"""
        uid = self.pod("web-6")
        self.publish("web-6", uid)
        self.eventually(lambda: self.status("web-6"))
        self.node.kill()
        subprocess.run(["umount", "-l", self.node.target(uid)], check=True)
        os.rmdir(self.node.target(uid))
        self.node.start()
        self.eventually(lambda: not self.status("web-6"))
        # The pod still owns the Secret; Kubernetes' garbage collector, which isn't here, would see to it.
        self.cluster.kubectl("delete", "secret", "copy")

    def test_speed(self):
        """110 volumes against this API server, one at a time and 16 at a time; nothing waits for writes"""
        uid = self.pod("web-7")
        self.publish("web-7", uid)
        self.unpublish("web-7", uid)
        for parallel in (1, 16):
            folder = os.path.join(self.node.kubelet, "pods", f"many-{parallel}")
            os.makedirs(folder)
            common = (f"--target={folder}", "--class=webapp", "--pod=web-7", f"--uid={uid}",
                      "--service-account=vault", f"--parallel={parallel}", "--count=110")
            medians = []
            for command in ("publish-many", "unpublish-many"):
                code, text = self.node.call(command, *common)
                self.assertEqual(code, "OK", text)
                result = json.loads(text.splitlines()[0])
                medians.append(result["median_us"])
                print(f"\n    {command}, {parallel} at a time: {result}", end="", flush=True)
                if command == "publish-many":
                    with open(f"/proc/{self.node.plugin.pid}/status", encoding="utf-8") as file:
                        memory = [line for line in file if line.startswith("VmRSS")][0].split()[1]
                    print(f"\n    {int(memory) / 1024:.1f} MB resident with 110 volumes", end="", flush=True)
            self.assertLess(max(medians), 100_000)  # two orders of magnitude more than on a quiet machine
        self.eventually(lambda: "coffer_csi_kubernetes_writes_pending 0\n" in self.node.page("metrics")[1], 60)


if __name__ == "__main__":
    unittest.main(verbosity=2)
