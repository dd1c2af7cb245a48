// The routes of response wrapping: sys/wrapping/*.
#pragma once

#include <vector>

#include "keystore/core/backend.h"
#include "keystore/core/token_store.h"

namespace coffer::keystore {

// `tokens` outlives the routes. Patterns are relative to "sys/".
std::vector<Route> WrappingRoutes(TokenStore& tokens);

}  // namespace coffer::keystore
