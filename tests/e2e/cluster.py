"""A real one-node Kubernetes: etcd, kube-apiserver, containerd and kubelet, in a network namespace of
its own. No scheduler, no controllers, no CNI: pods name their node and use the host's network, and
what controllers do is done here where a test needs it (namespace, controlled_pod).

    cluster = Cluster(folder, kube_bin)   # starts all of it and waits until the node is ready
    cluster.kubectl("get", "pods")        # with the admin's rights
    cluster.stop()                        # ends all of it, pods too
"""

import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request

NODE = "node-1"
NODE_ADDRESS = "10.201.0.2"
SERVICE_ADDRESS = "10.96.0.1"  # the service "kubernetes": pods find the API server here
ADMIN_TOKEN = "e2e-admin"
KUBELET_TOKEN = "e2e-kubelet"


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


class Cluster:
    def __init__(self, folder, kube_bin):
        self.folder = folder
        self.kube_bin = kube_bin
        self.netns = f"coffer-e2e-{os.getpid()}"
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

    def spawn(self, name, *command, env=None):
        """Starts a process inside the cluster's network; its output goes to NAME.log."""
        log = open(self.path(f"{name}.log"), "ab")
        self.processes[name] = subprocess.Popen(
            ["nsenter", f"--net=/var/run/netns/{self.netns}", "--", *command],
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
        run("ip", "netns", "add", self.netns)
        inside = ("ip", "-n", self.netns)
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "addr", "add", f"{NODE_ADDRESS}/32", "dev", "lo")
        run(*inside, "addr", "add", f"{SERVICE_ADDRESS}/32", "dev", "lo")
        self._start_api_server()
        self._start_containerd()
        self._share_kubelet_root()
        self.start_kubelet()
        self.wait("the node being ready", self._node_ready, 120)

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
                           f"IP:127.0.0.1,IP:{SERVICE_ADDRESS},IP:{NODE_ADDRESS}\n")
        run("openssl", "x509", "-req", "-in", self.path("apiserver.csr"), "-CA", self.path("ca.crt"),
            "-CAkey", self.path("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", names,
            "-out", self.path("apiserver.crt"))
        tokens = self.write("tokens.csv", f"{ADMIN_TOKEN},admin,admin,system:masters\n"
                            f"{KUBELET_TOKEN},system:node:{NODE},{NODE},system:nodes\n")
        self.spawn(
            "kube-apiserver", os.path.join(self.kube_bin, "kube-apiserver"),
            "--etcd-servers=http://127.0.0.1:2379", "--secure-port=443", "--bind-address=0.0.0.0",
            f"--advertise-address={NODE_ADDRESS}", f"--cert-dir={self.path('apiserver')}",
            f"--tls-cert-file={self.path('apiserver.crt')}",
            f"--tls-private-key-file={self.path('apiserver.key')}",
            "--service-cluster-ip-range=10.96.0.0/24", f"--token-auth-file={tokens}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self.path('sa.pub')}",
            f"--service-account-signing-key-file={self.path('sa.key')}",
            "--api-audiences=https://kubernetes.default.svc.cluster.local",
            "--authorization-mode=Node,RBAC", "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
        )
        for name, token in (("admin", ADMIN_TOKEN), ("kubelet", KUBELET_TOKEN)):
            self.write(f"{name}.kubeconfig", json.dumps({
                "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
                "clusters": [{"name": "e2e", "cluster": {
                    "server": f"https://{NODE_ADDRESS}:443",
                    "certificate-authority": self.path("ca.crt")}}],
                "users": [{"name": name, "user": {"token": token}}],
                "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": name}}]}))
        self.wait("the API server being ready",
                  lambda: self._quiet("kubectl", "get", "--raw=/readyz") == "ok", 90)

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
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{self.path('cni')}"
    conf_dir = "{self.path('cni')}"
""")
        # Never called, as every pod is on the host's network; without one the node isn't ready.
        self.write("cni/none.conflist", '{"cniVersion":"0.4.0","name":"none","plugins":[{"type":"none"}]}')
        self.spawn("containerd", "containerd", "--config", config)
        self.wait("containerd's socket", lambda: os.path.exists(self.containerd_socket))

    def _share_kubelet_root(self):
        """Mounts that a pod makes below it (Bidirectional) reach the host and other pods."""
        os.makedirs(self.kubelet_root, exist_ok=True)
        run("mount", "--bind", self.kubelet_root, self.kubelet_root)
        run("mount", "--make-rshared", self.kubelet_root)

    def start_kubelet(self):
        config = self.write("kubelet.yaml", f"""apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
