// The seal record: the root key under the unseal key, and how many shares of that there are. It is
// all that a sealed keystore knows of itself.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/secret_bytes.h"
#include "keystore/barrier/gcm_key.h"
#include "keystore/barrier/shamir.h"
#include "keystore/barrier/shamir_seal.h"

namespace coffer::keystore {

class ShamirSeal::Record {
 public:
  // The stored bytes for new keys.
  static std::string Make(const ShareConfig& config, const SecretBytes& unseal_key,
                          const SecretBytes& root_key);
  // DataLoss: no seal record.
  static absl::StatusOr<Record> Parse(std::string_view stored);

  const ShareConfig& config() const { return config_; }
  std::size_t share_size() const { return GcmKey::kKeySize + (config_.shares == 1 ? 0 : 1); }

  // The root key, with a quorum of shares. InvalidArgument: they are wrong.
  absl::StatusOr<SecretBytes> Open(const std::vector<SecretBytes>& shares) const;

 private:
  ShareConfig config_;
  std::string stored_;
};

}  // namespace coffer::keystore
