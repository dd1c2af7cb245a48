// sys/mounts, sys/auth and sys/internal/ui/mounts: https://developer.hashicorp.com/vault/api-docs/system/mounts
#pragma once

#include <vector>

#include "keystore/core/core.h"

namespace coffer::keystore {

// Patterns are relative to "sys/". What is given must outlive the routes.
std::vector<Route> MountRoutes(Core& core, MountStore& mounts, PolicyStore& policies,
                               TokenStore& tokens);

}  // namespace coffer::keystore
