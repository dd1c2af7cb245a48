"""Who reads and watches a volume of the torture test: each a process of its own, which checks every byte."""

import collections
import ctypes
import mmap
import multiprocessing
import os
import random
import select
import struct
import time
import traceback

REPEATS = 1500  # of the version, in each file: 15,000 bytes
EVENTS = ["start", "publish", "unpublish", "rotate", "rotate", "kill", "kill_in_rotation", "kill_in_unpublish", "publish",
          "stop", "upgrade", "kill_standby", "kill_keeper"]  # each as often as any other; "start" once


def content(version):
    return f"{version:09}\n" * REPEATS


def version_of(data):
    version = int(data[:9])
    if data.decode() != content(version):
        raise AssertionError(f"{len(data)} bytes are not the content of one version: "
                             f"{sorted(collections.Counter(data.split()).items())[:5]}")
    return version


class Shared:
    """What the readers' processes and the director see of a volume."""

    def __init__(self):
        value = multiprocessing.RawValue
        self.published = value(ctypes.c_bool, False)
        self.idle = value(ctypes.c_bool, True)  # the reader has seen that it isn't
        self.done = value(ctypes.c_bool, False)
        self.reads = value(ctypes.c_long, 0)
        self.newest = value(ctypes.c_long, 0)
        self.opens = value(ctypes.c_long, 0)  # that were answered
        self.once = value(ctypes.c_long, 0)  # how often that file was read
        self.watched = value(ctypes.c_long, 0)  # the newest version that the watcher was told of
        self.watcher_idle = value(ctypes.c_bool, True)
        self.longest = multiprocessing.RawArray(ctypes.c_double, len(EVENTS))  # read during each
        self.error = multiprocessing.RawArray(ctypes.c_char, 4000)


def read_at(path, folder=None, drop_pages=False):
    fd = os.open(path, os.O_RDONLY, dir_fd=folder)
    try:
        if drop_pages:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.read(fd, 100_000)
    finally:
        os.close(fd)


class Follower:
    """Looks at a volume again and again while it is published, and says when it has seen that it isn't."""

    def __init__(self, target, shared, idle):
        self.target, self.shared, self.idle = target, shared, idle
        self.doing = type(self).__name__  # what an error is told of

    def look(self):
        raise NotImplementedError

    def gone(self):
        """The volume isn't published."""
        raise NotImplementedError

    def run(self):
        shared = self.shared
        try:
            while not shared.done.value:
                if not shared.published.value:
                    self.gone()
                    self.idle.value = True
                    time.sleep(0.001)
                    continue
                self.idle.value = False
                if shared.published.value:
                    self.look()
        except BaseException:  # pylint: disable=broad-except
            shared.error.value = f"{self.doing}: {traceback.format_exc()}".encode()[-3900:]
        self.idle.value = True


class Reader(Follower):
    def __init__(self, target, secret_class, shared, seed, event):
        super().__init__(target, shared, shared.idle)
        self.random, self.event = random.Random(seed), event
        self.kept = None  # an open file, and the version it had
        self.ways = [self.by_name, self.past_the_cache, self.pair, self.mapped, self.listed, self.open_file]
        self.last_once = 0  # the version that was read from that file
        if secret_class == "ruled":
            self.ways += [self.once, self.bait]

    def read(self, path, folder=None, drop_pages=False):
        data = read_at(path, folder, drop_pages)
        self.shared.opens.value += 1
        return version_of(data)

    def by_name(self):
        return self.read(self.target + self.random.choice(["/a", "/b"]))

    def past_the_cache(self):
        return self.read(self.target + "/a", drop_pages=True)

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

    def pair(self):
        """two files through one ..data are of one version"""
        folder = os.open(self.target + "/..data", os.O_RDONLY | os.O_DIRECTORY)
        try:
            a, b = self.read("a", folder), self.read("b", folder)
        finally:
            os.close(folder)
        if a != b:
            raise AssertionError(f"a has version {a}, b {b}")
        return a

    def mapped(self):
        with open(self.target + "/a", "rb") as file, \
                mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
            self.shared.opens.value += 1
            return version_of(pages[:])

    def listed(self):
        names = os.listdir(self.target)
        if not {"..data", "a", "b"} <= set(names) or len(names) != len(set(names)):
            raise AssertionError(f"the folder lists {sorted(names)}")
        if os.stat(self.target + "/a").st_size != len(content(0)):
            raise AssertionError("wrong size")

    def open_file(self):
        """an open file stays what it was"""
        if self.kept is None:
            fd = os.open(self.target + "/a", os.O_RDONLY)
            self.shared.opens.value += 1
            self.kept = fd, version_of(os.pread(fd, 100_000, 0))
            return self.kept[1]
        fd, version = self.kept
        if version_of(os.pread(fd, 100_000, 0)) != version:
            raise AssertionError("an open file has changed")
        if self.random.random() < 0.1:
            self.let_go()
        return None

    def let_go(self):
        if self.kept:
            os.close(self.kept[0])
            self.kept = None

    def gone(self):
        self.let_go()
        self.shared.newest.value = self.last_once = 0

    def look(self):
        shared = self.shared
        way = self.random.choice(self.ways)
        self.doing = way.__name__
        during = self.event.value
        start = time.monotonic()
        version = way()
        took = time.monotonic() - start
        if took > shared.longest[during]:
            shared.longest[during] = took
        if version is not None and version < shared.newest.value:
            raise AssertionError(f"{way.__name__}: version {version} after {shared.newest.value}")
        shared.newest.value = max(shared.newest.value, version or 0)
        shared.reads.value += 1


class Watcher(Follower):
    """Reads when inotify says that there is a new version, as applications do."""

    IN_MOVED_TO, IN_NONBLOCK = 0x80, 0o4000
    HEAD = struct.Struct("iIII")

    def __init__(self, target, shared):
        super().__init__(target, shared, shared.watcher_idle)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.events = None

    def watch(self):
        self.events = self.libc.inotify_init1(self.IN_NONBLOCK)
        if self.libc.inotify_add_watch(self.events, self.target.encode(), self.IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
        self.read()

    def read(self):
        version = version_of(read_at(self.target + "/a"))
        if version < self.shared.watched.value:
            raise AssertionError(f"version {version} after {self.shared.watched.value}")
        self.shared.watched.value = version

    def moved(self):
        """Whether "..data" was, within a moment."""
        if not select.select([self.events], [], [], 0.01)[0]:
            return False
        data, names = os.read(self.events, 65536), set()
        while data:
            size = self.HEAD.unpack_from(data)[3]
            names.add(data[self.HEAD.size:self.HEAD.size + size].rstrip(b"\0"))
            data = data[self.HEAD.size + size:]
        return b"..data" in names

    def gone(self):
        if self.events is not None:
            os.close(self.events)
        self.events = None
        self.shared.watched.value = 0

    def look(self):
        if self.events is None:
            self.watch()
        elif self.moved():
            self.read()
