#!/usr/bin/env python3
"""The node plugin's publish, two files a volume and a pod each, beside what it can't do without: one login and one
read, asked of the same keystore over one connection; and its memory. Root.

    bench/node_plugin.py [BIN_DIR] [--volumes=1500] [--kube-apiserver=DIR]

With a folder of kube-apiserver (etcd and kubectl are on PATH) it also measures against a real API server, with
statuses and Events written meanwhile.
"""

import argparse
import http.client
import json
import os
import shutil
import ssl
import statistics
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../tests/csi"))
from node_plugin import Node, WEBAPP_OBJECTS  # noqa: E402

PODS = 110  # the kubelet's limit
CLASSES = 20


class Report:
    """Prints lines and counts what missed its mark."""

    def __init__(self):
        self.missed = 0

    def __call__(self, what, value, wanted, unit):
        good = value <= wanted
        self.missed += not good
        print(f"{what:66} {value:8.2f} {unit:4} wanted at most {wanted:g}  {'ok' if good else 'MISSED'}", flush=True)


def login_and_read(node):
    """The median time of both, in microseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", node.keystore.port)
    with open(node.token_file, encoding="utf-8") as file:
        login = json.dumps({"role": "webapp", "jwt": file.read()})
    times = []
    for _ in range(PODS):
        start = time.perf_counter()
        connection.request("POST", "/v1/auth/kubernetes/login", login)
        token = json.loads(connection.getresponse().read())["auth"]["client_token"]
        connection.request("GET", "/v1/secret/data/webapp/config", headers={"X-Vault-Token": token})
        connection.getresponse().read()
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times)


def many(node, command, parallel, *more, count=PODS, folder="bench"):
    tokens = () if any(flag.startswith("--pods=") for flag in more) else (f"--token-file={node.token_file}",)
    code, text = node.call(
        command, f"--count={count}", f"--parallel={parallel}", "--target=" + os.path.dirname(node.target(folder)),
        "--class=webapp", "--service-account=vault", "--audience=vault", *tokens, *more)
    if code != "OK":
        raise SystemExit(f"{command}: {code} {text}")
    return json.loads(text.splitlines()[0])


def memory(node):
    """MiB: resident in all, and what is the process's own and can't be dropped."""
    with open(f"/proc/{node.plugin.pid}/status", encoding="utf-8") as file:
        status = {line.split(":")[0]: line.split() for line in file}
    own = sum(int(status[name][1]) for name in ("RssAnon", "RssShmem"))
    return int(status["VmRSS"][1]) / 1024, own / 1024


def alone(bin_dir, volumes, report):
    node = Node(bin_dir)
    try:
        for number in range(CLASSES):
            node.write_class(f"webapp-{number}", WEBAPP_OBJECTS)
        classes = f"--classes={CLASSES}"
        yardstick = login_and_read(node)
        one_by_one = many(node, "publish-many", 1, classes)
        report(f"publish, one after another: median {one_by_one['median_us']} us, "
               f"login + read {yardstick:.0f} us", one_by_one["median_us"] / yardstick, 5, "x")
        resident, own = memory(node)
        report(f"resident with {PODS} volumes, {CLASSES} classes ({own:.1f} its own)", resident, 18, "MiB")
        report("unpublish, one after another: median", many(node, "unpublish-many", 1)["median_us"] / 1000, 1, "ms")
        at_once = many(node, "publish-many", PODS, classes)
        print(f"{PODS} at once, none failed: {at_once}", flush=True)
        many(node, "unpublish-many", 16)
        if volumes:
            crowd = many(node, "publish-many", 16, classes, count=volumes)
            resident, own = memory(node)
            report(f"resident with {volumes} volumes, 16 at a time ({own:.1f} its own)", resident, 60, "MiB")
            print(f"{volumes}, 16 at a time: {crowd}", flush=True)
            many(node, "unpublish-many", 16, count=volumes)
            print(f"and when they are gone: {memory(node)[0]:.1f} MiB", flush=True)
    finally:
        node.close()


def make_pods(cluster, path):
    """As many pods as a node has, with the tokens that the kubelet would send; the file for --pods."""
    from kube_node import NODE  # pylint: disable=import-outside-toplevel
    names = [f"bench-{number}" for number in range(PODS)]
    cluster.apply(*({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": NODE, "serviceAccountName": "vault", "automountServiceAccountToken": False,
                 "containers": [{"name": "app", "image": "none"}]}} for name in names))
    pods = json.loads(cluster.kubectl("get", "pods", "-o", "json"))["items"]
    uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}
    with open(cluster.path("admin.kubeconfig"), encoding="utf-8") as file:
        config = json.load(file)
    server = config["clusters"][0]["cluster"]["server"]
    token = config["users"][0]["user"]["token"]
    unchecked = ssl._create_unverified_context()  # pylint: disable=protected-access
    with open(path, "w", encoding="utf-8") as file:
        for name in names:
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
                "expirationSeconds": 3600,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uids[name]}}}
            request = urllib.request.Request(
                f"{server}/api/v1/namespaces/default/serviceaccounts/vault/token", json.dumps(body).encode(),
                {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
            with urllib.request.urlopen(request, context=unchecked, timeout=60) as answer:
                file.write(f"{name} {uids[name]} {json.load(answer)['status']['token']}\n")
    return path


def with_api_server(bin_dir, tools, report):
    from kube_node import ApiServer, ClusterNode, prepare  # pylint: disable=import-outside-toplevel
    cluster = ApiServer(os.path.join(tempfile.mkdtemp(prefix="coffer-kube."), "k"), tools)
    node = None
    try:
        prepare(cluster)
        node = ClusterNode(bin_dir, cluster)
        pods = "--pods=" + make_pods(cluster, cluster.path("pods"))
        many(node, "publish-many", 1, pods, "--audience=", count=1, folder="warm")
        many(node, "unpublish-many", 1, count=1, folder="warm")
        for parallel, folder in ((1, "one"), (16, "sixteen")):
            publish = many(node, "publish-many", parallel, pods, "--audience=", folder=folder)
            resident = memory(node)[0]
            unpublish = many(node, "unpublish-many", parallel, folder=folder)
            if parallel == 1:
                report("API server: publish, one after another: median", publish["median_us"] / 1000, 4, "ms")
                report("API server: unpublish, one after another: median", unpublish["median_us"] / 1000, 1, "ms")
                report(f"API server: resident with {PODS} volumes", resident, 18, "MiB")
            report(f"API server: {PODS} pods, {parallel} at a time, in all", publish["total_us"] / 1e6, 0.5, "s")
    finally:
        if node:
            node.close()
        cluster.stop()
        shutil.rmtree(os.path.dirname(cluster.folder), ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin_dir", nargs="?", default=os.path.join(HERE, "../build/release/bin"))
    parser.add_argument("--volumes", type=int, default=1500)
    parser.add_argument("--kube-apiserver", metavar="DIR")
    options = parser.parse_args()
    report = Report()
    alone(options.bin_dir, options.volumes, report)
    if options.kube_apiserver:
        with_api_server(options.bin_dir, options.kube_apiserver, report)
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
