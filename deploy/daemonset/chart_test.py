#!/usr/bin/env python3
"""What holds of the chart: real helm renders values into manifests, refuses what makes no sense, and the
plain manifests beside it are what it renders. Takes helm and PyYAML.
"""

import json
import os
import re
import runpy
import subprocess
import unittest

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
CHART = os.path.join(HERE, "chart")
HELM = runpy.run_path(os.path.join(HERE, "render"))["helm"]()


def helm(*arguments):
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)


class Rendered:
    """The objects of `helm template vault` with values given as {"a.b": value}."""

    def __init__(self, values=None, release="vault"):
        arguments = ["template", release, CHART, "-n", "vault", "--kube-version", "1.30.0"]
        for key, value in (values or {}).items():
            arguments += ["--set-json", f"{key}={json.dumps(value)}"]
        done = helm(*arguments)
        if done.returncode:
            raise RuntimeError(done.stderr)
        self.objects = [o for o in yaml.safe_load_all(done.stdout) if o]

    def kinds(self):
        return sorted({o["kind"] for o in self.objects})

    def get(self, kind, name):
        found = [o for o in self.objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
        if len(found) != 1:
            raise KeyError(f"{kind} {name}: {len(found)} of {[(o['kind'], o['metadata']['name']) for o in self.objects]}")
        return found[0]

    def keystore(self, name="vault"):
        return self.get("StatefulSet", name)["spec"]["template"]["spec"]

    def node(self, name="vault-csi"):
        return self.get("DaemonSet", name)["spec"]["template"]["spec"]

    def keeper(self):
        return self.get("DaemonSet", "vault-keeper")["spec"]["template"]["spec"]

    def config(self):
        return self.get("ConfigMap", "vault-config")["data"]["keystore.hcl"]


def names(entries):
    return {entry["name"] for entry in entries}


class Chart(unittest.TestCase):
    def test_lint_passes(self):
        done = helm("lint", "--strict", CHART)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_plain_manifests_are_what_the_chart_renders(self):
        done = subprocess.run([os.path.join(HERE, "render"), "--check"], capture_output=True, text=True,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_each_value_has_a_comment_and_a_place_in_a_template(self):
        with open(os.path.join(CHART, "values.yaml"), encoding="utf-8") as file:
            lines = file.read().splitlines()
        text = ""
        for name in os.listdir(os.path.join(CHART, "templates")):
            with open(os.path.join(CHART, "templates", name), encoding="utf-8") as file:
                text += file.read()
        for number, line in enumerate(lines):
            top = re.match(r"(\w+):", line)
            if not top:
                continue
            self.assertRegex(lines[number - 1] + lines[number + 1], "#", f"{top[1]} has no comment")
            self.assertTrue(re.search(rf"[Vv]alues\.{top[1]}\b", text), f"{top[1]} is used nowhere")

    def test_the_tutorials_values(self):
        with_values = Rendered({"server.dataStorage.enabled": False, "ui.enabled": True})
        pod = with_values.keystore()
        self.assertEqual(with_values.get("StatefulSet", "vault")["spec"]["replicas"], 1)
        self.assertNotIn("volumeClaimTemplates", with_values.get("StatefulSet", "vault")["spec"])
        self.assertIn({"name": "data", "emptyDir": {}}, pod["volumes"])
        self.assertIn("ui = true", with_values.config())
        self.assertEqual(with_values.get("Service", "vault")["spec"]["ports"][0]["port"], 8200)
        self.assertEqual(with_values.get("Service", "vault-internal")["spec"]["clusterIP"], "None")
        with_values.get("Service", "vault-ui")

    def test_defaults(self):
        default = Rendered()
        self.assertEqual(default.kinds(), [
            "CSIDriver", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet", "NetworkPolicy",
            "PodDisruptionBudget", "Service", "ServiceAccount", "StatefulSet"])
        claim, = default.get("StatefulSet", "vault")["spec"]["volumeClaimTemplates"]
        self.assertEqual(claim["spec"]["resources"]["requests"]["storage"], "10Gi")
        driver = default.get("CSIDriver", "secrets-store.csi.k8s.io")["spec"]
        self.assertEqual(driver, {
            "attachRequired": False, "podInfoOnMount": True, "fsGroupPolicy": "None",
            "volumeLifecycleModes": ["Ephemeral"], "requiresRepublish": True,
            "tokenRequests": [{"audience": ""}]})

    def test_the_keystore_has_no_rights_on_its_node(self):
        pod = Rendered().keystore()
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
        pod = Rendered().node()
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
        plugin, standby = Rendered().node()["containers"]
        self.assertIn("--keeper-socket=/csi/keeper/keeper.sock", plugin["args"])
        self.assertEqual(set(plugin["args"]) ^ set(standby["args"]), {"--metrics-addr=:8095", "--metrics-addr=:8096"})
        for name in ("image", "command", "env", "securityContext", "volumeMounts", "resources"):
            self.assertEqual(plugin[name], standby[name], name)

    def test_an_audit_of_opens_takes_the_sight_of_processes_and_a_folder(self):
        pod = Rendered({"linux.audit.enabled": True, "linux.audit.directory": "/srv/audit"}).node()
        self.assertIs(pod["hostPID"], True)
        self.assertIn({"name": "audit", "hostPath": {"path": "/srv/audit", "type": "DirectoryOrCreate"}}, pod["volumes"])
        for container in pod["containers"]:
            self.assertIn("--audit-log=/var/log/coffer/audit.log", container["args"])
            self.assertIn("--state-dir=/var/log/coffer", container["args"])
            self.assertIn({"name": "audit", "mountPath": "/var/log/coffer"}, container["volumeMounts"])

    def test_no_host_port_keeps_the_next_pod_from_its_node(self):
        rendered = Rendered()
        for pod in (rendered.node(), rendered.keeper()):
            for container in pod["containers"]:
                self.assertFalse([p for p in container.get("ports", []) if "hostPort" in p])

    def test_the_keeper(self):
        rendered = Rendered()
        self.assertEqual(rendered.get("DaemonSet", "vault-keeper")["spec"]["updateStrategy"], {"type": "OnDelete"})
        pod = rendered.keeper()
        container, = pod["containers"]
        self.assertEqual(container["securityContext"], {
            "runAsUser": 0, "runAsGroup": 0, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]}})
        self.assertIs(pod["automountServiceAccountToken"], False)
        self.assertEqual([v["hostPath"]["path"] for v in pod["volumes"]],
                         ["/var/lib/kubelet/plugins/secrets-store.csi.k8s.io/keeper"])
        self.assertEqual(pod["tolerations"], rendered.node()["tolerations"])
        policy = rendered.get("NetworkPolicy", "vault-keeper")["spec"]
        self.assertEqual((policy["policyTypes"], policy.get("ingress"), policy.get("egress")),
                         (["Ingress", "Egress"], None, None))

    def test_how_a_new_plugin_comes(self):
        surge = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        own = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
        for values, strategy, containers in (
                ({}, surge, ["coffer-csi", "standby"]),
                ({"linux.standby.enabled": False}, surge, ["coffer-csi"]),
                ({"linux.keeper.enabled": False}, {"type": "OnDelete"}, ["coffer-csi"]),
                ({"linux.keeper.enabled": False, "linux.updateStrategy": own}, own, ["coffer-csi"])):
            with self.subTest(values=values):
                rendered = Rendered(values)
                self.assertEqual(rendered.get("DaemonSet", "vault-csi")["spec"]["updateStrategy"], strategy)
                self.assertEqual([c["name"] for c in rendered.node()["containers"]], containers)
                ports = [p["name"] for p in rendered.get("Service", "vault-csi")["spec"]["ports"]]
                self.assertEqual(len(ports), len(containers))
        without = Rendered({"linux.keeper.enabled": False})
        self.assertFalse([a for a in without.node()["containers"][0]["args"] if "keeper" in a])
        self.assertRaises(KeyError, without.keeper)

    def test_rights_at_the_api_server(self):
        own = "secrets-store.csi.x-k8s.io"
        least = {(own, "secretproviderclasses"): ["get", "list", "watch"],
                 (own, "secretproviderclasspodstatuses"): ["get", "list", "create", "patch", "delete"],
                 ("", "events"): ["create", "patch"]}
        for sync, wanted in ((False, least),
                             (True, {**least, ("", "secrets"): ["get", "create", "patch", "delete"]})):
            rules = Rendered({"syncSecret.enabled": sync}).get("ClusterRole", "vault-csi")["rules"]
            self.assertEqual({(r["apiGroups"][0], r["resources"][0]): r["verbs"] for r in rules}, wanted)

    def test_metrics(self):
        rendered = Rendered({"linux.metricsAddr": ":9000", "serverTelemetry.serviceMonitor.enabled": True,
                             "serverTelemetry.grafanaDashboard.enabled": True})
        self.assertIn("--metrics-addr=:9000", rendered.node()["containers"][0]["args"])
        monitor = rendered.get("ServiceMonitor", "vault-csi")["spec"]
        service = rendered.get("Service", "vault-csi")
        self.assertLessEqual(monitor["selector"]["matchLabels"].items(), service["metadata"]["labels"].items())
        self.assertEqual(service["spec"]["ports"][0]["port"], 9000)
        policy = rendered.get("NetworkPolicy", "vault-csi")["spec"]["ingress"]
        self.assertEqual(policy, [{"ports": [{"port": port, "protocol": "TCP"} for port in (9000, 8096)]}])
        self.assertEqual([endpoint["port"] for endpoint in monitor["endpoints"]],
                         [port["name"] for port in service["spec"]["ports"]])
        dashboard = json.loads(rendered.get("ConfigMap", "vault-dashboard")["data"]["coffer.json"])
        self.assertGreater(len(dashboard["panels"]), 3)

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
        container = Rendered().node()["containers"][0]
        self.assertIn("--provider-volume=/providers/0", container["args"])
        self.assertIn("--additional-provider-volume-paths=/providers/1", container["args"])
        paths = {v["name"]: v["hostPath"]["path"] for v in Rendered().node()["volumes"]}
        self.assertEqual(paths["providers-0"], "/var/run/secrets-store-csi-providers")
        self.assertEqual(paths["providers-1"], "/etc/kubernetes/secrets-store-csi-providers")

    def test_readiness_is_sys_health(self):
        probe = Rendered().keystore()["containers"][0]["readinessProbe"]["httpGet"]
        self.assertEqual(probe, {"path": "/v1/sys/health?standbyok=true", "port": 8200, "scheme": "HTTP"})

    def test_rotation_and_tokens(self):
        for rotation in (True, False):
            driver = Rendered({"enableSecretRotation": rotation}).get("CSIDriver", "secrets-store.csi.k8s.io")
            self.assertEqual(driver["spec"]["requiresRepublish"], rotation)
        requests = [{"audience": "vault"}, {"audience": "other", "expirationSeconds": 900}]
        driver = Rendered({"tokenRequests": requests, "serviceAccountTokenInSecrets": True}).get(
            "CSIDriver", "secrets-store.csi.k8s.io")["spec"]
        self.assertEqual(driver["tokenRequests"], requests)
        self.assertTrue(driver["serviceAccountTokenInSecrets"])

    def test_only_the_node_plugin_beside_an_existing_vault(self):
        rendered = Rendered({"server.enabled": False, "csi.vaultAddress": "https://vault.example:8200",
                             "csi.caSecret": "vault-ca"})
        self.assertEqual(rendered.kinds(), ["CSIDriver", "ClusterRole", "ClusterRoleBinding", "DaemonSet",
                                            "NetworkPolicy", "Service", "ServiceAccount"])
        pod = rendered.node()
        self.assertIn("--vault-addr=https://vault.example:8200", pod["containers"][0]["args"])
        self.assertIn("--vault-tls-ca-cert=/etc/coffer/ca/ca.crt", pod["containers"][0]["args"])
        self.assertIn("ca", names(pod["volumes"]))

    def test_only_the_keystore(self):
        self.assertNotIn("CSIDriver", Rendered({"csi.enabled": False}).kinds())
        self.assertNotIn("DaemonSet", Rendered({"csi.enabled": False}).kinds())

    def test_beside_the_upstream_driver(self):
        rendered = Rendered({"csi.driverName": "coffer.csi.example"})
        rendered.get("CSIDriver", "coffer.csi.example")
        self.assertIn("--driver-name=coffer.csi.example", rendered.node()["containers"][0]["args"])
        self.assertIn("--kubelet-registration-path=/var/lib/kubelet/plugins/coffer.csi.example/csi.sock",
                      rendered.node()["containers"][0]["args"])

    def test_another_kubelet_folder(self):
        pod = Rendered({"linux.kubeletRootDir": "/var/lib/k0s/kubelet/"}).node()
        paths = {v["hostPath"]["path"] for v in pod["volumes"] if not v["name"].startswith("providers-")}
        self.assertEqual(paths, {"/var/lib/k0s/kubelet/plugins/secrets-store.csi.k8s.io",
                                 "/var/lib/k0s/kubelet/plugins_registry", "/var/lib/k0s/kubelet/pods"})
        mounts = {m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
        self.assertIn("/var/lib/k0s/kubelet/pods", mounts)

    def test_tls(self):
        rendered = Rendered({"global.tlsDisable": False, "server.tlsSecret": "vault-tls"})
        self.assertIn('tls_cert_file = "/vault/tls/tls.crt"', rendered.config())
        self.assertNotIn("tls_disable", rendered.config())
        container = rendered.keystore()["containers"][0]
        self.assertEqual(container["readinessProbe"]["httpGet"]["scheme"], "HTTPS")
        self.assertIn({"name": "VAULT_ADDR", "value": "https://127.0.0.1:8200"}, container["env"])
        self.assertIn("--vault-addr=https://vault.vault:8200", rendered.node()["containers"][0]["args"])
        self.assertIn("--vault-tls-ca-cert=/etc/coffer/ca/ca.crt", rendered.node()["containers"][0]["args"])

    def test_own_configuration_and_dev(self):
        own = Rendered({"server.standalone.config": 'storage "lmdb" { path = "{{ .Values.server.dataStorage.mountPath }}" }'})
        self.assertEqual(own.config().strip(), 'storage "lmdb" { path = "/vault/data" }')
        dev = Rendered({"server.dev.enabled": True})
        self.assertIn("-dev", dev.keystore()["containers"][0]["args"])
        self.assertNotIn("ConfigMap", dev.kinds())
        self.assertNotIn("volumeClaimTemplates", dev.get("StatefulSet", "vault")["spec"])

    def test_a_disk_for_audit_devices(self):
        rendered = Rendered({"server.auditStorage.enabled": True, "server.auditStorage.size": "3Gi"})
        data, audit = rendered.get("StatefulSet", "vault")["spec"]["volumeClaimTemplates"]
        self.assertEqual([c["metadata"]["name"] for c in (data, audit)], ["data", "audit"])
        self.assertEqual(audit["spec"]["resources"]["requests"]["storage"], "3Gi")
        self.assertIn({"name": "audit", "mountPath": "/vault/audit"},
                      rendered.keystore()["containers"][0]["volumeMounts"])

    def test_names_follow_the_release(self):
        rendered = Rendered(release="team-a")
        self.assertIn("--vault-addr=http://team-a.vault:8200", rendered.node("team-a-csi")["containers"][0]["args"])
        Rendered({"fullnameOverride": "kept"}).get("StatefulSet", "kept")

    def test_image(self):
        self.assertEqual(Rendered({"image.repository": "r.example/coffer", "image.tag": "7"}).keystore()
                         ["containers"][0]["image"], "r.example/coffer:7")
        digest = "sha256:" + "0" * 64
        self.assertEqual(Rendered({"image.digest": digest}).node()["containers"][0]["image"],
                         "localhost/coffer@" + digest)

    def test_alerts(self):
        rules = Rendered({"serverTelemetry.prometheusRules.enabled": True,
                          "serverTelemetry.prometheusRules.selectors": {"release": "prom"}}).get(
                              "PrometheusRule", "vault")
        self.assertEqual(rules["metadata"]["labels"]["release"], "prom")
        for rule in rules["spec"]["groups"][0]["rules"]:
            self.assertTrue(rule["annotations"]["summary"] and rule["annotations"]["description"])

    def test_selectors_match_pods_and_nothing_else(self):
        rendered = Rendered({"ui.enabled": True})
        pods = {name: rendered.get(kind, name)["spec"]["template"]["metadata"]["labels"]
                for kind, name in (("StatefulSet", "vault"), ("DaemonSet", "vault-csi"), ("DaemonSet", "vault-keeper"))}
        def chosen(selector):
            return {n for n, labels in pods.items() if selector.items() <= labels.items()}
        for name in ("vault", "vault-internal", "vault-ui"):
            self.assertEqual(chosen(rendered.get("Service", name)["spec"]["selector"]), {"vault"})
        for name in ("vault", "vault-csi", "vault-keeper"):
            policy = rendered.get("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"]
            self.assertEqual(chosen(policy), {name})
        budget = rendered.get("PodDisruptionBudget", "vault")["spec"]
        self.assertEqual(chosen(budget["selector"]["matchLabels"]), {"vault"})

    def test_values_that_make_no_sense_are_refused_with_a_reason(self):
        cases = [
            ({"server.dataStorge.enabled": False}, "dataStorge"),
            ({"server.dataStorage.size": "ten"}, "size"),
            ({"server.service.type": "Cluster"}, "type"),
            ({"linux.kubeletRootDir": "var/lib/kubelet"}, "kubeletRootDir"),
            ({"csi.driverName": "9 lives"}, "driverName"),
            ({"rotationPollInterval": "2 minutes"}, "rotationPollInterval"),
            ({"tokenRequests": [{"audiences": ["x"]}]}, "audience"),
            ({"enableSecretRotation": "yes"}, "enableSecretRotation"),
            ({"image.digest": "latest"}, "digest"),
            ({"linux.metricsAddr": "8095"}, "metricsAddr"),
            ({"linux.standby.metricsAddr": ":8095"}, "linux.standby.metricsAddr"),
            ({"linux.keeper.enabled": False, "linux.updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {
                "maxSurge": 1}}}, "linux.keeper.enabled"),
            ({"injector.enabled": True}, "no sidecar injector"),
            ({"global.tlsDisable": False}, "server.tlsSecret"),
            ({"server.enabled": False}, "csi.vaultAddress"),
        ]
        for values, reason in cases:
            with self.subTest(values=values):
                with self.assertRaisesRegex(RuntimeError, re.escape(reason)):
                    Rendered(values)

    def test_crds_take_upstream_objects(self):
        with open(os.path.join(CHART, "crds/secrets-store.csi.x-k8s.io.yaml"), encoding="utf-8") as file:
            crds = {c["metadata"]["name"]: c["spec"] for c in yaml.safe_load_all(file)}
        for plural in ("secretproviderclasses", "secretproviderclasspodstatuses"):
            spec = crds[f"{plural}.secrets-store.csi.x-k8s.io"]
            self.assertEqual([(v["name"], v["served"], v["storage"]) for v in spec["versions"]],
                             [("v1", True, True), ("v1alpha1", True, False)])


if __name__ == "__main__":
    unittest.main(verbosity=2)
