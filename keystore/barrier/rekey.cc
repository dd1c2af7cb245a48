// Rekey: a quorum of the old shares makes new ones. The old ones are valid up to one commit, the
// new ones from it on.
#include <utility>

#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/barrier/ceremony.h"
#include "keystore/barrier/keyring.h"
#include "keystore/barrier/seal_record.h"
#include "keystore/barrier/shamir_seal.h"

namespace coffer::keystore {
namespace {

constexpr int kAttempts = 16;

}  // namespace

RekeyStatus ShamirSeal::Describe(const Record& record) const {
  RekeyStatus status;
  status.required = record.config().threshold;
  if (!rekey_) return status;
  status.started = true;
  status.nonce = rekey_->old_shares.nonce;
  status.progress = static_cast<int>(rekey_->old_shares.shares.size());
  status.config = rekey_->config;
  status.verification_required = rekey_->verification_required;
  status.verification_nonce = rekey_->new_shares.nonce;
  return status;
}

absl::StatusOr<RekeyStatus> ShamirSeal::rekey_status() {
  const Ceremony ceremony(*this);
  ASSIGN_OR_RETURN(const Record record, ReadRecordUnsealed());
  return Describe(record);
}

absl::StatusOr<RekeyStatus> ShamirSeal::StartRekey(const ShareConfig& config,
                                                   bool require_verification) {
  const absl::Status checked = CheckShareConfig(config);
  if (!checked.ok()) {
    return absl::InvalidArgumentError(
        StrCat("invalid rekey seal configuration: ", Message(checked)));
  }
  const Ceremony ceremony(*this);
  ASSIGN_OR_RETURN(const Record record, ReadRecordUnsealed());
  if (rekey_) return absl::InvalidArgumentError("rekey already in progress");
  rekey_ = Rekey{.config = config,
                 .verification_required = require_verification,
                 .start = barrier_.clock().Now()};
  rekey_->old_shares.nonce = RandomUuid();
  return Describe(record);
}

absl::Status ShamirSeal::CancelRekey(std::string_view nonce) {
  const Ceremony ceremony(*this);
  RETURN_IF_ERROR(ReadRecordUnsealed().status());
  if (rekey_ && nonce != rekey_->old_shares.nonce &&
      barrier_.clock().Now() < rekey_->start + kCancelByNonce) {
    return absl::InvalidArgumentError("invalid request");
  }
  rekey_.reset();
  return absl::OkStatus();
}

absl::StatusOr<RekeyUpdate> ShamirSeal::UpdateRekey(std::string_view share,
                                                    std::string_view nonce) {
  const Ceremony ceremony(*this);
  ASSIGN_OR_RETURN(const Record record, ReadRecordUnsealed());
  if (!rekey_) return absl::InvalidArgumentError("no barrier rekey in progress");
  if (!rekey_->new_key.empty()) {
    return absl::InvalidArgumentError(
        StrCat("rekey operation already finished; verification must be performed; nonce for the "
               "verification operation is \"",
               rekey_->new_shares.nonce, "\""));
  }
  ASSIGN_OR_RETURN(const bool enough, Gather(record, share, nonce, "rekey", &rekey_->old_shares));
  RekeyUpdate update;
  if (enough) {
    SecretBytes new_key = RandomSecret(GcmKey::kKeySize);
    ASSIGN_OR_RETURN(update.shares, SplitSecret(new_key.span(), rekey_->config));
    update.complete = true;
    if (rekey_->verification_required) {
      rekey_->new_key = std::move(new_key);
      rekey_->new_shares.nonce = RandomUuid();
    } else {
      RETURN_IF_ERROR(ReplaceUnsealKey(new_key, rekey_->config));
    }
  }
  update.status = Describe(record);
  if (update.complete && !rekey_->verification_required) rekey_.reset();
  return update;
}

// Also replaces the root key: who has old shares and an old copy of the store can't open the
// keyring of a new copy.
absl::Status ShamirSeal::ReplaceUnsealKey(const SecretBytes& key, const ShareConfig& config) {
  absl::Status status;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::shared_ptr<const Keyring> keyring = barrier_.keyring();
    if (keyring == nullptr) return absl::UnavailableError("Vault is sealed");
    const std::shared_ptr<const Keyring> next =
        keyring->WithRootKey(RandomSecret(GcmKey::kKeySize));
    status = barrier_.ChangeKeyring(
        next,
        std::pair(std::string(kSealRecord), Record::Make(config, key, next->root_key().bytes())));
    if (!absl::IsAborted(status)) break;
  }
  return status;
}

VerifyUpdate ShamirSeal::DescribeVerify() const {
  VerifyUpdate update;
  update.config = rekey_->config;
  update.status.started = !rekey_->new_key.empty();
  update.status.nonce = rekey_->new_shares.nonce;
  update.status.progress = static_cast<int>(rekey_->new_shares.shares.size());
  update.status.required = rekey_->config.threshold;
  return update;
}

absl::StatusOr<VerifyUpdate> ShamirSeal::verify_status() {
  const Ceremony ceremony(*this);
  RETURN_IF_ERROR(ReadRecordUnsealed().status());
  if (!rekey_) return absl::InvalidArgumentError("no rekey configuration found");
  return DescribeVerify();
}

absl::StatusOr<VerifyUpdate> ShamirSeal::RestartVerify() {
  const Ceremony ceremony(*this);
  RETURN_IF_ERROR(ReadRecordUnsealed().status());
  if (!rekey_) return absl::InvalidArgumentError("no rekey configuration found");
  rekey_->new_shares.shares.clear();
  if (!rekey_->new_key.empty()) rekey_->new_shares.nonce = RandomUuid();
  return DescribeVerify();
}

absl::StatusOr<VerifyUpdate> ShamirSeal::UpdateVerify(std::string_view share,
                                                      std::string_view nonce) {
  const Ceremony ceremony(*this);
  RETURN_IF_ERROR(ReadRecordUnsealed().status());
  if (!rekey_) return absl::InvalidArgumentError("no rekey in progress");
  if (rekey_->new_key.empty()) {
    return absl::InvalidArgumentError("rekey has not been completed; nothing to verify yet");
  }
  const std::shared_ptr<const Keyring> keyring = barrier_.keyring();
  if (keyring == nullptr) return absl::UnavailableError("Vault is sealed");
  // A record of the new shares, so that they are checked as old ones are.
  ASSIGN_OR_RETURN(const Record wanted, Record::Parse(Record::Make(rekey_->config, rekey_->new_key,
                                                                   keyring->root_key().bytes())));
  ASSIGN_OR_RETURN(const bool enough,
                   Gather(wanted, share, nonce, "rekey verification", &rekey_->new_shares));
  VerifyUpdate update = DescribeVerify();
  if (!enough) return update;
  RETURN_IF_ERROR(ReplaceUnsealKey(rekey_->new_key, rekey_->config));
  rekey_.reset();
  update.complete = true;
  return update;
}

}  // namespace coffer::keystore
