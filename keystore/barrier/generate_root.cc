// Generate-root: a quorum of shares makes a root token, handed out XOR a one-time password.
#include <utility>

#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/barrier/ceremony.h"
#include "keystore/barrier/seal_record.h"
#include "keystore/barrier/shamir_seal.h"

namespace coffer::keystore {
namespace {

// base64 without padding of token XOR otp, both of the same length.
SecretBytes EncodeToken(const SecretBytes& token, const SecretBytes& otp) {
  SecretBytes mixed = token.Copy();
  for (std::size_t i = 0; i < mixed.size(); ++i) mixed.data()[i] ^= otp.data()[i];
  SecretBytes text = EncodeBase64(mixed.span());
  std::size_t size = text.size();
  while (size > 0 && text.data()[size - 1] == '=') --size;
  text.Resize(size);
  return text;
}

}  // namespace

absl::StatusOr<GenerateRootStatus> ShamirSeal::generate_root_status() {
  const Ceremony ceremony(*this);
  ASSIGN_OR_RETURN(const Record record, ReadRecordUnsealed());
  GenerateRootStatus status;
  status.required = record.config().threshold;
  if (generate_root_) {
    status.started = true;
    status.nonce = generate_root_->shares.nonce;
    status.progress = static_cast<int>(generate_root_->shares.shares.size());
  }
  return status;
}

absl::StatusOr<GenerateRootStatus> ShamirSeal::StartGenerateRoot(std::string_view otp) {
  const Ceremony ceremony(*this);
  ASSIGN_OR_RETURN(const Record record, ReadRecordUnsealed());
  if (!otp.empty() && otp.size() != kOtpLength) {
    return absl::InvalidArgumentError(
        StrCat("OTP string is wrong length: it must have ", kOtpLength, " characters"));
  }
  if (generate_root_) {
    return absl::InvalidArgumentError("root generation already in progress");
  }
  GenerateRootStatus status;
  generate_root_.emplace();
  if (otp.empty()) {
    generate_root_->otp = RandomBase62(kOtpLength);
    status.otp = generate_root_->otp.Copy();
  } else {
    generate_root_->otp = SecretBytes::CopyOf(otp);
  }
  generate_root_->shares.nonce = RandomUuid();
  status.started = true;
  status.nonce = generate_root_->shares.nonce;
  status.required = record.config().threshold;
  return status;
}

absl::Status ShamirSeal::CancelGenerateRoot() {
  const Ceremony ceremony(*this);
  RETURN_IF_ERROR(ReadRecordUnsealed().status());
  generate_root_.reset();
  return absl::OkStatus();
}

absl::StatusOr<GenerateRootStatus> ShamirSeal::UpdateGenerateRoot(
    std::string_view share, std::string_view nonce,
    const std::function<absl::StatusOr<SecretBytes>()>& make_token) {
  const Ceremony ceremony(*this);
  ASSIGN_OR_RETURN(const Record record, ReadRecordUnsealed());
  if (!generate_root_) return absl::InvalidArgumentError("no root generation in progress");
  ASSIGN_OR_RETURN(const bool enough,
                   Gather(record, share, nonce, "root generation", &generate_root_->shares));
  GenerateRootStatus status;
  status.started = true;
  status.nonce = nonce;
  status.required = record.config().threshold;
  status.progress = static_cast<int>(generate_root_->shares.shares.size());
  if (!enough) return status;
  ASSIGN_OR_RETURN(const SecretBytes token, make_token());
  if (token.size() != kOtpLength) {
    return absl::InternalError("the root token and the OTP differ in length");
  }
  status.encoded_token = EncodeToken(token, generate_root_->otp);
  status.progress = status.required;
  status.complete = true;
  generate_root_.reset();
  return status;
}

}  // namespace coffer::keystore
