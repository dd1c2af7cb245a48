// Flags and variables of the programs that coffer-csi stands in for (the upstream driver, its Vault
// provider, the registrar and the liveness probe beside it) which have no meaning here: they are
// accepted, so that command lines can stay, and what takes their place is said.
#pragma once

#include <span>
#include <string_view>
#include <utility>

namespace coffer::csi {

struct FlagWithoutEffect {
  std::string_view name;
  bool boolean;  // may stand without a value
  std::string_view why;
};

std::span<const FlagWithoutEffect> FlagsWithoutEffect();
// Null: no such flag.
const FlagWithoutEffect* FindFlagWithoutEffect(std::string_view name);

// Of Vault's client library, which vault-csi-provider is built on: names, and why not.
std::span<const std::pair<const char*, std::string_view>> UnreadVariables();

}  // namespace coffer::csi
