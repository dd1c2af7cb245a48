#include "keystore/main/process.h"

#include <linux/capability.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "common/log.h"

namespace coffer::keystore {
namespace {

// A soft limit raised to the hard one, or to `enough`.
void RaiseLimit(__rlimit_resource which, rlim_t enough) {
  rlimit limit{};
  if (getrlimit(which, &limit) != 0) return;
  const rlim_t wanted = std::min(limit.rlim_max, enough);
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = wanted;
  setrlimit(which, &limit);
}

sigset_t AwaitedSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  return signals;
}

}  // namespace

void PrepareProcess() {
  umask(077);
  RaiseLimit(RLIMIT_NOFILE, 65'536);
  RaiseLimit(RLIMIT_MEMLOCK, RLIM_INFINITY);
  // An arena for each thread would keep pages of its own; two are enough, since most of what a
  // request allocates comes from secret memory or the threads' caches.
  mallopt(M_ARENA_MAX, 2);

  std::signal(SIGPIPE, SIG_IGN);
  const sigset_t signals = AwaitedSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

void GiveUpPrivileges(Seccomp seccomp) {
  // In a container it has none of them. Started by root: to lock its memory, to listen below port
  // 1024, to use a folder that belongs to another user.
  constexpr std::uint64_t kKept = std::uint64_t{1} << CAP_IPC_LOCK |
                                  std::uint64_t{1} << CAP_NET_BIND_SERVICE |
                                  std::uint64_t{1} << CAP_DAC_OVERRIDE;
  Harden({.program = "coffer-keystore", .capabilities = kKept, .seccomp = seccomp},
         [](const char* what, int error) {
           log::Warning("the kernel refuses a part of the hardening",
                        {{"what", what}, {"cause", std::strerror(error)}});
         });
}

int WaitForSignal() {
  const sigset_t signals = AwaitedSignals();
  int received = 0;
  while (sigwait(&signals, &received) != 0) {
  }
  return received;
}

}  // namespace coffer::keystore
