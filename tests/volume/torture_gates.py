"""Who reads the torture test's files with rules: read-once, time-boxed, for some users or programs, canary."""

import math
import os
import stat
import subprocess
import sys
import time

from torture_readers import VERSIONS, Reader, version_of

USER = 4711
PROGRAM = os.path.realpath(sys.executable)
OTHER_PROGRAM = os.path.realpath("/bin/cat")
BRIEF_SECONDS = 0.15
# Cached pages go when a plugin, or the next one, comes to it; opens are exact.
LATEST_SECONDS = 10

OBJECTS = f"""
- {{objectName: once, secretPath: secret/data/webapp/config, secretKey: a, readOnce: true}}
- {{objectName: bait, secretPath: secret/data/webapp/config, secretKey: b, canary: true}}
- {{objectName: brief, secretPath: secret/data/webapp/config, secretKey: a, availableFor: {BRIEF_SECONDS * 1000:.0f}ms}}
- {{objectName: for-root, secretPath: secret/data/webapp/config, secretKey: a, allowUIDs: [0]}}
- {{objectName: for-user, secretPath: secret/data/webapp/config, secretKey: b, allowUIDs: [{USER}],
   owner: {USER}, filePermission: 0400}}
- {{objectName: for-program, secretPath: secret/data/webapp/config, secretKey: a, allowExecutables: [{PROGRAM}]}}
- {{objectName: for-other, secretPath: secret/data/webapp/config, secretKey: b, allowExecutables: [{OTHER_PROGRAM}]}}
"""


class GatedReader(Reader):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.last_once = 0  # the version that was read from that file
        self.brief_kept = None  # an open file, and the version and the end that it had
        self.ways += [self.once, self.bait, self.brief, self.brief_file, self.by_user, self.by_program]

    def once(self):
        """of each version at most once; it may be gone, as after a kill in an open"""
        try:
            version = self.read(self.target + "/once")
        except FileNotFoundError:
            return None
        if version <= self.last_once:
            raise AssertionError(f"version {version} was read after version {self.last_once}")
        self.last_once = version
        self.shared.once.value += 1
        return version

    def bait(self):
        return self.read(self.target + "/bait")

    def end_of(self, version):
        """by when the time-boxed file of that version must be gone"""
        return (self.shared.ended[version % VERSIONS] or math.inf) + BRIEF_SECONDS

    def brief(self):
        """there until its time is over, not before and not after"""
        folder = os.open(self.target + "/..data", os.O_RDONLY | os.O_DIRECTORY)
        try:
            start = time.monotonic()
            try:
                version = self.read("brief", folder)
            except FileNotFoundError:
                self.shared.over.value += 1
                version = self.read("a", folder)
                age = time.monotonic() - self.shared.began[version % VERSIONS]
                if age < BRIEF_SECONDS:
                    raise AssertionError(f"version {version} was gone {age:.3f} s after it was published") from None
                return version
        finally:
            os.close(folder)
        if start > self.end_of(version):
            raise AssertionError(f"version {version} was there {start - self.end_of(version):.3f} s too long")
        self.shared.brief.value += 1
        return version

    def brief_file(self):
        """who has it open reads no more then"""
        if self.brief_kept is None:
            try:
                fd = os.open(self.target + "/brief", os.O_RDONLY)
            except FileNotFoundError:
                return
            self.brief_kept = fd, 0
        fd, version = self.brief_kept
        start = time.monotonic()
        try:
            version_now = version_of(os.pread(fd, 100_000, 0))
        except FileNotFoundError:
            self.let_go()
            return
        if version not in (0, version_now):
            raise AssertionError("an open file has changed")
        self.brief_kept = fd, version_now
        late = start - self.end_of(version_now)
        self.shared.late.value = max(self.shared.late.value, late)
        if late > LATEST_SECONDS:
            raise AssertionError(f"version {version_now} could be read {late:.3f} s too long by who had it open")

    def refuses(self, path, folder):
        try:
            version = self.read(path, folder)
        except PermissionError:
            self.shared.refused.value += 1
            return
        raise AssertionError(f"{path} let somebody in, with version {version}")

    def by_user(self):
        mine, not_mine = self.random.choice([("for-root", "for-user"), ("for-user", "for-root")])
        folder = os.open(self.target + "/..data", os.O_RDONLY | os.O_DIRECTORY)
        if mine == "for-user":
            os.seteuid(USER)
        try:
            facts = os.stat("for-user", dir_fd=folder)
            if (facts.st_uid, stat.S_IMODE(facts.st_mode)) != (USER, 0o400):
                raise AssertionError(f"for-user: {facts}")
            self.refuses(not_mine, folder)
            return self.read(mine, folder)
        finally:
            os.seteuid(0)
            os.close(folder)

    def by_program(self):
        if self.random.random() < 0.9:  # it takes a hundred times as long to start another one
            self.refuses(self.target + "/for-other", None)
            return self.read(self.target + "/for-program")
        start = time.monotonic()
        run = subprocess.run([OTHER_PROGRAM, self.target + "/for-other", self.target + "/for-program"],
                             capture_output=True, check=False, env={"LC_ALL": "C"})
        if run.stderr.count(b"\n") != 1 or b"for-program: Permission denied" not in run.stderr:
            raise AssertionError(f"{run.args}: {run.stderr}")
        self.elsewhere = time.monotonic() - start
        self.shared.refused.value += 1
        return version_of(run.stdout)

    def let_go(self):
        super().let_go()
        if self.brief_kept:
            os.close(self.brief_kept[0])
            self.brief_kept = None

    def forget(self):
        super().forget()
        self.last_once = 0
