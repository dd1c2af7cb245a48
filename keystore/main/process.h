// What a process that holds secrets asks of the operating system.
#pragma once

#include "common/hardening.h"

namespace coffer::keystore {

// Files for the owner alone, as many descriptors and locked pages as the hard limits allow, few malloc
// arenas. SIGPIPE is ignored; SIGTERM, SIGINT and SIGHUP are blocked, in the threads made from now on
// too, for WaitForSignal. Call first of all.
void PrepareProcess();

// Gives up, for the whole process, being looked into, and the capabilities and system calls that a
// keystore doesn't need. Call before threads are made; what the kernel refuses is logged.
void GiveUpPrivileges(Seccomp seccomp);

// Waits for SIGTERM, SIGINT or SIGHUP and returns which it was.
int WaitForSignal();

}  // namespace coffer::keystore
