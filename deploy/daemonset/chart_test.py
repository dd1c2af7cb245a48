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
from manifests_test import CHART, HERE, Objects, leaves

HELM = runpy.run_path(os.path.join(HERE, "render"))["helm"]()


def helm(*arguments):
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)


class Rendered(Objects):
    """The objects of `helm template vault` with values given as {"a.b": value}."""

    def __init__(self, values=None, release="vault"):
        arguments = ["template", release, CHART, "-n", "vault", "--kube-version", "1.30.0"]
        for key, value in (values or {}).items():
            arguments += ["--set-json", f"{key}={json.dumps(value)}"]
        done = helm(*arguments)
        if done.returncode:
            raise RuntimeError(done.stderr)
        super().__init__(done.stdout)


def names(entries):
    return {entry["name"] for entry in entries}


def other(rule, value):
    """A value that the schema allows in place of this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        item = rule["items"]
        return value + [{"audience": "other"} if "required" in item else other(item, "") if "pattern" in item else "other"]
    if isinstance(value, dict):
        return {"type": "OnDelete"} if "type" in rule.get("properties", {}) else {"other": "value"}
    strings = rule.get("enum", ["other", "/other", "https://other", ":9999", "7m", "7Gi", "sha256:" + "1" * 64])
    return next(s for s in strings if s != value and re.search(rule.get("pattern", ""), s))


def has_effect(values, plain, name):
    try:
        return Rendered(values).objects != plain
    except RuntimeError as error:
        return name in str(error)


class Chart(unittest.TestCase):
    def test_lint_passes(self):
        done = helm("lint", "--strict", CHART)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_plain_manifests_are_what_the_chart_renders(self):
        done = subprocess.run([os.path.join(HERE, "render"), "--check"], capture_output=True, text=True,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_each_value_has_an_effect(self):
        with open(os.path.join(CHART, "values.yaml"), encoding="utf-8") as file:
            values = yaml.safe_load(file)
        with open(os.path.join(CHART, "values.schema.json"), encoding="utf-8") as file:
            schema = json.load(file)
        on = {name: True for name in (
            "ui.enabled", "server.auditStorage.enabled", "linux.audit.enabled", "serverTelemetry.serviceMonitor.enabled",
            "serverTelemetry.prometheusRules.enabled", "serverTelemetry.grafanaDashboard.enabled")}
        bases = [(base, Rendered(base).objects) for base in (
            on, {"server.dev.enabled": True}, {"global.tlsDisable": False, "server.tlsSecret": "tls"})]
        for path in leaves(values):
            name, rule, value = ".".join(path), schema, values
            for part in path:
                rule, value = rule.get("properties", {}).get(part), value[part]
                if rule is None or value == {} or "properties" not in rule:
                    break
            if rule is None:
                continue  # within a group of Kubernetes'
            with self.subTest(name=name):
                self.assertTrue(any(has_effect({**base, name: other(rule, base.get(name, value))}, plain, path[-1])
                                    for base, plain in bases), f"{name} changes nothing")

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
            "attachRequired": False, "podInfoOnMount": True,
            "volumeLifecycleModes": ["Ephemeral"], "requiresRepublish": True,
            "tokenRequests": [{"audience": ""}]})

    def test_an_audit_of_opens_takes_the_sight_of_processes_and_a_folder(self):
        pod = Rendered({"linux.audit.enabled": True, "linux.audit.directory": "/srv/audit"}).node()
        self.assertIs(pod["hostPID"], True)
        self.assertIn({"name": "audit", "hostPath": {"path": "/srv/audit", "type": "DirectoryOrCreate"}}, pod["volumes"])
        for container in pod["containers"]:
            self.assertIn("--audit-log=/var/log/coffer/audit.log", container["args"])
            self.assertIn("--state-dir=/var/log/coffer", container["args"])
            self.assertIn({"name": "audit", "mountPath": "/var/log/coffer"}, container["volumeMounts"])

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

    def test_synced_secrets_take_a_right_more(self):
        least, more = (Rendered({"syncSecret.enabled": sync}).get("ClusterRole", "vault-csi")["rules"]
                       for sync in (False, True))
        self.assertEqual(more, least + [{"apiGroups": [""], "resources": ["secrets"],
                                         "verbs": ["get", "create", "patch", "delete"]}])

    def test_the_startup_taint_takes_a_right_more(self):
        without, rendered = (Rendered({"linux.startupTaint.enabled": enabled}) for enabled in (False, True))
        least, more = (r.get("ClusterRole", "vault-csi")["rules"] for r in (without, rendered))
        self.assertEqual(more, least + [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]}])
        for pod, asked in ((without.node(), False), (rendered.node(), True)):
            for container in pod["containers"]:
                self.assertEqual("--remove-startup-taint" in container["args"], asked)

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

    def test_an_external_vault_named_as_in_vaults_chart(self):
        rendered = Rendered({"global.externalVaultAddr": "https://vault.example:8200"})
        self.assertNotIn("StatefulSet", rendered.kinds())
        self.assertIn("--vault-addr=https://vault.example:8200", rendered.node()["containers"][0]["args"])
        both = Rendered({"global.externalVaultAddr": "https://a.example", "csi.vaultAddress": "https://b.example"})
        self.assertIn("--vault-addr=https://b.example", both.node()["containers"][0]["args"])

    def test_pull_secrets_by_name_or_reference(self):
        rendered = Rendered({"global.imagePullSecrets": ["a", {"name": "b"}]})
        for pod in (rendered.keystore(), rendered.node(), rendered.keeper()):
            self.assertEqual(pod["imagePullSecrets"], [{"name": "a"}, {"name": "b"}])

    def test_nodes_are_chosen_beside_what_the_image_is_for(self):
        pod = Rendered({"linux.nodeSelector": {"kubernetes.io/arch": "arm64", "disk": "ssd"}}).node()
        self.assertEqual(pod["nodeSelector"], {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64", "disk": "ssd"})

    def test_logs_as_json(self):
        for whose in ({}, {"server.dev.enabled": True}, {"server.standalone.config": 'log_format = "standard"'}):
            keystore = Rendered({"server.logFormat": "json", **whose}).keystore()
            self.assertIn("-log-format=json", keystore["containers"][0]["args"])

    def test_who_reaches_the_keystore(self):
        team = {"namespaceSelector": {"matchLabels": {"team": "a"}}}
        for values, wanted in (
                ({}, [{"namespaceSelector": {}}]),
                ({"server.networkPolicy.from": [team]}, [team, "plugin"]),
                ({"server.networkPolicy.from": [team], "csi.enabled": False}, [team])):
            rendered = Rendered(values)
            peers = rendered.get("NetworkPolicy", "vault")["spec"]["ingress"][0]["from"]
            plugin = {"podSelector": rendered.get("DaemonSet", "vault-csi")["spec"]["selector"]} if "plugin" in wanted else None
            self.assertEqual(peers, [plugin if peer == "plugin" else peer for peer in wanted])

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
            ({"server.standalone.enabled": False}, "server.extraArgs"),
            ({"server.dev.enabled": True, "global.tlsDisable": False}, "has no certificate"),
            ({"server.dev.enabled": True, "serverTelemetry.serviceMonitor.enabled": True}, "without a token"),
            ({"server.standalone.config": 'storage "lmdb" {}', "serverTelemetry.serviceMonitor.enabled": True},
             "unauthenticated_metrics_access"),
            ({"global.externalVaultAddr": "vault.example"}, "externalVaultAddr"),
            ({"global.enabled": True}, "global.enabled"),
            ({"global.tlsDisabel": True}, "global.tlsDisabel"),
        ]
        for values, reason in cases:
            with self.subTest(values=values):
                with self.assertRaisesRegex(RuntimeError, re.escape(reason)):
                    Rendered(values)



if __name__ == "__main__":
    unittest.main(verbosity=2)
