// A keystore to try things on (-dev): initialised and unsealed by one share, with kv version 2 at
// secret/, as `vault server -dev` makes it.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "keystore/barrier/shamir_seal.h"
#include "keystore/core/core.h"

namespace coffer::keystore {

struct DevKeys {
  SecretBytes share;  // base64
  SecretBytes root_token;
};

// For an empty store. `root_token`: "" draws one at random.
absl::StatusOr<DevKeys> SetUpDev(ShamirSeal& seal, Core& core, std::string_view root_token);

// Writes the token to ~/.vault-token, where the command lines look for it.
absl::Status StoreTokenForCommandLine(std::string_view token);

// Says on standard output how to use the keystore at `address` ("http://127.0.0.1:8200").
void PrintDevBanner(const DevKeys& keys, std::string_view address);

}  // namespace coffer::keystore
