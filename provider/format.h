// All keys of a secret as one file: for shells, programs and Java.
//
//   env         key=value lines that sh reads; names with "_" for what a name can't have. Values are
//               bare, else in single quotes, else in double quotes with \ before \ " $ and `
//   json        one object
//   yaml        "key": value lines, values as JSON, which YAML includes
//   properties  key=value lines as java.util.Properties reads them, in ASCII with \uXXXX
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "common/secret_bytes.h"
#include "provider/objects.h"

namespace coffer::provider {

// Text as it is, anything else as JSON.
SecretBytes ValueText(const Json& value);

// `data`: an object. FailedPrecondition: two keys have one name in env, or a value has a NUL.
absl::StatusOr<SecretBytes> FormatSecret(const Json& data, Format format);

}  // namespace coffer::provider
