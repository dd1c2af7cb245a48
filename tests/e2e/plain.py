"""The plain manifests, applied as they are but for where this cluster's kubelet lives."""

import os
import re

from world import holds, matches, until

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy/daemonset")


def installed(world):
    cluster = world.cluster
    text = cluster.kubectl("kustomize", FOLDER)
    cluster.ctr("image", "tag", "coffer.test/coffer:1", re.search(r"image: (\S+)", text)[1])
    for path, here in (("/var/lib/kubelet", cluster.kubelet_root),
                       ("/var/run/secrets-store-csi-providers", cluster.path("providers")),
                       ("/etc/kubernetes/secrets-store-csi-providers", cluster.path("more-providers"))):
        holds(path in text, f"{path} is not in the manifests")
        text = text.replace(path, here)
    data = cluster.path("data")
    os.mkdir(data)
    os.chown(data, 100, 1000)
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "data"}, "spec": {
        "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": data},
        "claimRef": {"namespace": "vault", "name": "data-vault-0"}}})
    cluster.kubectl("apply", "--validate=strict", "-f", cluster.write("plain.yaml", text))
    cluster.publish_names()
    world.rolled_out("vault-csi")
    cluster.kubectl("wait", "pods", "-n", "vault", "-l", "app.kubernetes.io/component=keeper", "--for=condition=Ready",
                    "--timeout=120s")
    cluster.wait("the keystore running", lambda: cluster.get("pod", "vault-0", "vault")
                 .get("status", {}).get("phase") == "Running", 180)
    until("an answer of the keystore", lambda: "Initialized" in world.vault("vault status || true"))


def served(world):
    out = world.vault("vault operator init -key-shares=1 -key-threshold=1")
    key, token = matches(r"^Unseal Key 1: (\S+)$", out)[1], matches(r"^Initial Root Token: (\S+)$", out)[1]
    world.vault(f"vault operator unseal {key}")
    world.cluster.wait("the keystore ready", lambda: world.cluster.pod_ready("vault-0", "vault"), 60)
    world.vault(f"""export VAULT_TOKEN={token}
vault secrets enable -path=secret kv-v2
vault kv put secret/webapp/config username=static-user password=of-plain-manifests
vault auth enable kubernetes
vault write auth/kubernetes/config kubernetes_host="https://$KUBERNETES_PORT_443_TCP_ADDR:443"
echo 'path "secret/data/webapp/config" {{ capabilities = ["read"] }}' | vault policy write webapp -
vault write auth/kubernetes/role/webapp bound_service_account_names=vault \\
  bound_service_account_namespaces=default policies=webapp""")
    world.secret_class("plain")
    world.pod("plain", secret_class="plain")
    world.started("plain")
    holds(world.file("plain", "password") == "of-plain-manifests", "the pod has no secret")
    world.delete_pod("plain")
    until("no mount left", lambda: not world.mounts(), 60)


def deleted(world):
    cluster = world.cluster
    cluster.kubectl("delete", "statefulsets,daemonsets", "-n", "vault", "--all", "--cascade=foreground", "--timeout=120s")
    cluster.kubectl("delete", "-f", cluster.path("plain.yaml"), "--ignore-not-found", "--wait",
                    "--timeout=180s")
    until("no program left", lambda: not world.running("coffer-csi", "coffer-keystore", "coffer-keeper"), 60)
    left = [line for line in cluster.kubectl("get", "crd,clusterrole,clusterrolebinding,csidriver,namespace", "-o",
                                             "name").splitlines() if re.search("secrets-store|/vault", line)]
    holds(not left, f"left behind: {left}")


STEPS = [
    ("Plain manifests: kubectl apply -k, strictly validated; all of it runs", installed),
    ("Plain manifests: a pod has its secret", served),
    ("Plain manifests: deleted, nothing is left", deleted),
]
