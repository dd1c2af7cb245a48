// Where a key of the key-value store lives: which mount, which version, which API path. The server is
// asked (sys/internal/ui/mounts), as vault does.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "cli/command.h"

namespace coffer::cli {

struct KvPath {
  std::string mount;  // with a slash at the end; "" where the server is too old to tell
  std::string path;   // the key, the mount's name before it
  bool v2 = false;

  // The API path: mount, `kind` ("data", "metadata", "delete", …), key; in version 1 there is no kind.
  std::string Api(std::string_view kind) const;
};

// Both forms: `key` with the mount's name before it, or behind -mount. The status is the server's.
absl::StatusOr<KvPath> ResolveKvPath(Session& session, std::string_view key);

// Numbers of versions, from repeated and comma-separated -versions.
Json KvVersions(const Flags& flags);

// The answer of a write in kv's form: the API path, then the version's metadata.
int PrintKvWritten(Session& session, const Json& secret, std::string_view path);

extern const Flag kMountFlag;
extern const Flag kVersionsFlag;

}  // namespace coffer::cli