failSwapOn: false
cgroupRoot: /
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
""")
        self.spawn("kubelet", os.path.join(self.kube_bin, "kubelet"), f"--config={config}",
                   f"--kubeconfig={self.path('kubelet.kubeconfig')}",
                   f"--root-dir={self.kubelet_root}", f"--hostname-override={NODE}",
                   f"--node-ip={NODE_ADDRESS}", f"--cert-dir={self.path('kubelet-pki')}")

    def _node_ready(self):
        text = self._quiet("kubectl", "get", "node", NODE, "-o", "json")
        if not text:
            return False
        conditions = json.loads(text)["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    # -- use ------------------------------------------------------------------------------------

    def nsenter(self, *command, **options):
        return run("nsenter", f"--net=/var/run/netns/{self.netns}", "--", *command, **options)

    def kubectl(self, *arguments, **options):
        return self.nsenter("kubectl", f"--kubeconfig={self.kubeconfig}", *arguments, **options)

    def _quiet(self, tool, *arguments):
        try:
            return self.kubectl(*arguments) if tool == "kubectl" else run(tool, *arguments)
        except subprocess.CalledProcessError:
            return ""

    def apply(self, *objects):
        return self.kubectl("apply", "-f", "-", input=json.dumps(
            {"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, kind, name, namespace="default"):
        """The object; {} where there is none."""
        text = self._quiet("kubectl", "get", kind, name, "-n", namespace, "-o", "json")
        return json.loads(text) if text else {}

    def namespace(self, name, *accounts):
        """A namespace with what the controllers put into each, and ServiceAccounts."""
        with open(self.path("ca.crt"), encoding="utf-8") as file:
            authority = file.read()
        objects = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
                   {"apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": "kube-root-ca.crt", "namespace": name},
                    "data": {"ca.crt": authority}}]
        objects += [{"apiVersion": "v1", "kind": "ServiceAccount",
                     "metadata": {"name": account, "namespace": name}} for account in ("default", *accounts)]
        self.apply(*objects)

    def controlled_pod(self, kind, controller, pod, namespace, aliases=()):
        """Makes the pod that the controller of `kind` would make of its template, on this node."""
        template = self.get(kind, controller, namespace)["spec"]["template"]
        self.apply(self.placed({"apiVersion": "v1", "kind": "Pod", "metadata": {
            **template["metadata"], "name": pod, "namespace": namespace}, "spec": template["spec"]}, aliases))

    def placed(self, pod, aliases=()):
        """What scheduler, CNI and DNS would add to a pod."""
        pod["metadata"].pop("creationTimestamp", None)
        pod["spec"].update(nodeName=NODE, hostNetwork=True, dnsPolicy="Default",
                           hostAliases=[{"ip": "127.0.0.1", "hostnames": list(aliases)}])
        return pod

    def events(self, pod, namespace="default"):
        text = self._quiet("kubectl", "get", "events", "-n", namespace, "-o", "json",
                           f"--field-selector=involvedObject.name={pod}")
        return [e["message"] for e in json.loads(text)["items"]] if text else []

    def ctr(self, *arguments):
        return run("ctr", "-a", self.containerd_socket, "-n", "k8s.io", *arguments)

    def import_image(self, archive):
        self.ctr("image", "import", archive)

    def pod_ready(self, name, namespace="default"):
        text = self._quiet("kubectl", "get", "pod", name, "-n", namespace, "-o", "json")
        if not text:
            return False
        conditions = json.loads(text)["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def stop(self):
        self.end("kubelet")
        if os.path.exists(self.containerd_socket):
            for task in self._quiet("ctr", "-a", self.containerd_socket, "-n", "k8s.io", "tasks",
                                    "ls", "-q").split():
                self._quiet("ctr", "-a", self.containerd_socket, "-n", "k8s.io", "tasks", "rm", "-f",
                            task)
        for name in ("containerd", "kube-apiserver", "etcd", *self.processes):
            self.end(name)
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            points = [line.split()[4] for line in mounts if f" {self.folder}/" in line]
        for point in reversed(points):
            subprocess.run(["umount", "-l", point], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self.netns], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
