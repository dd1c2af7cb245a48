#include "common/hardening.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <initializer_list>

namespace coffer {
namespace {

// All that this machine's kernel headers know, made when the build is configured.
struct SystemCall {
  const char* name;
  int number;
};
constexpr SystemCall kSystemCalls[] = {
#include "generated/system_calls.inc"
};

// By name, since each machine has its own numbers, and some have not all of them. Programs start no
// programs: no exec, no fork (clone is for threads alone), nobody is traced, nothing of the kernel's
// own is changed, and no io_uring, which goes past filters.
constexpr const char* kNeeded[] = {
    // memory
    "brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "mincore", "msync", "membarrier", "mlock",
    "mlock2", "munlock", "mlockall", "munlockall", "memfd_create", "memfd_secret",
    // threads; clone is looked at more closely
    "futex", "futex_wait", "futex_wake", "futex_requeue", "futex_waitv", "rseq", "set_robust_list",
    "get_robust_list", "set_tid_address", "arch_prctl", "gettid", "exit", "exit_group", "sched_yield",
    "sched_getaffinity", "sched_setaffinity", "sched_getparam", "sched_setparam", "sched_getscheduler",
    "sched_setscheduler", "sched_getattr", "sched_get_priority_max", "sched_get_priority_min", "getcpu",
    "getpriority", "setpriority", "ioprio_get",
    // signals, of one's own threads
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "rt_sigpending",
    "rt_sigsuspend", "sigaltstack", "signalfd4", "tgkill", "restart_syscall", "pause",
    // time
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times",
    "getrusage", "alarm", "getitimer", "setitimer", "timer_create", "timer_settime", "timer_gettime",
    "timer_getoverrun", "timer_delete", "timerfd_create", "timerfd_settime", "timerfd_gettime",
    // descriptors
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2",
    "pwritev2", "lseek", "sendfile", "splice", "tee", "copy_file_range", "close", "close_range", "dup",
    "dup2", "dup3", "fcntl", "ioctl", "pipe", "pipe2", "flock", "fsync", "fdatasync", "syncfs",
    "sync_file_range", "ftruncate", "fallocate", "fadvise64", "readahead", "poll", "ppoll", "select",
    "pselect6", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait",
    "epoll_pwait2", "eventfd", "eventfd2", "inotify_init", "inotify_init1", "inotify_add_watch",
    "inotify_rm_watch",
    // files
    "open", "openat", "openat2", "creat", "stat", "fstat", "lstat", "newfstatat", "statx", "access",
    "faccessat", "faccessat2", "statfs", "fstatfs", "getdents", "getdents64", "getcwd", "chdir",
    "fchdir", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "readlink",
    "readlinkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "truncate", "umask", "chmod",
    "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utime", "utimes",
    "utimensat", "futimesat", "getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr",
    "flistxattr",
    // sockets
    "socket", "socketpair", "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname",
    "getpeername", "getsockopt", "setsockopt", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg",
    "recvmmsg",
    // who and what one is
    "getpid", "getppid", "getpgrp", "getpgid", "getsid", "getuid", "geteuid", "getgid", "getegid",
    "getgroups", "getresuid", "getresgid", "capget", "capset", "prctl", "getrlimit", "setrlimit",
    "prlimit64", "uname", "sysinfo", "getrandom", "pidfd_open",
};

// What makes, moves and looks at mounts.
constexpr const char* kMounting[] = {
    "mount", "umount2", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree",
    "open_tree_attr", "mount_setattr", "statmount", "listmount", "name_to_handle_at",
};

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
constexpr int kReturnRegister = REG_RAX;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "say here what this machine is called, and where a call's result goes"
#endif

constexpr uint16_t kLoad = BPF_LD | BPF_W | BPF_ABS;
constexpr uint16_t kIfEqual = BPF_JMP | BPF_JEQ | BPF_K;
constexpr uint16_t kIfBits = BPF_JMP | BPF_JSET | BPF_K;
constexpr uint16_t kReturn = BPF_RET | BPF_K;
// The low half of a clone's flags, on machines of this byte order.
constexpr uint32_t kFirstArgument = offsetof(seccomp_data, args);

class Program {
 public:
  void Add(uint16_t code, uint32_t k, uint8_t if_true = 0, uint8_t if_false = 0) {
    if (size_ < sizeof steps_ / sizeof *steps_) steps_[size_++] = {code, if_true, if_false, k};
  }
  void Answer(int number, uint32_t answer) {
    if (number < 0) return;
    Add(kIfEqual, static_cast<uint32_t>(number), 0, 1);
    Add(kReturn, answer);
  }
  sock_fprog get() { return {size_, steps_}; }

