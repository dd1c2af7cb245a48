#!/usr/bin/env python3
"""The program coffer-keystore as its user meets it: command line, errors, signals, files, sealed answers.

    program_test.py BIN_DIR
"""

import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/lib"))
from coffer_test import Keystore, free_port  # noqa: E402

BIN_DIR = sys.argv.pop(1)
PROGRAM = os.path.join(BIN_DIR, "coffer-keystore")


def run(*arguments, home="/nonexistent"):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=20,
                          env={**os.environ, "HOME": home})


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="coffer-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


class CommandLine(Folder):
    def test_version_and_help_end_well(self):
        self.assertRegex(run("-version").stdout, r"^Coffer v\d+\.\d+\.\d+, built \d{4}-")
        self.assertIn("-config=<path>", run("-help").stdout)

    def test_start_up_errors_are_one_line_and_exit_1(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            listener = f'listener "tcp" {{ address = "127.0.0.1:{port}"\n tls_disable = true }}\n'
            tls = ('listener "tcp" { address = "127.0.0.1:0"\n tls_cert_file = "/nonexistent.crt"\n'
                   ' tls_key_file = "/nonexistent.key" }\n')
            cases = [
                ("no arguments", [], "-config=FILE"),
                ("an unknown flag", ["-verbose"], "-verbose"),
                ("no such file", ["-config=/nonexistent.hcl"], "/nonexistent.hcl"),
                ("broken HCL", ["-config=" + self.write("a.hcl", "storage {{")], "a.hcl"),
                ("an unknown key", ["-config=" + self.write("b.hcl", "stroage = 1\n")], "stroage"),
                ("a port in use",
                 ["-config=" + self.write("c.hcl", 'storage "inmem" {}\n' + listener)], str(port)),
                ("no certificate",
                 ["-config=" + self.write("d.hcl", 'storage "inmem" {}\n' + tls)],
                 'd.hcl: line 2, column 10: TLS: can\'t use tls_cert_file "/nonexistent.crt": No such file'),
                ("no folder",
                 ["-config=" + self.write("e.hcl", 'storage "lmdb" { path = "/proc/x" }\n'
                                          + listener.replace(str(port), "0"))], "/proc/x"),
                ("an unknown log level", ["-dev", "-log-level=loud"], "loud"),
            ]
            for name, arguments, says in cases:
                with self.subTest(name):
                    done = run(*arguments)
                    errors = [line for line in done.stderr.splitlines() if "[" not in line]
                    self.assertEqual(done.returncode, 1)
                    self.assertEqual(len(errors), 1, done.stderr)
                    self.assertIn(says, errors[0])
                    self.assertTrue(errors[0].startswith("coffer-keystore: "))


class Dev(Folder):
    def test_dev_is_unsealed_with_kv_version_2_and_says_how_to_use_it(self):
        port = free_port()
        process = subprocess.Popen(
            [PROGRAM, "server", "-dev", "-dev-root-token-id=root",
             f"-dev-listen-address=127.0.0.1:{port}"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "HOME": self.folder})
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        banner = ""
        while "Development mode should NOT" not in banner:
            line = process.stdout.readline()
            self.assertTrue(line, banner)
            banner += line
        self.addCleanup(process.stdout.close)
        self.assertIn(f"export VAULT_ADDR='http://127.0.0.1:{port}'", banner)
        self.assertIn("Root Token: root\n", banner)
        self.assertRegex(banner, r"Unseal Key: [A-Za-z0-9+/]{43}=")

        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        headers = {"X-Vault-Token": "root"}
        connection.request("POST", "/v1/secret/data/a", '{"data":{"b":"c"}}', headers)
        connection.getresponse().read()
        connection.request("GET", "/v1/secret/data/a", headers=headers)
        self.assertEqual(json.load(connection.getresponse())["data"]["data"], {"b": "c"})

        token_file = os.path.join(self.folder, ".vault-token")
        with open(token_file, encoding="utf-8") as file:
            self.assertEqual(file.read(), "root")
        self.assertEqual(os.stat(token_file).st_mode & 0o777, 0o600)


class FullStorage(unittest.TestCase):
    def test_it_is_507_says_where_in_the_log_alone_and_ends_when_something_is_deleted(self):
        keystore = Keystore(BIN_DIR, storage='map_size = "2MiB"')
        self.addCleanup(keystore.stop)
        _, root = keystore.initialize()
        keystore.must("POST", "sys/auth/kubernetes", {"type": "kubernetes"}, root)
        status, answer = keystore.fill(root)
        self.assertEqual(status, 507)
        self.assertEqual(answer["errors"], ["the storage is full: delete secrets, or give it more room"])
        for _ in range(5):
            self.assertEqual(keystore.request("POST", "auth/token/create", {}, root)[0], 507)
        self.assertIn("x", keystore.must("GET", "full/0", token=root)["data"])
        with open(keystore.log.name, encoding="utf-8") as log:
            told = [line for line in log if "for want of storage" in line]
        self.assertEqual(len(told), 1)
        self.assertIn(f"{keystore.folder}/data is full", told[0])
        keystore.must("DELETE", "full/0", token=root)
        keystore.must("POST", "auth/token/create", {}, root)


class Server(unittest.TestCase):
    def setUp(self):
        self.keystore = Keystore(BIN_DIR)
        self.addCleanup(self.keystore.stop)

    def test_sealed_and_unsealed_it_answers_health_and_refuses_the_rest(self):
        health = lambda query="": self.keystore.request("GET", "sys/health" + query)[0]
        self.assertEqual(health(), 501)
        self.assertEqual(health("?uninitcode=200"), 200)
        _, root = self.keystore.initialize()
        self.assertEqual(health(), 200)
        self.assertEqual(self.keystore.request("HEAD", "sys/health")[0], 200)
        self.keystore.must("PUT", "sys/seal", token=root)
        self.assertEqual(health(), 503)
        self.assertEqual(health("?sealedcode=299"), 299)
        self.assertEqual(self.keystore.request("HEAD", "sys/health")[0], 503)
        status, answer = self.keystore.request("GET", "secret/data/x", token=root)
        self.assertEqual(status, 503)
        self.assertIn("sealed", answer["errors"][0])
        self.assertEqual(self.keystore.request("GET", "sys/seal-status")[0], 200)

    def test_a_token_that_ends_while_the_process_is_down_is_refused_after_it(self):
        shares, root = self.keystore.initialize()
        create = lambda ttl: self.keystore.must("POST", "auth/token/create", {"ttl": ttl}, root)["auth"]["client_token"]
        lookup = lambda token: self.keystore.request("GET", "auth/token/lookup-self", token=token)[0]
        short, long = create("3s"), create("1h")
        self.assertEqual((lookup(short), lookup(long)), (200, 200))
        self.keystore.kill()
        time.sleep(3.1)
        self.keystore.start()
        for share in shares[:3]:
            self.keystore.must("PUT", "sys/unseal", {"key": share})
        self.assertEqual((lookup(short), lookup(long)), (403, 200))

    def test_a_code_that_has_no_body_leaves_the_connection_in_step(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.keystore.port, timeout=20)
        self.addCleanup(connection.close)
        for code, length in [(204, 0), (304, 0), (299, None), (199, None)]:
            with self.subTest(code):
                connection.request("GET", f"/v1/sys/health?uninitcode={code}")
                answer = connection.getresponse()
                self.assertEqual(answer.status, code if code >= 200 else 400)
                self.assertEqual(answer.length, length if length == 0 else int(answer.headers["Content-Length"]))
                answer.read()
                connection.request("GET", "/v1/sys/seal-status")
                self.assertIn(b'"sealed":true', connection.getresponse().read())

    def test_it_keeps_what_it_holds_from_others(self):
        pid = self.keystore.process.pid
        self.assertEqual(resource.prlimit(pid, resource.RLIMIT_CORE), (0, 0))
        self.assertEqual(os.stat(f"/proc/{pid}/mem").st_uid, 0)  # not dumpable: root's
        for folder, _, files in os.walk(os.path.join(self.keystore.folder, "data")):
            self.assertEqual(os.stat(folder).st_mode & 0o077, 0, folder)
            for name in files:
                path = os.path.join(folder, name)
                self.assertEqual(os.stat(path).st_mode & 0o077, 0, path)

    def test_metrics_tell_of_a_sealed_keystore_where_the_listener_lets_everybody_ask(self):
        with open(self.keystore.config, encoding="utf-8") as file:
            text = file.read()
        closed = self.keystore.request("GET", "sys/metrics?format=prometheus")
        self.assertEqual(closed[0], 503)
        self.keystore.kill()
        with open(self.keystore.config, "w", encoding="utf-8") as file:
            file.write(text.replace("tls_disable = true\n", "tls_disable = true\n  telemetry {\n"
                                    "    unauthenticated_metrics_access = true\n  }\n"))
        self.keystore.start()

        def metrics():
            connection = http.client.HTTPConnection("127.0.0.1", self.keystore.port, timeout=30)
            self.addCleanup(connection.close)
            connection.request("GET", "/v1/sys/metrics?format=prometheus")
            answer = connection.getresponse()
            self.assertEqual(answer.status, 200)
            return answer.read().decode()

        self.assertIn("\nvault_core_unsealed 0\n", metrics())
        self.keystore.initialize()
        self.assertIn("\nvault_core_unsealed 1\n", metrics())
        self.assertRegex(metrics(), r"\nprocess_resident_memory_bytes [1-9]")

    def test_the_web_page_is_there_where_the_configuration_says_so(self):
        def get(keystore, path):
            connection = http.client.HTTPConnection("127.0.0.1", keystore.port, timeout=30)
            self.addCleanup(connection.close)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

        self.assertEqual(get(self.keystore, "/ui/")[0], 404)
        shown = Keystore(BIN_DIR, extra_config="ui = true\n")
        self.addCleanup(shown.stop)
        status, headers, body = get(shown, "/ui/")
        self.assertEqual(status, 200)
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertIn(b"app.js", body)
        self.assertEqual(get(shown, "/")[1]["Location"], "/ui/")
        self.assertEqual(get(shown, "/v1/sys/seal-status")[0], 200)

    def test_the_openapi_document_tells_all_routes_of_all_mounts(self):
        _, root = self.keystore.initialize()
        self.keystore.must("POST", "sys/mounts/kv", {"type": "kv-v2"}, root)
        self.assertEqual(self.keystore.request("GET", "sys/internal/specs/openapi")[0], 403)
        document = self.keystore.must("GET", "sys/internal/specs/openapi", token=root)
        self.assertEqual(document["openapi"], "3.0.2")
        paths = document["paths"]
        secret = paths["/kv/data/{path}"]
        self.assertEqual(set(secret) & {"get", "post", "patch", "delete"},
                         {"get", "post", "patch", "delete"})
        self.assertEqual([(item["name"], item["in"]) for item in secret["parameters"]],
                         [("path", "path")])
        schema = secret["post"]["requestBody"]["content"]["application/json"]["schema"]
        self.assertEqual(schema["properties"]["data"]["type"], "object")
        self.assertEqual(secret["post"]["tags"], ["secrets"])
        self.assertTrue(paths["/sys/seal-status"]["x-vault-unauthenticated"])
        self.assertIn("/auth/token/create", paths)
        for path, item in paths.items():
            self.assertEqual(path.count("{"), len(item.get("parameters", [])), path)
            self.assertTrue(set(item) & {"get", "post", "patch", "delete"}, path)
            self.assertTrue(item["description"], path)
            # What stands in the path is told there alone, by its name.
            captured = {parameter["name"] for parameter in item.get("parameters", [])}
            self.assertEqual(captured, set(re.findall(r"{(\w+)}", path)))
            post = item.get("post", {}).get("requestBody", {}).get("content", {})
            for body in post.values():
                self.assertFalse(captured & set(body["schema"].get("properties", {})), path)

    def test_the_configuration_names_it_and_says_how_long_leases_last(self):
        keystore = Keystore(BIN_DIR, extra_config='cluster_name = "shop"\n'
                            'default_lease_ttl = "30m"\nmax_lease_ttl = "1h"\n')
        self.addCleanup(keystore.stop)
        _, root = keystore.initialize(1, 1)
        for path in ("sys/seal-status", "sys/health"):
            self.assertEqual(keystore.must("GET", path)["cluster_name"], "shop")
        keystore.must("POST", "sys/mounts/old", {"type": "kv"}, root)
        keystore.must("POST", "old/a", {"x": "y"}, root)
        self.assertEqual(keystore.must("GET", "old/a", token=root)["lease_duration"], 1800)
        tuned = keystore.must("GET", "sys/mounts/old/tune", token=root)["data"]
        self.assertEqual((tuned["default_lease_ttl"], tuned["max_lease_ttl"]), (1800, 3600))
        for asked, given in ((None, 1800), ("45m", 2700), ("2h", 3600)):
            body = {"policies": ["default"], **({"ttl": asked} if asked else {})}
            made = keystore.must("POST", "auth/token/create", body, root)
            self.assertEqual(made["auth"]["lease_duration"], given)
        status, answer = keystore.request("POST", "sys/mounts/old/tune",
                                          {"default_lease_ttl": "2h"}, root)
        self.assertEqual((status, "longer than the max_lease_ttl" in str(answer)), (400, True))
        keystore.must("POST", "sys/auth/kubernetes", {"type": "kubernetes"}, root)
        status, answer = keystore.request("POST", "auth/kubernetes/role/web", {
            "bound_service_account_names": "*", "bound_service_account_namespaces": "*",
            "token_period": "2h"}, root)
        self.assertEqual((status, "maximum lease TTL of '1h0m0s'" in str(answer)), (400, True))

    def test_a_folder_belongs_to_one_process(self):
        done = run(f"-config={self.keystore.config}")
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.keystore.folder, done.stderr)

    def test_sigterm_finishes_what_is_under_way_and_ends_with_0(self):
        _, root = self.keystore.initialize()
        self.keystore.must("POST", "sys/mounts/secret", {"type": "kv-v2"}, root)
        acknowledged, wrong = {}, []

        def write(number):
            connection = http.client.HTTPConnection("127.0.0.1", self.keystore.port, timeout=20)
            for count in range(100_000):
                try:
                    connection.request("POST", f"/v1/secret/data/{number}",
                                       json.dumps({"data": {"count": count}}),
                                       {"X-Vault-Token": root})
                    answer = connection.getresponse()
                    answer.read()
                except (ConnectionError, http.client.RemoteDisconnected):
                    return  # between two requests
                except http.client.HTTPException as error:
                    wrong.append(repr(error))  # in the middle of an answer
                    return
                if answer.status != 200:
                    wrong.append(f"{answer.status}")
                acknowledged[number] = count
                if answer.getheader("Connection") == "close":
                    return

        threads = [threading.Thread(target=write, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        self.keystore.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.keystore.process.wait(timeout=20), 0)
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        self.assertEqual(len(acknowledged), 6)

    def test_sigint_ends_it_and_sighup_does_not(self):
        self.keystore.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        self.assertEqual(self.keystore.request("GET", "sys/seal-status")[0], 200)
        self.keystore.process.send_signal(signal.SIGINT)
        self.assertEqual(self.keystore.process.wait(timeout=20), 0)


class PidFile(unittest.TestCase):
    def test_the_pid_file_is_there_while_it_runs(self):
        folder = tempfile.mkdtemp(prefix="coffer-test-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        path = os.path.join(folder, "pid")
        keystore = Keystore(BIN_DIR, folder, extra_config=f'pid_file = "{path}"\n')
        with open(path, encoding="utf-8") as file:
            self.assertEqual(int(file.read()), keystore.process.pid)
        keystore.stop()
        self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
