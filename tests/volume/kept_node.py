"""A node whose volumes a keeper holds, with any number of plugins: one serves, the others stand by."""

import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "csi"))
from node_plugin import Node, WEBAPP_OBJECTS  # noqa: E402,F401
from coffer_test import free_port  # noqa: E402,F401

PATIENCE = 60  # seconds, for whatever takes milliseconds


def eventually(check, what, seconds=PATIENCE):
    """What `check` returns, once that is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class KeptNode(Node):
    def __init__(self, bin_dir, lacks=()):
        self.plugins = []  # all that were started and not waited for
        self.keeper = None
        self.lacks = lacks
        super().__init__(bin_dir)

    def start(self):
        self.keeper_socket = os.path.join(self.folder, "keeper", "keeper.sock")
        self.log = open(self.log_path, "ab")
        self.start_keeper()
        self.start_plugin()
        eventually(lambda: os.path.exists(self.registration) and self.call("probe")[0] == "OK", "a plugin serves")

    def start_keeper(self):
        self.keeper = subprocess.Popen(
            [os.path.join(self.bin_dir, "coffer-keeper"), f"-socket={self.keeper_socket}"],
            stdout=self.log, stderr=self.log)
        eventually(lambda: self.status() is not None, "the keeper answers")

    def start_plugin(self, *flags, program=None):
        plugin = subprocess.Popen([
            program or os.path.join(self.bin_dir, "coffer-csi"), f"--endpoint=unix://{self.socket}",
            "--nodeid=node-1", f"--kubelet-root={self.kubelet}",
            f"--secret-provider-class-dir={self.classes}",
            f"--plugin-registration-dir={self.folder}", f"--kubelet-registration-path={self.socket}",
            f"--keeper-socket={self.keeper_socket}", *flags, *self.flags(),
        ], stdout=self.log, stderr=self.log, env=self.environment())
        self.plugins.append(plugin)
        return plugin

    def start_standby(self, *flags, **more):
        before = self.status()[2]
        plugin = self.start_plugin(*flags, **more)
        eventually(lambda: (self.status() or (0, 0, 0))[2] > before, "a plugin stands by")
        return plugin

    def status(self):
        """(volumes, process that serves or 0, how many stand by) as the keeper says; None: no keeper."""
        run = subprocess.run(
            [os.path.join(self.bin_dir, "coffer-keeper"), "-status", f"-socket={self.keeper_socket}"],
            capture_output=True, text=True, check=False)
        words = re.search(r"(\d+) volumes; (?:no plugin|plugin: process (\d+)); (\d+) stand", run.stdout)
        return words and (int(words[1]), int(words[2] or 0), int(words[3]))

    def serving(self):
        """The plugin that serves, or None."""
        pid = (self.status() or (0, 0, 0))[1]
        return next((plugin for plugin in self.plugins if plugin.pid == pid and plugin.poll() is None), None)

    def wait(self, plugin):
        """Until it has ended: the exit code."""
        code = plugin.wait(timeout=PATIENCE)
        self.plugins.remove(plugin)
        return code

    def close(self):
        # By force: whoever waits for an answer that nobody will give could never end.
        for line in self.mounts():
            subprocess.run(["umount", "-f", "-l", line.split()[4]], check=False, capture_output=True)
        for process in [*self.plugins, self.keeper]:
            if process is not None and process.poll() is None:
                process.kill()
        for process in [*self.plugins, self.keeper]:
            if process is not None:
                process.wait()
        self.plugins = []
        self.log.close()
        super().close()
