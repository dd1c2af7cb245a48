"""The node plugin of a node of a real cluster, of which there is the API server alone; for kube_test.py and the bench."""

import ctypes
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../.."))
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))
from cluster import Cluster, NODE  # noqa: E402
from node_plugin import Node, class_yaml  # noqa: E402

# What the plugin's ClusterRole must grant, and no more.
RULES = [
    {"apiGroups": ["secrets-store.csi.x-k8s.io"], "resources": ["secretproviderclasses"],
     "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["secrets-store.csi.x-k8s.io"], "resources": ["secretproviderclasspodstatuses"],
     "verbs": ["get", "list", "create", "patch", "delete"]},
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
        self.network.start()
        self._start_api_server()
        with open(f"/var/run/netns/{self.network.name}", encoding="utf-8") as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def accounts(self, *names):
        """ServiceAccounts of the namespace default, with the one that a controller would make."""
        self.apply(*({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}}
                     for name in ("default", *names)))

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
            f"--metrics-addr=127.0.0.1:{self.metrics_port}", *self.flags(),
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


def prepare(cluster):
    """CRDs, ServiceAccounts, and the plugin's kubeconfig with its own rights alone."""
    cluster.kubectl("apply", "-f", os.path.join(ROOT, "deploy/daemonset/crds.yaml"))
    cluster.accounts("vault", "plugin")
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


def make_pod(cluster, name, secret_class="webapp"):
    """A pod on the node with a volume of the class, which nobody runs; its uid."""
    cluster.apply({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": NODE, "serviceAccountName": "vault", "automountServiceAccountToken": False,
                 "containers": [{"name": "app", "image": "none"}],
                 "volumes": [{"name": "secrets", "csi": {
                     "driver": "secrets-store.csi.k8s.io", "readOnly": True,
                     "volumeAttributes": {"secretProviderClass": secret_class}}}]}})
    return cluster.get("pod", name)["metadata"]["uid"]
