#include "common/descriptor_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

namespace coffer {
namespace {

constexpr rlim_t kRoom = 8192;  // 66 KB of the kernel's

}  // namespace

int RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return errno;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return errno;
  const int last = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, static_cast<int>(std::min(kRoom, limit.rlim_cur) - 1));
  if (last >= 0) close(last);
  return 0;
}

}  // namespace coffer
