// Truth values as Go's strconv.ParseBool reads them, which Vault and vault-csi-provider use.
#pragma once

#include <optional>
#include <string_view>

namespace coffer {

// "1", "t", "T", "true", "TRUE", "True" and their opposites; nullopt: anything else.
inline std::optional<bool> ParseGoBool(std::string_view text) {
  for (const std::string_view yes : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == yes) return true;
  }
  for (const std::string_view no : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == no) return false;
  }
  return std::nullopt;
}

}  // namespace coffer
