"""Steps 1 to 15 of the tutorial, by `kubectl exec` with the server's own binary."""


from world import holds, matches, until

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
METADATA = (r"====== Secret Path ======\nsecret/data/webapp/config\n\n======= Metadata =======\n"
            r"Key                Value\n---                -----\n" rf"created_time       {TIME}\n"
            r"custom_metadata    <nil>\ndeletion_time      n/a\ndestroyed          false\nversion            1\n")


def install(world):
    cluster = world.cluster
    holds("dataStorage" in world.helm("show", "values", world.chart), "helm show values lacks dataStorage")
    values = cluster.write("vault-values.yaml", f"""server:
  dataStorage:
    enabled: false
ui:
  enabled: true
rotationPollInterval: 15s
# The test's own: where this cluster's kubelet lives, and the image on its node.
linux:
  kubeletRootDir: {cluster.kubelet_root}
  providersDir: {cluster.path("providers")}
  additionalProvidersDirs: []
image:
  repository: coffer.test/coffer
  tag: "1"
  pullPolicy: Never
""")
    cluster.namespace("vault")
    cluster.namespace("default", "vault")
    world.install("vault", "-f", values)
    cluster.wait("the keystore running", lambda: cluster.get("pod", "vault-0", "vault")
                 .get("status", {}).get("phase") == "Running", 180)
    until("an answer of the keystore", lambda: "Initialized" in world.vault("vault status || true"))
    out = world.vault("vault status", code=2)
    matches(r"^Initialized +false$", out)
    matches(r"^Sealed +true$", out)
    holds(not cluster.pod_ready("vault-0", "vault"), "a sealed keystore is ready")
    world.rolled_out("vault-csi")
    cluster.wait("the driver registered", lambda: any(
        d["name"] == "secrets-store.csi.k8s.io"
        for d in cluster.get("csinode", "node-1").get("spec", {}).get("drivers") or []), 60)


def init(world):
    out = world.vault("vault operator init")
    for number in range(1, 6):
        world.shares.append(matches(rf"^Unseal Key {number}: ([A-Za-z0-9+/]{{44}})$", out)[1])
    world.root = matches(r"^Initial Root Token: (hvs\.\S{24,})$", out)[1]
    matches(r"^Vault initialized with 5 key shares and a key threshold of 3\.", out)


def unseal(world):
    one, two, three = world.shares[4], world.shares[0], world.shares[2]
    matches(r"^Unseal Progress +1/3$", world.vault(f"vault operator unseal {one}"))
    matches(r"^Unseal Progress +1/3$", world.vault(f"vault operator unseal {one}"))
    matches(r"^Unseal Progress +2/3$", world.vault(f"vault operator unseal {two}"))
    wrong = ("A" if three[0] != "A" else "B") + three[1:]
    world.vault(f"vault operator unseal {wrong}", code=2)
    matches(r"^Unseal Progress +0/3$", world.vault("vault status", code=2))
    matches(r"^Sealed +false$", world.unseal([one, two, three]))
    world.cluster.wait("the keystore ready", lambda: world.cluster.pod_ready("vault-0", "vault"), 60)


def status(world):
    matches(r"\AKey             Value\n---             -----\nSeal Type       shamir\nInitialized     true\n"
            r"Sealed          false\nTotal Shares    5\nThreshold       3\nVersion         \S.*\n"
            r"Build Date      \S.*\nStorage Type    \S+\nCluster Name    vault-cluster-\S+\n"
            r"Cluster ID      \S+\nHA Enabled      false\n\Z", world.vault("vault status"))


def login(world):
    world.vault(f"vault login {world.root}")
    world.vault('vault policy write admin - <<EOF\npath "*" {\n  capabilities = ["create", "read", "update", '
                '"patch", "delete", "list", "sudo"]\n}\nEOF')
    out = world.vault("vault token create -policy=admin -orphan")
    world.admin = matches(r"^token +(hvs\.\S+)$", out)[1]
    world.vault(f"vault login {world.admin}")
    world.vault(f"vault token revoke {world.root}")
    matches("permission denied", world.vault(f"VAULT_TOKEN={world.root} vault token lookup", code=2, both=True))


