// AccessRules: who may open a file beyond what its mode says, how often and for how long. What they
// mean is kept by the volume (csi/volume/file_rules.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coffer::provider {

struct AccessRules {
  std::vector<std::uint32_t> allow_uids = {};        // empty: everyone
  std::vector<std::string> allow_executables = {};   // absolute paths in the container; empty: all
  bool read_once = false;
  bool canary = false;
  absl::Duration available_for = absl::InfiniteDuration();

  bool any() const {
    return !allow_uids.empty() || !allow_executables.empty() || read_once || canary ||
           available_for != absl::InfiniteDuration();
  }
};

// Sets allowUIDs, allowExecutables (lists: "[a, b]" or "a, b"), readOnce, availableFor or canary.
// False: another field. InvalidArgument says what follows the field's name.
absl::StatusOr<bool> SetAccessRule(std::string_view field, std::string_view text,
                                   AccessRules* rules);

}  // namespace coffer::provider
