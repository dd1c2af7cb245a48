"""The node plugin against a real kube-apiserver, with the rights of its own ServiceAccount alone: classes by
watch, tokens by TokenRequest, statuses, Secrets, Events, metrics, and an API server that goes away.

    kube_test.py BIN_DIR TOOLS_DIR     (TOOLS_DIR: what scripts/install --e2e makes; kubernetes/ is of it)
Needs root.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from kube_node import ApiServer, ClusterNode, NODE, make_pod, prepare
from node_plugin import WEBAPP_OBJECTS
from coffer_test import eventually

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"
TOOLS = sys.argv.pop(1) if len(sys.argv) > 1 else ".cache/tools"


class KubeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = ApiServer(os.path.join(tempfile.mkdtemp(prefix="coffer-kube."), "k"), os.path.join(TOOLS, "kubernetes"))
        try:
            prepare(cls.cluster)
            cls.node = ClusterNode(BIN_DIR, cls.cluster)
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        if getattr(cls, "node", None):
            cls.node.close()
        cls.cluster.stop()
        shutil.rmtree(os.path.dirname(cls.cluster.folder), ignore_errors=True)

    def pod(self, name):
        """A pod on the node; its uid."""
        uid = make_pod(self.cluster, name)
        self.addCleanup(self.cluster.kubectl, "delete", "pod", name, "--now", "--wait=false", "--ignore-not-found")
        return uid

    def publish(self, pod, uid, code="OK"):
        answer = self.node.call(
            "publish", f"--volume-id=csi-{pod}", f"--target={self.node.target(uid)}", "--class=webapp",
            f"--pod={pod}", f"--uid={uid}", "--service-account=vault", "--group=2000")
        self.assertEqual(answer[0], code, answer)
        return answer[1]

    def unpublish(self, pod, uid):
        answer = self.node.unpublish(self.node.target(uid), f"csi-{pod}")
        self.assertEqual(answer[0], "OK", answer)

    def eventually(self, check, seconds=60):
        self.assertTrue(eventually(check, seconds), self.node.log_text()[-3000:])

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
            {"mounted": True, "podName": "web-1", "secretProviderClassName": "webapp", "targetPath": target,
             "fsGroup": "2000"})
        self.assertEqual(os.stat(os.path.join(target, "password")).st_gid, 2000)
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

    def test_a_pod_that_is_gone(self):
        """deleted before its publish: no token, nothing left; deleted meanwhile: unpublish and status as ever"""
        uid = self.pod("web-8")
        self.cluster.kubectl("delete", "pod", "web-8", "--grace-period=0", "--force", "--wait=false")
        self.eventually(lambda: not self.cluster.get("pod", "web-8"), 60)
        self.assertIn("TokenRequest API gave none", self.publish("web-8", uid, code="FAILED_PRECONDITION"))
        self.assertFalse(os.path.exists(self.node.target(uid)))
        uid = self.pod("web-9")
        self.publish("web-9", uid)
        self.eventually(lambda: self.status("web-9"), 60)
        self.cluster.kubectl("delete", "pod", "web-9", "--grace-period=0", "--force", "--wait=false")
        self.unpublish("web-9", uid)
        self.eventually(lambda: not self.status("web-9"), 60)
        self.assertFalse(os.path.exists(self.node.target(uid)))
        self.cluster.kubectl("delete", "secret", "copy", "--ignore-not-found")

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

    def test_a_canary_whose_plugin_is_killed_while_the_api_server_is_away(self):
        """the plugin that takes its volume over sends the Event, and the one after that doesn't"""
        keeper_socket = os.path.join(self.node.folder, "keeper", "keeper.sock")
        keeper = subprocess.Popen([os.path.join(BIN_DIR, "coffer-keeper"), f"-socket={keeper_socket}"],
                                  stderr=subprocess.DEVNULL)

        def with_flags(*flags):
            self.node.kill()
            self.node.flags = lambda: list(flags)
            self.node.start()

        with_flags(f"--keeper-socket={keeper_socket}")
        try:
            self.node.write_class("baited", WEBAPP_OBJECTS + "  canary: true\n")
            uid = self.pod("web-10")
            target = self.node.target(uid)
            self.eventually(lambda: self.node.call(
                "publish", "--volume-id=csi-web-10", f"--target={target}", "--class=baited", "--pod=web-10",
                f"--uid={uid}", "--service-account=vault")[0] == "OK")
            start = self.cluster.restart()
            with open(os.path.join(target, "password"), encoding="utf-8") as file:
                self.assertTrue(file.read())
            self.assertIn("a canary secret was opened", self.node.log_text())
            self.node.kill()
            start()
            self.cluster.wait("the API server", lambda: self.cluster._quiet(
                "kubectl", "get", "--raw=/readyz") == "ok", 90)
            told = lambda: [m for m in self.cluster.events("web-10") if "canary" in m]  # noqa: E731
            self.assertEqual(told(), [])
            self.node.start()
            self.eventually(told)
            once = ["the canary file password of SecretProviderClass baited was opened; the node plugin's logs "
                    "say by whom"]
            self.assertEqual(told(), once)
            settled = lambda: "coffer_csi_kubernetes_writes_pending 0\n" in self.node.page("metrics")[1]  # noqa: E731
            self.eventually(settled)
            self.node.kill()
            self.node.start()
            self.eventually(settled)
            self.assertEqual(told(), once)
            self.unpublish("web-10", uid)
            # As after any take-over: the pod owns it, and Kubernetes' garbage collector isn't here.
            self.cluster.kubectl("delete", "secret", "copy", "--ignore-not-found")
        finally:
            with_flags()
            keeper.kill()
            keeper.wait()

    def test_many(self):
        """110 volumes against this API server, one at a time and 16 at a time; what was to be written is"""
        uid = self.pod("web-7")
        self.publish("web-7", uid)
        self.unpublish("web-7", uid)
        for parallel in (1, 16):
            folder = os.path.join(self.node.kubelet, "pods", f"many-{parallel}")
            os.makedirs(folder)
            common = (f"--target={folder}", "--class=webapp", "--pod=web-7", f"--uid={uid}",
                      "--service-account=vault", f"--parallel={parallel}", "--count=110")
            for command in ("publish-many", "unpublish-many"):
                code, text = self.node.call(command, *common)
                self.assertEqual(code, "OK", text)
                result = json.loads(text.splitlines()[0])
                self.assertEqual(result["failed"], 0, text)
                print(f"\n    {command}, {parallel} at a time: {result}", end="", flush=True)
                if command == "publish-many":
                    with open(f"/proc/{self.node.plugin.pid}/status", encoding="utf-8") as file:
                        memory = [line for line in file if line.startswith("VmRSS")][0].split()[1]
                    print(f"\n    {int(memory) / 1024:.1f} MB resident with 110 volumes", end="", flush=True)
        self.eventually(lambda: "coffer_csi_kubernetes_writes_pending 0\n" in self.node.page("metrics")[1], 60)


if __name__ == "__main__":
    unittest.main(verbosity=2)
