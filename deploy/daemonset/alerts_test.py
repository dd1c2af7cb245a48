#!/usr/bin/env python3
"""When the alerts fire, and when they don't: asked of Prometheus' own rules engine. Takes PyYAML, and promtool
(of Debian's package prometheus) on the PATH."""

import os
import subprocess
import tempfile

import yaml
from manifests_test import PLAIN

NODE = 'kube_daemonset_status_number_unavailable{namespace="vault",daemonset="vault-csi"}'
KEEPER = 'kube_daemonset_status_number_unavailable{namespace="vault",daemonset="vault-keeper"}'
READY = 'kube_statefulset_status_replicas_ready{namespace="vault",statefulset="vault"}'
REQUESTS = 'coffer_keystore_requests_total{namespace="vault",code="%s"}'
UNSEALED = 'vault_core_unsealed{namespace="vault"}'
DISK = 'kubelet_volume_stats_%s_bytes{namespace="vault",persistentvolumeclaim="data-vault-0"}'
PUBLISH = 'node_publish_error_total{pod_namespace="shop",secret_provider_class="web",error_type="ProviderError"}'
ROTATION = 'rotation_reconcile_error_total{pod_namespace="shop",secret_provider_class="web",error_type="X"}'
CANARY = 'coffer_csi_canary_opens_total{pod_namespace="shop",pod_name="a",file="canary"}'
LOST = 'coffer_csi_audit_lines_lost{pod="a"}'
RESTARTS = 'kube_pod_container_status_restarts_total{namespace="vault",container="%s",pod="a"}'

# An alert, series with a value a minute, and the minutes at which it fires and doesn't.
CASES = [
    ("CofferKeystoreSealedOrDown", {READY: "1x10 0x20"}, [20], [10, 12]),
    ("CofferKeystoreErrors", {REQUESTS % "5xx": "0+6x60", REQUESTS % "2xx": "0+60x60", UNSEALED: "1x60"}, [30], [5]),
    ("CofferKeystoreErrors", {REQUESTS % "5xx": "0+1x60", REQUESTS % "2xx": "0+60x60", UNSEALED: "1x60"}, [], [30]),
    ("CofferKeystoreErrors", {REQUESTS % "5xx": "0+60x60", REQUESTS % "2xx": "0+0x60", UNSEALED: "0x60"}, [], [30]),
    ("CofferKeystoreDiskFillsUp", {DISK % "available": "5x60", DISK % "capacity": "100x60"}, [20], [10]),
    ("CofferKeystoreDiskFillsUp", {DISK % "available": "15x60", DISK % "capacity": "100x60"}, [], [50]),
    ("CofferNodePluginMissing", {NODE: "0x5 1x30"}, [20], [5, 12]),
    ("CofferNodePluginMissing", {KEEPER: "1x60"}, [], [50]),
    # The kubelet comes again every two minutes, once it has waited so long.
    ("CofferVolumesFail", {PUBLISH: "1 1 2 2 3 3 4 4 5 5 6 6 7 7 8 8 9 9 10 10 11 11 12 12 13 13 14 14"}, [25], [5]),
    ("CofferVolumesFail", {PUBLISH: "1 2 2x60"}, [], [5, 15, 30]),
    ("CofferRotationFails", {ROTATION: "0+1x120"}, [60], [20]),
    ("CofferRotationFails", {ROTATION: "0 1 2 2x120"}, [], [60]),
    ("CofferCanaryOpened", {CANARY: "_x10 1x200"}, [15, 60], [5, 80]),
    ("CofferCanaryOpened", {CANARY: "_x10 1x100 2x200"}, [15, 115], [5, 90, 190]),
    ("CofferAuditLosesLines", {LOST: "0x10 12x60"}, [12], [5, 40]),
    ("CofferNodePluginRestarts", {RESTARTS % "standby": "0+1x60"}, [20], [0]),
    ("CofferNodePluginRestarts", {RESTARTS % "coffer-csi": "0x10 1x60"}, [], [5, 20, 50]),
    ("CofferKeeperMissing", {KEEPER: "1x60"}, [40], [20]),
]


def main():
    spec = PLAIN.get("PrometheusRule", "vault")["spec"]
    alerts = {rule["alert"] for rule in spec["groups"][0]["rules"]}
    unlisted = alerts ^ {alert for alert, *_ in CASES}
    if unlisted:
        raise SystemExit(f"alerts_test: no case for, or no alert of the name: {sorted(unlisted)}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        rules, test = os.path.join(folder, "rules.yaml"), os.path.join(folder, "test.yaml")
        with open(rules, "w", encoding="utf-8") as file:
            yaml.safe_dump(spec, file)
        for alert, series, fires, silent in CASES:
            for minute in fires + silent:
                # Whether it fires is asked by its number, so that texts needn't be repeated here.
                asked = {"expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                         "eval_time": f"{minute}m",
                         "exp_samples": [{"labels": "{}", "value": int(minute in fires)}]}
                with open(test, "w", encoding="utf-8") as file:
                    yaml.safe_dump({"rule_files": [rules], "evaluation_interval": "1m", "tests": [{
                        "interval": "1m", "promql_expr_test": [asked],
                        "input_series": [{"series": s, "values": v} for s, v in series.items()]}]}, file)
                done = subprocess.run(["promtool", "test", "rules", test], capture_output=True, text=True, check=False)
                if done.returncode:
                    failed += 1
                    print(f"{alert} at minute {minute} of {series}: {'silent' if minute in fires else 'fires'}\n"
                          f"{done.stdout}{done.stderr}")
    print(f"{len(CASES)} cases, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
