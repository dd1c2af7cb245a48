// YAML into Json, so that one kind of document is read whether it came from a file, the API server
// or a class's `objects`. yaml-cpp keeps what it reads in plain memory: secrets come better as JSON.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"

namespace coffer {

// The documents of a YAML stream, empty ones left out. A scalar stays text as written ("0600",
// "true"), but an empty plain one or ~ is null; below a map key named `typed_below` plain scalars
// become booleans, numbers and nulls. InvalidArgument, with line and column: not YAML, a key that
// comes twice, a key that isn't a scalar, over 1 MiB, 32 levels or 20,000 nodes (aliases counted
// where they are used).
absl::StatusOr<std::vector<Json>> ParseYaml(std::string_view text,
                                            std::string_view typed_below = {});

}  // namespace coffer
