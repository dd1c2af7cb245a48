// The canonical layout of a policy's HCL, for "policy fmt".
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace coffer::cli {

// Two spaces a level, one space around "=", the "=" of neighbouring lines below each other, at most one
// empty line in a row. Comments, texts and heredocs stay as they are. InvalidArgument names the line
// where brackets or quotes don't match.
absl::StatusOr<std::string> FormatPolicy(std::string_view source);

}  // namespace coffer::cli
