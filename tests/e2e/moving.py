"""docs/migrate.md and the plain manifests, tried: Kubernetes Secrets move over, roles are carried across,
and the node plugin runs alone, under its own name, beside a keystore that was there before."""

import base64
import json
import os
import re
import subprocess

from world import DRIVER, holds, matches, until

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
OTHER = "http://127.0.0.1:8300"


def plain_manifests(world):
    """Where nothing is installed: the API server takes each of them, with strict validation."""
    folder = os.path.join(ROOT, "deploy/daemonset")
    out = world.shell(f"kubectl apply -k {folder} --dry-run=server --validate=strict")
    for kind in ("daemonset.apps/vault-csi", "statefulset.apps/vault", "csidriver.storage.k8s.io/",
                 "networkpolicy.networking.k8s.io/vault", "poddisruptionbudget.policy/vault"):
        holds(kind in out, f"{kind} is not among:\n{out}")


def upstream_objects(world):
    """Objects of the driver's v1 and v1alpha1 fit the CRDs, to the last field."""
    name = "secrets-store.csi.x-k8s.io"
    objects = [
        {"apiVersion": f"{name}/{version}", "kind": "SecretProviderClass",
         "metadata": {"name": f"upstream-{version}", "namespace": "default"},
         "spec": {"provider": "azure", "parameters": {"keyvaultName": "k", "objects": "array: []"},
                  "secretObjects": [{"secretName": "s", "type": "Opaque", "labels": {"a": "b"},
                                     "annotations": {"c": "d"}, "data": [{"objectName": "o", "key": "k"}]}]}}
        for version in ("v1", "v1alpha1")]
    objects.append({
        "apiVersion": f"{name}/v1", "kind": "SecretProviderClassPodStatus",
        "metadata": {"name": "pod-ns-class", "namespace": "default"},
        "status": {"podName": "pod", "secretProviderClassName": "class", "mounted": True, "targetPath": "/t",
                   "objects": [{"id": "o", "version": "1"}]}})
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    world.cluster.kubectl("create", "-f", "-", "--dry-run=server", "--validate=strict", input=text)


def restricted(world):
    """The keystore asks for nothing that the strictest Pod Security level forbids; nor do volumes of ours."""
    world.cluster.namespace("strict", "vault")
    world.cluster.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    template = world.cluster.get("statefulset", "vault", "vault")["spec"]["template"]
    keystore = {"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "keystore", "namespace": "strict"}, "spec": template["spec"]}
    careful = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    application = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "namespace": "strict"}, "spec": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "app", "image": "coffer.test/webapp:1", "securityContext": careful}],
        "volumes": [{"name": "s", "csi": {"driver": DRIVER, "readOnly": True,
                                          "volumeAttributes": {"secretProviderClass": "webapp"}}}]}}
    plugin = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plugin", "namespace": "strict"},
              "spec": {**world.cluster.get("daemonset", "vault-csi", "vault")["spec"]["template"]["spec"],
                       "serviceAccountName": "vault", "priorityClassName": ""}}
    for pod in (keystore, application):
        world.cluster.kubectl("create", "-f", "-", "--dry-run=server", input=json.dumps(pod))
    try:  # so that the level is known to be enforced
        world.cluster.kubectl("create", "-f", "-", "--dry-run=server", input=json.dumps(plugin))
    except subprocess.CalledProcessError as refused:
        matches("violates PodSecurity", refused.stderr)
    else:
        holds(False, "a privileged pod passes the level restricted")


