// Openers: who opens a file, as /proc tells of it. The kernel's request names a thread and waits for
// the answer, so what is read before the answer is about the right one. What can't change while it
// lives is kept, with a descriptor of its folder in /proc that dies with the thread: a number that
// is used again is no trap.
//
// Other users' /proc/PID/exe and root can be read with CAP_SYS_PTRACE only; pids mean something only
// where the plugin sees those of the pods (hostPID).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "common/unique_fd.h"

namespace coffer::volume {

// The id in a process's /proc/PID/cgroup, of version 1 or 2, as containerd, CRI-O, Docker and Podman
// name their groups: the last 64 hexadecimal digits of a path. "": in no container.
std::string_view ContainerId(std::string_view cgroup);

class Containers;
class KnownProcess;

struct Opener {
  static constexpr std::uint32_t kUnknownId = UINT32_MAX;

  std::uint32_t pid = 0;  // of the process; 0: the plugin doesn't see the pods' processes
  std::uint32_t uid = kUnknownId;  // as the container counts, with user namespaces too
  std::uint32_t gid = kUnknownId;
  std::string command = {};     // of the thread
  std::string executable = {};  // "": a kernel's thread, or not allowed to know
  std::string container = {};   // its id; "": in none, or not known
  std::shared_ptr<const KnownProcess> process = nullptr;

  // Whether the process runs the file at one of these paths (with NULs between): real ones, without
  // links, on the mount that is the root of its container, or of this process for those outside of
  // containers. So no mount, root or namespace that the process has made for itself counts; and no
  // path is walked, which its file system could hold up. False where nothing is known.
  bool Runs(std::string_view paths) const;
};

// Safe on any thread.
class Openers {
 public:
  Openers();
  ~Openers();

  // Whether requests name the pods' processes: this process is in the machine's first PID
  // namespace. Where it isn't, only its own descendants are known.
  static bool SeesPods();

  // `thread`, `uid`, `gid`: as the request has them; 0 and kUnknownId where it doesn't say.
  Opener Describe(std::uint32_t thread, std::uint32_t uid, std::uint32_t gid);
  // Lets go of the oldest where they are too many. When the kernel has its answer: closing
  // descriptors takes longer than a call.
  void Tidy();

 private:
  // Each has three descriptors open. Looking for the oldest takes as long as a few opens, so
  // several are let go at a time.
  static constexpr std::size_t kMostKept = 64, kLeastKept = 48;
  struct Kept {
    std::shared_ptr<const KnownProcess> process;
    std::uint64_t used = 0;
  };

  std::shared_ptr<const KnownProcess> Find(std::uint32_t thread);
  void Forget(std::uint32_t thread, const KnownProcess& process);

  const std::unique_ptr<Containers> containers_;

  std::mutex mutex_;
  std::map<std::uint32_t, Kept> kept_;  // by thread
  std::uint64_t uses_ = 0;
};

}  // namespace coffer::volume
