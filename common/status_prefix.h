// Prefixed: an error that says where it was met.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "common/strings.h"

namespace coffer {

// "<prefix>: <message>", with the same code.
inline absl::Status Prefixed(std::string_view prefix, const absl::Status& status) {
  return absl::Status(status.code(), ToAbsl(StrCat(prefix, ": ", Message(status))));
}

}  // namespace coffer
