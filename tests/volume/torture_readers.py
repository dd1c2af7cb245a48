"""Who reads and watches a volume of the torture test: each a process of its own, which checks every byte."""

import collections
import ctypes
import errno
import mmap
import multiprocessing
import os
import random
import select
import signal
import struct
import time
import traceback

REPEATS = 1500  # of the version, in each file: 15,000 bytes
# Each as often as any other; "start" once.
EVENTS = ["start", "publish", "unpublish", "rotate", "rotate", "kill", "kill_in_rotation", "kill_in_unpublish",
          "kill_in_publish", "kill_both", "publish", "stop", "upgrade", "kill_standby", "kill_keeper", "end_in_refill",
          "lose", "stop_keeper", "stop_readers"]
VERSIONS = 1024  # of which the times are known
# What who reads gets while a volume may be lost, with plugin and keeper: until it is published again.
LOST = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENOENT)
SIGNAL_SECONDS = 50e-6
PAUSE, LONGEST_PAUSE = 0.05, 0.01  # how often, and seconds
LIBC = ctypes.CDLL(None, use_errno=True)


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
        self.doubtful = value(ctypes.c_bool, False)  # it may be lost
        self.doubted = value(ctypes.c_bool, False)  # the reader knows, and holds nothing of it
        self.stops = value(ctypes.c_long, 0)  # grows before the reader is stopped, and before it goes on
        self.refused = value(ctypes.c_long, 0)  # opens that were
        # When each version may have been published first, and when it had been for sure.
        self.began = multiprocessing.RawArray(ctypes.c_double, VERSIONS)
        self.ended = multiprocessing.RawArray(ctypes.c_double, VERSIONS)
        self.brief = value(ctypes.c_long, 0)  # how often the time-boxed file was read
        self.over = value(ctypes.c_long, 0)  # how often it was gone
        self.late = value(ctypes.c_double, 0)  # seconds that who had it open read on
        self.longest = multiprocessing.RawArray(ctypes.c_double, len(EVENTS))  # read during each
        self.error = multiprocessing.RawArray(ctypes.c_char, 4000)


def read_at(path, folder=None, opened=lambda fd: None):
    fd = os.open(path, os.O_RDONLY, dir_fd=folder)
    try:
        opened(fd)
        return os.read(fd, 100_000)
    finally:
        os.close(fd)


