"""What happens to a running installation: new versions, pods that end, processes that are killed, and the
tutorial's step 15."""

import os
import re
import time

from world import holds, matches, until


def rotation(world):
    world.pod("watcher", arguments=("watch", "/secrets", "password"))
    world.started("watcher")
    world.vault("vault kv put secret/webapp/config username=static-user password=second-password")
    start = time.time()
    until("the new version in both running pods", lambda: world.file("reader", "password") == "second-password"
          and world.file("watcher", "password") == "second-password", 150)
    print(f"    seen after {time.time() - start:.1f} s")
    lines = [line.split(" ", 1)[1] for line in
             world.cluster.kubectl("logs", "watcher").splitlines()]
    holds(lines == ["static-password", "second-password"], f"a reader in a loop saw {lines}")


def deletion(world):
    mounts = len(world.mounts())
    world.delete_pod("watcher")
    world.delete_pod("reader")
    until("the volumes' mounts gone", lambda: not world.mounts(), 30)
    holds(mounts > 0, "there were no mounts to begin with")
    until("the pods' statuses gone", lambda: not world.statuses(), 30)
    until("the volumes' tokens revoked", lambda: set(
        world.vault("vault list auth/token/accessors").split()) <= world.accessors, 30)
    until("the volumes' folders gone", lambda: not [
        name for _, names, _ in os.walk(world.cluster.kubelet_root) for name in names
        if name == "kubernetes.io~csi"], 30)


def plugin_killed(world):
    world.pod("survivor")
    world.started("survivor")
    world.kill("coffer-csi", "vault-csi-node-1", "vault")
    world.cluster.wait("the node plugin ready", lambda: world.cluster.pod_ready("vault-csi-node-1", "vault"), 90)
    world.pod("newcomer")
    world.started("newcomer")
    holds(world.file("newcomer", "password") == "second-password", "a pod started after the kill has no secret")
    # Without a keeper of its /dev/fuse descriptors a plugin takes the volumes of running containers
    # with it; the next container of the same pod has them again.
    pids = [pid for pid in world.processes("app") if b"pause" in open(f"/proc/{pid}/cmdline", "rb").read()]
    holds(pids, "no process of the pods")
    until("the volume mounted again on the node", lambda: len(world.mounts()) >= 2, 60)
    before = world.restarts("survivor")
    container = world.cluster.get("pod", "survivor")["status"]["containerStatuses"][0]["containerID"]
    world.cluster.ctr("tasks", "kill", "-s", "SIGKILL", container.removeprefix("containerd://"))
    until("the next container", lambda: world.restarts("survivor") > before, 60)
    world.started("survivor")
    until("the secret in the next container", lambda: world.file("survivor", "password") == "second-password", 30)
    world.delete_pod("survivor")
    world.delete_pod("newcomer")
    until("no mount left", lambda: not world.mounts(), 30)


def plugin_replaced(world):
    """The DaemonSet's pod is deleted and made again, as an upgrade does."""
    world.delete_pod("vault-csi-node-1", "vault")
    until("the plugin gone", lambda: not world.processes("coffer-csi"), 60)
    world.pod("waiting")
    world.event("waiting", r"MountVolume|not found in the list of registered CSI drivers|connection")
    world.cluster.controlled_pod("daemonset", "vault-csi", "vault-csi-node-1", "vault", ["vault.vault"])
    world.started("waiting", 150)
    holds(world.file("waiting", "username") == "static-user", "the waiting pod has no secret")


def kubelet_restarted(world):
    world.pod("steady", arguments=("watch", "/secrets", "password"))
    world.started("steady")
    world.cluster.end("kubelet")
    world.cluster.start_kubelet()
    world.cluster.wait("the node ready", world.cluster._node_ready, 90)  # pylint: disable=protected-access
    world.pod("after")
    world.started("after", 150)
    holds(world.file("after", "password") == "second-password", "a pod started after the kubelet's restart has no secret")
    world.vault("vault kv put secret/webapp/config username=static-user password=third-password")
    until("rotation after the kubelet's restart", lambda: world.file("steady", "password") == "third-password", 150)
    holds(world.restarts("steady") == 0, "the running pod was restarted")
    lines = [line.split(" ", 1)[1] for line in world.cluster.kubectl("logs", "steady").splitlines()]
    holds(lines == ["second-password", "third-password"], f"a reader in a loop saw {lines}")
    for pod in ("after", "waiting"):
        world.delete_pod(pod)


def keystore_killed(world):
    world.kill("coffer-keystore", "vault-0", "vault")
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
    for pod in ("vault-0", "vault-csi-node-1"):
        logs = world.cluster.kubectl("logs", "-n", "vault", pod)
        for word in ("static-password", "second-password", "third-password", "hvs.", "eyJ", *world.shares):
            holds(word not in logs, f"the log of {pod} holds {word!r}")


STEPS = [
    ("A new version reaches running pods by the kubelet's republish, in one step", rotation),
    ("Deleted pods leave no mount, no folder, no token", deletion),
    ("The node plugin is killed: the kubelet starts it again, pods start", plugin_killed),
    ("The node plugin is replaced: a pod that starts meanwhile waits and starts", plugin_replaced),
    ("The kubelet is restarted: running pods keep their volumes and get new versions", kubelet_restarted),
    ("The keystore is killed: pods keep their secrets, a new pod waits until it is unsealed", keystore_killed),
    ("15. rekey, rotate, generate-root, seal", housekeeping),
    ("A backup of the running keystore opens elsewhere", backup),
    ("Nothing is readable in the storage, and no secret in the logs", nothing_readable),
]
