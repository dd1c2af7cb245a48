"""What happens to a running installation: new versions, pods that end, processes that are killed, and the
tutorial's step 15."""

import os
import re
import time

from cluster import NODE
from world import holds, matches, until


def rotation(world):
    world.pod("watcher", arguments=("watch", "/secrets", "password"))
    world.started("watcher")
    world.vault("vault kv put secret/webapp/config username=static-user password=second-password")
    start = time.time()
    until("the new version in both running pods", lambda: world.file("reader", "password") == "second-password"
          and world.file("watcher", "password") == "second-password", 150)
    print(f"    seen after {time.time() - start:.1f} s")
    world.read_without_error("watcher", ["static-password", "second-password"])


def deletion(world):
    mounts = len(world.mounts())
    world.delete_pod("watcher")
    world.delete_pod("reader")
    until("the volumes' mounts gone", lambda: not world.mounts(), 60)
    holds(mounts > 0, "there were no mounts to begin with")
    until("the pods' statuses gone", lambda: not world.statuses(), 60)
    until("the volumes' tokens revoked", lambda: set(
        world.vault("vault list auth/token/accessors").split()) <= world.accessors, 60)
    until("the volumes' folders gone", lambda: not [
        name for _, names, _ in os.walk(world.cluster.kubelet_root) for name in names
        if name == "kubernetes.io~csi"], 60)
    matches("^0 volumes; ", world.exec(keeper(world), "coffer-keeper", "-status", namespace="vault"))


def keeper(world):
    pod, = world.cluster.list("pods", "vault", **{"app.kubernetes.io/component": "keeper"})
    return pod["metadata"]["name"]


def newcomer(world):
    """A pod that starts now gets its secret."""
    world.pod("newcomer")
    world.started("newcomer")
    holds(world.file("newcomer", "password") == world.password, "a pod that starts now has no secret")
    world.delete_pod("newcomer")


def plugin_killed(world):
    world.password = "second-password"
    plugin = world.plugin()
    with world.reading("reader"):
        for _ in range(2):  # whoever serves: after the first kill that is the other container
            until("a plugin that serves", lambda: world.serving() != "", 60)
            world.kill(plugin, world.serving(), "vault")
        world.plugin_ready()
        newcomer(world)
    until("no mount left", lambda: not world.mounts(), 60)


def keeper_killed(world):
    with world.reading("reader"):
        world.kill(keeper(world), "coffer-keeper", "vault")
        until("the volume given to the next keeper", lambda: "\n1 volumes; plugin" in "\n" + world.exec(
            keeper(world), "coffer-keeper", "-status", namespace="vault"), 60)
        world.kill(world.plugin(), world.serving(), "vault")
        world.plugin_ready()
        newcomer(world)


def plugin_deleted(world):
    """No surge here: until the DaemonSet's next pod runs, who asks for what isn't cached waits."""
    with world.reading("reader"):
        gone = world.plugin()
        world.cluster.kubectl("delete", "pod", gone, "-n", "vault", "--wait=false")
        world.pod("waiting")
        until("the next plugin's pod", lambda: world.plugin() not in ("", gone), 120)
        world.plugin_ready()
        world.started("waiting")
        holds(world.file("waiting", "username") == "static-user", "the waiting pod has no secret")
    world.delete_pod("waiting")


def upgraded(world):
    """helm upgrade to another image: the DaemonSet is rolled, the keeper stays; the node's startup taint goes."""
    cluster = world.cluster
    cluster.ctr("image", "tag", "coffer.test/coffer:1", "docker.io/coffer.test/coffer:2")
    cluster.ctr("image", "tag", "coffer.test/coffer:1", "coffer.test/coffer:2")
    before = world.plugin(), keeper(world)
    with world.reading("reader"):
        cluster.kubectl("taint", "node", NODE, "secrets-store.csi.k8s.io/agent-not-ready=:NoSchedule")
        world.helm("upgrade", "vault", world.chart, "-n", "vault", "-f", cluster.path("vault-values.yaml"),
                   "--set", "image.tag=2,linux.startupTaint.enabled=true")
        world.rolled_out("vault-csi")
        world.plugin_ready()
        until("one plugin pod", lambda: len(cluster.list(
            "pods", "vault", **{"app.kubernetes.io/component": "csi"})) == 1, 120)
        holds(world.plugin() != before[0], "the plugin's pod is the old one")
        image = cluster.get("pod", world.plugin(), "vault")["spec"]["containers"][0]["image"]
        holds(image == "coffer.test/coffer:2", f"the plugin runs {image}")
        holds(keeper(world) == before[1], "the keeper was replaced")
        until("the node without its startup taint", lambda: not cluster.get("node", NODE)["spec"].get("taints"), 60)
        newcomer(world)


def kubelet_restarted(world):
    world.pod("steady", arguments=("watch", "/secrets", "password"))
    world.started("steady")
    world.cluster.end("kubelet")
    world.cluster.start_kubelet()
    world.cluster.wait("the node ready", world.cluster.node_ready, 180)
    newcomer(world)
    world.vault("vault kv put secret/webapp/config username=static-user password=third-password")
    world.password = "third-password"
    until("rotation after the kubelet's restart", lambda: world.file("steady", "password") == "third-password", 150)
    holds(world.restarts("steady") == 0, "the running pod was restarted")
    world.read_without_error("steady", ["second-password", "third-password"])


