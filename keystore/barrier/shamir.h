// Shamir's secret sharing: any `threshold` of the shares give the secret, fewer tell nothing about
// it.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/secret_bytes.h"

namespace coffer::keystore {

// How many shares there are, and how many of them give the secret.
struct ShareConfig {
  int shares = 0;     // 1..255
  int threshold = 0;  // 2..shares, or 1 of 1
  bool operator==(const ShareConfig&) const = default;
};

// InvalidArgument in Vault's words.
absl::Status CheckShareConfig(const ShareConfig& config);

// The only share of 1 of 1 is the secret itself; others are one byte longer. `config` is checked.
absl::StatusOr<std::vector<SecretBytes>> SplitSecret(std::span<const std::uint8_t> secret,
                                                     const ShareConfig& config);

// What `shares`, all that are needed, give: rubbish if one of them is wrong. InvalidArgument: they
// can't belong together (sizes differ, one is there twice).
absl::StatusOr<SecretBytes> CombineShares(const std::vector<SecretBytes>& shares);

// The bytes of a share from hex or base64 (padded or not). InvalidArgument in Vault's words.
absl::StatusOr<SecretBytes> DecodeShare(std::string_view text);

}  // namespace coffer::keystore
