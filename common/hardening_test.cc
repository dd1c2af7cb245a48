#include "common/hardening.h"

#include <errno.h>
#include <sched.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <functional>
#include <string>
#include <thread>

#include "common/unique_fd.h"

namespace coffer {
namespace {

bool filter_refused = false;  // by the kernel

// Runs `body` in a process of its own that was hardened: what it returns (0..99), and what it says on
// standard error.
int InHardened(Hardening hardening, const std::function<int()>& body, std::string* says = nullptr) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    Harden(hardening, [](const char* what, int) {
      if (std::string_view(what).find("filter") != std::string_view::npos) filter_refused = true;
    });
    // A machine without seccomp is no failure of ours.
    _exit(filter_refused ? 100 : body());
  }
  close(ends[1]);
  const UniqueFd out(ends[0]);
  char buffer[512];
  for (ssize_t got; (got = read(out.get(), buffer, sizeof buffer)) > 0;) {
    if (says != nullptr) says->append(buffer, static_cast<std::size_t>(got));
  }
  int status = 0;
  waitpid(child, &status, 0);
  INFO("wait status " << status);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

TEST_CASE("every name on the lists is a system call") {
#if defined(__x86_64__)
  const char* names[64];
  const int count = UnknownSystemCalls(names, 64);
  // Those are newer than some kernels' headers.
  const std::string_view newer[] = {"futex_wait", "futex_wake", "futex_requeue", "fchmodat2",
                                    "statmount", "listmount", "open_tree_attr"};
  for (int i = 0; i < count; ++i) {
    INFO(names[i]);
    CHECK(std::find(std::begin(newer), std::end(newer), names[i]) != std::end(newer));
  }
#endif
  CHECK(SystemCallNumber("read") == SYS_read);
  CHECK(SystemCallNumber("no_such_call") == -1);
}

TEST_CASE("modes of the filter are parsed by their names") {
  Seccomp mode = Seccomp::kOff;
  for (const Seccomp one : {Seccomp::kEnforce, Seccomp::kLog, Seccomp::kOff}) {
    REQUIRE(ParseSeccomp(SeccompName(one), &mode));
    CHECK(mode == one);
  }
  for (const char* wrong : {"", "on", "Enforce"}) CHECK_FALSE(ParseSeccomp(wrong, &mode));
}

TEST_CASE("a hardened process has no core, isn't dumpable, and gets no privileges") {
  const int wrong = InHardened({.program = "test", .seccomp = Seccomp::kOff}, [] {
    rlimit core = {};
    getrlimit(RLIMIT_CORE, &core);
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    syscall(SYS_capget, &header, data);
    return (core.rlim_max != 0) + 2 * (prctl(PR_GET_DUMPABLE) != 0) +
           4 * (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) +
           8 * (data[0].effective != 0 || data[0].permitted != 0 || data[1].permitted != 0);
  });
  CHECK(wrong == 0);
}

TEST_CASE("capabilities that are kept stay, if they were there") {
  constexpr std::uint64_t kChown = std::uint64_t{1} << CAP_CHOWN;
  const Hardening hardening = {.program = "test", .capabilities = kChown, .seccomp = Seccomp::kOff};
  const int wrong = InHardened(hardening, [] {
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    syscall(SYS_capget, &header, data);
    return (data[0].effective & ~static_cast<std::uint32_t>(kChown)) != 0 ? 1 : 0;
  });
  CHECK(wrong == 0);
}

// Under a sanitizer the process itself makes calls that are on no list.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("calls beyond the list are refused and named, once; threads are made, processes aren't") {
  std::string says;
  const int wrong = InHardened(
      {.program = "test"},
      [] {
        int bits = 0;
        for (int i = 0; i < 2; ++i) {
          errno = 0;
          if (ptrace(PTRACE_TRACEME, 0, 0, 0) != -1 || errno != EPERM) bits |= 1;
        }
        if (syscall(SYS_fsopen, "tmpfs", 0) != -1 || errno != EPERM) bits |= 2;
        if (fork() != -1 || errno != EPERM) bits |= 4;
        int done = 0;
        std::thread([&] { done = 1; }).join();
        if (done != 1) bits |= 8;
        char* const none[] = {nullptr};
        execve("/bin/true", none, none);
        if (errno != EPERM) bits |= 16;
        return bits;
      },
      &says);
  if (wrong == 100) return;
  CHECK(wrong == 0);
  CHECK(says ==
        "test: the system call ptrace (" + std::to_string(SYS_ptrace) +
            ") isn't on the program's list and was refused; --seccomp=log lets it pass\n" +
            "test: the system call fsopen (" + std::to_string(SYS_fsopen) +
            ") isn't on the program's list and was refused; --seccomp=log lets it pass\n" +
            "test: the system call clone (" + std::to_string(SYS_clone) +
            ") isn't on the program's list and was refused; --seccomp=log lets it pass\n" +
            "test: the system call execve (" + std::to_string(SYS_execve) +
            ") isn't on the program's list and was refused; --seccomp=log lets it pass\n");
}

TEST_CASE("who mounts may mount; with log or off all is let through") {
  const auto filters = [] { return syscall(SYS_fsopen, "no-such-fs", 0) == -1 ? errno : 0; };
  const int with = InHardened({.program = "test", .mounts = true}, filters);
  if (with == 100) return;
  CHECK(with != 0);  // refused for want of a capability, or of that file system
  for (const Seccomp mode : {Seccomp::kLog, Seccomp::kOff}) {
    std::string says;
    const int got = InHardened({.program = "test", .seccomp = mode},
                               [] { return fork() == 0 ? (_exit(0), 0) : 0; }, &says);
    CHECK((got == 0 || got == 100));
    CHECK(says.empty());
  }
}
#endif

}  // namespace
}  // namespace coffer
