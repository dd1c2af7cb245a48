// A batch token is "hvb." and the base64url of its entry as token_entry.cc writes it, sealed by the
// barrier. Nothing of it is stored, so a login with one costs no write.
#include "absl/strings/escaping.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/core/token_store.h"

namespace coffer::keystore {
namespace {

constexpr std::string_view kPrefix = "hvb.";
constexpr std::string_view kPurpose = "batch-token";
constexpr std::size_t kMostOpened = 10'000;

}  // namespace

bool IsBatchToken(std::string_view token) { return token.starts_with(kPrefix); }

absl::Status CheckNotBatch(const TokenEntry& entry, std::string_view can_not) {
  if (!entry.batch()) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("batch tokens cannot ", can_not));
}

absl::StatusOr<SecretBytes> TokenStore::SealBatch(Txn& txn, const TokenEntry& entry) {
  ASSIGN_OR_RETURN(const SecretBytes sealed, txn.SealText(kPurpose, EncodeToken(entry).view()));
  SecretBytes token = SecretBytes::CopyOf(kPrefix);
  token.Append(EncodeBase64Url(sealed.span()).span());
  return token;
}

// Null where the token isn't one of this keystore's.
std::shared_ptr<const TokenEntry> TokenStore::OpenBatch(Txn& txn, std::string_view token) {
  const std::string hash = TokenHash(token);
  {
    std::lock_guard lock(batch_mutex_);
    const auto found = batch_.find(hash);
    if (found != batch_.end()) return found->second;
  }
  // Ciphertext: no need for a decoder that takes constant time.
  std::string sealed;
  if (!absl::WebSafeBase64Unescape(ToAbsl(token.substr(kPrefix.size())), &sealed)) return nullptr;
  const absl::StatusOr<SecretBytes> text = txn.OpenText(kPurpose, sealed);
  if (!text.ok()) return nullptr;
  auto entry = DecodeToken(hash, text->view());
  if (!entry.ok()) return nullptr;
  std::lock_guard lock(batch_mutex_);
  if (batch_.size() >= kMostOpened) batch_.clear();
  batch_.emplace(hash, *entry);
  return *std::move(entry);
}

}  // namespace coffer::keystore
