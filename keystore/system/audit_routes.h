// The routes of audit devices: sys/audit, sys/audit-hash.
#pragma once

#include <vector>

#include "keystore/core/audit.h"
#include "keystore/core/backend.h"

namespace coffer::keystore {

// `audit` outlives the routes. Patterns are relative to "sys/".
std::vector<Route> AuditRoutes(Audit& audit);

}  // namespace coffer::keystore
