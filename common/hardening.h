// What a process that holds secrets gives up at its start: being looked into (core dumps, ptrace and
// /proc/PID/mem by who lacks CAP_SYS_PTRACE), new privileges, capabilities and system calls that it
// doesn't need. docs/security.md says what each program keeps, and why.
//
// Needs libc alone: coffer-keeper is built with it, too.
#pragma once

#include <stdint.h>

namespace coffer {

// What becomes of system calls that are not on the list.
//   enforce: they fail with EPERM, and the first of each is said on standard error by its name. A
//            kill would be safer against an intruder who runs code already, but a call that nobody
//            thought of, on another libc or kernel, would take a node's volumes with it.
//   log:     they are done, and the kernel's audit log has them.
enum class Seccomp { kEnforce, kLog, kOff };

// Sanitizers' own calls (ptrace at the end of a program) aren't on any list.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr Seccomp kDefaultSeccomp = Seccomp::kOff;
#else
inline constexpr Seccomp kDefaultSeccomp = Seccomp::kEnforce;
#endif

const char* SeccompName(Seccomp mode);                // "enforce", "log", "off"
bool ParseSeccomp(const char* text, Seccomp* mode);  // false: it is none of these

struct Hardening {
  const char* program;        // its name, for what is said
  uint64_t capabilities = 0;  // bits of CAP_… that are kept, as far as the process has them
  bool mounts = false;        // it mounts file systems
  Seccomp seccomp = kDefaultSeccomp;
};

// For the whole process: called before there is a second thread. What the kernel refuses is told to
// `refused`, with errno's number, and the rest is done all the same.
void Harden(const Hardening& hardening, void (*refused)(const char* what, int error));

// For tests: the call's number on this machine, -1 where it has none of that name; and the names on
// the lists that it doesn't know, up to `most`: the count.
int SystemCallNumber(const char* name);
int UnknownSystemCalls(const char** names, int most);

}  // namespace coffer
