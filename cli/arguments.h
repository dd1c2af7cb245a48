// The data that follows a path: K=V, K=@file, K=- (standard input), "@file" and "-" (a JSON object).
#pragma once

#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "cli/console.h"
#include "common/json.h"

namespace coffer::cli {

// An object; a key given more than once becomes a list of its values. "\@x" is the text "@x".
// InvalidArgument: no "=", no JSON object; the status of a failed read names the file.
absl::StatusOr<Json> ParseData(std::span<const std::string> args, Console& console);

// "text", or the contents of the file for "@file".
absl::StatusOr<SecretBytes> TextOrFile(std::string_view text);

}  // namespace coffer::cli
