"""What the steps of the end-to-end test share: the cluster, the keystore's shell, pods with volumes, and
what was learnt on the way (shares, tokens)."""

import json
import os
import re
import signal
import subprocess
import time

DRIVER = "secrets-store.csi.k8s.io"


class Failed(AssertionError):
    pass


def holds(condition, message):
    if not condition:
        raise Failed(message)


def matches(pattern, text):
    found = re.search(pattern, text, re.M)
    holds(found, f"no {pattern!r} in:\n{text}")
    return found


class World:
    def __init__(self, cluster, helm, chart, bin_dir):
        self.cluster = cluster
        self.helm_program = helm
        self.chart = chart
        self.bin_dir = bin_dir
        self.shares = []
        self.accessors = set()

    def helm(self, *arguments):
        return self.cluster.nsenter(self.helm_program, f"--kubeconfig={self.cluster.kubeconfig}", *arguments)

    def shell(self, script, code=0, **environment):
        """A script with the cluster's network and kubectl; what it prints."""
        done = subprocess.run(
            ["nsenter", f"--net=/var/run/netns/{self.cluster.netns}", "--", "bash", "-euo", "pipefail", "-c", script],
            env={**os.environ, "KUBECONFIG": self.cluster.kubeconfig,
                 "PATH": f"{self.bin_dir}:{os.environ['PATH']}", **environment},
            capture_output=True, text=True, timeout=120, check=False)
        holds(done.returncode == code, f"exit code {done.returncode}, not {code}:\n{script}\n"
              f"{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def exec(self, pod, *command, namespace="default", stdin="", code=0, both=False):
        """`kubectl exec`; checks the exit code and gives standard output (and standard error, if both)."""
        done = subprocess.run(
            ["nsenter", f"--net=/var/run/netns/{self.cluster.netns}", "--", "kubectl",
             f"--kubeconfig={self.cluster.kubeconfig}", "exec", "-i", pod, "-n", namespace, "--", *command],
            input=stdin, capture_output=True, text=True, timeout=60, check=False)
        holds(done.returncode == code, f"exit code {done.returncode}, not {code}: {' '.join(command)}\n"
              f"{done.stdout}{done.stderr}")
        return done.stdout + done.stderr if both else done.stdout

    def vault(self, line, stdin="", code=0, both=False):
        """A line of the tutorial in the shell of the keystore's pod."""
        return self.exec("vault-0", "sh", "-c", line, namespace="vault", stdin=stdin, code=code, both=both)

    def unseal(self, shares):
        for share in shares:
            out = self.vault(f"vault operator unseal {share}")
        return out

    def secret_class(self, name, namespace="default", **parameters):
        self.cluster.apply({
            "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"provider": parameters.pop("provider", "vault"), "parameters": {
                "vaultAddress": "http://vault.vault:8200", "roleName": "webapp",
                "objects": ("- objectName: username\n  secretPath: secret/data/webapp/config\n"
                            "  secretKey: username\n- objectName: password\n"
                            "  secretPath: secret/data/webapp/config\n  secretKey: password\n"),
                **parameters}}})

    def pod(self, name, secret_class="webapp", arguments=("pause",), account="vault", driver=DRIVER):
        """A pod whose only way to its secrets is the volume at /secrets."""
        self.cluster.apply(self.cluster.placed({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"serviceAccountName": account, "terminationGracePeriodSeconds": 1,
                     "containers": [{"name": "app", "image": "coffer.test/webapp:1",
                                     "imagePullPolicy": "Never", "args": list(arguments),
                                     "volumeMounts": [{"name": "s", "mountPath": "/secrets", "readOnly": True}]}],
                     "volumes": [{"name": "s", "csi": {"driver": driver, "readOnly": True, "volumeAttributes": {
                         "secretProviderClass": secret_class}}}]}}, ["vault.vault"]))

    def started(self, name, seconds=90):
        self.cluster.wait(f"pod {name} running", lambda: self.cluster.pod_ready(name), seconds)

    def delete_pod(self, name, namespace="default"):
        self.cluster.kubectl("delete", "pod", name, "-n", namespace, "--wait", "--timeout=90s")

    def file(self, pod, name):
        return self.exec(pod, "/app", "cat", f"/secrets/{name}")

    def event(self, pod, pattern, seconds=60):
        """Waits for an event on the pod that matches, and gives it."""
        found = []

        def seen():
            found[:] = [m for m in self.cluster.events(pod) if re.search(pattern, m, re.S)]
            return bool(found)
        try:
            self.cluster.wait(f"an event like {pattern!r} on pod {pod}", seen, seconds)
        except RuntimeError as error:
            raise Failed(f"{error}; its events:\n" + "\n".join(self.cluster.events(pod))) from None
        return found[-1]

    def statuses(self):
        text = self.cluster.kubectl("get", "secretproviderclasspodstatuses", "-n", "default", "-o", "json")
        return json.loads(text)["items"]

    def mounts(self):
        """Coffer's file systems on the node."""
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            return [line for line in file if " fuse.coffer " in line and f" {self.cluster.folder}/" in line]

    def processes(self, program):
        """Process ids of a program of this cluster's pods: below its containerd's shims."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    command = file.read().split(b"\0")
                with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
                    in_pod = "kubepods" in file.read()
                same_network = (os.stat(f"/proc/{pid}/ns/net").st_ino
                                == os.stat(f"/var/run/netns/{self.cluster.netns}").st_ino)
            except OSError:
                continue
            if in_pod and same_network and os.path.basename(command[0].decode()) == program:
                found.append(int(pid))
        return found

    def kill(self, program, pod, namespace):
        """kill -9, and waits until the kubelet has started it again."""
        before = self.restarts(pod, namespace)
        victims = self.processes(program)
        holds(len(victims) == 1, f"{len(victims)} processes {program}")
        os.kill(victims[0], signal.SIGKILL)
        self.cluster.wait(f"{program} started again", lambda: self.restarts(pod, namespace) > before
                          and bool(self.processes(program)), 90)

    def restarts(self, pod, namespace="default"):
        statuses = self.cluster.get("pod", pod, namespace).get("status", {}).get("containerStatuses", [])
        return sum(s["restartCount"] for s in statuses)

    def diagnosis(self):
        quiet = self.cluster._quiet  # pylint: disable=protected-access
        parts = [quiet("kubectl", "get", "pods", "-A", "-o", "wide"),
                 quiet("kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp")[-6000:]]
        for pod in ("vault-0", "vault-csi-node-1"):
            parts.append(f"-- {pod}\n" + quiet("kubectl", "logs", "-n", "vault", pod, "--tail=40"))
            parts.append(quiet("kubectl", "logs", "-n", "vault", pod, "--tail=20", "--previous"))
        if "kubelet" in self.cluster.processes:
            parts.append("-- kubelet\n" + self.cluster.tail("kubelet", 15))
        return "\n".join(parts)


def until(what, check, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        if check():
            return
        time.sleep(0.2)
    raise Failed(f"{what} didn't come true in {seconds} s")
