// The server's seal and leader status, as "status" and "operator unseal" print them.
#pragma once

#include "cli/command.h"

namespace coffer::cli {

// Asks for the leader, then prints both. kUsageError where the leader can't be asked, as vault does.
int PrintSealStatus(Session& session, const Json& seal);

}  // namespace coffer::cli
