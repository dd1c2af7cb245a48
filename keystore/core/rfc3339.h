// Times as answers show them.
#pragma once

#include <string>

#include "absl/time/time.h"

namespace coffer::keystore {

// RFC 3339 in UTC, with nanoseconds but without their trailing zeros, as Go prints it:
// "2025-06-03T11:40:51.683275107Z".
std::string FormatRfc3339(absl::Time time);

}  // namespace coffer::keystore
