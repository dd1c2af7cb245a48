// Durations as text, in Go's form, which Vault's API, command line and configuration use.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coffer {

// "1h30m", "1.5h", "-90s", "250ms" (units ns, us, µs, ms, s, m, h, and d = 24 h), or an integer of
// seconds: "3600". "" is zero, as in Vault. A sign may stand in front: who can't use a negative
// duration checks for it. InvalidArgument: anything else, and what doesn't fit 2^63 - 1 nanoseconds
// (292 years), Go's limit.
absl::StatusOr<absl::Duration> ParseDuration(std::string_view text);

// As Go prints it: "768h0m0s", "1m30s", "1.5s", "250ms", "0s". An infinite duration prints as Go's
// limit.
std::string FormatGoDuration(absl::Duration duration);
// As Vault shows it to people: without units that are zero, "768h", "1h5s", "1m30s".
std::string FormatBriefDuration(absl::Duration duration);

}  // namespace coffer
