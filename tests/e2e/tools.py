"""The cluster's programs, built from Go modules where they aren't there yet: kept between runs."""

import os
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
HELM = "helm.sh/helm/v3/cmd/helm@v3.22.0"
KUBERNETES = "v1.36.3"  # as in kubernetes/go.mod
CNI = "/usr/lib/cni"  # Debian's containernetworking-plugins
PROGRAMS = ("kube-apiserver", "kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy")
PACKAGES = {"etcd": "etcd-server", "containerd": "containerd", "runc": "runc", "kubectl": "kubernetes-client",
            "buildah": "buildah", "dnsmasq": "dnsmasq-base", "ip": "iproute2", "iptables": "iptables", "conntrack": "conntrack", "jq": "jq",
            "mdb_copy": "lmdb-utils"}
# What Coffer is tried against: folders of tests/ with a go.mod, and the programs that it names as tools.
PEERS = {"vault": ("vault", "vault-plugin-auth-kubernetes", "rabbitmq"), "upstream": ("secrets-store-csi-driver",)}


def build_tools(folder):
    """Fills `folder` with Kubernetes' programs and helm; about ten minutes where nothing is cached."""
    lacking = {program: package for program, package in PACKAGES.items() if not shutil.which(program)}
    if not os.path.exists(CNI + "/bridge"):
        lacking["bridge"] = "containernetworking-plugins"
    if lacking:
        raise SystemExit("e2e: apt-get install " + " ".join(sorted(lacking.values())))
    os.makedirs(folder, exist_ok=True)
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    flags = f"-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    # One after the other: each is complete when it is there, and a later one reuses what was compiled.
    for name in PROGRAMS:
        if not os.path.exists(os.path.join(folder, name)):
            print(f"    building {name}", flush=True)
            subprocess.run(["go", "build", "-trimpath", "-ldflags", flags, "-o", folder + "/", f"./{name}"],
                           check=True, cwd=os.path.join(HERE, "kubernetes"))
    if not os.path.exists(os.path.join(folder, "helm")):
        print("    building helm", flush=True)
        subprocess.run(["go", "install", "-trimpath", "-ldflags", "-s -w", HELM], check=True,
                       env={**os.environ, "GOBIN": folder})


def build_peers(folder):
    """Fills `folder`/vault with HashiCorp's Vault and plugins of it, `folder`/upstream with the upstream CSI driver."""
    for peer, programs in PEERS.items():
        place = os.path.join(folder, peer)
        if not all(os.path.exists(os.path.join(place, name)) for name in programs):
            print(f"    building {', '.join(programs)}", flush=True)
            subprocess.run(["go", "install", "-trimpath", "-tags", "minimal", "-ldflags", "-s -w", "tool"], check=True,
                           cwd=os.path.join(HERE, "..", peer), env={**os.environ, "GOBIN": place})


def build_webapp(folder):
    out = os.path.join(folder, "webapp")
    subprocess.run(["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "."], check=True,
                   cwd=os.path.join(HERE, "webapp"), env={**os.environ, "CGO_ENABLED": "0"})
    return out
