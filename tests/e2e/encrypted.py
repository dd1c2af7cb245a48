"""The same installation with TLS: the certificate in a Secret, its CA known to probes, pods and plugin."""

from world import holds, matches, until


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


def volume(world):
    world.vault("""vault secrets enable -path=secret kv-v2
vault kv put secret/webapp/config username=static-user password=over-tls
vault auth enable kubernetes
vault write auth/kubernetes/config kubernetes_host="https://$KUBERNETES_PORT_443_TCP_ADDR:443"
echo 'path "secret/data/webapp/config" { capabilities = ["read"] }' | vault policy write webapp -
vault write auth/kubernetes/role/webapp bound_service_account_names=vault \\
  bound_service_account_namespaces=default policies=webapp ttl=24h""")
    world.secret_class("webapp", vaultAddress="https://vault.vault:8200")
    world.pod("private")
    world.started("private", 120)
    holds(world.file("private", "password") == "over-tls", "no secret over TLS")
    # Without the CA nothing is sent.
    world.secret_class("plain", vaultAddress="http://vault.vault:8200")
    world.pod("plain", secret_class="plain")
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
    world.delete_pod("private")
    world.uninstall("vault")


STEPS = [
    ("With TLS: installed, unsealed, ready", install),
    ("With TLS: a volume; plain HTTP is refused", volume),
    ("A renewed certificate is taken by SIGHUP", renewal),
    ("And nothing is left", all_gone),
]
