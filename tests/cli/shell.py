"""A shell in which `vault` is the program under test, and what is expected of its output."""

import os
import pty
import re
import subprocess
import unittest


class ShellTest(unittest.TestCase):
    """`environment` is the shell's; `error` the standard error of the last command."""

    environment = {}
    error = ""

    def shell(self, command, code=0, stdin=""):
        """Standard output of a command line, checked for its exit code; keeps standard error."""
        done = subprocess.run(["bash", "-c", command], input=stdin, env=self.environment, text=True,
                              capture_output=True, timeout=60)
        type(self).error = done.stderr
        self.assertEqual(done.returncode, code, f"{command}\n{done.stdout}{done.stderr}")
        return done.stdout

    def matches(self, pattern, text):
        if not re.fullmatch(pattern, text):
            self.fail(f"this doesn't look like\n{pattern}\n--- but like\n{text}")

    # Parts of the tables may grow with the server's version: lines that must be there, in this order.
    def has_lines(self, text, *patterns):
        lines = text.splitlines()
        for pattern in patterns:
            while lines and not re.fullmatch(pattern, lines[0]):
                lines.pop(0)
            self.assertTrue(lines, f"no line {pattern} (in this order) in\n{text}")

    def by_terminal(self, command, answer, code=0):
        """What a terminal shows while `answer` is typed."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvpe(command[0], command, self.environment)
        screen = b""
        typed = False
        while True:
            try:
                block = os.read(terminal, 4096)
            except OSError:  # the other side is closed
                break
            if not block:
                break
            screen += block
            if not typed and screen.endswith(b"(will be hidden): "):
                os.write(terminal, answer.encode() + b"\n")
                typed = True
        os.close(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), code, screen)
        return screen.decode()
