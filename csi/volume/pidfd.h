// OpenThread: a pidfd of one thread.
#pragma once

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/unique_fd.h"

namespace coffer::volume {

// None: there is no such thread, or the kernel is older than Linux 6.9. See pidfd_open(2).
inline UniqueFd OpenThread(pid_t thread) {
  constexpr unsigned kThread = O_EXCL;  // PIDFD_THREAD, newer than Debian 12's header
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, thread, kThread)));
}

}  // namespace coffer::volume