def keystore_killed(world):
    world.kill("vault-0", "coffer-keystore", "vault")
    until("an answer of the keystore", lambda: "Sealed" in world.vault("vault status || true"), 60)
    matches(r"^Sealed +true$", world.vault("vault status", code=2))
    holds(world.file("steady", "password") == "third-password", "a running pod lost its secret with the keystore")
    world.pod("patient")
    print("    " + world.event("patient", "sealed"))
    world.unseal(world.shares[:3])
    world.started("patient", 150)
    holds(world.file("patient", "password") == "third-password", "the pod that waited has no secret")
    world.cluster.wait("the keystore ready", lambda: world.cluster.pod_ready("vault-0", "vault"), 60)
    world.vault(f"vault login {world.admin}")


def housekeeping(world):
    out = world.vault("vault operator rekey -init -key-shares=5 -key-threshold=3")
    nonce = matches(r"^Nonce +(\S+)$", out)[1]
    for share in world.shares[:3]:
        out = world.vault(f"vault operator rekey -nonce={nonce} {share}")
    old, world.shares = world.shares, re.findall(r"^Key \d: (\S+)$", out, re.M)
    holds(len(world.shares) == 5, f"no new shares:\n{out}")
    matches(r"^Key Term +2$", world.vault("vault operator rotate"))

    out = world.vault("vault operator generate-root -init")
    nonce, otp = matches(r"^Nonce +(\S+)$", out)[1], matches(r"^OTP +(\S+)$", out)[1]
    for share in world.shares[:3]:
        out = world.vault(f"vault operator generate-root -nonce={nonce} -", stdin=share)
    encoded = matches(r"^Encoded Token +(\S+)$", out)[1]
    root = world.vault(f"vault operator generate-root -decode={encoded} -otp={otp}").strip()
    matches(r"^policies +\[root\]$", world.vault(f"VAULT_TOKEN={root} vault token lookup"))
    world.vault(f"VAULT_TOKEN={root} vault token revoke -self")

    matches(r"^Success! Vault is sealed\.$", world.vault("vault operator seal"))
    for share in old[:3]:
        world.vault(f"vault operator unseal {share} || true")
    matches(r"^Sealed +true$", world.vault("vault status", code=2))
    matches(r"^Sealed +false$", world.unseal(world.shares[1:4]))
    world.cluster.wait("the keystore ready", lambda: world.cluster.pod_ready("vault-0", "vault"), 60)


def storage(world):
    uid = world.cluster.get("pod", "vault-0", "vault")["metadata"]["uid"]
    return os.path.join(world.cluster.kubelet_root, "pods", uid, "volumes/kubernetes.io~empty-dir/data")


def backup(world):
    """docs/operations.md: mdb_copy of the running keystore opens elsewhere with the same keys."""
    copy = world.cluster.path("backup")
    os.mkdir(copy)
    world.shell(f"mdb_copy -c {storage(world)} {copy}")
    config = world.cluster.write("restored.hcl", f'''storage "lmdb" {{ path = "{copy}" }}
listener "tcp" {{
  address     = "127.0.0.1:8299"
  tls_disable = true
}}
''')
    world.cluster.spawn("restored", os.path.join(world.bin_dir, "coffer-keystore"), f"-config={config}")
    address = {"VAULT_ADDR": "http://127.0.0.1:8299", "VAULT_TOKEN": world.admin}
    until("the restored keystore", lambda: "Sealed" in world.shell("coffer status || true", **address))
    for share in world.shares[2:]:
        world.shell(f"coffer operator unseal {share}", **address)
    holds(world.shell("coffer kv get -field=password secret/webapp/config", **address) == "third-password",
          "the backup has not the newest version")
    world.cluster.end("restored")


def nothing_readable(world):
    data = storage(world)
    words = [b"static-user", b"static-password", b"second-password", b"third-password", b"webapp", b"username", b"hvs.",
             world.shares[0].encode(), world.admin.encode()]
    size = 0
    for folder, _, names in os.walk(data):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                content = file.read()
            size += len(content)
            for word in words:
                holds(word not in content, f"{word!r} is readable in {name}")
    holds(size > 0, f"no storage in {data}")
    for pod in ("vault-0", world.plugin(), keeper(world)):
        logs = world.cluster.kubectl("logs", "-n", "vault", pod, "--all-containers")
        for word in ("static-password", "second-password", "third-password", "hvs.", "eyJ", *world.shares):
            holds(word not in logs, f"the log of {pod} holds {word!r}")


STEPS = [
    ("A new version reaches running pods by the kubelet's republish, in one step", rotation),
    ("Deleted pods leave no mount, no folder, no token", deletion),
    ("The node plugin is killed, and its standby, under a reader; pods start", plugin_killed),
    ("The keeper is killed, then the plugin", keeper_killed),
    ("The plugin's pod is deleted: a pod that starts meanwhile waits and starts", plugin_deleted),
    ("helm upgrade rolls the DaemonSet under a reader", upgraded),
    ("The kubelet is restarted: running pods keep their volumes and get new versions", kubelet_restarted),
    ("The keystore is killed: pods keep their secrets, a new pod waits until it is unsealed", keystore_killed),
    ("15. rekey, rotate, generate-root, seal", housekeeping),
    ("A backup of the running keystore opens elsewhere", backup),
    ("Nothing is readable in the storage, and no secret in the logs", nothing_readable),
]
