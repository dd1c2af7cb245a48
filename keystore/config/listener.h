// The "listener" block.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "keystore/config/config.h"
#include "keystore/hcl/hcl.h"

namespace coffer::keystore {

// Adds the listeners of `item`, a "listener" block.
absl::Status ReadListeners(const hcl::Item& item, ServerConfig& config,
                           std::vector<std::string>& warnings);

}  // namespace coffer::keystore
