// Documents as text: JSON as Go's MarshalIndent prints it and YAML as Go's yaml does, so that scripts
// written for vault read ours.
#pragma once

#include <span>
#include <string_view>

#include "common/json.h"
#include "common/secret_bytes.h"

namespace coffer::cli {

// Members that stand first, in this order, as the fields of Go's structs do; the others follow sorted.
// "auth.accessor" orders the member "accessor" of the member "auth".
using MemberOrder = std::span<const std::string_view>;

// Two spaces a level; "<", ">" and "&" escaped as Go does.
SecretBytes PrintJson(const Json& document, MemberOrder order = {});

// Block style, keys sorted, without a line end after the last line. A text that another reader could
// take for a number, a switch, a date or nothing is quoted.
SecretBytes PrintYaml(const Json& document);

}  // namespace coffer::cli
