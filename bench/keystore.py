#!/usr/bin/env python3
"""Ratios of the keystore to what the machine can do, measured in turns within one run.

    bench/keystore.py [BIN_DIR] [--seconds S] [--rounds N] [--only reads,writes,login,memory]
                      [--scheduler rr|other]

Needs wrk and openssl. BIN_DIR is build/release/bin if not given. As root, both sides of a ratio have
the round-robin real-time scheduler, unless --scheduler=other.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "lib"))
from coffer_test import Keystore, TokenSigner, free_port  # noqa: E402

class MemoryKeystore(Keystore):
    """One that keeps all in memory: what a request costs without a disk."""

    def storage_config(self, more):
        return 'storage "inmem" {}\n'


CONNECTIONS = 16
SECRET = {"data": {"username": "static-user", "password": "static-password"}}


def wrk(url, seconds, script=None, headers=(), arguments=()):
    """Requests a second; fails if any answer isn't 2xx."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    for header in headers:
        command += ["-H", header]
    if script:
        command += ["-s", os.path.join(HERE, script)]
    done = subprocess.run(command + [url, *arguments], check=True, capture_output=True, text=True)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", done.stdout)
    if wrong:
        raise RuntimeError(f"wrk {url}: {wrong.group(0)}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1))


def in_turns(rounds, ours, yardstick):
    """Medians of both and of their ratios: neighbours in time are compared with each other."""
    pairs = [(ours(), yardstick()) for _ in range(rounds)]
    return (statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs),
            statistics.median(a / b for a, b in pairs))


class Report:
    def __init__(self):
        self.missed = False

    def ratio(self, what, ours, yardstick, name, ratio, wanted):
        verdict = "ok" if ratio >= wanted else "MISSED"
        self.missed |= ratio < wanted
        print(f"{what:34} {ours:10,.0f} /s   {name:38} {yardstick:10,.0f} /s   "
              f"ratio {ratio:6.2f}   wanted {wanted:5.2f}   {verdict}", flush=True)

    def memory(self, what, kib, wanted_mib):
        verdict = "ok" if kib <= wanted_mib * 1024 else "MISSED"
        self.missed |= kib > wanted_mib * 1024
        print(f"{what:34} {kib / 1024:10.1f} MiB  wanted at most {wanted_mib} MiB   {verdict}", flush=True)


def bench_reads(report, keystore, root, options, folder):
    token = keystore.must("POST", "auth/token/create", {"policies": ["reader"]}, root)
    token = token["auth"]["client_token"]
    keystore.must("PUT", "sys/policies/acl/reader", {
        "policy": 'path "secret/data/webapp/config" { capabilities = ["read"] }'}, root)
    keystore.must("POST", "secret/data/webapp/config", SECRET, root)
    body = os.path.join(folder, "body")
    with open(body, "w", encoding="utf-8") as file:
        json.dump(keystore.must("GET", "secret/data/webapp/config", token=token), file,
                  separators=(",", ":"))
        file.write("\n")
    port = free_port()
    threads = os.cpu_count()
    beast = subprocess.Popen(
        [os.path.join(options.bin_dir, "empty_beast_server"), str(port), str(threads), body])
    try:
        time.sleep(0.3)
        header = [f"X-Vault-Token: {token}"]
        path = "/v1/secret/data/webapp/config"
        ours = lambda: wrk(keystore.address + path, options.seconds, headers=header)
        yardstick = lambda: wrk(f"http://127.0.0.1:{port}{path}", options.seconds, headers=header)
        ours(), yardstick()  # warm
        report.ratio("kv-v2 reads", *swap(in_turns(options.rounds, ours, yardstick),
                                          f"empty Beast server, {threads} threads"), 0.60)
    finally:
        beast.kill()
        beast.wait()


def swap(medians, name):
    ours, yardstick, ratio = medians
    return ours, yardstick, name, ratio


