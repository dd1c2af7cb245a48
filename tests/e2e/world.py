"""What the steps of the end-to-end test share: the cluster, the keystore's shell, pods with volumes, and
what was learnt on the way (shares, tokens)."""

import contextlib
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
    def __init__(self, cluster, tools, chart, bin_dir):
        self.cluster = cluster
        self.tools = tools
        self.helm_program = os.path.join(tools, "helm/helm")
        self.chart = chart
        self.bin_dir = bin_dir
        self.shares = []
        self.accessors = set()

    def helm(self, *arguments):
        return self.cluster.nsenter(self.helm_program, f"--kubeconfig={self.cluster.kubeconfig}", *arguments)

    def shell(self, script, code=0, **environment):
        """A script with the cluster's network and kubectl; what it prints."""
        done = subprocess.run(
            self.cluster.network.inside("bash", "-euo", "pipefail", "-c", script), stdin=subprocess.DEVNULL,
            env={**os.environ, "KUBECONFIG": self.cluster.kubeconfig,
                 "PATH": f"{self.bin_dir}:{os.environ['PATH']}", **environment},
            capture_output=True, text=True, timeout=300, check=False)
        holds(done.returncode == code, f"exit code {done.returncode}, not {code}:\n{script}\n"
              f"{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def exec(self, pod, *command, namespace="default", stdin="", code=0, both=False):
        """`kubectl exec`; checks the exit code and gives standard output (and standard error, if both)."""
        done = subprocess.run(
            self.cluster.network.inside("kubectl", f"--kubeconfig={self.cluster.kubeconfig}", "exec", "-i", pod,
                                        "-n", namespace, "--", *command),
            input=stdin, capture_output=True, text=True, timeout=120, check=False)
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
        self.cluster.apply({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"serviceAccountName": account, "terminationGracePeriodSeconds": 1,
                     "containers": [{"name": "app", "image": "coffer.test/webapp:1",
                                     "imagePullPolicy": "Never", "args": list(arguments),
                                     "volumeMounts": [{"name": "s", "mountPath": "/secrets", "readOnly": True}]}],
                     "volumes": [{"name": "s", "csi": {"driver": driver, "readOnly": True, "volumeAttributes": {
                         "secretProviderClass": secret_class}}}]}})

    def started(self, name, seconds=180):
        self.cluster.wait(f"pod {name} running", lambda: self.cluster.pod_ready(name), seconds)

    def delete_pod(self, name, namespace="default"):
        self.cluster.kubectl("delete", "pod", name, "-n", namespace, "--wait", "--timeout=180s")

    @contextlib.contextmanager
    def reading(self, name, secret_class="webapp"):
        """A pod that reads its volume all the time, past the page cache: nothing but the secret's versions,
        one after the other, may be seen. Prints its longest wait."""
        self.pod(name, secret_class, arguments=("watch", "/secrets", "password"))
        self.started(name)
        before = self.file(name, "password")
        yield name
        self.read_without_error(name, [before])
        holds(self.restarts(name) == 0, f"pod {name} was restarted")
        self.delete_pod(name)

    def read_without_error(self, name, versions):
        lines = [line.split(" ", 1) for line in self.cluster.kubectl("logs", name).splitlines()]
        seen = [value for kind, value in lines if kind == "read"]
        holds(seen == versions, f"a reader in a loop saw {seen}, not {versions}")
        waits = [value for kind, value in lines if kind == "waited"]
        print(f"    the reader's longest wait: {waits[-1] if waits else 'under 10ms'}")

    def plugin(self, release="vault", namespace="vault"):
        """The name of the node plugin's pod, of the newest where there are two; "" where there is none."""
        pods = [pod for pod in self.cluster.list("pods", namespace, **{
            "app.kubernetes.io/component": "csi", "app.kubernetes.io/instance": release})
            if not pod["metadata"].get("deletionTimestamp")]
        pods.sort(key=lambda pod: pod["metadata"]["creationTimestamp"])
        return pods[-1]["metadata"]["name"] if pods else ""

    def plugin_ready(self, release="vault", namespace="vault", seconds=180):
        self.cluster.wait("the node plugin ready", lambda: self.cluster.pod_ready(
            self.plugin(release, namespace) or "none", namespace), seconds)

    def rolled_out(self, daemonset, namespace="vault", seconds=240):
        self.cluster.kubectl("rollout", "status", f"daemonset/{daemonset}", "-n", namespace, f"--timeout={seconds}s")

    def install(self, release, *arguments, namespace="vault"):
        self.helm("install", release, self.chart, "-n", namespace, *arguments)
        self.cluster.publish_names()

    def uninstall(self, release, namespace="vault"):
        """helm uninstall, until its pods are gone."""
        self.helm("uninstall", release, "-n", namespace)
        self.cluster.wait(f"the pods of {release} gone", lambda: not self.cluster.list(
            "pods", namespace, **{"app.kubernetes.io/instance": release}), 180)

    def file(self, pod, name):
        return self.exec(pod, "/app", "cat", f"/secrets/{name}")

    def event(self, pod, pattern, seconds=60, namespace="default"):
        """Waits for an event on the pod that matches, and gives it."""
        found = []

        def seen():
            found[:] = [m for m in self.cluster.events(pod, namespace) if re.search(pattern, m, re.S)]
            return bool(found)
        try:
            self.cluster.wait(f"an event like {pattern!r} on pod {pod}", seen, seconds)
        except RuntimeError as error:
            raise Failed(f"{error}; its events:\n" + "\n".join(self.cluster.events(pod, namespace))) from None
        return found[-1]

    def statuses(self):
        text = self.cluster.kubectl("get", "secretproviderclasspodstatuses", "-n", "default", "-o", "json")
        return json.loads(text)["items"]

    def mounts(self):
        """Coffer's file systems on the node."""
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            return [line for line in file if " fuse.coffer " in line and f" {self.cluster.folder}/" in line]

    def running(self, *programs):
        """The process ids of these programs in the cluster's containers."""
        found = []
        for pid in self.cluster.tasks().values():
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                    if file.read().strip() in programs:
                        found.append(pid)
        return found

    def serving(self, release="vault", namespace="vault"):
        """The container of the plugin's pod that serves: the one that has opened the kubelet's socket."""
        pod = self.plugin(release, namespace)
        for container in ("coffer-csi", "standby"):
            pid = self.cluster.pid(pod, container, namespace)
            if not pid:
                continue
            with open(f"/proc/{pid}/net/unix", encoding="utf-8") as file:
                sockets = {f"socket:[{line.split()[6]}]" for line in file if "csi.sock" in line}
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor.path) in sockets:
                        return container
        return ""

    def kill(self, pod, container, namespace):
        """kill -9, and waits until the kubelet has started the container again."""
        cluster = self.cluster
        before = cluster.container(pod, container, namespace)["restartCount"]
        victim = cluster.pid(pod, container, namespace)
        holds(victim, f"container {container} of {pod} doesn't run")
        os.kill(victim, signal.SIGKILL)
        cluster.wait(f"{container} started again", lambda: cluster.container(pod, container, namespace).get(
            "restartCount", 0) > before and cluster.pid(pod, container, namespace), 180)

    def restarts(self, pod, namespace="default"):
        statuses = self.cluster.get("pod", pod, namespace).get("status", {}).get("containerStatuses", [])
        return sum(s["restartCount"] for s in statuses)

    def diagnosis(self):
        quiet = self.cluster._quiet  # pylint: disable=protected-access
        parts = [quiet("kubectl", "get", "pods", "-A", "-o", "wide"),
                 quiet("kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp")[-4000:]]
        for pod in self.cluster.list("pods", "vault"):
            for container in pod["spec"]["containers"]:
                of = ("-n", "vault", pod["metadata"]["name"], "-c", container["name"])
                parts.append(f"-- {' '.join(of)}\n" + quiet("kubectl", "logs", *of, "--tail=15"))
                parts.append(quiet("kubectl", "logs", *of, "--tail=10", "--previous"))
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
