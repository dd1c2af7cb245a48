"""Pods that can't start: each says why, on its events, and what to do."""

import os
import shutil
import socket

import moving
from world import DRIVER, matches, until

OTHER_KEY = "- objectName: a\n  secretPath: secret/data/webapp/config\n  secretKey: nothing\n"
OTHER_PATH = "- objectName: a\n  secretPath: secret/data/other\n  secretKey: a\n"
ESCAPE = "- objectName: ../a\n  secretPath: secret/data/webapp/config\n  secretKey: a\n"

# name, parameters of its class (None: no class), account, what the event must say
CASES = [
    ("no-class", None, "vault", r"SecretProviderClass default/no-class.*not found"),
    ("no-role", {"roleName": "nobody"}, "vault", r"no-role.*nobody"),
    ("no-account", {}, "default", r"no-account.*(not authorized|permission denied)"),
    ("no-right", {"objects": OTHER_PATH}, "vault", r"no-right.*secret/data/other.*(permission denied|403)"),
    ("no-key", {"objects": OTHER_KEY}, "vault", r"no-key.*nothing"),
    ("no-audience", {"audience": "elsewhere"}, "vault", r"elsewhere.*tokenRequests"),
    ("other-audience", {"roleName": "narrow"}, "vault", r'other-audience.*"vault".*tokenRequests'),
    ("no-escape", {"objects": ESCAPE}, "vault", r'no-escape.*objectName: .*"\.\." part'),
    ("no-parameter", {"roleNam": "webapp"}, "vault", r"roleNam.*unknown, and ignored"),
    ("no-provider", {"provider": "azure"}, "vault", r"no-provider.*azure.*use vault or coffer"),
    ("no-keystore", {"vaultAddress": "http://127.0.0.1:1"}, "vault", r"no-keystore.*127\.0\.0\.1:1"),
]


def refused(world):
    world.vault("vault write auth/kubernetes/role/narrow bound_service_account_names=vault "
                "bound_service_account_namespaces=default policies=webapp audience=vault")
    for name, parameters, account, _ in CASES:
        if parameters is not None:
            world.secret_class(name, **parameters)
        world.pod(name, secret_class=name, account=account)
    world.pod("no-driver", driver="nothing.example")
    for name, _, _, pattern in [*CASES, ("no-driver", None, None, r"nothing\.example")]:
        print("    " + world.event(name, pattern)[-220:])
    for name in [case[0] for case in CASES] + ["no-driver"]:
        world.cluster.kubectl("delete", "pod", name, "--wait=false")
    for name in [case[0] for case in CASES] + ["no-driver"]:
        until(f"{name} gone", lambda pod=name: not world.cluster.get("pod", pod), 90)


def crds_missing(world):
    folder = os.path.dirname(world.chart)
    world.shell(f"kubectl delete -f {folder}/crds.yaml --wait")
    world.pod("no-crds")
    print("    " + world.event("no-crds", "secretproviderclasses/webapp at https://.*: HTTP 404")[-200:])
    world.shell(f"kubectl apply -f {folder}/crds.yaml")
    world.secret_class("webapp")
    world.started("no-crds", 150)
    world.delete_pod("no-crds")


def kubelet_elsewhere(world):
    """The DaemonSet of a chart with a wrong linux.kubeletRootDir."""
    cluster = world.cluster
    world.install("lost", "--set", ",".join([
        "server.enabled=false,csi.vaultAddress=http://vault.vault:8200,csi.driverName=lost.example",
        "linux.kubeletRootDir=/var/lib/nowhere,image.repository=coffer.test/coffer,image.tag=1",
        f"linux.providersDir={cluster.path('providers')},linux.additionalProvidersDirs=null"]), namespace="default")
    until("the plugin's pod", lambda: world.plugin("lost", "default") != "", 60)
    print("    " + world.event(world.plugin("lost", "default"),
                               r'"kubeletrootdir-\S+ : hostPath type check failed: /var/lib/nowhere/\S+ is not a directory'))
    world.uninstall("lost", "default")
    shutil.rmtree("/var/lib/nowhere", ignore_errors=True)


def kubeconfig_unreadable(world):
    """The plugin's own pod says what it can't read, where `kubectl describe pod` shows it."""
    world.install("blind", "--set", ",".join([
        "server.enabled=false,csi.vaultAddress=http://vault.vault:8200,csi.driverName=blind.example",
        f"linux.kubeletRootDir={world.cluster.kubelet_root},image.repository=coffer.test/coffer,image.tag=1",
        f"linux.providersDir={world.cluster.path('providers')},linux.additionalProvidersDirs=null",
        "linux.extraArgs={--kubeconfig=/csi/nothing.kubeconfig}"]), namespace="default")
    said = []

    def ended():
        pod = world.plugin("blind", "default")
        status = world.cluster.container(pod, "coffer-csi") if pod else {}
        said[:] = [status.get(when, {}).get("terminated", {}).get("message", "") for when in ("state", "lastState")]
        return any(said)
    until("the plugin's last words", ended, 120)
    print("    " + "".join(said).strip()[-260:])
    matches("/csi/nothing.kubeconfig", "".join(said))
    world.uninstall("blind", "default")


def displaced(world):
    """Another driver's registrar takes the name on the node: the plugin isn't ready, and its pod says what to do."""
    cluster, pod = world.cluster, world.plugin()
    folder = os.open(os.path.join(cluster.kubelet_root, "plugins_registry"), os.O_PATH | os.O_DIRECTORY)
    path = f"/proc/self/fd/{folder}/{DRIVER}-reg.sock"
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        print("    " + world.event(pod, "another program has put its socket .* csi.driverName", namespace="vault"))
        until("the plugin not ready", lambda: not cluster.pod_ready(pod, "vault"), 60)
    os.unlink(path)
    os.close(folder)
    world.delete_pod(pod, "vault")
    world.plugin_ready()
    world.pod("found-again")
    world.started("found-again")
    world.delete_pod("found-again")


def twice(world):
    out = world.shell(f"{world.helm_program} install second {world.chart} -n default", code=1)
    matches(r"CSIDriver \"secrets-store\.csi\.k8s\.io\".* exists and cannot be imported", out)
    # An account that can't read classes: what the API server says reaches the pod.
    world.secret_class("unread")  # one that no pod had before: known classes are kept
    world.shell("kubectl delete clusterrolebinding vault-csi")
    world.pod("no-rbac", secret_class="unread")
    print("    " + world.event("no-rbac", r"cannot get resource \\?.secretproviderclasses")[-260:])
    world.delete_pod("no-rbac")


def all_gone(world):
    world.cluster.kubectl("delete", "deployment", "webapp")
    for pod in ("steady", "patient"):
        world.delete_pod(pod)
    until("no mount left", lambda: not world.mounts(), 60)
    world.uninstall("vault")
    until("no program left", lambda: not world.running("coffer-csi", "coffer-keystore", "coffer-keeper"), 60)


STEPS = [
    ("Pods that can't start say why on their events", refused),
    ("No CRDs: the pod says it, and starts when they are there", crds_missing),
    ("A kubelet that lives elsewhere: the plugin's pod says it", kubelet_elsewhere),
    ("A kubeconfig that can't be read: the plugin's pod says it", kubeconfig_unreadable),
    ("Another driver takes the name on the node: the plugin's pod says it", displaced),
    ("A second driver of the same name is refused by helm; a plugin without rights says so", twice),
    ("helm uninstall leaves nothing", all_gone),
    ("In place of the upstream driver: its objects stay, its classes work", moving.upstream_in_place),
]
