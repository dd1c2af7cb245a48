"""`coffer csi …` asks a real node plugin over its admin socket: a real keystore, real mounts. Needs root.

    admin_test.py BIN_DIR
"""

import json
import os
import socket
import stat
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "volume"))
from kept_node import KeptNode, eventually  # noqa: E402
from node_plugin import Node, WEBAPP_OBJECTS  # noqa: E402

BIN_DIR = os.path.abspath(sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin")


class AdminNode(Node):
    def flags(self):
        self.admin = os.path.join(self.folder, "admin.sock")
        state = os.path.join(self.folder, "state")
        if not os.path.exists(state):
            os.mkdir(state)
            # As a plugin before this one has left it (csi/read_times.h).
            days = lambda count: int(time.time()) - count * 86_400  # noqa: E731
            with open(os.path.join(state, "read-times"), "w", encoding="utf-8") as file:
                file.write("coffer read times 1\n"
                           f"default\told\tpassword\t{days(20)}\t{days(1)}\t{days(15)}\n"
                           f"default\told\tnever-read\t{days(20)}\t{days(1)}\t0\n"
                           f"default\told\tread\t{days(20)}\t{days(1)}\t{days(2)}\n")
        return [f"--admin-socket={self.admin}", f"--state-dir={state}"]

    def coffer(self, *words, stdin="", **more):
        """(exit code, standard output, standard error)"""
        done = subprocess.run(
            [os.path.join(BIN_DIR, "coffer"), *words], input=stdin, text=True, capture_output=True,
            timeout=120, check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": self.folder, "COFFER_CSI_SOCKET": self.admin}, **more)
        return done.returncode, done.stdout, done.stderr

    def status(self):
        code, out, err = self.coffer("csi", "status", "-format=json")
        assert code == 0, err
        return json.loads(out)


class AdminTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = AdminNode(BIN_DIR)
        cls.addClassCleanup(cls.node.close)

    def tearDown(self):
        for volume in self.node.status()["volumes"]:
            self.node.coffer("csi", "unpublish", f"-target={volume['target']}")

    def publish(self, *more, target=None, **kwargs):
        return self.node.coffer(
            "csi", "publish", "-class=webapp", "-service-account=vault",
            f"-target={target or self.node.target()}", *more, **kwargs)

    def test_life_of_a_volume(self):
        """published as by the kubelet, seen by status, rotated, unpublished"""
        node, target = self.node, self.node.target()
        token = f"-token-file=vault={node.token_file}"
        code, out, err = self.publish(token)
        self.assertEqual(code, 0, err)
        self.assertRegex(out, f"^Success! Volume coffer-[0-9a-f]{{64}} is published: {target}\n$")
        with open(os.path.join(target, "username"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "static-user")

        status = node.status()
        self.assertEqual(status["node"], "node-1")
        self.assertEqual(status["driver"], "secrets-store.csi.k8s.io")
        self.assertEqual(status["pid"], node.plugin.pid)
        self.assertEqual(status["facts"]["keeper"], "none")
        self.assertEqual(status["facts"]["ready"], "yes")
        self.assertIn("memfd", status["facts"]["memory"])
        (volume,) = status["volumes"]
        self.assertEqual(
            {name: volume[name] for name in ("target", "mounted", "pod", "namespace", "class",
                                             "service_account", "provider")},
            {"target": target, "mounted": True, "pod": "coffer-csi-publish", "namespace": "default",
             "class": "webapp", "service_account": "vault", "provider": "vault"})
        self.assertEqual([item["id"] for item in volume["objects"]], ["username", "password"])
        self.assertIn("published", volume)
        self.assertNotIn("rotated", volume)
        self.assertNotIn("error", volume)

        before = volume["objects"]
        node.put(2)
        self.addCleanup(node.put, 1)
        self.assertEqual(self.publish(token)[0], 0)
        (volume,) = node.status()["volumes"]
        self.assertIn("rotated", volume)
        self.assertNotEqual(volume["objects"], before)

        code, out, _ = node.coffer("csi", "status")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"(?m)^Node +node-1$")
        self.assertRegex(out, r"(?m)^Published +1$")
        self.assertRegex(out, r"(?m)^default/coffer-csi-publish +webapp +ok +\S+Z +\S+Z +username=2, password=2$")
        code, out, _ = node.coffer("csi", "status", "-detailed")
        self.assertRegex(out, f"(?m)^Target +{target}$")
        code, out, _ = node.coffer("csi", "status", "-format=yaml")
        self.assertRegex(out, r"(?m)^node: node-1$")

        code, out, err = node.coffer("csi", "unpublish", f"-target={target}")
        self.assertEqual(code, 0, err)
        self.assertIn("is unpublished", out)
        self.assertFalse(os.path.exists(target))
        self.assertEqual(node.status()["volumes"], [])
        self.assertEqual(node.coffer("csi", "unpublish", f"-target={target}")[0], 0)  # none is no error

    def test_kubelets_volumes(self):
        """a volume of the kubelet's keeps its name, and shows the error of its last rotation"""
        node, target = self.node, self.node.target("kubelet")
        self.assertEqual(node.publish(target, "csi-kubelet", "webapp", "--group=2000")[0], "OK")
        (volume,) = node.status()["volumes"]
        self.assertEqual(volume["volume_id"], "csi-kubelet")
        code, out, err = self.publish(f"-token-file=vault={node.token_file}", target=target)
        self.assertEqual(code, 0, err)
        self.assertIn("Volume csi-kubelet is published", out)
        for flags, group in ([], 2000), (["-fs-group=3000"], 3000):
            code, _, err = self.publish(f"-token-file=vault={node.token_file}", *flags, target=target)
            self.assertEqual(code, 0, err)
            self.assertEqual(os.stat(os.path.join(target, "username")).st_gid, group)
        code, _, err = self.publish("-fs-group=staff", target=target)
        self.assertEqual(code, 2)
        self.assertIn('volume_mount_group "staff" must be a group id', err)

        node.write_class("webapp", WEBAPP_OBJECTS.replace("/config", "/nothing"))
        self.addCleanup(node.write_class, "webapp", WEBAPP_OBJECTS)
        code, _, err = self.publish(f"-token-file=vault={node.token_file}", target=target)
        self.assertEqual(code, 2)
        (volume,) = node.status()["volumes"]
        self.assertTrue(volume["mounted"])
        self.assertIn("secret/data/webapp/nothing", volume["error"])
        self.assertIn("failed", volume)
        self.assertRegex(node.coffer("csi", "status")[1], r"(?m)^default/\S+ +webapp +stale ")

    def test_unused(self):
        """files of audited classes that nobody opens are listed; who opens one is seen by status"""
        node, target = self.node, self.node.target("audited")
        node.write_class("audited", WEBAPP_OBJECTS, extra='    audit: "opens"\n')
        code, _, err = node.coffer("csi", "publish", "-class=audited", "-service-account=vault",
                                   f"-token-file=vault={node.token_file}", f"-target={target}")
        self.assertEqual(code, 0, err)
        self.assertNotIn("last_read", node.status()["volumes"][0])
        with open(os.path.join(target, "username"), encoding="utf-8") as file:
            file.read()
        deadline = time.monotonic() + 60
        while "last_read" not in node.status()["volumes"][0]:
            self.assertLess(time.monotonic(), deadline, "the reader isn't seen")
            time.sleep(0.05)

        def unused(days):
            code, out, err = node.coffer("csi", "unused", f"-days={days}", "-format=json")
            self.assertEqual(code, 0, err)
            return [(item["file"], "last_read" in item) for item in json.loads(out)["files"]]

        self.assertEqual(unused(10), [("never-read", False), ("password", True)])
        self.assertEqual(unused(17), [("never-read", False)])
        self.assertEqual(unused(25), [])
        out = node.coffer("csi", "unused", "-days=10")[1]
        self.assertRegex(out, r"(?m)^default/old +never-read +\S+Z +never$")
        self.assertIn("was left unread for 30 days", node.coffer("csi", "unused")[1])
        self.assertEqual(node.coffer("csi", "unused", "-days=0")[0], 1)

    def test_refusals(self):
        """what is wrong is said in one line, by exit code 1 before and 2 after the plugin was asked"""
        node = self.node
        token = f"-token-file=vault={node.token_file}"
        cases = [
            (1, "-class is missing", ["csi", "publish", "-target=/x"]),
            (1, "-target is missing", ["csi", "publish", "-class=webapp"]),
            (1, "-target is missing", ["csi", "unpublish"]),
            (1, "no-such-file", ["csi", "publish", "-class=webapp", "-target=/x",
                                 "-token-file=/no-such-file"]),
            (2, "INVALID_ARGUMENT", ["csi", "publish", "-class=webapp", "-target=/etc/x", token]),
            (2, "INVALID_ARGUMENT: volume context: secretProviderClass",
             ["csi", "publish", "-class=Web App", f"-target={node.target()}", token]),
            (2, "NOT_FOUND", ["csi", "publish", "-class=none", f"-target={node.target()}", token]),
            (2, "FAILED_PRECONDITION", ["csi", "publish", "-class=webapp",
                                        f"-target={node.target()}", "-service-account=vault"]),
            (2, "PERMISSION_DENIED", ["csi", "publish", "-class=webapp", f"-target={node.target()}",
                                      "-token-file=vault=-"]),
            (2, "no node plugin answers at /no/where.sock",
             ["csi", "status", "-socket=/no/where.sock"]),
        ]
        wrong = node.signer.token(account="somebody-else")
        for code, message, words in cases:
            with self.subTest(words=words):
                got, _, err = node.coffer(*words, stdin=wrong)
                self.assertEqual(got, code, err)
                self.assertIn(message, err)
                self.assertNotIn(wrong, err)
        failed = node.status()["volumes"]
        self.assertEqual([volume["mounted"] for volume in failed], [False] * len(failed))
        self.assertNotIn(wrong, node.log_text())

    def test_restart(self):
        """a plugin that starts anew knows its socket, and removes it when it ends"""
        node = self.node
        node.kill()
        node.start()
        self.assertEqual(node.status()["pid"], node.plugin.pid)
        self.assertEqual(node.stop(), 0)
        self.assertFalse(os.path.exists(node.admin))
        code, _, err = node.coffer("csi", "status")
        self.assertEqual(code, 2)
        self.assertIn(f"no node plugin answers at {node.admin}: it isn't there", err)
        node.start()

    def test_root_alone(self):
        """the socket is root's: another user can't even connect"""
        self.assertEqual(stat.S_IMODE(os.stat(self.node.admin).st_mode), 0o600)
        os.chmod(self.node.folder, 0o711)
        child = os.fork()
        if child == 0:
            code = 2
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(self.node.admin)
                code = 1
            except PermissionError:
                code = 0
            finally:
                os._exit(code)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


class KeptAdminNode(KeptNode):
    def flags(self):
        return [f"--admin-socket={self.folder}/admin.sock"]

    def coffer_status(self):
        """None: no plugin answers."""
        done = subprocess.run(
            [os.path.join(BIN_DIR, "coffer"), "csi", "status", "-format=json",
             f"-socket={self.folder}/admin.sock"], text=True, capture_output=True, timeout=120,
            check=False, env={"PATH": "/usr/bin:/bin", "HOME": self.folder})
        return json.loads(done.stdout) if done.returncode == 0 else None


class StandbyTest(unittest.TestCase):
    def test_the_one_that_serves_answers(self):
        """a plugin that takes over takes the admin socket, too, and knows whose the volumes are"""
        node = KeptAdminNode(BIN_DIR)
        self.addCleanup(node.close)
        self.assertEqual(node.publish(None, "csi-1", "webapp")[0], "OK")
        first = node.serving()
        eventually(lambda: (node.coffer_status() or {}).get("pid") == first.pid, "the first answers")
        second = node.start_standby()
        self.assertEqual(node.coffer_status()["pid"], first.pid)
        first.kill()
        node.wait(first)
        eventually(lambda: (node.coffer_status() or {}).get("pid") == second.pid, "the second answers")
        status = node.coffer_status()
        self.assertEqual(status["facts"]["keeper"], "connected")
        (volume,) = status["volumes"]
        self.assertEqual([volume[name] for name in ("target", "volume_id", "class", "namespace")],
                         [node.target(), "csi-1", "webapp", "default"])
        self.assertTrue(volume["mounted"] and volume["pod"])
        second.terminate()
        self.assertEqual(node.wait(second), 0)
        self.assertFalse(os.path.exists(f"{node.folder}/admin.sock"))

    def test_a_request_that_hangs(self):
        """a stop hands over first, and leaves off what waits for a keystore that doesn't answer"""
        node = KeptAdminNode(BIN_DIR)
        self.addCleanup(node.close)
        self.assertEqual(node.publish()[0], "OK")
        hanging = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(hanging.close)
        node.write_class("hang", WEBAPP_OBJECTS, address=f"http://127.0.0.1:{hanging.getsockname()[1]}")
        call = subprocess.Popen(
            [os.path.join(BIN_DIR, "coffer"), "csi", "publish", "-class=hang", "-service-account=vault",
             f"-token-file=vault={node.token_file}", f"-target={node.target('hang')}"],
            stderr=subprocess.DEVNULL, env={"HOME": node.folder, "COFFER_CSI_SOCKET": f"{node.folder}/admin.sock"})
        self.addCleanup(call.wait)
        self.addCleanup(call.kill)
        asked, _ = hanging.accept()
        self.addCleanup(asked.close)
        idle = socket.socket(socket.AF_UNIX)
        self.addCleanup(idle.close)
        idle.connect(f"{node.folder}/admin.sock")
        first, second = node.serving(), node.start_standby()
        first.terminate()
        start = time.monotonic()
        eventually(lambda: node.serving() == second, "the standby serves")
        self.assertLess(time.monotonic() - start, 4)
        self.assertEqual(node.wait(first), 0)
        self.assertLess(time.monotonic() - start, 14)
        self.assertEqual(node.publish()[0], "OK")


if __name__ == "__main__":
    unittest.main(verbosity=2)
