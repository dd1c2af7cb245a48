// Json: nlohmann's document type with every node and string in wiped, locked memory, so that a
// document read from a request or from storage is as safe as SecretBytes.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/secret_allocator.h"
#include "common/secret_bytes.h"

namespace coffer {

using Json = nlohmann::basic_json<std::map, std::vector, SecretString, bool, std::int64_t,
                                  std::uint64_t, double, SecretAllocator>;

// Parses one JSON document (RFC 8259, UTF-8, at most 64 levels deep). InvalidArgument says at which
// byte the text is wrong, never what it holds.
absl::StatusOr<Json> ParseJson(std::string_view text);

// The bytes of `document`, invalid UTF-8 replaced by U+FFFD. Keys are sorted.
SecretBytes DumpJson(const Json& document);

}  // namespace coffer
