"""What the programs give up at their start holds while they run: the real keystore, node plugin and
keeper are looked at from outside, by root and by their own user. Needs root.

    hardening_test.py BIN_DIR
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "volume"))
from kept_node import Node, eventually  # noqa: E402

BIN_DIR = os.path.abspath(sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/bin")

CAPABILITY = {"CHOWN": 0, "DAC_OVERRIDE": 1, "DAC_READ_SEARCH": 2, "FOWNER": 3, "NET_BIND_SERVICE": 10,
              "IPC_LOCK": 14, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "LEASE": 28}
PLUGIN = {"SYS_ADMIN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "CHOWN", "FOWNER", "IPC_LOCK", "SYS_PTRACE",
          "LEASE"}
KEYSTORE = {"IPC_LOCK", "NET_BIND_SERVICE", "DAC_OVERRIDE"}
KEEPER = {"IPC_LOCK"}
NOBODY = 65534
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
NO_FILTER = "a filter of system calls"  # what the programs say where the kernel has none
# Builds with sanitizers have none either.
FILTERED = "off: enforce" in subprocess.run([os.path.join(BIN_DIR, "coffer-keeper"), "-help"], check=True,
                                            capture_output=True, text=True, timeout=60).stdout


def mask(names):
    return sum(1 << CAPABILITY[name] for name in names)


def facts(pid, thread):
    """/proc/PID/task/TID/status as a dict; none where the thread has just ended."""
    try:
        with open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    except (FileNotFoundError, ProcessLookupError):
        return None


def as_nobody(act):
    """What `act` returns (0..99) in a process of an ordinary user."""
    child = os.fork()
    if child == 0:
        code = 100
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            code = act()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def can_attach(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) != 0:
        return 0
    os.waitpid(pid, 0x40000000)  # __WALL
    libc.ptrace(PTRACE_DETACH, pid, None, None)
    return 1


def can_read(pid):
    """Bits: its memory, its environment, its descriptors."""
    bits = 0
    for bit, name in ((1, "mem"), (2, "environ")):
        try:
            with open(f"/proc/{pid}/{name}", "rb", buffering=0):
                bits |= bit
        except PermissionError:
            pass
    try:
        os.listdir(f"/proc/{pid}/fd")
        bits |= 4
    except PermissionError:
        pass
    return bits


class HardeningTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="coffer-hardening-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        os.chmod(cls.folder, 0o755)
        cls.node = Node(BIN_DIR)
        cls.addClassCleanup(cls.node.close)
        cls.keeper_log = os.path.join(cls.folder, "keeper.log")
        cls.keeper_socket = os.path.join(cls.folder, "keeper.sock")
        with open(cls.keeper_log, "ab") as log:
            cls.keeper = subprocess.Popen(
                [os.path.join(BIN_DIR, "coffer-keeper"), f"-socket={cls.keeper_socket}"], stdout=log,
                stderr=log)
        cls.addClassCleanup(cls.end, cls.keeper)
        eventually(lambda: os.path.exists(cls.keeper_socket), "the keeper's socket")
        answer = cls.node.publish()
        assert answer[0] == "OK", answer

    @staticmethod
    def end(process):
        process.kill()
        process.wait()

    def log_of(self, path):
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def programs(self):
        node = self.node
        return [("plugin", node.plugin.pid, PLUGIN, node.log_text()),
                ("keystore", node.keystore.process.pid, KEYSTORE,
                 self.log_of(node.keystore.log.name)),
                ("keeper", self.keeper.pid, KEEPER, self.log_of(self.keeper_log))]

    def test_every_thread(self):
        """all threads: no new privileges, the capabilities of docs/security.md at most, a filter"""
        for name, pid, kept, log in self.programs():
            for thread in os.listdir(f"/proc/{pid}/task"):
                status = facts(pid, thread)
                if status is None:
                    continue
                with self.subTest(program=name, thread=status["Name"]):
                    self.assertEqual(status["NoNewPrivs"], "1")
                    for which in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                        self.assertEqual(int(status[which], 16) & ~mask(kept), 0, which)
                    if FILTERED and NO_FILTER not in log:
                        self.assertEqual(status["Seccomp"], "2")

    def test_no_core(self):
        for name, pid, _, _ in self.programs():
            with self.subTest(program=name), open(f"/proc/{pid}/limits", encoding="utf-8") as file:
                (line,) = [line for line in file if line.startswith("Max core file size")]
                self.assertEqual(line.split()[4:6], ["0", "0"])

    def test_nothing_refused(self):
        """what has been done so far took no call that isn't on the lists"""
        for name, _, _, log in self.programs():
            with self.subTest(program=name):
                self.assertNotIn("isn't on the program's list", log)

    def test_others_see_nothing(self):
        """an ordinary user can neither trace the programs nor read their memory"""
        for name, pid, _, _ in self.programs():
            with self.subTest(program=name):
                self.assertEqual(as_nobody(lambda: can_attach(pid)), 0)  # noqa: B023
                self.assertEqual(as_nobody(lambda: can_read(pid)), 0)  # noqa: B023

    def test_own_user_sees_nothing(self):
        """nor can the user that a keystore runs as, who could trace any other program of its own"""
        program = os.path.join(self.folder, "coffer-keystore")
        shutil.copy(os.path.join(BIN_DIR, "coffer-keystore"), program)
        os.chmod(program, 0o755)
        log = os.path.join(self.folder, "dev.log")
        try:
            with open(log, "ab") as out:
                keystore = subprocess.Popen(
                    [program, "-dev", "-dev-listen-address=127.0.0.1:0", "-dev-no-store-token"],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=out, user=NOBODY, group=NOBODY,
                    extra_groups=[], cwd="/")
        except PermissionError:
            self.skipTest(f"an ordinary user can't run programs in {self.folder}")
        self.addCleanup(self.end, keystore)
        eventually(lambda: "listening" in self.log_of(log) or keystore.poll() is not None,
                   "the keystore listens")
        self.assertIsNone(keystore.poll(), self.log_of(log))
        self.assertEqual(as_nobody(lambda: can_attach(keystore.pid)), 0)
        self.assertEqual(as_nobody(lambda: can_read(keystore.pid)), 0)

    def test_modes(self):
        """--seccomp=off runs without a filter, and is said by the status file"""
        socket = os.path.join(self.folder, "off.sock")
        with open(os.path.join(self.folder, "off.log"), "ab") as log:
            keeper = subprocess.Popen([os.path.join(BIN_DIR, "coffer-keeper"), f"-socket={socket}",
                                       "-seccomp=off"], stdout=log, stderr=log)
        self.addCleanup(self.end, keeper)
        eventually(lambda: os.path.exists(socket), "the keeper's socket")
        own = facts(os.getpid(), os.getpid())["Seccomp"]  # a container's own filter is passed on
        self.assertEqual(facts(keeper.pid, keeper.pid)["Seccomp"], own)
        self.assertEqual(facts(keeper.pid, keeper.pid)["NoNewPrivs"], "1")


if __name__ == "__main__":
    unittest.main(verbosity=2)
