"""The cluster's network: a namespace of its own, a bridge that pods are put on by CNI's own plugins,
addresses of services by kube-proxy, and their names by dnsmasq."""

import json
import os
import signal
import subprocess

CNI = "/usr/lib/cni"  # Debian's containernetworking-plugins
NODE_ADDRESS = "10.201.0.2"
SERVICES = "10.96.0.0/24"
API_SERVICE = "10.96.0.1"  # the service "kubernetes": pods find the API server here
PODS = "10.202.0.0/16"
DOMAIN = "cluster.local"


class Network:
    def __init__(self, name, folder):
        self.name = name
        self.folder = folder

    def inside(self, *command):
        """The command, run in the namespace."""
        return ["nsenter", f"--net=/var/run/netns/{self.name}", "--", *command]

    def start(self):
        def run(*command):
            subprocess.run(command, check=True, capture_output=True)
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        run("ip", "-n", self.name, "addr", "add", f"{NODE_ADDRESS}/32", "dev", "lo")
        # Whatever has no way of its own must have one to be looked at by kube-proxy's rules.
        run("ip", "-n", self.name, "route", "add", "default", "dev", "lo", "src", NODE_ADDRESS)
        run(*self.inside("sysctl", "-q", "-w", "net.ipv4.ip_forward=1"))
        self._write("cni/pods.conflist", json.dumps({
            "cniVersion": "0.4.0", "name": "pods", "plugins": [{
                "type": "bridge", "bridge": "pods0", "isGateway": True, "hairpinMode": True,
                "ipam": {"type": "host-local", "dataDir": os.path.join(self.folder, "ipam"),
                         "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}))
        self._write("names", "")

    def stop(self, spaces=()):
        """Takes it away, and the namespaces of pods."""
        for name in (*spaces, self.name):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def containerd_config(self):
        return f'''  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "{os.path.join(self.folder, 'cni')}"
'''

    def name_server(self):
        return ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
                "--bind-interfaces", f"--listen-address={NODE_ADDRESS}", "--pid-file=", f"--local=/{DOMAIN}/",
                f"--addn-hosts={os.path.join(self.folder, 'names')}"]

    def kube_proxy(self, program, kubeconfig, node):
        # What conntrack may hold is the whole machine's, and stays as it is.
        return [program, f"--kubeconfig={kubeconfig}", f"--hostname-override={node}", "--proxy-mode=iptables",
                f"--cluster-cidr={PODS}", "--masquerade-all", "--iptables-localhost-nodeports=false",
                "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0", "--healthz-bind-address=127.0.0.1:10256",
                "--metrics-bind-address=127.0.0.1:10249"]

    def publish_names(self, services, server):
        """Makes services known to pods by name; `server` is the process of name_server()."""
        lines = [f"{s['spec']['clusterIP']} {s['metadata']['name']}.{s['metadata']['namespace']}.svc.{DOMAIN}\n"
                 for s in services if s["spec"].get("clusterIP", "None") != "None"]
        self._write("names", "".join(lines))
        server.send_signal(signal.SIGHUP)

    def _write(self, name, text):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
