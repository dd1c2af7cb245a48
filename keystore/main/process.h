// What a process that holds secrets asks of the operating system.
#pragma once

namespace coffer::keystore {

// No core dumps and no ptrace by others, files for the owner alone, as many descriptors and locked
// pages as the hard limits allow, few malloc arenas. SIGPIPE is ignored; SIGTERM, SIGINT and SIGHUP
// are blocked, in the threads made from now on too, for WaitForSignal. Call first of all.
void HardenProcess();

// Waits for SIGTERM, SIGINT or SIGHUP and returns which it was.
int WaitForSignal();

}  // namespace coffer::keystore