def secret(world):
    matches(r"\ASuccess! Enabled the kv-v2 secrets engine at: secret/\n\Z",
            world.vault("vault secrets enable -path=secret kv-v2"))
    matches(rf"\A{METADATA}\Z",
            world.vault('vault kv put secret/webapp/config username="static-user" password="static-password"'))
    matches(rf"\A{METADATA}\n====== Data ======\nKey         Value\n---         -----\n"
            r"password    static-password\nusername    static-user\n\Z", world.vault("vault kv get secret/webapp/config"))


def kubernetes(world):
    world.vault("vault auth enable kubernetes")
    matches(r"^Success! Data written to: auth/kubernetes/config$", world.vault(
        'vault write auth/kubernetes/config kubernetes_host="https://$KUBERNETES_PORT_443_TCP_ADDR:443"'))
    matches(r"^Success! Uploaded policy: webapp$", world.vault(
        'vault policy write webapp - <<EOF\npath "secret/data/webapp/config" {\n  capabilities = ["read"]\n}\nEOF'))
    world.vault("vault write auth/kubernetes/role/webapp bound_service_account_names=vault "
                "bound_service_account_namespaces=default policies=webapp ttl=24h")


def webapp(world):
    labels = {"app": "webapp"}
    world.cluster.apply({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "webapp", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {
                "serviceAccountName": "vault", "terminationGracePeriodSeconds": 1, "containers": [{
                    "name": "app", "image": "coffer.test/webapp:1", "imagePullPolicy": "Never",
                    "env": [{"name": "VAULT_ADDR", "value": "http://vault.vault:8200"},
                            {"name": "JWT_PATH", "value": "/var/run/secrets/kubernetes.io/serviceaccount/token"},
                            {"name": "SERVICE_PORT", "value": "8080"}]}]}}}})
    world.cluster.kubectl("rollout", "status", "deployment/webapp", "--timeout=180s")
    pod, = world.cluster.list("pods", **labels)
    answer = []

    def answers():
        answer[:] = [world.cluster.nsenter("curl", "-s", f"http://{pod['status']['podIP']}:8080/")]
        return answer[0].strip() != ""
    until("an answer of the application", answers)
    holds(answer[0] == "password:static-password username:static-user\n", f"the application says {answer[0]!r}")
    print("    " + answer[0].strip())


def volume(world):
    world.accessors = set(world.vault("vault list auth/token/accessors").split())
    world.secret_class("webapp")
    world.pod("reader")
    world.started("reader")
    for name, content in (("username", "static-user"), ("password", "static-password")):
        got = world.file("reader", name)
        holds(got == content, f"the file {name} holds {got!r}")
    holds(len(world.mounts()) >= 1, "no file system of Coffer on the node")
    holds(len(set(world.vault("vault list auth/token/accessors").split()) - world.accessors) == 1,
          "the pod's volume has not exactly one token")
    status = world.exec("reader", "/app", "cat", "/proc/mounts")
    matches(r"^coffer:\S+ /secrets fuse\.coffer ro,", status)
    until("the pod's status", lambda: [s["status"]["podName"] for s in world.statuses()
                                       if s["status"]["mounted"]] == ["reader"], 30)
    address = world.cluster.get("pod", world.plugin(), "vault")["status"]["podIP"]
    metrics = world.cluster.nsenter("curl", "-s", f"http://{address}:8095/metrics", f"http://{address}:8096/metrics")
    matches(r'^node_publish_total\{.*pod_name="reader".*\} 1$', metrics)


STEPS = [
    ("1. helm install: the keystore starts uninitialised, sealed, not ready; the plugin registers", install),
    ("2. vault operator init", init),
    ("3. vault operator unseal, three of five; the pod becomes ready", unseal),
    ("4. vault status", status),
    ("5. vault login; an admin token revokes the root token", login),
    ("6.-8. kv-v2, put, get", secret),
    ("9.-12. kubernetes auth, policy, role", kubernetes),
    ("13. The application logs in with its ServiceAccount's token, checked by TokenReview", webapp),
    ("14. The same secret as a volume, published by the kubelet", volume),
]
