// The routes of policies and capabilities: sys/policy, sys/policies/acl, sys/capabilities*,
// sys/internal/ui/resultant-acl.
#pragma once

#include <vector>

#include "keystore/core/backend.h"
#include "keystore/core/policy.h"
#include "keystore/core/token_store.h"

namespace coffer::keystore {

// Both stores outlive the routes. Patterns are relative to "sys/".
std::vector<Route> PolicyRoutes(PolicyStore& policies, TokenStore& tokens);

}  // namespace coffer::keystore
