"""docs/migrate.md, tried: Kubernetes Secrets move over, roles are carried across,
and the node plugin runs alone, under its own name, beside a keystore that was there before."""

import base64
import json
import os
import re
import subprocess

from network import NODE_ADDRESS
from world import DRIVER, holds, matches, until

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
OTHER = f"http://{NODE_ADDRESS}:8300"


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
    """`coffer import k8s-secrets` from the API server; once more by what kubectl says, which changes nothing."""
    world.cluster.namespace("shop")
    contents = {"db": {"user": b"shop", "password": b"pass word\nin two lines"}, "api": {"key": b'k=v "quoted"'},
                "store": {"jks": b"\xfe\xed\xfe\xed\x00"}}
    encoded = {name: {key: base64.b64encode(value).decode() for key, value in data.items()}
               for name, data in contents.items()}
    for name, data in encoded.items():
        world.cluster.apply({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                             "metadata": {"name": name, "namespace": "shop"}, "data": data})
    address = world.cluster.get("service", "vault", "vault")["spec"]["clusterIP"]
    to = {"VAULT_ADDR": f"http://{address}:8200", "VAULT_TOKEN": world.admin}
    report = world.shell("coffer import k8s-secrets -from-namespace=shop", **to)
    holds("pass word" not in report, "a value is in the report")
    world.shell("kubectl get secrets -n shop -o json | coffer import k8s-secrets -", **to)
    for name, data in contents.items():
        # Bytes that are no text stay base64.
        wanted = {key: encoded[name][key] if name == "store" else value.decode() for key, value in data.items()}
        got = json.loads(world.vault(f"vault kv get -format=json secret/shop/{name}"))["data"]
        holds(got["data"] == wanted, f"secret/shop/{name} is {sorted(got['data'])}")
        holds(got["metadata"]["version"] == 1, f"secret/shop/{name} was written twice")


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
                  "-dev-root-token-id=root", "-dev-no-store-token", f"-dev-listen-address={NODE_ADDRESS}:8300")
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
    world.install("coffer", "--set",
               f"server.enabled=false,csi.vaultAddress={OTHER},csi.driverName=coffer.csi.example.com,"
               f"linux.kubeletRootDir={cluster.kubelet_root},image.repository=coffer.test/coffer,image.tag=1,"
               "serviceAccountTokenInSecrets=true,linux.additionalProvidersDirs=null,"
               f"linux.providersDir={cluster.path('providers')}",
               "--set-json", 'tokenRequests=[{"audience":""},{"audience":"vault"}]', namespace="coffer")
    driver = cluster.get("csidriver", "coffer.csi.example.com")["spec"]
    holds(driver.get("serviceAccountTokenInSecrets") is True, f"the API server keeps {driver}")
    world.rolled_out("coffer-csi", "coffer")
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
    world.uninstall("coffer", "coffer")
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


def injector(world):
    """The class that docs/migrate.md makes of the agent injector's annotations, mounted where the agent wrote."""
    with open(os.path.join(ROOT, "docs/migrate.md"), encoding="utf-8") as file:
        classes = [block for block in re.findall(r"^```yaml\n(.*?)^```$", file.read(), re.M | re.S)
                   if "kind: SecretProviderClass" in block]
    holds(len(classes) == 1, f"{len(classes)} classes in docs/migrate.md")
    world.cluster.kubectl("apply", "-n", "default", "-f", "-", input=classes[0])
    world.vault("""vault kv put secret/web/db user=web password=of-the-database
echo 'path "secret/data/web/db" { capabilities = ["read"] }' | vault policy write web -
vault write auth/kubernetes/role/web bound_service_account_names=vault \\
  bound_service_account_namespaces=default policies=web""")
    labels = {"app": "injected"}
    world.cluster.apply({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "injected", "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
            "serviceAccountName": "vault", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": "coffer.test/webapp:1", "imagePullPolicy": "Never",
                            "args": ["pause"],
                            "volumeMounts": [{"name": "s", "mountPath": "/vault/secrets", "readOnly": True}]}],
            "volumes": [{"name": "s", "csi": {"driver": DRIVER, "readOnly": True, "volumeAttributes": {
                "secretProviderClass": "web"}}}]}}}})
    world.cluster.kubectl("rollout", "status", "deployment/injected", "--timeout=180s")
    pod, = world.cluster.list("pods", **labels)
    got = world.exec(pod["metadata"]["name"], "/app", "cat", "/vault/secrets/db.env")
    holds(got == 'export DB_USER="web"\nexport DB_PASSWORD="of-the-database"\n', f"the file holds {got!r}")
    world.cluster.kubectl("delete", "deployment", "injected", "--cascade=foreground", "--timeout=180s")


