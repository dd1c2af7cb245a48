// How values look in tables: as Go prints them, since that is what vault's users read and scripts cut.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/json_members.h"

namespace coffer::cli {

// Go's %v: "text", "7", "true", "<nil>", "[a b]", "map[a:1 b:2]".
SecretBytes PrintValue(const Json& value);
// The same for a table's line `key`: a number of seconds under "ttl", "…_ttl", "period", "duration" and
// the like prints as a duration.
SecretBytes PrintValueOf(std::string_view key, const Json& value);
// Go's %q of a list of texts: ["a" "b"], [] where there are none.
SecretBytes PrintQuoted(const Json& list);

// "768h", "1h30m", "5s", "0s".
std::string PrintSeconds(std::int64_t seconds);

// Breaks lines between words so that none is longer than 78 characters less `indent`, and indents
// each by it.
std::string Wrapped(std::string_view text, std::size_t indent = 0);

// Without white space and slashes at both ends.
std::string_view SanitizePath(std::string_view path);
// With exactly one slash at the end; "" stays "".
std::string WithSlash(std::string_view path);

}  // namespace coffer::cli
