"""The chart's NetworkPolicies, enforced by kube-router: who reaches whom in the cluster."""

import concurrent.futures
import contextlib
import json
import os
import shlex
import subprocess
import sys

from cluster import NODE
from network import API_SERVICE, NODE_ADDRESS
from world import holds, until

OTHER_PORT = 9999  # no policy names it; each pod listens there meanwhile
LISTEN = f"""import socket
server = socket.create_server(("", {OTHER_PORT}))
while True:
    server.accept()[0].close()
"""
# From, to, port, and whether it may be reached.
FLOWS = [
    ("webapp", "keystore", 8200, True), ("reader", "keystore", 8200, True), ("plugin", "keystore", 8200, True),
    ("webapp", "plugin", 8095, True), ("webapp", "plugin", 8096, True),
    ("keystore", "API server", 443, True), ("keystore", "name server", 53, True), ("plugin", "API server", 443, True),
    ("webapp", "reader", OTHER_PORT, True), ("plugin", "webapp", 8080, True),
    ("webapp", "keystore", OTHER_PORT, False), ("webapp", "plugin", OTHER_PORT, False),
    ("webapp", "keeper", OTHER_PORT, False), ("plugin", "keeper", OTHER_PORT, False),
    ("keystore", "webapp", 8080, False), ("keystore", "reader", OTHER_PORT, False),
    ("keeper", "keystore", 8200, False), ("keeper", "API server", 443, False), ("keeper", "name server", 53, False),
]
NARROWED = [
    ("webapp", "keystore", 8200, True), ("plugin", "keystore", 8200, True), ("keystore", "API server", 443, True),
    ("reader", "keystore", 8200, False), ("webapp", "keystore", OTHER_PORT, False),
]


class Places:
    """Pods by what they are: an address, and a network to look out from."""

    def __init__(self, world):
        cluster = world.cluster
        webapp, = cluster.list("pods", app="webapp")
        keeper, = cluster.list("pods", "vault", **{"app.kubernetes.io/component": "keeper"})
        pods = {"webapp": (webapp["metadata"]["name"], "app", "default"), "reader": ("reader", "app", "default"),
                "keystore": ("vault-0", "coffer-keystore", "vault"), "plugin": (world.plugin(), "coffer-csi", "vault"),
                "keeper": (keeper["metadata"]["name"], "coffer-keeper", "vault")}
        self.network, self.address = {}, {"API server": API_SERVICE, "name server": NODE_ADDRESS}
        for name, (pod, container, namespace) in pods.items():
            self.network[name] = ["nsenter", f"--net=/proc/{cluster.pid(pod, container, namespace)}/ns/net", "--"]
            self.address[name] = cluster.get("pod", pod, namespace)["status"]["podIP"]

    def reaches(self, source, target, port):
        connect = f"exec 3<>/dev/tcp/{self.address[target]}/{port}"
        return subprocess.run([*self.network[source], "timeout", "2", "bash", "-c", connect],
                              capture_output=True, check=False).returncode == 0

    def other_than(self, flows):
        # At once: each that is refused takes a second.
        with concurrent.futures.ThreadPoolExecutor(len(flows)) as pool:
            reached = pool.map(lambda flow: self.reaches(*flow[:3]), flows)
        return [flow for flow, may in zip(flows, reached) if may != flow[3]]

    @contextlib.contextmanager
    def listening(self):
        with contextlib.ExitStack() as stack:
            for network in self.network.values():
                server = subprocess.Popen([*network, sys.executable, "-c", LISTEN])
                stack.callback(server.wait)
                stack.callback(server.terminate)
            yield


@contextlib.contextmanager
def enforcing(world):
    cluster = world.cluster

    def bridged(on):
        """Whether what stays on the pods' bridge goes by the rules, too."""
        cluster.nsenter("sysctl", "-q", "-w", f"net.bridge.bridge-nf-call-iptables={on}")
    bridged(1)
    cluster.spawn("kube-router", os.path.join(world.tools, "kube-router/kube-router"), "--run-firewall=true",
                  "--run-router=false", "--run-service-proxy=false", f"--kubeconfig={cluster.kubeconfig}",
                  f"--hostname-override={NODE}", "--health-port=0")
    yield
    cluster.end("kube-router")
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        for rule in cluster.nsenter("iptables", "-S", chain).splitlines():
            if "-j KUBE-ROUTER-" in rule:
                cluster.nsenter("iptables", "-D", *shlex.split(rule)[1:])
    bridged(0)


def narrow(world, *arguments):
    world.helm("upgrade", "vault", world.chart, "-n", "vault", "-f", world.cluster.path("vault-values.yaml"), *arguments)


def volume(world):
    world.pod("policed")
    world.started("policed")
    holds(world.file("policed", "password") == "static-password", "a pod under the policies has no secret")
    world.delete_pod("policed")


def policies(world):
    places = Places(world)
    with places.listening():
        everything = [(*flow[:3], True) for flow in FLOWS]
        until("each flow without anybody who enforces", lambda: not places.other_than(everything), 30)
        with enforcing(world):
            until("the flows of the policies", lambda: not places.other_than(FLOWS), 60)
            volume(world)
            until("the same with pods that came and went", lambda: not places.other_than(FLOWS), 60)
            narrow(world, "--set-json", "server.networkPolicy.from=" + json.dumps(
                [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "webapp"}}}]))
            until("the flows of server.networkPolicy.from", lambda: not places.other_than(NARROWED), 60)
            volume(world)
            narrow(world)
        until("the flows as before", lambda: not places.other_than(everything), 30)
    print(f"    {len(FLOWS)} flows, {sum(not may for *_, may in FLOWS)} of them refused")


STEPS = [("NetworkPolicies, enforced by kube-router: who may reaches keystore and plugin, nobody else does", policies)]
