"""HashiCorp's Vault with a real kube-apiserver: pods log in by the kubernetes method, whose TokenReview Vault asks of
that API server. Real plugin, real mounts. Needs root.

    kube_vault_test.py BIN_DIR TOOLS_DIR     (TOOLS_DIR: what scripts/install --e2e makes; kubernetes/ and vault/ are of it)
"""

import json
import os
import shutil
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "csi"))
from kube_node import ApiServer, ClusterNode, make_pod, prepare  # noqa: E402
from node_plugin import POLICY, WEBAPP_OBJECTS  # noqa: E402
from real_vault import RealVault  # noqa: E402
from coffer_test import eventually  # noqa: E402

BIN_DIR = os.path.abspath(sys.argv.pop(1))
TOOLS = os.path.abspath(sys.argv.pop(1))


class VaultNode(ClusterNode):
    def make_keystore(self, storage):
        return RealVault(os.path.join(TOOLS, "vault"))

    def fill(self):
        cluster, keystore = self.cluster, self.keystore
        cluster.accounts("reviewer")
        cluster.apply({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "reviewer"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [{"kind": "ServiceAccount", "name": "reviewer", "namespace": "default"}]})
        with open(cluster.path("admin.kubeconfig"), encoding="utf-8") as file:
            host = json.load(file)["clusters"][0]["cluster"]["server"]
        with open(cluster.path("ca.crt"), encoding="utf-8") as file:
            authority = file.read()
        self.shares, self.root = keystore.initialize()
        keystore.add_plugins(self.root)

        def must(path, body):
            keystore.must("POST", path, body, self.root)

        must("sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        must("sys/policies/acl/webapp", {"policy": POLICY})
        must("sys/auth/kubernetes", {"type": "kubernetes"})
        must("auth/kubernetes/config", {
            "kubernetes_host": host, "kubernetes_ca_cert": authority,
            "token_reviewer_jwt": cluster.kubectl("create", "token", "reviewer").strip()})
        for role, account in (("webapp", "vault"), ("other", "other")):
            must(f"auth/kubernetes/role/{role}", {
                "bound_service_account_names": account, "bound_service_account_namespaces": "default",
                "token_policies": "webapp", "token_ttl": "1h"})
        self.put(1)


class KubernetesAuth(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="coffer-kube-vault.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.cluster = ApiServer(os.path.join(cls.folder, "k"), os.path.join(TOOLS, "kubernetes"))
        cls.addClassCleanup(cls.cluster.stop)
        prepare(cls.cluster)
        cls.node = VaultNode(BIN_DIR, cls.cluster)
        cls.addClassCleanup(cls.node.close)

    def publish(self, pod, uid, code="OK", secret_class="webapp"):
        answer = self.node.call("publish", f"--volume-id={pod}", f"--target={self.node.target(uid)}",
                                f"--class={secret_class}", f"--pod={pod}", f"--uid={uid}", "--service-account=vault")
        self.assertEqual(answer[0], code, answer)
        return answer[1]

    def logged_in(self):
        """How many tokens pods have."""
        keystore, root = self.node.keystore, self.node.root
        accessors = keystore.must("LIST", "auth/token/accessors", token=root)["data"]["keys"]
        lookups = [keystore.request("POST", "auth/token/lookup-accessor", {"accessor": one}, root) for one in accessors]
        return sum(status == 200 and answer["data"]["path"] == "auth/kubernetes/login" for status, answer in lookups)

    def eventually(self, check, seconds=30):
        self.assertTrue(eventually(check, seconds), self.node.log_text()[-3000:])

    def test_a_volume(self):
        """the pod's token, reviewed by the API server, opens its secrets; new versions are seen; the login ends"""
        uid = make_pod(self.cluster, "web-1")
        self.publish("web-1", uid)
        path = os.path.join(self.node.target(uid), "password")
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "password-1")
        self.node.put(2)
        self.publish("web-1", uid)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "password-2")
        self.assertEqual(self.logged_in(), 1)
        answer = self.node.unpublish(self.node.target(uid), "web-1")
        self.assertEqual(answer[0], "OK", answer)
        self.eventually(lambda: self.logged_in() == 0)

    def test_refusals(self):
        """a role of another ServiceAccount, and Vault's word for it"""
        uid = make_pod(self.cluster, "web-2")
        self.node.write_class("other", WEBAPP_OBJECTS, role="other")
        self.assertIn("service account name not authorized", self.publish("web-2", uid, "PERMISSION_DENIED", "other"))
        self.assertFalse(os.path.exists(self.node.target(uid)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
