"""A plugin that stands by while another one serves, as two containers of one pod do. Needs root.

    standby_test.py BIN_DIR
"""

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import time
import unittest

from kept_node import KeptNode, WEBAPP_OBJECTS, eventually, free_port

BIN_DIR = sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin"


def page(port, path):
    """(status, text), or None where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class StandbyTest(unittest.TestCase):
    def setUp(self):
        self.node = KeptNode(BIN_DIR)
        self.addCleanup(self.node.close)

    def ok(self, answer):
        self.assertEqual(answer[0], "OK", answer)

    def password(self):
        with open(os.path.join(self.node.target(), "password"), encoding="utf-8") as file:
            return file.read()

    def test_takes_over(self):
        """healthy while it stands by, touches no socket; serves everything once the other one is killed"""
        node = self.node
        active = node.serving()
        self.ok(node.publish())
        port = free_port()
        sockets = [os.stat(path).st_ino for path in (node.socket, node.registration)]
        standby = node.start_standby(f"--metrics-addr=127.0.0.1:{port}")
        for path in ("/readyz", "/healthz"):
            eventually(lambda path=path: page(port, path) == (200, "ok (standby)\n"), path)
        self.assertIn("coffer_csi_serving 0", page(port, "/metrics")[1])
        self.assertEqual([os.stat(path).st_ino for path in (node.socket, node.registration)], sockets)

        active.kill()
        self.assertEqual(self.password(), "password-1")
        node.wait(active)
        self.assertEqual(self.password(), "password-1")
        eventually(lambda: page(port, "/readyz") == (200, "ok\n"), "the standby is ready")
        eventually(lambda: node.call("probe")[0] == "OK", "CSI is served")
        self.assertIn("coffer_csi_serving 1", page(port, "/metrics")[1])
        self.assertEqual(node.serving(), standby)
        node.put(2)
        self.ok(node.publish())
        self.assertEqual(self.password(), "password-2")
        self.ok(node.unpublish())
        self.assertEqual(node.mounts(), [])

    def test_one_address(self):
        """with hostNetwork both have one address for their pages: who comes second waits for it"""
        node = self.node
        port = free_port()
        flag = f"--metrics-addr=127.0.0.1:{port}"
        first = node.start_standby(flag)
        eventually(lambda: page(port, "/healthz") == (200, "ok (standby)\n"), "the first has the address")
        second = node.start_standby(flag)
        first.terminate()
        self.assertEqual(node.wait(first), 0)
        eventually(lambda: page(port, "/healthz") == (200, "ok (standby)\n"), "the second has the address")
        node.serving().kill()
        eventually(lambda: page(port, "/healthz") == (200, "ok\n"), "and keeps it when it serves")
        self.assertEqual(node.serving(), second)

    def test_stops_by_handing_over(self):
        """a plugin that is told to stop hands over at once, though calls to the keystore hang"""
        node = self.node
        self.ok(node.publish())
        hanging = socket.socket()
        self.addCleanup(hanging.close)
        hanging.bind(("127.0.0.1", 0))
        hanging.listen(64)
        node.write_class("hang", WEBAPP_OBJECTS, address=f"http://127.0.0.1:{hanging.getsockname()[1]}")
        call = subprocess.Popen([
            os.path.join(BIN_DIR, "coffer-csi-client"), f"--endpoint=unix://{node.socket}", "publish",
            "--volume-id=hang", f"--target={node.target('hang')}", "--class=hang",
            "--service-account=vault", "--audience=vault", f"--token-file={node.token_file}"],
            stdout=subprocess.DEVNULL)
        self.addCleanup(call.wait)
        self.addCleanup(call.kill)
        asked, _ = hanging.accept()
        self.addCleanup(asked.close)
        active, standby = node.serving(), node.start_standby()
        active.terminate()
        eventually(lambda: node.serving() == standby, "the standby serves")
        self.assertEqual(self.password(), "password-1")
        node.put(2)
        eventually(lambda: node.publish()[0] == "OK", "the standby publishes")
        self.assertEqual(self.password(), "password-2")
        hanging.close()
        asked.close()
        node.wait(active)
        # The old one's end takes nothing from the new one.
        self.ok(node.publish())
        self.ok(node.call("register", endpoint=node.registration))

    def test_a_call_that_ends_later(self):
        """a publish that was under way when its plugin handed over leaves the volume to the next one"""
        node = self.node
        self.ok(node.publish())
        active, standby = node.serving(), node.start_standby()
        keystore = node.keystore.process
        keystore.send_signal(signal.SIGSTOP)
        self.addCleanup(keystore.send_signal, signal.SIGCONT)
        call = subprocess.Popen([
            os.path.join(BIN_DIR, "coffer-csi-client"), f"--endpoint=unix://{node.socket}", "publish",
            "--volume-id=csi-1", f"--target={node.target()}", "--class=webapp", "--service-account=vault",
            "--audience=vault", f"--token-file={node.token_file}"], stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)  # until it waits for the keystore
        active.terminate()
        eventually(lambda: node.serving() == standby, "the standby serves")
        keystore.send_signal(signal.SIGCONT)
        self.assertIn("UNAVAILABLE", call.communicate()[0])
        node.wait(active)
        self.assertEqual(len(node.mounts()), 1)
        self.assertEqual(self.password(), "password-1")
        node.put(2)
        eventually(lambda: node.publish()[0] == "OK", "the standby publishes")
        self.assertEqual(self.password(), "password-2")

    def test_stops_while_standing_by(self):
        standby = self.node.start_standby()
        standby.send_signal(signal.SIGTERM)
        self.assertEqual(self.node.wait(standby), 0)
        self.ok(self.node.publish())

    def test_alone_without_a_keeper(self):
        """the keeper's death makes no second plugin"""
        node = self.node
        active, standby = node.serving(), node.start_standby()
        node.keeper.kill()
        node.keeper.wait()
        self.ok(node.publish())
        node.start_keeper()
        eventually(lambda: node.status() == (1, active.pid, 1), "the keeper knows both")
        self.assertIsNone(standby.poll())
        self.assertEqual(self.password(), "password-1")

    def test_keeper_stands_still(self):
        """a keeper that stands still while a plugin is killed, or starts, loses no volume"""
        node = self.node
        self.ok(node.publish())
        for stop_first in (False, True):
            active, standby = node.serving(), node.start_standby()
            if stop_first:
                node.keeper.send_signal(signal.SIGSTOP)
                active.kill()
            else:
                mark = len(node.log_text())
                active.kill()
                eventually(lambda mark=mark: "volumes are kept" in node.log_text()[mark:], "the keeper sees it")
                node.keeper.send_signal(signal.SIGSTOP)
            time.sleep(2.5)
            node.keeper.send_signal(signal.SIGCONT)
            node.wait(active)
            self.assertEqual(self.password(), "password-1")
            eventually(lambda standby=standby: node.status() == (1, standby.pid, 0), "it is taken over")
        node.serving().kill()
        node.wait(node.plugins[0])
        node.keeper.send_signal(signal.SIGSTOP)
        plugin = node.start_plugin()
        time.sleep(3.5)
        node.keeper.send_signal(signal.SIGCONT)
        eventually(lambda: node.status() == (1, plugin.pid, 0), "the next one has the volume")
        self.assertEqual(self.password(), "password-1")

    def test_one_serves_whoever_dies_when(self):
        """the keeper dies just after a plugin: the next one serves, and no other one does"""
        node, moment = self.node, random.Random(3)
        self.ok(node.publish())
        node.start_standby()
        node.start_standby()
        for _ in range(8):
            active, mark = node.serving(), len(node.log_text())
            os.listdir(node.target())
            active.kill()
            eventually(lambda mark=mark: "volumes are kept" in node.log_text()[mark:], "the keeper sees it")
            time.sleep(moment.uniform(0.002, 0.06))
            node.keeper.kill()
            node.keeper.wait()
            node.start_keeper()
            node.wait(active)
            pids = [plugin.pid for plugin in node.plugins]
            eventually(lambda pids=pids: (node.status() or (0, 0, 0))[1] in pids and node.status()[2] == 1, "one serves")
            eventually(lambda: node.call("probe")[0] == "OK", "and answers")
            self.assertEqual(node.log_text()[mark:].count("coffer-csi serves"), 1)
            # A keeper that died with what it had yet to give leaves a mount that the next publish replaces.
            self.ok(node.publish())
            self.assertEqual(self.password(), "password-1")
            node.start_standby()


if __name__ == "__main__":
    unittest.main(verbosity=2)
