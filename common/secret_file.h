// Files that hold secrets, read straight into memory that is wiped.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/secret_bytes.h"

namespace coffer {

// The bytes of a file; the status of a failure (NotFound, PermissionDenied, …) names the file and the
// cause.
absl::StatusOr<SecretBytes> ReadSecretFile(const std::string& path);

}  // namespace coffer