 private:
  sock_filter steps_[1024];
  uint16_t size_ = 0;
};

// Known to the handler, which gets nothing handed in.
const char* program_name = "";
volatile sig_atomic_t said[1024];

void Append(char* line, size_t* size, const char* text) {
  while (*text != 0 && *size < 200) line[(*size)++] = *text++;
}

// Says which call was refused, once each, and has it fail with EPERM.
void OnRefusal(int, siginfo_t* info, void* context) {
  const int saved = errno;
  const int number = info->si_syscall;
  auto* machine = &static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  machine->gregs[kReturnRegister] = -EPERM;
#else
  machine->regs[0] = static_cast<uint64_t>(-EPERM);
#endif
  if (number >= 0 && number < 1024 && said[number] == 0) {
    said[number] = 1;
    char digits[16];
    int at = sizeof digits - 1;
    digits[at] = 0;
    for (int rest = number; at > 0 && (rest > 0 || at == sizeof digits - 1); rest /= 10) {
      digits[--at] = static_cast<char>('0' + rest % 10);
    }
    const char* name = "unknown";
    for (const SystemCall& call : kSystemCalls) {
      if (call.number == number) name = call.name;
    }
    char line[256];
    size_t size = 0;
    const char* const texts[] = {
        program_name, ": the system call ", name, " (", digits + at,
        ") isn't on the program's list and was refused; --seccomp=log lets it pass\n"};
    for (const char* text : texts) Append(line, &size, text);
    if (write(STDERR_FILENO, line, size) < 0) {
    }
  }
  errno = saved;
}

bool Filter(const Hardening& hardening) {
  const bool log = hardening.seccomp == Seccomp::kLog;
  const uint32_t otherwise = log ? SECCOMP_RET_LOG : SECCOMP_RET_TRAP;
  if (!log) {
    program_name = hardening.program;
    struct sigaction action = {};
    action.sa_sigaction = OnRefusal;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGSYS, &action, nullptr);
  }
  Program program;
  program.Add(kLoad, offsetof(seccomp_data, arch));
  program.Add(kIfEqual, kArchitecture, 1, 0);
  program.Add(kReturn, SECCOMP_RET_KILL_PROCESS);  // another machine's calls have other numbers
  program.Add(kLoad, offsetof(seccomp_data, nr));
  for (const char* name : kNeeded) program.Answer(SystemCallNumber(name), SECCOMP_RET_ALLOW);
  if (hardening.mounts) {
    for (const char* name : kMounting) program.Answer(SystemCallNumber(name), SECCOMP_RET_ALLOW);
  }
  // Its flags lie in memory, where a filter can't look: libc then takes the older one.
  program.Answer(SystemCallNumber("clone3"), SECCOMP_RET_ERRNO | ENOSYS);
  program.Add(kIfEqual, SYS_clone, 0, 3);
  program.Add(kLoad, kFirstArgument);
  program.Add(kIfBits, CLONE_THREAD, 0, 1);
  program.Add(kReturn, SECCOMP_RET_ALLOW);
  program.Add(kReturn, otherwise);
  const sock_fprog steps = program.get();
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &steps) == 0;
}

// Also out of the bounding set, so that they can't come back.
bool DropCapabilities(uint64_t keep) {
  for (int capability = 0; capability < 64; ++capability) {
    if ((keep >> capability & 1) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability) != 0 && errno == EINVAL) break;  // there are no more
  }
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return false;
  for (int half = 0; half < 2; ++half) {
    const auto kept = static_cast<uint32_t>(keep >> (32 * half));
    data[half].effective &= kept;
    data[half].permitted &= kept;
    data[half].inheritable = 0;
  }
  return syscall(SYS_capset, &header, data) == 0;
}

}  // namespace

const char* SeccompName(Seccomp mode) {
  return mode == Seccomp::kEnforce ? "enforce" : mode == Seccomp::kLog ? "log" : "off";
}

bool ParseSeccomp(const char* text, Seccomp* mode) {
  for (const Seccomp one : {Seccomp::kEnforce, Seccomp::kLog, Seccomp::kOff}) {
    if (strcmp(text, SeccompName(one)) != 0) continue;
    *mode = one;
    return true;
  }
  return false;
}

int SystemCallNumber(const char* name) {
  for (const SystemCall& call : kSystemCalls) {
    if (strcmp(call.name, name) == 0) return call.number;
  }
  return -1;
}

int UnknownSystemCalls(const char** names, int most) {
  int count = 0;
  const auto add = [&](const char* name) {
    if (SystemCallNumber(name) < 0 && count < most) names[count++] = name;
  };
  for (const char* name : kNeeded) add(name);
  for (const char* name : kMounting) add(name);
  return count;
}

void Harden(const Hardening& hardening, void (*refused)(const char* what, int error)) {
  const rlimit none = {0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) refused("no core dumps", errno);
  if (prctl(PR_SET_DUMPABLE, 0) != 0) refused("not being looked into", errno);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) refused("no new privileges", errno);
  if (!DropCapabilities(hardening.capabilities)) refused("fewer capabilities", errno);
  if (hardening.seccomp != Seccomp::kOff && !Filter(hardening)) {
    refused("a filter of system calls", errno);
  }
}

}  // namespace coffer
