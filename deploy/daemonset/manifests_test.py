#!/usr/bin/env python3
"""What holds of the plain manifests, and of the chart's values as they are written: takes PyYAML, and no helm."""

import json
import os
import re
import unittest

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
CHART = os.path.join(HERE, "chart")
OWN = "secrets-store.csi.x-k8s.io"


class Objects:
    """Kubernetes' objects of a YAML text, by kind and name."""

    def __init__(self, text):
        self.objects = [o for o in yaml.safe_load_all(text) if o]

    def kinds(self):
        return sorted({o["kind"] for o in self.objects})

    def get(self, kind, name):
        found = [o for o in self.objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
        if len(found) != 1:
            raise KeyError(f"{kind} {name}: {len(found)} of {[(o['kind'], o['metadata']['name']) for o in self.objects]}")
        return found[0]

    def pod(self, kind, name):
        return self.get(kind, name)["spec"]["template"]["spec"]

    def keystore(self, name="vault"):
        return self.pod("StatefulSet", name)

    def node(self, name="vault-csi"):
        return self.pod("DaemonSet", name)

    def keeper(self):
        return self.pod("DaemonSet", "vault-keeper")

    def config(self):
        return self.get("ConfigMap", "vault-config")["data"]["keystore.hcl"]


def text_of(*path):
    with open(os.path.join(HERE, *path), encoding="utf-8") as file:
        return file.read()


def plain():
    with open(os.path.join(HERE, "kustomization.yaml"), encoding="utf-8") as file:
        names = yaml.safe_load(file)["resources"]
    names += ["monitoring/" + name for name in os.listdir(os.path.join(HERE, "monitoring"))]
    return Objects("---\n".join(text_of(name) for name in names))


PLAIN = plain()


def leaves(values, path=()):
    """Paths of all values that aren't groups of values."""
    if not isinstance(values, dict) or not values:
        return [path]
    return [leaf for key, value in values.items() for leaf in leaves(value, path + (key,))]


class Manifests(unittest.TestCase):
    def test_the_keystore_has_no_rights_on_its_node(self):
        pod = PLAIN.keystore()
        self.assertEqual(pod["securityContext"]["runAsNonRoot"], True)
        self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
        container, = pod["containers"]
        self.assertEqual(container["securityContext"], {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]}})
        for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
            self.assertNotIn(forbidden, pod)
        self.assertFalse([v for v in pod["volumes"] if "hostPath" in v])

    def test_the_node_plugin_has_what_mounting_takes(self):
        pod = PLAIN.node()
        for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
            self.assertNotIn(forbidden, pod)
        self.assertEqual(pod["priorityClassName"], "system-node-critical")
        self.assertEqual(pod["tolerations"], [{"operator": "Exists"}])
        self.assertEqual([c["name"] for c in pod["containers"]], ["coffer-csi", "standby"])
        for container, port in zip(pod["containers"], ("metrics", "standby")):
            self.assertTrue(container["securityContext"]["privileged"])
            self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])
            propagated = {m["mountPath"] for m in container["volumeMounts"] if "mountPropagation" in m}
            self.assertEqual(propagated, {"/var/lib/kubelet/pods"})
            for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
                self.assertEqual(container[probe]["httpGet"], {"path": path, "port": port})

    def test_plugin_and_standby_differ_by_their_metrics_alone(self):
        plugin, standby = PLAIN.node()["containers"]
        self.assertIn("--keeper-socket=/csi/keeper/keeper.sock", plugin["args"])
        self.assertEqual(set(plugin["args"]) ^ set(standby["args"]), {"--metrics-addr=:8095", "--metrics-addr=:8096"})
        for name in ("image", "command", "env", "securityContext", "volumeMounts", "resources"):
            self.assertEqual(plugin[name], standby[name], name)

    def test_no_host_port_keeps_the_next_pod_from_its_node(self):
        for pod in (PLAIN.node(), PLAIN.keeper()):
            for container in pod["containers"]:
                self.assertFalse([p for p in container.get("ports", []) if "hostPort" in p])

    def test_the_keeper(self):
        self.assertEqual(PLAIN.get("DaemonSet", "vault-keeper")["spec"]["updateStrategy"], {"type": "OnDelete"})
        pod = PLAIN.keeper()
        container, = pod["containers"]
        self.assertEqual(container["securityContext"], {
            "runAsUser": 0, "runAsGroup": 0, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]}})
        self.assertIs(pod["automountServiceAccountToken"], False)
        self.assertEqual([v["hostPath"]["path"] for v in pod["volumes"]],
                         ["/var/lib/kubelet/plugins/secrets-store.csi.k8s.io/keeper"])
        self.assertEqual(pod["tolerations"], PLAIN.node()["tolerations"])
        policy = PLAIN.get("NetworkPolicy", "vault-keeper")["spec"]
        self.assertEqual((policy["policyTypes"], policy.get("ingress"), policy.get("egress")),
                         (["Ingress", "Egress"], None, None))

    def test_dashboard_and_alerts_use_metrics_that_exist(self):
        code = ""
        for room in ("csi", "keystore/core", "keystore/system", "keystore/http", "keystore/main"):
            for name in os.listdir(os.path.join(HERE, "../..", room)):
                if name.endswith((".cc", ".h")):
                    with open(os.path.join(HERE, "../..", room, name), encoding="utf-8") as file:
                        code += file.read()
        with open(os.path.join(CHART, "dashboards/coffer.json"), encoding="utf-8") as file:
            text = file.read()
        with open(os.path.join(CHART, "templates/prometheusrule.yaml"), encoding="utf-8") as file:
            text += file.read()
        used = set(re.findall(r"\b(\w+_(?:total|sec)|(?:coffer|vault)_\w+?)(?:_bucket)?\b", text))
        used -= {"kube_pod_container_status_restarts_total"}
        self.assertGreater(len(used), 5)
        for name in used:
            # Vault's names are written as Vault writes them: core.unsealed.
            written = name.removeprefix("vault_").replace("_", ".", 1) if name.startswith("vault_") else name
            self.assertIn(f'"{written}"', code)

    def test_other_vendors_providers(self):
        container = PLAIN.node()["containers"][0]
        self.assertIn("--provider-volume=/providers/0", container["args"])
        self.assertIn("--additional-provider-volume-paths=/providers/1", container["args"])
        paths = {v["name"]: v["hostPath"]["path"] for v in PLAIN.node()["volumes"]}
        self.assertEqual(paths["providers-0"], "/var/run/secrets-store-csi-providers")
        self.assertEqual(paths["providers-1"], "/etc/kubernetes/secrets-store-csi-providers")

    def test_readiness_is_sys_health(self):
        probe = PLAIN.keystore()["containers"][0]["readinessProbe"]["httpGet"]
        self.assertEqual(probe, {"path": "/v1/sys/health?standbyok=true", "port": 8200, "scheme": "HTTP"})

    def test_crds_take_upstream_objects(self):
        with open(os.path.join(CHART, "crds/secrets-store.csi.x-k8s.io.yaml"), encoding="utf-8") as file:
            crds = {c["metadata"]["name"]: c["spec"] for c in yaml.safe_load_all(file)}
        for plural in ("secretproviderclasses", "secretproviderclasspodstatuses"):
            spec = crds[f"{plural}.secrets-store.csi.x-k8s.io"]
            self.assertEqual([(v["name"], v["served"], v["storage"]) for v in spec["versions"]],
                             [("v1", True, True), ("v1alpha1", True, False)])

    def test_rights_at_the_api_server(self):
        rules = PLAIN.get("ClusterRole", "vault-csi")["rules"]
        self.assertEqual({(r["apiGroups"][0], r["resources"][0]): r["verbs"] for r in rules}, {
            (OWN, "secretproviderclasses"): ["get", "list", "watch"],
            (OWN, "secretproviderclasspodstatuses"): ["get", "list", "create", "patch", "delete"],
            ("", "events"): ["create", "patch"]})

    def test_rights_of_users_become_part_of_kubernetes_own_roles(self):
        see = ["get", "list", "watch"]
        for name, resource, verbs, roles in (
                ("secretproviderclasses-admin", "secretproviderclasses",
                 see + ["create", "update", "patch", "delete", "deletecollection"], {"admin", "edit"}),
                ("secretproviderclasses-viewer", "secretproviderclasses", see, {"view"}),
                ("secretproviderclasspodstatuses-viewer", "secretproviderclasspodstatuses", see, {"view"})):
            role = PLAIN.get("ClusterRole", f"vault-{name}-role")
            self.assertEqual(role["rules"], [{"apiGroups": [OWN], "resources": [resource], "verbs": verbs}])
            self.assertEqual({label.rpartition("-")[2] for label in role["metadata"]["labels"] if "aggregate" in label},
                             roles)

    def test_pods_go_where_the_image_runs(self):
        for pod in (PLAIN.keystore(), PLAIN.node(), PLAIN.keeper()):
            self.assertEqual(pod["nodeSelector"], {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"})
        for pod in (PLAIN.node(), PLAIN.keeper()):
            term, = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            self.assertEqual(term["matchExpressions"],
                             [{"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]}])

    def test_what_a_container_said_last_is_seen_by_describe(self):
        for pod in (PLAIN.keystore(), PLAIN.node(), PLAIN.keeper()):
            for container in pod["containers"]:
                self.assertEqual(container["terminationMessagePolicy"], "FallbackToLogsOnError")

    def test_alerts_say_what_to_do(self):
        rules = PLAIN.get("PrometheusRule", "vault")["spec"]["groups"][0]["rules"]
        self.assertGreater(len(rules), 5)
        for rule in rules:
            self.assertTrue(rule["annotations"]["summary"] and rule["annotations"]["description"])


class Values(unittest.TestCase):
    def test_each_value_stands_below_a_comment(self):
        commented = False
        for line in text_of("chart/values.yaml").splitlines():
            commented = bool(line.strip()) and (commented or line.strip().startswith("#"))
            value = re.match(r" *(\w+):", line)
            self.assertTrue(commented or not value or value[1] in ("global", "linux"), f"no comment: {line}")

    def test_the_schema_knows_each_value(self):
        schema = json.loads(text_of("chart/values.schema.json"))
        for path in leaves(yaml.safe_load(text_of("chart/values.yaml"))):
            known = schema
            for name in path:
                if "properties" not in known:
                    break  # a group that Kubernetes knows, such as resources
                self.assertIn(name, known["properties"], ".".join(path))
                known = known["properties"][name]


if __name__ == "__main__":
    unittest.main(verbosity=2)
