"""Who opened which secret, and whom the rules of a class let in: the real plugin, a real keystore. Needs root.

    audit_test.py BIN_DIR
"""

import errno
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import unittest
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "volume"))
from coffer_test import eventually, free_port  # noqa: E402
from kept_node import KeptNode  # noqa: E402
from node_plugin import Node  # noqa: E402

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"

OBJECTS = """
- {objectName: username, secretPath: secret/data/webapp/config, secretKey: username}
- {objectName: password, secretPath: secret/data/webapp/config, secretKey: password}
"""


class AuditedNode(Node):
    def __init__(self, bin_dir):
        self.port = free_port()
        super().__init__(bin_dir)

    @property
    def audit_log(self):
        return os.path.join(self.folder, "audit.log")

    def flags(self):
        state = os.path.join(self.folder, "state")
        os.makedirs(state, exist_ok=True)
        return [f"--audit-log={self.audit_log}", f"--state-dir={state}",
                f"--metrics-addr=127.0.0.1:{self.port}"]

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as page:
            return page.read().decode()

    def lines(self, path=None):
        try:
            with open(path or self.audit_log, encoding="utf-8") as file:
                return [entry for entry in map(json.loads, file) if entry["event"] == "open"]
        except FileNotFoundError:
            return []


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def opens_as(uid, path):
    """What opening the file as this user ends with: "" or the error's name."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.setuid(uid)
            with open(path, encoding="utf-8") as file:
                file.read()
            code = 0
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "" if code == 0 else errno.errorcode.get(code, str(code))


class AuditTest(unittest.TestCase):
    def setUp(self):
        self.node = AuditedNode(BIN_DIR)
        self.addCleanup(self.node.close)
        os.chmod(self.node.folder, 0o755)  # other users' way to the volumes

    def publish(self, secret_class, objects, extra="", pod="1"):
        self.node.write_class(secret_class, objects, extra=extra)
        target = self.node.target(pod)
        answer = self.node.publish(target, f"csi-{pod}", secret_class)
        self.assertEqual(answer[0], "OK", answer)
        return target

    def wait_for_lines(self, count, path=None):
        self.assertTrue(eventually(lambda: len(self.node.lines(path)) >= count), self.node.log_text())
        return self.node.lines(path)

    def test_every_open_is_a_line(self):
        target = self.publish("audited", OBJECTS, "    audit: opens\n")
        self.publish("fast", OBJECTS, pod="2")
        before = time.time()
        self.assertEqual(read(target, "password"), "password-1")
        self.assertEqual(opens_as(1234, os.path.join(target, "username")), "")
        self.assertEqual(read(self.node.target("2"), "password"), "password-1")
        lines = self.wait_for_lines(2)
        self.assertEqual([line["file"] for line in lines], ["password", "username"])
        line = lines[0]
        self.assertEqual(line["event"], "open")
        self.assertEqual(line["result"], "ok")
        self.assertEqual(line["namespace"], "default")
        self.assertEqual(line["class"], "audited")
        self.assertEqual(line["volume"], "csi-1")
        self.assertEqual(line["pid"], os.getpid())
        self.assertEqual(line["uid"], os.getuid())
        self.assertEqual(os.path.realpath(line["executable"]), os.path.realpath("/proc/self/exe"))
        self.assertTrue(line["command"])
        self.assertTrue(line["version"].startswith("1-20"), line["version"])
        self.assertEqual(lines[1]["uid"], 1234)
        self.assertEqual(os.stat(self.node.audit_log).st_mode & 0o7777, 0o600)
        self.assertNotIn("password-1", read(self.node.audit_log))

        self.assertTrue(eventually(lambda: "coffer_csi_opens_total{" in self.node.metrics()))
        metrics = self.node.metrics()
        self.assertRegex(metrics, r'coffer_csi_opens_total\{[^}]*result="ok"[^}]*\} 2\n')
        opened = re.search(r'coffer_csi_last_open_timestamp_seconds\{file="password"[^}]*\} ([0-9.]+)', metrics)
        self.assertAlmostEqual(float(opened[1]), before, delta=120)
        self.assertIn("coffer_csi_audit_lines_lost 0", metrics)

        # The version is that of what was read.
        self.node.put(2)
        self.assertEqual(self.node.publish(target, "csi-1", "audited")[0], "OK")
        self.assertEqual(read(target, "password"), "password-2")
        self.assertTrue(self.wait_for_lines(3)[2]["version"].startswith("2-20"))

    def test_logrotate(self):
        """a moved log is followed by a new one, with SIGHUP or without"""
        target = self.publish("audited", OBJECTS, "    audit: opens\n")
        log = self.node.audit_log
        read(target, "password")
        self.wait_for_lines(1)
        os.rename(log, log + ".1")
        read(target, "username")
        self.assertEqual(self.wait_for_lines(1)[0]["file"], "username")
        self.assertEqual(len(self.node.lines(log + ".1")), 1)
        os.rename(log, log + ".2")
        self.node.plugin.send_signal(signal.SIGHUP)
        self.assertTrue(eventually(lambda: os.path.exists(log)), self.node.log_text())
        self.assertIsNone(self.node.plugin.poll())

    def test_rules(self):
        """by uid, for the class and for an object; the refused are told, whether audited or not"""
        target = self.publish(
            "ruled", OBJECTS.replace("secretKey: password", "secretKey: password, allowUIDs: [1235]"),
            "    allowUIDs: \"[1234]\"\n")
        username, password = os.path.join(target, "username"), os.path.join(target, "password")
        self.assertEqual(opens_as(1234, username), "")
        self.assertEqual(opens_as(1235, username), "EACCES")
        self.assertEqual(opens_as(1234, password), "EACCES")
        self.assertEqual(opens_as(1235, password), "")
        lines = self.wait_for_lines(2)
        self.assertEqual([(line["file"], line["uid"], line["result"]) for line in lines],
                         [("username", 1235, "refused"), ("password", 1234, "refused")])
        self.assertEqual(lines[0]["reason"], "uid 1235 isn't in allowUIDs")

    def test_read_once_and_canary(self):
        target = self.publish("once", """