def kubernetes_secrets(world):
    """The loop of docs/migrate.md, word for word."""
    with open(os.path.join(ROOT, "docs/migrate.md"), encoding="utf-8") as file:
        loop = re.search(r"^for name in .*?^done$", file.read(), re.M | re.S)[0]
    world.cluster.namespace("shop")
    contents = {"db": {"user": "shop", "password": "pass word\nin two lines"}, "api": {"key": "k=v \"quoted\""}}
    for name, data in contents.items():
        world.cluster.apply({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                             "metadata": {"name": name, "namespace": "shop"},
                             "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}})
    out = world.shell(loop)
    # kubectl exec at times says in between that it discards a message of its web socket.
    said = sorted(line for line in out.splitlines() if line and "websocket.go" not in line)
    holds(said == ["1 secret/api", "1 secret/db"], f"the loop says:\n{out}")
    for name, data in contents.items():
        got = json.loads(world.vault(f"vault kv get -format=json -field=data secret/shop/{name}"))
        holds(got == data, f"secret/shop/{name} is {got}")


def roles(world):
    """A role read from one keystore is written to another as it is."""
    role = json.loads(world.vault("vault read -format=json auth/kubernetes/role/webapp"))["data"]
    world.vault("vault write auth/kubernetes/role/carried -", stdin=json.dumps(role))
    carried = json.loads(world.vault("vault read -format=json auth/kubernetes/role/carried"))["data"]
    # What was given by an old name (ttl, policies) is read by both names, and carried over by one.
    holds(carried.items() <= role.items() and role.keys() - carried.keys() <= {"ttl", "policies"},
          f"{carried} is not {role}")


def beside(world):
    """Only the node plugin, named apart, with a keystore that knows the API server's keys alone."""
    cluster = world.cluster
    cluster.spawn("other-keystore", os.path.join(world.bin_dir, "coffer-keystore"), "-dev",
                  "-dev-root-token-id=root", "-dev-no-store-token", "-dev-listen-address=127.0.0.1:8300")
    other = {"VAULT_ADDR": OTHER, "VAULT_TOKEN": "root"}
    until("the other keystore", lambda: "Sealed" in world.shell("coffer status || true", **other))
    world.shell(f"""coffer kv put secret/other/config password=of-the-other
coffer auth enable kubernetes
coffer write auth/kubernetes/config kubernetes_host=https://10.96.0.1:443 disable_local_ca_jwt=true \
  pem_keys=@{cluster.path("sa.pub")}
coffer policy write other - <<<'path "secret/data/other/config" {{ capabilities = ["read"] }}'
coffer write auth/kubernetes/role/other bound_service_account_names=vault \
  bound_service_account_namespaces=default policies=other audience=vault""", **other)
    cluster.namespace("coffer")
    world.helm("install", "coffer", world.chart, "-n", "coffer", "--set",
               f"server.enabled=false,csi.vaultAddress={OTHER},csi.driverName=coffer.csi.example.com,"
               f"linux.kubeletRootDir={cluster.kubelet_root},image.repository=coffer.test/coffer,image.tag=1,"
               "serviceAccountTokenInSecrets=true,linux.metricsAddr=:8096,linux.additionalProvidersDirs=null,"
               f"linux.providersDir={cluster.path('providers')}",
               "--set-json", 'tokenRequests=[{"audience":""},{"audience":"vault"}]')
    driver = cluster.get("csidriver", "coffer.csi.example.com")["spec"]
    holds(driver.get("serviceAccountTokenInSecrets") is True, f"the API server keeps {driver}")
    cluster.controlled_pod("daemonset", "coffer-csi", "coffer-csi-node-1", "coffer")
    cluster.wait("the second plugin ready", lambda: cluster.pod_ready("coffer-csi-node-1", "coffer"), 90)
    cluster.apply({"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
                   "metadata": {"name": "other", "namespace": "default"},
                   "spec": {"provider": "vault", "parameters": {
                       "roleName": "other", "audience": "vault", "objects":
                       "- objectName: password\n  secretPath: secret/data/other/config\n  secretKey: password\n"}}})
    world.pod("guest", secret_class="other", driver="coffer.csi.example.com")
    world.started("guest", 120)
    holds(world.file("guest", "password") == "of-the-other", "the guest has not the other keystore's secret")
    holds(world.file("steady", "password") == "third-password", "the first driver's pod lost its secret")
    world.delete_pod("guest")
    world.helm("uninstall", "coffer", "-n", "coffer")
    world.delete_pod("coffer-csi-node-1", "coffer")
    cluster.end("other-keystore")


def synced(world):
    """spec.secretObjects: a Kubernetes Secret for as long as a pod has the volume."""
    values = world.cluster.path("vault-values.yaml")
    world.helm("upgrade", "vault", world.chart, "-n", "vault", "-f", values, "--set", "syncSecret.enabled=true")
    world.secret_class("synced")
    world.cluster.kubectl("patch", "secretproviderclass", "synced", "--type=merge", "-p", json.dumps(
        {"spec": {"secretObjects": [{"secretName": "copied", "type": "Opaque",
                                     "data": [{"objectName": "password", "key": "pw"}]}]}}))
    world.pod("syncing", secret_class="synced")
    world.started("syncing")
    until("the Secret", lambda: world.cluster.get("secret", "copied").get("data", {}).get("pw")
          == base64.b64encode(b"third-password").decode(), 60)
    world.delete_pod("syncing")
    until("the Secret gone", lambda: not world.cluster.get("secret", "copied"), 60)


STEPS = [
    ("A copy as a Kubernetes Secret, while a pod has the volume", synced),
    ("The upstream driver's objects pass the CRDs' strict validation", upstream_objects),
    ("The keystore and pods with volumes pass the Pod Security level restricted", restricted),
    ("Kubernetes Secrets move over by the loop in docs/migrate.md", kubernetes_secrets),
    ("A role is carried over", roles),
    ("The node plugin alone, beside another driver and a keystore that was there before", beside),
]
