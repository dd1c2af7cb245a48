// SealedText: what the barrier encrypts to be handed out instead of stored, such as a batch token.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/secret_bytes.h"
#include "keystore/barrier/gcm_key.h"

namespace coffer::keystore {

// Opens only with the same purpose ("batch-token"), and never as a stored entry.
SecretBytes SealText(const GcmKey& key, std::uint32_t term, std::string_view purpose,
                     std::string_view text);
// The term whose key opens it; nullopt where it is none of SealText's.
std::optional<std::uint32_t> TermOfText(std::string_view sealed);
// InvalidArgument: not sealed with that key for that purpose.
absl::StatusOr<SecretBytes> OpenText(const GcmKey& key, std::string_view purpose,
                                     std::string_view sealed);

}  // namespace coffer::keystore
