#include "csi/volume/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

#include "common/strings.h"
#include "csi/volume/pidfd.h"

namespace coffer::volume {
namespace {

// Parents from a process up to the one that its container was started with.
constexpr int kMostSteps = 256;
constexpr std::size_t kIdSize = 64;
constexpr std::size_t kMostGroups = 1024;

// Newer than Debian 12's headers: statx(2), PIDFD_GET_INFO(2const), ioctl_pidfd(2).
constexpr unsigned kStatxMountIdUnique = 0x4000;                // Linux 6.8
constexpr unsigned long kPidfdGetUserNamespace = _IO(0xFF, 9);  // Linux 6.11
struct PidfdInfo {                                // Linux 6.13
  std::uint64_t mask, cgroup;
  std::uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid, exit_code;
};
constexpr unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);
constexpr std::uint64_t kPidfdInfoIds = 1 << 1, kPidfdInfoCgroup = 1 << 2;
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

// Whether /proc/PID/cgroup tells of the group of version 2 alone.
bool IsOneGroup(std::string_view cgroup) {
  return cgroup.starts_with("0::") && cgroup.find('\n') == cgroup.size() - 1;
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

// Of what a link of /proc leads to, never asking the file system's server: it may be one that
// hangs, or this process.
std::optional<struct statx> FactsOf(int folder, const char* name, unsigned mask) {
  struct statx facts {};
  if (statx(folder, name, AT_STATX_DONT_SYNC, mask, &facts) != 0) return std::nullopt;
  return facts;
}

// 0: not known.
std::uint64_t MountOf(int folder, const char* name) {
  const auto facts = FactsOf(folder, name, STATX_MNT_ID | kStatxMountIdUnique);
  return facts ? facts->stx_mnt_id : 0;
}

// A thread, or a process by its first one.
struct Seen {
  UniqueFd folder;  // /proc/THREAD
  UniqueFd pidfd;   // none: before Linux 6.9
};

// None: there is no such thread. Both descriptors are of the same one if anything can be had of the
// folder after that.
std::optional<Seen> See(std::uint32_t thread) {
  Seen seen{UniqueFd(open(StrCat("/proc/", thread).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
            OpenThread(static_cast<pid_t>(thread))};
  return seen.folder ? std::optional(std::move(seen)) : std::nullopt;
}

// What may be something else at each open.
struct Status {
  std::uint32_t pid = 0;  // of the process; 0: it has ended
  std::uint32_t parent = 0;
  std::uint32_t uid = Opener::kUnknownId, gid = Opener::kUnknownId;  // that file systems look at
  std::uint64_t group = 0;  // its control group of version 2, by a number that is never used again
};

// Of a pidfd in a tenth of the time that /proc/PID/status takes; none before Linux 6.13.
std::optional<Status> InfoOf(const UniqueFd& pidfd) {
  PidfdInfo info{.mask = kPidfdInfoCgroup};
  const bool known = pidfd && ioctl(pidfd.get(), kPidfdGetInfo, &info) == 0;
  if (!known || (info.mask & kPidfdInfoIds) == 0) return std::nullopt;
  return Status{info.tgid, info.ppid, info.fsuid, info.fsgid,
                (info.mask & kPidfdInfoCgroup) != 0 ? info.cgroup : 0};
}

Status StatusOf(const Seen& seen) {
  if (const auto info = InfoOf(seen.pidfd)) return *info;
  const std::string text = ReadFile(seen.folder.get(), "status");
  return {Number(Field(text, "Tgid")), Number(Field(text, "PPid")),
          FileSystemId(Field(text, "Uid")), FileSystemId(Field(text, "Gid"))};
}

// /proc/PID/ns takes twice as long as the pidfd.
bool SharesOurUsers(const Seen& seen) {
  static const auto ours = FactsOf(AT_FDCWD, "/proc/self/ns/user", STATX_INO);
  const UniqueFd users(seen.pidfd ? ioctl(seen.pidfd.get(), kPidfdGetUserNamespace, 0) : -1);
  struct stat info {};
  if (ours && users && fstat(users.get(), &info) == 0) return info.st_ino == ours->stx_ino;
  const auto theirs = FactsOf(seen.folder.get(), "ns/user", STATX_INO);
  return theirs && ours && theirs->stx_ino == ours->stx_ino;
}

// The mount that a process's root folder is on; 0 where that isn't the top of its mount namespace,
// as a runtime makes it: the container's first process, too, could have gone into another (chroot).
std::uint64_t RootMountOf(int process) {
  char path[2] = {};
  const bool top = readlinkat(process, "root", path, sizeof path) == 1 && path[0] == '/';
  return top ? MountOf(process, "root") : 0;
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

// The containers' ids by control group: a group of version 2 keeps its name, and its number is
// never another's. Where version 1 is mounted, too, it doesn't say all. Safe on any thread.
class Containers {
 public:
  // Of a thread that is in `group`. None: it has ended.
  std::optional<std::string> Of(const Seen& seen, std::uint64_t group) {
    if (group != 0) {
      std::lock_guard lock(mutex_);
      const auto known = ids_.find(group);
      if (known != ids_.end()) return known->second;
    }
    const std::string groups = ReadFile(seen.folder.get(), "cgroup");
    if (groups.empty()) return std::nullopt;
    std::string id(ContainerId(groups));
    const auto now = IsOneGroup(groups) ? InfoOf(seen.pidfd) : std::nullopt;
    if (now && now->group != 0 && now->group == group) {
      std::lock_guard lock(mutex_);
      if (ids_.size() >= kMostGroups) ids_.clear();
      ids_.emplace(group, id);
    }
    return id;
  }

 private:
  std::mutex mutex_;
  std::map<std::uint64_t, std::string> ids_;
};

namespace {

// The process that the container was started with, or that was started into it from outside
// (kubectl exec): the last one upwards from `pid` that is in it. None if that can't be told: a
// parent that ends meanwhile must not make someone the first who isn't.
std::optional<Seen> FirstOf(std::string_view container, std::uint32_t pid, Containers& containers) {
  std::optional<Seen> process = See(pid);
  for (int step = 0; process && step < kMostSteps; ++step) {
    const Status status = StatusOf(*process);
    if (status.pid == 0) return std::nullopt;
    if (status.parent == 0) return process;
    std::optional<Seen> above = See(status.parent);
    const auto id = above ? containers.Of(*above, StatusOf(*above).group) : std::nullopt;
    if (!id) continue;  // it has ended: there is a new one
    if (*id != container) return process;
    process = std::move(above);
  }
  return std::nullopt;
}

}  // namespace

class KnownProcess {
 public:
  struct Container {
    std::uint64_t root_mount = 0;     // 0: not known
    std::vector<IdRange> uids, gids;  // empty: its ids are this process's
  };

  // None: there is no such thread.
  static std::shared_ptr<const KnownProcess> Find(std::uint32_t thread, Containers& containers);

  explicit KnownProcess(Seen thread, Containers& all) : seen(std::move(thread)), containers_(all) {}

  const Seen seen;
  UniqueFd command;  // the thread's comm: read in a tenth of the time that its status takes
  Status status;     // as it was found
  std::string container_id;
  bool shares_our_users = true;

  // Looked for at the first call: it takes longer than all the rest.
  const Container& container() const {
    std::call_once(looked_, [this] { Look(); });
    return container_;
  }

 private:
  void Look() const;

  Containers& containers_;
  mutable std::once_flag looked_;
  mutable Container container_;
};

void KnownProcess::Look() const {
  if (container_id.empty()) {
    container_.root_mount = MountOf(AT_FDCWD, "/");
    return;
  }
  const std::optional<Seen> first = FirstOf(container_id, status.pid, containers_);
  if (!first) return;
  container_.root_mount = RootMountOf(first->folder.get());
  // In this process's own namespace the maps tell of the parent's ids, and there is nothing to map.
  if (SharesOurUsers(*first)) return;
  container_.uids = ParseIdMap(ReadFile(first->folder.get(), "uid_map"));
  container_.gids = ParseIdMap(ReadFile(first->folder.get(), "gid_map"));
}

std::shared_ptr<const KnownProcess> KnownProcess::Find(std::uint32_t thread,
                                                       Containers& containers) {
  std::optional<Seen> seen = See(thread);
  if (!seen) return nullptr;
  auto process = std::make_shared<KnownProcess>(*std::move(seen), containers);
  process->command = UniqueFd(openat(process->seen.folder.get(), "comm", O_RDONLY | O_CLOEXEC));
  process->status = StatusOf(process->seen);
  if (process->status.pid == 0) return nullptr;
  process->container_id =
      containers.Of(process->seen, process->status.group).value_or(std::string());
  // Outside of containers there is nothing to map by.
  if (!process->container_id.empty()) process->shares_our_users = SharesOurUsers(process->seen);
  return process;
}

bool Opener::Runs(std::string_view paths) const {
  if (process == nullptr || executable.empty()) return false;
  const std::vector<std::string_view> all = Split(paths, '\0');
  if (std::find(all.begin(), all.end(), executable) == all.end()) return false;
  const std::uint64_t root = process->container().root_mount;
  return root != 0 && MountOf(process->seen.folder.get(), "exe") == root;
}

Openers::Openers() : containers_(std::make_unique<Containers>()) {}

Openers::~Openers() = default;

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
  std::shared_ptr<const KnownProcess> process = KnownProcess::Find(thread, *containers_);
  if (process == nullptr) return nullptr;
  std::lock_guard lock(mutex_);
  kept_[thread] = {process, ++uses_};
  return process;
}

void Openers::Forget(std::uint32_t thread, const KnownProcess& process) {
  std::lock_guard lock(mutex_);
  const auto kept = kept_.find(thread);
  if (kept != kept_.end() && kept->second.process.get() == &process) kept_.erase(kept);
}

void Openers::Tidy() {
  std::vector<std::shared_ptr<const KnownProcess>> old;  // closed without the lock
  std::lock_guard lock(mutex_);
  if (kept_.size() <= kMostKept) return;
  std::vector<std::uint64_t> uses;
  for (const auto& [thread, kept] : kept_) uses.push_back(kept.used);
  const auto oldest_to_keep = uses.end() - kLeastKept;
  std::nth_element(uses.begin(), oldest_to_keep, uses.end());
  std::erase_if(kept_, [&](auto& kept) {
    if (kept.second.used >= *oldest_to_keep) return false;
    old.push_back(std::move(kept.second.process));
    return true;
  });
}

Opener Openers::Describe(std::uint32_t thread, std::uint32_t uid, std::uint32_t gid) {
  Opener opener{.uid = uid, .gid = gid};
  if (thread == 0) return opener;
  char buffer[8192];
  for (int attempt = 0; attempt < 2; ++attempt) {
    opener.process = Find(thread);
    if (opener.process == nullptr) return opener;
    opener.command = ReadAt(opener.process->command.get(), buffer);
    Status status = opener.process->status;
    if (uid == Opener::kUnknownId || gid == Opener::kUnknownId) {
      status = StatusOf(opener.process->seen);
      if (uid == Opener::kUnknownId) opener.uid = status.uid;
      if (gid == Opener::kUnknownId) opener.gid = status.gid;
    }
    if (!opener.command.empty() && status.group == opener.process->status.group) break;
    // A thread of that number is no more, and there is another one; or it is in another group now.
    Forget(thread, *opener.process);
  }
  const KnownProcess& process = *opener.process;
  opener.pid = process.status.pid;
  opener.container = process.container_id;
  if (opener.command.ends_with('\n')) opener.command.pop_back();
  if (!process.shares_our_users) {
    const KnownProcess::Container& container = process.container();
    if (opener.uid != Opener::kUnknownId) opener.uid = Inside(container.uids, opener.uid);
    if (opener.gid != Opener::kUnknownId) opener.gid = Inside(container.gids, opener.gid);
  }
  const ssize_t size = readlinkat(process.seen.folder.get(), "exe", buffer, sizeof buffer);
  if (size > 0) opener.executable.assign(buffer, static_cast<std::size_t>(size));
  return opener;
}

}  // namespace coffer::volume