- {objectName: token, secretPath: secret/data/webapp/config, secretKey: password, readOnce: true}
- {objectName: bait, secretPath: secret/data/webapp/config, secretKey: username, canary: true}
""")
        self.assertEqual(read(target, "token"), "password-1")
        self.assertTrue(eventually(lambda: not os.path.lexists(os.path.join(target, "token"))))
        self.assertEqual(self.node.publish(target, "csi-1", "once")[0], "OK")
        self.assertFalse(os.path.lexists(os.path.join(target, "token")))
        self.node.put(2)
        self.assertEqual(self.node.publish(target, "csi-1", "once")[0], "OK")
        self.assertEqual(read(target, "token"), "password-2")

        self.assertNotIn("canary", self.node.log_text())
        read(target, "bait")
        read(target, "bait")
        self.assertTrue(eventually(lambda: "a canary secret was opened" in self.node.log_text()))
        canaries = [line for line in self.wait_for_lines(1) if line.get("canary")]
        self.assertEqual([line["file"] for line in canaries], ["bait"])
        self.assertRegex(self.node.metrics(), r'coffer_csi_canary_opens_total\{file="bait"[^}]*\} 1\n')

    def test_restart(self):
        """when secrets were last read, and by which pod, is known after a restart"""
        target = self.publish("audited", OBJECTS, "    audit: opens\n")
        read(target, "password")
        self.wait_for_lines(1)
        self.assertEqual(self.node.stop(), 0)
        lines = read(self.node.folder, "state", "read-times").splitlines()
        self.assertEqual(lines[0], "coffer read times 1")
        (by_pod,) = [line.split("\t") for line in lines[1:] if line.count("\t") == 4]
        self.assertEqual(by_pod[:4], ["default", "audited", "password", "web"])
        kept = {line.split("\t")[2]: line.split("\t")[5] for line in lines[1:] if line.count("\t") == 5}
        self.assertEqual(kept["username"], "0")
        self.assertAlmostEqual(int(kept["password"]), time.time(), delta=300)
        self.node.start()
        series = r'coffer_csi_last_open_timestamp_seconds\{file="(\w+)",pod_name="web",[^}]*class="audited"\} (\d+)'
        self.assertEqual(re.findall(series, self.node.metrics()), [])  # nor is the volume known
        self.publish("audited", OBJECTS, "    audit: opens\n")
        self.assertEqual(re.findall(series, self.node.metrics()), [("password", kept["password"])])
        self.assertEqual(self.node.stop(), 0)
        self.assertEqual(read(self.node.folder, "state", "read-times").splitlines(), lines)
        with open(self.node.audit_log, encoding="utf-8") as log:
            events = [json.loads(line)["event"] for line in log]
        self.assertEqual(events, ["start", "open", "stop", "start", "stop"])

    def test_left_off(self):
        """the last line is written, too, by a plugin that stops while a keystore hangs"""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self.node.write_class("hangs", OBJECTS, address=f"http://127.0.0.1:{silent.getsockname()[1]}")
            publish = threading.Thread(target=self.node.publish, args=(None, "csi-1", "hangs"))
            publish.start()
            with silent.accept()[0]:
                self.assertEqual(self.node.stop(), 0)
            publish.join()
        self.assertIn("calls that hang are left off", self.node.log_text())
        with open(self.node.audit_log, encoding="utf-8") as log:
            self.assertEqual([json.loads(line)["event"] for line in log], ["start", "stop"])

    def test_killed(self):
        """no line is lost with a plugin that is killed, where there is a keeper; nor one that it had yet to write"""
        class AuditedKeptNode(KeptNode):
            def flags(self):
                return [f"--audit-log={self.folder}/audit.log"]

        node = AuditedKeptNode(BIN_DIR)
        self.addCleanup(node.close)
        node.write_class("audited", OBJECTS, extra="    audit: opens\n")
        target = node.target()
        self.assertEqual(node.publish(target, "csi-1", "audited")[0], "OK")
        opens = 0
        for _ in range(5):
            killed = node.serving()
            node.start_standby()
            for _ in range(40):
                read(target, "password")
                opens += 1
            killed.kill()
            self.assertTrue(eventually(lambda: node.serving() not in (None, killed)))  # noqa: B023
            node.wait(killed)

        def events():
            with open(os.path.join(node.folder, "audit.log"), encoding="utf-8") as log:
                return [json.loads(line)["event"] for line in log]

        # Of one whose kill the keeper didn't see the lines are written after twenty seconds.
        self.assertTrue(eventually(lambda: events().count("open") >= opens))
        node.serving().terminate()
        node.wait(node.plugins[0])
        self.assertEqual((events().count("start"), events().count("stop")), (6, 1))


if __name__ == "__main__":
    unittest.main()