def call(function, *arguments):
    """Of the C library: Python's own would be tried again after EINTR."""
    result = function(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{function.__name__}: {os.strerror(ctypes.get_errno())}")
    return result


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

    def follows(self):
        return self.shared.published.value

    def run(self):
        shared = self.shared
        signal.signal(signal.SIGALRM, lambda *_: None)  # without SA_RESTART
        try:
            while not shared.done.value:
                if not self.follows():
                    self.gone()
                    self.idle.value = True
                    time.sleep(0.001)
                    continue
                self.idle.value = False
                if self.follows():
                    self.look()
        except BaseException:  # pylint: disable=broad-except
            shared.error.value = f"{self.doing}: {traceback.format_exc()}".encode()[-3900:]
        self.idle.value = True


class Reader(Follower):
    def __init__(self, target, shared, seed, event):
        super().__init__(target, shared, shared.idle)
        self.random, self.event = random.Random(seed), event
        self.kept = None  # an open file, and the version it had
        self.let_go_chance = 0
        self.ways = [self.by_name, self.past_the_cache, self.pair, self.mapped, self.listed, self.open_file,
                     self.signalled, self.changed]
        self.doubtful_ways = [self.by_name, self.past_the_cache, self.pair, self.signalled]
        self.elsewhere = 0  # seconds that the last way has waited, but for no volume

    def read(self, *arguments):
        data = read_at(*arguments)
        self.opened()
        return version_of(data)

    def opened(self):
        if not self.shared.doubted.value:
            self.shared.opens.value += 1

    def by_name(self):
        return self.read(self.target + self.random.choice(["/a", "/b"]))

    def past_the_cache(self):
        return self.read(self.target + "/a", None, self.drop_pages)

    def drop_pages(self, fd):
        """The kernel may wait for all processors in that."""
        start = time.monotonic()
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self.elsewhere = time.monotonic() - start

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
            self.opened()
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
            self.opened()
            self.kept = fd, version_of(os.pread(fd, 100_000, 0))
            self.let_go_chance = self.random.choice([0.1, 0.001])
            return self.kept[1]
        fd, version = self.kept
        if self.random.random() < 0.1:
            self.drop_pages(fd)
        if version_of(os.pread(fd, 100_000, 0)) != version:
            raise AssertionError("an open file has changed")
        if self.random.random() < self.let_go_chance:
            self.let_go()
        return None

    def let_go(self):
        if self.kept:
            os.close(self.kept[0])
            self.kept = None

    def signalled(self):
        """a signal ends no call early"""
        buffer = ctypes.create_string_buffer(100_000)
        signal.setitimer(signal.ITIMER_REAL, SIGNAL_SECONDS, SIGNAL_SECONDS)
        try:
            os.stat(self.target + "/a")
            os.listdir(self.target)
            fd = call(LIBC.open, (self.target + "/b").encode(), os.O_RDONLY)
            try:
                self.opened()
                size = call(LIBC.read, fd, buffer, len(buffer))
            finally:
                os.close(fd)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return version_of(buffer.raw[:size])

    def changed(self):
        """nothing is, by nobody"""
        change = self.random.choice([
            lambda path: os.open(path, os.O_WRONLY), os.unlink, lambda path: os.truncate(path, 0),
            lambda path: os.chmod(path, 0o600), lambda path: os.rename(path, path + "-old"),
            lambda path: os.mkdir(path + "-new"), lambda path: os.symlink("a", path + "-new")])
        try:
            change(self.target + "/a")
        except OSError as error:
            if error.errno == errno.EROFS:
                return
            raise
        raise AssertionError("a change wasn't refused")

    def forget(self):
        """It may be another volume from now on."""
        self.let_go()

    def gone(self):
        self.forget()
        self.shared.newest.value = 0

    def look(self):
        shared, during, stops, start = self.shared, self.event.value, self.shared.stops.value, time.monotonic()
        doubtful = shared.doubtful.value
        if doubtful:
            self.forget()
        shared.doubted.value = doubtful
        way = self.random.choice(self.doubtful_ways if doubtful else self.ways)
        self.doing, self.elsewhere = way.__name__, 0
        try:
            version = way()
        except OSError as error:
            # Who was stopped for longer than the grace may have had a folder that is gone.
            if not (doubtful and error.errno in LOST or error.errno == errno.ENOENT and stops != shared.stops.value):
                raise
            version = None
        took = time.monotonic() - start - self.elsewhere
        if took > shared.longest[during] and not doubtful and stops == shared.stops.value:
            shared.longest[during] = took
        if version is not None and version < shared.newest.value:
            raise AssertionError(f"{way.__name__}: version {version} after {shared.newest.value}")
        shared.newest.value = max(shared.newest.value, version or 0)
        shared.reads.value += 1
        if self.random.random() < PAUSE:  # what they wait for needs the processor, too
            time.sleep(self.random.uniform(0, LONGEST_PAUSE))


class Watcher(Follower):
    """Reads when inotify says that there is a new version, as applications do."""

    IN_MOVED_TO, IN_NONBLOCK = 0x80, 0o4000
    HEAD = struct.Struct("iIII")

    def __init__(self, target, shared):
        super().__init__(target, shared, shared.watcher_idle)
        self.events = None

    def follows(self):
        return self.shared.published.value and not self.shared.doubtful.value

    def watch(self):
        self.events = call(LIBC.inotify_init1, self.IN_NONBLOCK)
        call(LIBC.inotify_add_watch, self.events, self.target.encode(), self.IN_MOVED_TO)
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
