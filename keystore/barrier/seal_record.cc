// record = format:u8 (1) threshold:u8 shares:u8 sealed-root-key
//   sealed-root-key = nonce:12 ciphertext:32 tag:16, AES-256-GCM under the unseal key
//                     associated data: "coffer seal" format threshold shares
#include "keystore/barrier/seal_record.h"

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr char kFormat = 1;
constexpr std::size_t kHeaderSize = 3;

std::string Associated(std::string_view record) {
  return StrCat("coffer seal", record.substr(0, kHeaderSize));
}

}  // namespace

std::string ShamirSeal::Record::Make(const ShareConfig& config, const SecretBytes& unseal_key,
                                     const SecretBytes& root_key) {
  std::string record{kFormat, static_cast<char>(config.threshold),
                     static_cast<char>(config.shares)};
  const std::string associated = Associated(record);
  GcmKey(unseal_key.Copy()).Seal(associated, root_key.view(), &record);
  return record;
}

absl::StatusOr<ShamirSeal::Record> ShamirSeal::Record::Parse(std::string_view stored) {
  Record record;
  if (stored.size() == kHeaderSize + GcmKey::kOverhead + GcmKey::kKeySize && stored[0] == kFormat) {
    record.config_.threshold = static_cast<unsigned char>(stored[1]);
    record.config_.shares = static_cast<unsigned char>(stored[2]);
    record.stored_ = stored;
  }
  if (!CheckShareConfig(record.config_).ok()) {
    return absl::DataLossError("the stored seal record is damaged; restore a backup");
  }
  return record;
}

absl::StatusOr<SecretBytes> ShamirSeal::Record::Open(const std::vector<SecretBytes>& shares) const {
  ASSIGN_OR_RETURN(SecretBytes unseal_key, CombineShares(shares));
  if (unseal_key.size() == GcmKey::kKeySize) {
    auto root_key = GcmKey(std::move(unseal_key))
                        .Open(Associated(stored_), std::string_view(stored_).substr(kHeaderSize));
    if (root_key.ok()) return root_key;
  }
  return absl::InvalidArgumentError("invalid key");
}

}  // namespace coffer::keystore
