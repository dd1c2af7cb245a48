// sys/remount: https://developer.hashicorp.com/vault/api-docs/system/remount
#pragma once

#include <vector>

#include "keystore/core/backend.h"
#include "keystore/core/mount_table.h"
#include "keystore/core/token_store.h"

namespace coffer::keystore {

// Patterns are relative to "sys/". What is given must outlive the routes.
std::vector<Route> RemountRoutes(MountStore& mounts, TokenStore& tokens);

}  // namespace coffer::keystore
