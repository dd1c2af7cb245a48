#!/usr/bin/env python3
"""The node plugin's publish, two files a volume, beside what it can't do without: one login and one
read, asked of the same keystore over one connection. Root.

    bench/node_plugin.py [BIN_DIR]
"""

import http.client
import json
import os
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../tests/csi"))
from node_plugin import Node  # noqa: E402

VOLUMES = 110


def login_and_read(node):
    """The median time of both, in microseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", node.keystore.port)
    with open(node.token_file, encoding="utf-8") as file:
        login = json.dumps({"role": "webapp", "jwt": file.read()})
    times = []
    for _ in range(VOLUMES):
        start = time.perf_counter()
        connection.request("POST", "/v1/auth/kubernetes/login", login)
        token = json.loads(connection.getresponse().read())["auth"]["client_token"]
        connection.request("GET", "/v1/secret/data/webapp/config", headers={"X-Vault-Token": token})
        connection.getresponse().read()
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times)


def many(node, command, parallel):
    code, text = node.call(
        command, f"--count={VOLUMES}", f"--parallel={parallel}",
        "--target=" + os.path.dirname(node.target("bench")), "--class=webapp", "--service-account=vault",
        "--audience=vault", f"--token-file={node.token_file}")
    if code != "OK":
        raise SystemExit(f"{command}: {code} {text}")
    return json.loads(text.splitlines()[0])


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def main():
    node = Node(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "../build/release/bin"))
    missed = 0

    def report(what, value, wanted, unit):
        nonlocal missed
        good = value <= wanted
        missed += not good
        print(f"{what:58} {value:8.2f} {unit:4} wanted at most {wanted:g}  {'ok' if good else 'MISSED'}")

    try:
        yardstick = login_and_read(node)
        one_by_one = many(node, "publish-many", 1)
        report(f"publish, one after another: median {one_by_one['median_us']} us, "
               f"login + read {yardstick:.0f} us", one_by_one["median_us"] / yardstick, 5, "x")
        report(f"resident with {VOLUMES} volumes", resident_mib(node.plugin.pid), 18, "MiB")
        gone = many(node, "unpublish-many", 1)
        print(f"unpublish: median {gone['median_us']} us")
        at_once = many(node, "publish-many", VOLUMES)
        print(f"{VOLUMES} at once, none failed: {at_once}")
        many(node, "unpublish-many", 16)
    finally:
        node.close()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
