#include "keystore/main/process.h"

#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>

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

void HardenProcess() {
  prctl(PR_SET_DUMPABLE, 0);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
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

int WaitForSignal() {
  const sigset_t signals = AwaitedSignals();
  int received = 0;
  while (sigwait(&signals, &received) != 0) {
  }
  return received;
}

}  // namespace coffer::keystore
