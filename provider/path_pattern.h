// PathPattern: a secretPath with "*" and "?" in it becomes the paths that the keystore lists.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace coffer::provider {

struct MatchedPath {
  std::string path;     // below /v1/
  std::string matched;  // its part from the first pattern on: what the file is called
};

// Names below a path, those of folders with a "/" at the end; NotFound where there are none.
using ListNames = std::function<absl::StatusOr<std::vector<std::string>>(const std::string&)>;

// "*" and "?" stand for text within one segment, "**" as the last segment for everything below. A
// path with a segment "data" after its mount is of kv version 2: "metadata" is listed in its place,
// and, where that is not found, the path as it is written (kv version 1). Sorted; empty where
// nothing matches. ResourceExhausted: over 1,000 paths, 1,000 lists, or 16 levels.
absl::StatusOr<std::vector<MatchedPath>> ExpandPath(std::string_view pattern,
                                                    const ListNames& list);

// Whether a secretPath, with or without patterns, means `path`.
bool PathMatches(std::string_view pattern, std::string_view path);

}  // namespace coffer::provider
