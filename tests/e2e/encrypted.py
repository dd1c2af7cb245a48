"""The same installation with TLS: the certificate in a Secret, its CA known to probes, pods and plugin."""

import os
import re

import yaml

from world import holds, matches, until

QUICK_START = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/quick-start.md")


def certificate(world, name):
    """A CA and a certificate of the keystore, as a Secret."""
    folder = world.cluster.path("tls")
    world.shell(f"""mkdir -p {folder} && cd {folder}
[ -f ca.key ] || openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=keystore-ca -keyout ca.key -out ca.crt
openssl req -newkey rsa:2048 -nodes -subj /CN={name} -keyout tls.key -out tls.csr
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out tls.crt \
  -extfile <(echo subjectAltName=DNS:vault.vault,DNS:vault.vault.svc)
kubectl create secret generic vault-tls -n vault --dry-run=client -o yaml --type=kubernetes.io/tls \
  --from-file=tls.crt --from-file=tls.key --from-file=ca.crt | kubectl apply -f -""")


def install(world):
    cluster = world.cluster
    certificate(world, "first")
    values = cluster.path("vault-values.yaml")
    world.install("vault", "-f", values, "--set",
               "global.tlsDisable=false,server.tlsSecret=vault-tls")
    cluster.wait("the keystore running", lambda: cluster.get("pod", "vault-0", "vault")
                 .get("status", {}).get("phase") == "Running", 180)
    until("an answer of the keystore", lambda: "Initialized" in world.vault("vault status || true"))
    out = world.vault("vault operator init -key-shares=1 -key-threshold=1")
    key = matches(r"^Unseal Key 1: (\S+)$", out)[1]
    world.admin = matches(r"^Initial Root Token: (\S+)$", out)[1]
    world.vault(f"vault operator unseal {key}")
    cluster.wait("the keystore ready", lambda: cluster.pod_ready("vault-0", "vault"), 60)
    world.vault(f"vault login {world.admin}")


def quick_start(world):
    """Steps 3 and 4 of docs/quick-start.md as they stand there, but for the container's image."""
    with open(QUICK_START, encoding="utf-8") as file:
        text = file.read()
    world.vault(re.search(r"^\*\*3\..*?^```\n(.*?)^```$", text, re.M | re.S)[1])
    objects = list(yaml.safe_load_all(re.search(r"^```yaml\n(.*?)^```$", text, re.M | re.S)[1]))
    pod = objects[-1]
    pod["spec"]["terminationGracePeriodSeconds"] = 1
    pod["spec"]["containers"][0].update(image="coffer.test/webapp:1", imagePullPolicy="Never",
                                        command=["/app", "watch", "/secrets", "password"])
    for thing in objects:
        thing["metadata"]["namespace"] = "default"
    world.cluster.apply(*objects)
    world.started("webapp")
    until("the secret over TLS", lambda: "read static-password" in world.cluster.kubectl("logs", "webapp"))
    # Without TLS nothing is sent.
    world.secret_class("plain", vaultAddress="http://vault.vault:8200")
    world.pod("plain", secret_class="plain", account="webapp")
    print("    " + world.event("plain", r"vault\.vault:8200")[-160:])
    world.delete_pod("plain")


def renewal(world):
    """A new certificate is served after SIGHUP, with no restart."""
    address = world.cluster.get("service", "vault", "vault")["spec"]["clusterIP"]
    serial = (f"openssl s_client -connect {address}:8200 -servername vault.vault </dev/null 2>/dev/null |"
              " openssl x509 -noout -subject")
    holds("first" in world.shell(serial), "the first certificate is not served")
    certificate(world, "second")

    def renewed():
        world.vault("kill -HUP 1")
        return "second" in world.shell(serial)
    # The kubelet brings a changed Secret with its next look at the pod.
    until("the second certificate being served", renewed, 150)
    holds(world.restarts("vault-0", "vault") == 0, "the keystore was restarted")


def all_gone(world):
    world.delete_pod("webapp")
    world.uninstall("vault")


STEPS = [
    ("With TLS: installed, unsealed, ready", install),
    ("With TLS: the quick start; plain HTTP is refused", quick_start),
    ("A renewed certificate is taken by SIGHUP", renewal),
    ("And nothing is left", all_gone),
]
