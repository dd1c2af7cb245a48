"""The cluster's programs, built from Go modules where they aren't there yet: kept between runs."""

import os
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
HELM = "helm.sh/helm/v3/cmd/helm@v3.22.0"
KUBERNETES = "v1.36.3"  # as in kubernetes/go.mod
PACKAGES = {"etcd": "etcd-server", "containerd": "containerd", "runc": "runc", "kubectl": "kubernetes-client",
            "buildah": "buildah", "ip": "iproute2", "iptables": "iptables", "conntrack": "conntrack", "jq": "jq",
            "mdb_copy": "lmdb-utils"}


def build_tools(folder):
    """Fills `folder` with kube-apiserver, kubelet and helm; about ten minutes where nothing is cached."""
    lacking = {program: package for program, package in PACKAGES.items() if not shutil.which(program)}
    if lacking:
        raise SystemExit("e2e: apt-get install " + " ".join(sorted(lacking.values())))
    os.makedirs(folder, exist_ok=True)
    missing = [n for n in ("kube-apiserver", "kubelet", "helm") if not os.path.exists(os.path.join(folder, n))]
    environment = {**os.environ, "GOBIN": folder}
    for name in missing:
        print(f"    building {name}", flush=True)
        if name == "helm":
            subprocess.run(["go", "install", "-trimpath", "-ldflags", "-s -w", HELM], check=True, env=environment)
            continue
        version = "k8s.io/component-base/version"
        major, minor, _ = KUBERNETES.removeprefix("v").split(".")
        flags = (f"-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor={major} "
                 f"-X {version}.gitMinor={minor}")
        subprocess.run(["go", "build", "-trimpath", "-ldflags", flags, "-o", folder + "/", f"./{name}"],
                       check=True, cwd=os.path.join(HERE, "kubernetes"))


def build_webapp(folder):
    out = os.path.join(folder, "webapp")
    subprocess.run(["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "."], check=True,
                   cwd=os.path.join(HERE, "webapp"), env={**os.environ, "CGO_ENABLED": "0"})
    return out