def upstream_in_place(world):
    """Where the upstream driver and its provider were: their CSIDriver goes with `helm uninstall`; CRDs and classes
    stay as they are, Coffer takes over under the same name, and brings the rights of its users."""
    cluster = world.cluster
    theirs = {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "csi-secrets-store"}
    driver = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {
        "name": DRIVER, "labels": theirs, "annotations": {
            "meta.helm.sh/release-name": "csi-secrets-store", "meta.helm.sh/release-namespace": "kube-system"}},
        "spec": {"podInfoOnMount": True, "attachRequired": False, "volumeLifecycleModes": ["Ephemeral"]}}
    cluster.apply(driver)
    world.secret_class("carried", vaultAddress="http://dev.dev:8200", objects=(
        "- objectName: \"password\"\n  secretPath: \"secret/data/app\"\n  secretKey: \"password\"\n"))

    def versions():
        return [cluster.get(kind, name)["metadata"]["resourceVersion"] for kind, name in (
            ("secretproviderclass", "carried"), ("crd", "secretproviderclasses.secrets-store.csi.x-k8s.io"))]
    before = versions()
    cluster.namespace("dev")
    values = f"-f {cluster.path('vault-values.yaml')} --set server.dev.enabled=true"
    refusal = world.shell(f"{world.helm_program} install dev {world.chart} -n dev {values}", code=1)
    matches(r"CSIDriver \"secrets-store\.csi\.k8s\.io\".* exists and cannot be imported", refusal)
    cluster.kubectl("delete", "csidriver", DRIVER)
    world.install("dev", *values.split(), namespace="dev")
    world.rolled_out("dev-csi", "dev")
    cluster.wait("the keystore ready", lambda: cluster.pod_ready("dev-0", "dev"), 180)
    world.exec("dev-0", "sh", "-c", """export VAULT_TOKEN=root
vault kv put secret/app password=carried-over
vault auth enable kubernetes
vault write auth/kubernetes/config kubernetes_host="https://$KUBERNETES_PORT_443_TCP_ADDR:443"
echo 'path "secret/data/app" { capabilities = ["read"] }' | vault policy write webapp -
vault write auth/kubernetes/role/webapp bound_service_account_names=vault \\
  bound_service_account_namespaces=default policies=webapp""", namespace="dev")
    world.pod("carried", secret_class="carried")
    world.started("carried")
    holds(world.file("carried", "password") == "carried-over", "the upstream driver's class gives no secret")
    holds(versions() == before, "what was there was changed")
    for role, verb, resource, wanted in (
            ("edit", "create", "secretproviderclasses", True), ("admin", "delete", "secretproviderclasses", True),
            ("view", "get", "secretproviderclasses", True), ("view", "list", "secretproviderclasspodstatuses", True),
            ("view", "create", "secretproviderclasses", False), ("edit", "delete", "secretproviderclasspodstatuses", False)):
        person = f"{role}-of-shop"
        cluster.apply({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                       "metadata": {"name": person, "namespace": "dev"},
                       "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                       "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": person}]})
        world.shell(f"kubectl auth can-i {verb} {resource}.secrets-store.csi.x-k8s.io -n dev --as {person}",
                    code=0 if wanted else 1)
    world.delete_pod("carried")
    world.uninstall("dev", "dev")


STEPS = [
    ("A copy as a Kubernetes Secret, while a pod has the volume", synced),
    ("The upstream driver's objects pass the CRDs' strict validation", upstream_objects),
    ("The keystore and pods with volumes pass the Pod Security level restricted", restricted),
    ("Kubernetes Secrets move over by coffer import", kubernetes_secrets),
    ("A role is carried over", roles),
    ("The agent injector's annotations, rewritten as a class", injector),
    ("The node plugin alone, beside another driver and a keystore that was there before", beside),
]
