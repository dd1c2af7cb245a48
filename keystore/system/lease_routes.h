// sys/leases: https://developer.hashicorp.com/vault/api-docs/system/leases
#pragma once

#include <vector>

#include "keystore/core/backend.h"
#include "keystore/core/token_store.h"

namespace coffer::keystore {

// Patterns are relative to "sys/". `tokens` must outlive the routes.
std::vector<Route> LeaseRoutes(TokenStore& tokens);

}  // namespace coffer::keystore