def sequential_fsyncs(folder, seconds):
    """Appends of one record, each made durable before the next, a second."""
    record = b"x" * 512
    fd = os.open(os.path.join(folder, "appended"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            os.write(fd, record)
            os.fsync(fd)
            count += 1
        return count / seconds
    finally:
        os.close(fd)


def bench_writes(report, keystore, root, options, folder):
    header = [f"X-Vault-Token: {root}"]
    ours = lambda: wrk(keystore.address, options.seconds, "keystore_write.lua", header)
    yardstick = lambda: sequential_fsyncs(folder, options.seconds)
    report.ratio("durable kv-v2 writes (lmdb)", *swap(in_turns(options.rounds, ours, yardstick),
                                                      "append and fsync, one by one"), 5.0)


def openssl_verifies(seconds):
    # By the clock, as what it is compared with, and not by the processor time it got.
    done = subprocess.run(["openssl", "speed", "-elapsed", "-seconds", str(seconds), "rsa2048"],
                          check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1].split()[-1])


def bench_login(report, keystore, root, options, folder, storage="lmdb"):
    signer = TokenSigner(folder)
    keystore.must("POST", "sys/auth/kubernetes", {"type": "kubernetes"}, root)
    keystore.must("POST", "auth/kubernetes/config", {
        "kubernetes_host": "https://127.0.0.1:1", "pubkeys": [signer.public_key]}, root)
    yardstick = lambda: openssl_verifies(options.seconds)
    for token_type in ("service", "batch"):
        keystore.must("POST", f"auth/kubernetes/role/{token_type}", {
            "bound_service_account_names": "vault", "bound_service_account_namespaces": "default",
            "audience": "vault", "policies": "webapp", "ttl": "1h", "token_type": token_type}, root)
        body = os.path.join(folder, "login.json")
        with open(body, "w", encoding="utf-8") as file:
            json.dump({"role": token_type, "jwt": signer.token()}, file)
        ours = lambda: wrk(keystore.address + "/v1/auth/kubernetes/login", options.seconds,
                           "keystore_login.lua", arguments=["--", body])
        report.ratio(f"logins, {token_type} tokens, {storage}",
                     *swap(in_turns(options.rounds, ours, yardstick),
                           "openssl speed rsa2048, verifies"), 0.25)


def bench_login_in_memory(report, options, folder):
    os.mkdir(os.path.join(folder, "in-memory"))
    keystore = MemoryKeystore(options.bin_dir, os.path.join(folder, "in-memory"))
    try:
        _, root = keystore.initialize(1, 1)
        bench_login(report, keystore, root, options, folder, "inmem")
    finally:
        keystore.stop()


def bench_memory_at_start(report, options, folder):
    """Of a process that listens and has not been asked anything."""
    port = free_port()
    config = os.path.join(folder, "start.hcl")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f'storage "lmdb" {{ path = "{folder}/start" }}\n'
                   f'listener "tcp" {{ address = "127.0.0.1:{port}"\n tls_disable = true }}\n')
    process = subprocess.Popen([os.path.join(options.bin_dir, "coffer-keystore"),
                                f"-config={config}"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.02)
        report.memory("resident at start", resident_kib(process.pid), 15)
    finally:
        process.kill()
        process.wait()


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1))


def keep_others_out():
    """Gives all that is started from here on processors of its own, as far as this may be done.

    Other work is kept out, and whoever can run does: the kernel of a virtual machine may keep runnable
    threads together on one virtual processor (sched_vcpu_pack) and the other one idle.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    except PermissionError:
        print("not root: beside whatever else runs, and where the kernel puts threads")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin_dir", nargs="?", default=os.path.join(HERE, "../build/release/bin"))
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="memory,reads,writes,login")
    parser.add_argument("--scheduler", choices=("rr", "other"), default="rr")
    options = parser.parse_args()
    if options.scheduler == "rr":
        keep_others_out()
    only = options.only.split(",")
    report = Report()
    # On a disk: /tmp may be memory, where fsync costs nothing.
    with tempfile.TemporaryDirectory(prefix="coffer-bench-", dir="/var/tmp") as folder:
        if "memory" in only:
            bench_memory_at_start(report, options, folder)
        if "login" in only:
            bench_login_in_memory(report, options, folder)
        os.mkdir(os.path.join(folder, "keystore"))
        keystore = Keystore(options.bin_dir, os.path.join(folder, "keystore"))
        try:
            _, root = keystore.initialize()
            print(f"{'resident, unsealed':34} {resident_kib(keystore.process.pid) / 1024:10.1f} MiB")
            keystore.must("POST", "sys/mounts/secret", {"type": "kv-v2"}, root)
            for name, bench in (("reads", bench_reads), ("writes", bench_writes),
                                ("login", bench_login)):
                if name in only:
                    bench(report, keystore, root, options, folder)
            print(f"{'resident after all that':34} "
                  f"{resident_kib(keystore.process.pid) / 1024:10.1f} MiB")
        finally:
            keystore.stop()
    sys.exit(1 if report.missed else 0)


if __name__ == "__main__":
    main()
