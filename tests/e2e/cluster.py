"""A real one-node Kubernetes: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, containerd,
kubelet, kube-proxy and CNI's bridge, in a network namespace of its own (network.py).

    cluster = Cluster(folder, kube_bin)   # starts all of it and waits until the node is ready
    cluster.kubectl("get", "pods")        # with the admin's rights
    cluster.stop()                        # ends all of it, pods too
"""

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import time

from network import API_SERVICE, DOMAIN, NODE_ADDRESS, SERVICES, Network

NODE = "node-1"
# The one hierarchy of control groups, or the many.
CGROUPS = (["/sys/fs/cgroup"] if os.path.exists("/sys/fs/cgroup/cgroup.procs") else
           [os.path.dirname(path) for path in glob.glob("/sys/fs/cgroup/*/cgroup.procs")])
# Who has a kubeconfig of its own: user and groups, as RBAC's own roles know them.
USERS = {
    "admin": ("admin", "system:masters"),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
}


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def is_ready(thing):
    conditions = thing.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


class Cluster:
    def __init__(self, folder, kube_bin):
        self.folder = folder
        self.kube_bin = kube_bin
        self.name = folder.strip("/").replace("/", "-")  # of what is the machine's: a network namespace, control groups
        self.network = Network(self.name, os.path.join(folder, "network"))
        self.processes = {}
        self.kubelet_root = os.path.join(folder, "kubelet")
        self.containerd_socket = os.path.join(folder, "containerd.sock")
        self.kubeconfig = os.path.join(folder, "admin.kubeconfig")
        os.makedirs(folder, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    # -- pieces ---------------------------------------------------------------------------------

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def write(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def program(self, name):
        return os.path.join(self.kube_bin, name)

    def kubeconfig_of(self, name):
        return self.path(f"{name}.kubeconfig")

    def spawn(self, name, *command, env=None):
        """Starts a process inside the cluster's network; its output goes to NAME.log."""
        log = open(self.path(f"{name}.log"), "ab")
        self.processes[name] = subprocess.Popen(
            self.network.inside(*command), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, env={**os.environ, **(env or {})}, start_new_session=True,
        )
        log.close()

    def end(self, name, how=signal.SIGTERM):
        process = self.processes.pop(name, None)
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait(self, what, check, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended while waiting for {what}:\n{self.tail(name)}")
            if check():
                return
            time.sleep(0.1)
        raise RuntimeError(f"{what} didn't come true in {seconds} s")

    def tail(self, name, lines=40):
        with open(self.path(f"{name}.log"), encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    # -- start ----------------------------------------------------------------------------------

    def _start(self):
        self.network.start()
        self._start_api_server()
        self._start_controllers()
        self._start_containerd()
        self._share_kubelet_root()
        self._make_cgroups()
        self.start_kubelet()
        self.spawn("kube-proxy", *self.network.kube_proxy(self.program("kube-proxy"), self.kubeconfig_of("proxy"), NODE))
        self.spawn("dnsmasq", *self.network.name_server())
        self.wait("the node being ready", self.node_ready, 180)

    def _start_api_server(self):
        self.spawn("etcd", "etcd", "--data-dir", self.path("etcd"), "--unsafe-no-fsync",
                   "--listen-client-urls", "http://127.0.0.1:2379",
                   "--advertise-client-urls", "http://127.0.0.1:2379",
                   "--listen-peer-urls", "http://127.0.0.1:2380")
        run("openssl", "genrsa", "-out", self.path("sa.key"), "2048")
        run("openssl", "rsa", "-in", self.path("sa.key"), "-pubout", "-out", self.path("sa.pub"))
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
            "/CN=e2e-ca", "-keyout", self.path("ca.key"), "-out", self.path("ca.crt"))
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kube-apiserver",
            "-keyout", self.path("apiserver.key"), "-out", self.path("apiserver.csr"))
        names = self.write("names.cnf", "subjectAltName=DNS:kubernetes,DNS:kubernetes.default,"
                           "DNS:kubernetes.default.svc,DNS:localhost,"
                           f"IP:127.0.0.1,IP:{API_SERVICE},IP:{NODE_ADDRESS}\n")
        run("openssl", "x509", "-req", "-in", self.path("apiserver.csr"), "-CA", self.path("ca.crt"),
            "-CAkey", self.path("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", names,
            "-out", self.path("apiserver.crt"))
        tokens = self.write("tokens.csv", "".join(
            f'e2e-{name},{user},{name},"{groups}"\n' for name, (user, groups) in USERS.items()))
        self.spawn(
            "kube-apiserver", self.program("kube-apiserver"),
            "--etcd-servers=http://127.0.0.1:2379", "--secure-port=443", "--bind-address=0.0.0.0",
            f"--advertise-address={NODE_ADDRESS}", f"--cert-dir={self.path('apiserver')}",
            f"--tls-cert-file={self.path('apiserver.crt')}",
            f"--tls-private-key-file={self.path('apiserver.key')}",
            f"--service-cluster-ip-range={SERVICES}", f"--token-auth-file={tokens}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self.path('sa.pub')}",
            f"--service-account-signing-key-file={self.path('sa.key')}",
            "--api-audiences=https://kubernetes.default.svc.cluster.local",
            "--authorization-mode=Node,RBAC", "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
        )
        for name in USERS:
            self.write(f"{name}.kubeconfig", json.dumps({
                "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
                "clusters": [{"name": "e2e", "cluster": {
                    "server": f"https://{NODE_ADDRESS}:443",
                    "certificate-authority": self.path("ca.crt")}}],
                "users": [{"name": name, "user": {"token": f"e2e-{name}"}}],
                "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": name}}]}))
        self.wait("the API server being ready",
                  lambda: self._quiet("kubectl", "get", "--raw=/readyz") == "ok", 180)

    def _start_controllers(self):
        alone = ["--leader-elect=false", "--bind-address=127.0.0.1"]
        self.spawn("kube-controller-manager", self.program("kube-controller-manager"), *alone,
                   f"--kubeconfig={self.kubeconfig_of('controller-manager')}",
                   f"--service-account-private-key-file={self.path('sa.key')}",
                   f"--root-ca-file={self.path('ca.crt')}", "--use-service-account-credentials",
                   f"--cert-dir={self.path('controller-manager')}")
        self.spawn("kube-scheduler", self.program("kube-scheduler"), *alone,
                   f"--kubeconfig={self.kubeconfig_of('scheduler')}")

    def _start_containerd(self):
        config = self.write("containerd.toml", f"""version = 2
root = "{self.path('containerd')}"
state = "{self.path('containerd-state')}"
[grpc]
  address = "{self.containerd_socket}"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_tcp_service = true
  sandbox_image = "coffer.test/pause:1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
{self.network.containerd_config()}""")
        self.spawn("containerd", "containerd", "--config", config)
        self.wait("containerd's socket", lambda: os.path.exists(self.containerd_socket))

    def _share_kubelet_root(self):
        """Mounts that a pod makes below it (Bidirectional) reach the host and other pods."""
        os.makedirs(self.kubelet_root, exist_ok=True)
        run("mount", "--bind", self.kubelet_root, self.kubelet_root)
        run("mount", "--make-rshared", self.kubelet_root)

    def _make_cgroups(self):
        """Its own: a kubelet ends what it finds below its root and doesn't know."""
        for root in CGROUPS:
            with contextlib.suppress(OSError), open(f"{root}/cgroup.subtree_control", "w", encoding="ascii") as file:
                file.write("+cpu +cpuset +io +memory +pids")
            os.makedirs(f"{root}/{self.name}", exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems") if root.endswith("/cpuset") else ():
                shutil.copyfile(f"{root}/{name}", f"{root}/{self.name}/{name}")

    def start_kubelet(self):
        config = self.write("kubelet.yaml", f"""apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
failSwapOn: false
cgroupRoot: /{self.name}
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
evictionHard: {{}}
imageGCHighThresholdPercent: 100
containerRuntimeEndpoint: unix://{self.containerd_socket}
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
syncFrequency: 2s
fileCheckFrequency: 2s
nodeStatusUpdateFrequency: 2s
resolvConf: ""
podLogsDir: {self.path("logs")}
clusterDNS: [{NODE_ADDRESS}]
clusterDomain: {DOMAIN}
""")
        self.spawn("kubelet", self.program("kubelet"), f"--config={config}",
                   f"--kubeconfig={self.kubeconfig_of('kubelet')}",
                   f"--root-dir={self.kubelet_root}", f"--hostname-override={NODE}",
                   f"--node-ip={NODE_ADDRESS}", f"--cert-dir={self.path('kubelet-pki')}")

    def node_ready(self):
        node = self.get("node", NODE)
        return is_ready(node) and not node["spec"].get("taints")

    # -- use ------------------------------------------------------------------------------------

    def nsenter(self, *command, **options):
        return run(*self.network.inside(*command), **options)

    def kubectl(self, *arguments, **options):
        return self.nsenter("kubectl", f"--kubeconfig={self.kubeconfig}", *arguments, **options)

    def _quiet(self, tool, *arguments):
        try:
            return self.kubectl(*arguments) if tool == "kubectl" else run(tool, *arguments)
        except subprocess.CalledProcessError:
            return ""

    def _asked(self, *arguments):
        """What kubectl says, "" where there is nothing; an API server that is too busy is asked again."""
        for _ in range(3):
            try:
                return self.kubectl(*arguments)
            except subprocess.CalledProcessError as refused:
                if "NotFound" in refused.stderr:
                    break
                time.sleep(1)
        return ""

    def apply(self, *objects):
        return self.kubectl("apply", "-f", "-", input=json.dumps(
            {"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, kind, name, namespace="default"):
        """The object; {} where there is none."""
        text = self._asked("get", kind, name, "-n", namespace, "-o", "json")
        return json.loads(text) if text else {}

    def list(self, kind, namespace="default", **labels):
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        text = self._asked("get", kind, "-n", namespace, "-o", "json", f"--selector={selector}")
        return json.loads(text)["items"] if text else []

    def namespace(self, name, *accounts):
        """A namespace, and ServiceAccounts there; ready for pods of the account that each has."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
                   *({"apiVersion": "v1", "kind": "ServiceAccount",
                      "metadata": {"name": account, "namespace": name}} for account in accounts))
        self.wait(f"the ServiceAccount of namespace {name}",
                  lambda: self.get("serviceaccount", "default", name))

    def publish_names(self):
        """What was installed is found by name from now on."""
        services = json.loads(self.kubectl("get", "services", "-A", "-o", "json"))["items"]
        self.network.publish_names(services, self.processes["dnsmasq"])

    def container(self, pod, name, namespace="default"):
        """The status of a container of a pod; {} where there is none."""
        for status in self.get("pod", pod, namespace).get("status", {}).get("containerStatuses", []):
            if status["name"] == name:
                return status
        return {}

    def tasks(self):
        """Container id -> process id of what runs."""
        lines = [line.split() for line in self.ctr("tasks", "ls").splitlines()[1:]]
        return {line[0]: int(line[1]) for line in lines if line[2] == "RUNNING"}

    def pid(self, pod, container, namespace="default"):
        """The process of a container, 0 where it doesn't run."""
        identity = self.container(pod, container, namespace).get("containerID", "")
        return self.tasks().get(identity.removeprefix("containerd://"), 0)

    def events(self, pod, namespace="default"):
        text = self._asked("get", "events", "-n", namespace, "-o", "json",
                           f"--field-selector=involvedObject.name={pod}")
        return [e["message"] for e in json.loads(text)["items"]] if text else []

    def ctr(self, *arguments):
        return run("ctr", "-a", self.containerd_socket, "-n", "k8s.io", *arguments)

    def import_image(self, archive):
        self.ctr("image", "import", archive)

    def pod_ready(self, name, namespace="default"):
        return is_ready(self.get("pod", name, namespace))

    def stop(self):
        self.end("kubelet")
        spaces = self._end_containers() if os.path.exists(self.containerd_socket) else []
        first = ("kube-scheduler", "kube-controller-manager", "kube-proxy", "containerd", "kube-apiserver", "etcd")
        for name in (*first, *self.processes):
            self.end(name)
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            points = [line.split()[4] for line in mounts if f" {self.folder}/" in line]
        for point in reversed(points):
            subprocess.run(["umount", "-l", point], capture_output=True, check=False)
        self.network.stop(spaces)
        for root in CGROUPS:
            for folder, _, _ in os.walk(f"{root}/{self.name}", topdown=False):
                with contextlib.suppress(OSError):  # with something in it that is about to end
                    os.rmdir(folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_containers(self):
        """Kills what runs; the names of the network namespaces that pods had."""
        spaces = set()
        for container in self._quiet("ctr", "-a", self.containerd_socket, "-n", "k8s.io", "containers", "ls", "-q").split():
            of = ("-a", self.containerd_socket, "-n", "k8s.io")
            text = self._quiet("ctr", *of, "containers", "info", container)
            for space in json.loads(text)["Spec"]["linux"]["namespaces"] if text else []:
                if space["type"] == "network" and space.get("path", "").startswith("/var/run/netns/cni-"):
                    spaces.add(os.path.basename(space["path"]))
            self._quiet("ctr", *of, "tasks", "rm", "-f", container)
        return sorted(spaces)
