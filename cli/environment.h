// Environment: what the shell's variables and the token file say. VAULT_<NAME> counts before
// BAO_<NAME>, as a stand-in for vault must; the token's file is ~/.vault-token for both.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/secret_bytes.h"
#include "common/secret_file.h"

namespace coffer::cli {

class Environment {
 public:
  // Returns the variable's value, or null.
  using Lookup = std::function<const char*(const char* name)>;
  explicit Environment(Lookup lookup) : lookup_(std::move(lookup)) {}

  // VAULT_<name> or BAO_<name>; "" where neither is set. Valid until the environment changes.
  std::string_view Setting(std::string_view name) const;
  // The variable of exactly that name; "" where it isn't set.
  std::string_view Variable(const char* name) const;
  // The setting as a switch, in the words that Go takes (1, t, true, …). InvalidArgument: another.
  absl::StatusOr<bool> Switch(std::string_view name) const;

  // $HOME/.vault-token; "" without a home.
  std::string TokenFile() const;
  // VAULT_TOKEN or BAO_TOKEN, else what the token file holds, else empty. PermissionDenied and so on:
  // the file is there and can't be read.
  absl::StatusOr<SecretBytes> Token() const;
  // Replaces the token file, readable by the owner alone: a crash leaves the old or the new one.
  absl::Status StoreToken(std::string_view token) const;

 private:
  Lookup lookup_;
};

}  // namespace coffer::cli
