// Reads SecretProviderClass objects out of YAML files and API server answers.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "provider/provider.h"

namespace coffer::provider {

// One object. InvalidArgument names the field that is wrong.
absl::StatusOr<SecretProviderClass> ReadClass(const Json& object);

// Every SecretProviderClass in a YAML stream, also inside a `kind: List`; other kinds are skipped.
// A class without a namespace is in "default".
absl::StatusOr<std::vector<SecretProviderClass>> ReadClasses(std::string_view yaml);

}  // namespace coffer::provider
