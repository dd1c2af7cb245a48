#include "csi/volume/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

#include "common/strings.h"

namespace coffer::volume {
namespace {

// Parents from a process up to the one that its container was started with.
constexpr int kMostSteps = 256;
constexpr std::size_t kIdSize = 64;

// Newer than Debian 12's headers: pidfd_open(2), PIDFD_GET_INFO(2const).
constexpr unsigned kPidfdThread = O_EXCL;  // Linux 6.9
struct PidfdInfo {                         // Linux 6.13
  std::uint64_t mask, cgroup;
  std::uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid, exit_code;
};
constexpr unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);
constexpr std::uint64_t kPidfdInfoIds = 1 << 1;
static_assert(sizeof(PidfdInfo) == 64);

bool IsHex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }
bool IsWord(char c) { return IsHex(c) || (c >= 'g' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// A file of /proc from its start, as far as it fits; "" where there is none.
std::string_view ReadAt(int fd, std::span<char> buffer) {
  const ssize_t size = pread(fd, buffer.data(), buffer.size(), 0);
  return {buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
}

std::string ReadFile(int folder, const char* name) {
  const UniqueFd file(openat(folder, name, O_RDONLY | O_CLOEXEC));
  char buffer[8192];
  return file ? std::string(ReadAt(file.get(), buffer)) : std::string();
}

// What follows "<name>:\t" in /proc/PID/status, to the line's end.
std::string_view Field(std::string_view status, std::string_view name) {
  for (std::size_t at = 0; at < status.size();) {
    const std::size_t end = std::min(status.find('\n', at), status.size());
    const std::string_view line = status.substr(at, end - at);
    if (line.size() > name.size() + 1 && line.substr(0, name.size()) == name &&
        line[name.size()] == ':') {
      return Trim(line.substr(name.size() + 1));
    }
    at = end + 1;
  }
  return {};
}

std::uint32_t Number(std::string_view text, std::uint32_t otherwise = 0) {
  std::uint32_t number = otherwise;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// The fourth of the ids: the one that file systems look at.
std::uint32_t FileSystemId(std::string_view ids) {
  const std::vector<std::string_view> all = Split(ids, '\t');
  return all.size() == 4 ? Number(all[3], Opener::kUnknownId) : Opener::kUnknownId;
}

UniqueFd OpenProcess(std::uint32_t id) {
  return UniqueFd(open(StrCat("/proc/", id).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

struct IdRange {
  std::uint32_t inside, outside, count;
};

std::vector<IdRange> ParseIdMap(std::string_view text) {
  std::vector<IdRange> map;
  for (const std::string_view line : Split(text, '\n')) {
    std::vector<std::uint32_t> numbers;
    for (const std::string_view piece : Split(line, ' ')) {
      if (!piece.empty()) numbers.push_back(Number(piece));
    }
    if (numbers.size() == 3) map.push_back({numbers[0], numbers[1], numbers[2]});
  }
  return map;
}

std::uint32_t Inside(const std::vector<IdRange>& map, std::uint32_t id) {
  for (const IdRange& range : map) {
    if (id >= range.outside && id - range.outside < range.count) {
      return range.inside + (id - range.outside);
    }
  }
  return map.empty() ? id : Opener::kUnknownId;
}

struct Identity {
  std::uint64_t device = 0, inode = 0;
  bool operator==(const Identity&) const = default;
};

// Without asking the file system's server: it may be one that hangs, or this process.
std::optional<Identity> IdentityOf(int folder, const char* name, int flags) {
  struct statx info {};
  if (statx(folder, name, flags | AT_STATX_DONT_SYNC, STATX_INO, &info) != 0) return std::nullopt;
  return Identity{makedev(info.stx_dev_major, info.stx_dev_minor), info.stx_ino};
}

// The process that the container was started with, or that was started into it from outside
// (kubectl exec): the last one upwards from `process` that is in it. None if that can't be told: a
// parent that ends meanwhile must not make someone the first who isn't.
UniqueFd FirstOf(std::string_view container, UniqueFd process) {
  for (int step = 0; step < kMostSteps; ++step) {
    const std::string status = ReadFile(process.get(), "status");
    if (status.empty()) return UniqueFd();
    const std::uint32_t parent = Number(Field(status, "PPid"));
    if (parent == 0) return process;
    UniqueFd above = OpenProcess(parent);
    const std::string groups = above ? ReadFile(above.get(), "cgroup") : std::string();
    if (groups.empty()) continue;  // it has ended: there is a new one
    if (ContainerId(groups) != container) return process;
    process = std::move(above);
  }
  return UniqueFd();
}

// A process's root folder; none where that isn't the top of its mount namespace, as a runtime makes
// it: the container's first process, too, could have gone into another folder (chroot).
UniqueFd OpenRoot(int process) {
  UniqueFd root(openat(process, "root", O_PATH | O_DIRECTORY | O_CLOEXEC));
  char path[2] = {};
  const std::string link = StrCat("/proc/self/fd/", root.get());
  if (readlink(link.c_str(), path, sizeof path) != 1 || path[0] != '/') root.reset();
  return root;
}

}  // namespace

std::string_view ContainerId(std::string_view cgroup) {
  for (const std::string_view line : Split(cgroup, '\n')) {
    const std::string_view path = line.substr(std::min(line.find('/'), line.size()));
    // From the end: of a container in a container the inner one's.
    for (std::size_t end = path.size(); end >= kIdSize; --end) {
      if (end < path.size() && IsWord(path[end])) continue;
      const std::size_t start = end - kIdSize;
      if (start > 0 && IsWord(path[start - 1])) continue;
      const std::string_view id = path.substr(start, kIdSize);
      if (!std::all_of(id.begin(), id.end(), IsHex)) continue;
      // The monitor of CRI-O and Podman is none of the container's processes.
      if (path.substr(0, start).ends_with("conmon-")) continue;
      return id;
    }
  }
  return {};
}

struct KnownProcess {
  UniqueFd folder;   // /proc/THREAD
  UniqueFd thread;   // its pidfd; none: before Linux 6.9
  UniqueFd command;  // its comm: read in a tenth of the time that its status takes
  UniqueFd root;     // of its container; none: not known
  std::uint32_t pid = 0;
  std::string container;
  std::vector<IdRange> uids, gids;  // of its container
};

namespace {

struct Ids {
  std::uint32_t uid = Opener::kUnknownId, gid = Opener::kUnknownId;
};

// Those that file systems look at; they may be others at each open.
Ids FileSystemIds(const KnownProcess& process) {
  PidfdInfo info{};
  if (process.thread && ioctl(process.thread.get(), kPidfdGetInfo, &info) == 0 &&
      (info.mask & kPidfdInfoIds) != 0) {
    return {info.fsuid, info.fsgid};
  }
  const std::string status = ReadFile(process.folder.get(), "status");
  return {FileSystemId(Field(status, "Uid")), FileSystemId(Field(status, "Gid"))};
}

}  // namespace

bool Opener::Runs(std::string_view paths) const {
  if (process == nullptr || !process->root) return false;
  const std::optional<Identity> running = IdentityOf(process->folder.get(), "exe", 0);
  if (!running) return false;
  for (const std::string_view path : Split(paths, '\0')) {
    open_how how{};
    how.flags = O_PATH | O_CLOEXEC;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
    UniqueFd file;
    for (int attempt = 0; attempt < 16 && !file; ++attempt) {  // EAGAIN: a race with a rename
      file.reset(static_cast<int>(
          syscall(SYS_openat2, process->root.get(), std::string(path).c_str(), &how, sizeof how)));
      if (!file && errno != EAGAIN) break;
    }
    if (file && IdentityOf(file.get(), "", AT_EMPTY_PATH) == running) return true;
  }
  return false;
}

bool Openers::SeesPods() {
  // The number of the first one's inode is part of the kernel's ABI (PROC_PID_INIT_INO).
  struct stat info {};
  return stat("/proc/self/ns/pid", &info) == 0 && info.st_ino == 0xEFFFFFFC;
}

std::shared_ptr<const KnownProcess> Openers::Find(std::uint32_t thread) {
  {
    std::lock_guard lock(mutex_);
    const auto kept = kept_.find(thread);
    if (kept != kept_.end()) {
      kept->second.used = ++uses_;
      return kept->second.process;
    }
  }
  auto process = std::make_shared<KnownProcess>();
  process->folder = OpenProcess(thread);
  if (!process->folder) return nullptr;
  // Of the same thread, if its folder can be read after that.
  process->thread = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, thread, kPidfdThread)));
  process->command = UniqueFd(openat(process->folder.get(), "comm", O_RDONLY | O_CLOEXEC));
  process->pid = Number(Field(ReadFile(process->folder.get(), "status"), "Tgid"));
  if (process->pid == 0) return nullptr;
  process->container = ContainerId(ReadFile(process->folder.get(), "cgroup"));
  if (process->container.empty()) {
    process->root = UniqueFd(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  } else if (const UniqueFd first = FirstOf(process->container, OpenProcess(process->pid))) {
    process->root = OpenRoot(first.get());
    // In this process's own namespace the maps tell of the parent's ids, and there is nothing to
    // map.
    if (IdentityOf(first.get(), "ns/user", 0) != IdentityOf(AT_FDCWD, "/proc/self/ns/user", 0)) {
      process->uids = ParseIdMap(ReadFile(first.get(), "uid_map"));
      process->gids = ParseIdMap(ReadFile(first.get(), "gid_map"));
    }
  }

  std::lock_guard lock(mutex_);
  if (kept_.size() >= kMostKept) {
    kept_.erase(std::min_element(kept_.begin(), kept_.end(), [](const auto& a, const auto& b) {
      return a.second.used < b.second.used;
    }));
  }
  kept_[thread] = {process, ++uses_};
  return process;
}

Opener Openers::Describe(std::uint32_t thread, std::uint32_t uid, std::uint32_t gid) {
  Opener opener{.uid = uid, .gid = gid};
  if (thread == 0) return opener;
  char buffer[8192];
  for (int attempt = 0; attempt < 2 && opener.command.empty(); ++attempt) {
    opener.process = Find(thread);
    if (opener.process == nullptr) return opener;
    opener.command = ReadAt(opener.process->command.get(), buffer);
    if (!opener.command.empty()) break;
    // A thread of that number is no more: there is another one.
    std::lock_guard lock(mutex_);
    const auto kept = kept_.find(thread);
    if (kept != kept_.end() && kept->second.process == opener.process) kept_.erase(kept);
  }
  const KnownProcess& process = *opener.process;
  opener.pid = process.pid;
  opener.container = process.container;
  if (opener.command.ends_with('\n')) opener.command.pop_back();
  if (uid == Opener::kUnknownId || gid == Opener::kUnknownId) {
    const Ids ids = FileSystemIds(process);
    if (uid == Opener::kUnknownId) opener.uid = ids.uid;
    if (gid == Opener::kUnknownId) opener.gid = ids.gid;
  }
  if (opener.uid != Opener::kUnknownId) opener.uid = Inside(process.uids, opener.uid);
  if (opener.gid != Opener::kUnknownId) opener.gid = Inside(process.gids, opener.gid);
  const ssize_t size = readlinkat(process.folder.get(), "exe", buffer, sizeof buffer);
  if (size > 0) opener.executable.assign(buffer, static_cast<std::size_t>(size));
  return opener;
}

}  // namespace coffer::volume
