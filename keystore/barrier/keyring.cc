// record  = format:u8 (1) sealed(keys)      numbers are big-endian
//   keys  = generation:u64 names-key:32 (term:u32 installed:i64 key:32)*     installed in ns of
//   Unix sealed: AES-256-GCM under the root key; associated data "coffer keyring" format
// usage   = format:u8 (1) sealed(encryptions:u64), under the term's own data key, for the root key
//           may change meanwhile; associated data "coffer usage" format
#include "keystore/barrier/keyring.h"

#include <span>
#include <utility>

#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr char kFormat = 1;
constexpr std::string_view kKeyringData = "coffer keyring\1";
constexpr std::string_view kUsageData = "coffer usage\1";
constexpr std::size_t kKeyEntrySize = 4 + 8 + GcmKey::kKeySize;

void AppendNumber(std::uint64_t number, int bytes, SecretBytes* out) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    const auto byte = static_cast<std::uint8_t>(number >> shift);
    out->Append(std::span(&byte, 1));
  }
}

std::uint64_t TakeNumber(std::size_t bytes, std::string_view* from) {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < bytes; ++i) {
    number = number << 8 | static_cast<std::uint8_t>((*from)[i]);
  }
  from->remove_prefix(bytes);
  return number;
}

SecretBytes TakeBytes(std::size_t bytes, std::string_view* from) {
  SecretBytes taken = SecretBytes::CopyOf(from->substr(0, bytes));
  from->remove_prefix(bytes);
  return taken;
}

absl::StatusOr<SecretBytes> OpenRecord(const GcmKey& key, std::string_view associated,
                                       std::string_view record, std::string_view what) {
  if (record.empty() || record[0] != kFormat) {
    return absl::DataLossError(StrCat("the stored ", what, " has an unknown format"));
  }
  auto opened = key.Open(associated, record.substr(1));
  if (!opened.ok()) {
    return absl::DataLossError(StrCat("the stored ", what, " doesn't open with its key"));
  }
  return opened;
}

}  // namespace

std::string UsageRecord(std::uint32_t term) { return StrCat("usage/", term); }

std::shared_ptr<const Keyring> Keyring::Create(absl::Time now) {
  std::shared_ptr<Keyring> keyring(new Keyring());
  keyring->root_key_ = std::make_shared<GcmKey>(RandomSecret(GcmKey::kKeySize));
  keyring->names_ = std::make_shared<Names>(RandomSecret(Names::kKeySize));
  keyring->keys_[1] = std::make_shared<DataKey>(1, now, RandomSecret(GcmKey::kKeySize));
  keyring->Seal();
  return keyring;
}

std::shared_ptr<const Keyring> Keyring::WithNewTerm(absl::Time now) const {
  std::shared_ptr<Keyring> keyring(new Keyring(*this));
  const std::uint32_t term = newest().term + 1;
  keyring->keys_[term] = std::make_shared<DataKey>(term, now, RandomSecret(GcmKey::kKeySize));
  keyring->generation_ += 1;
  keyring->Seal();
  return keyring;
}

std::shared_ptr<const Keyring> Keyring::WithRootKey(SecretBytes root_key) const {
  std::shared_ptr<Keyring> keyring(new Keyring(*this));
  keyring->root_key_ = std::make_shared<GcmKey>(std::move(root_key));
  keyring->generation_ += 1;
  keyring->Seal();
  return keyring;
}

void Keyring::Seal() {
  SecretBytes keys;
  keys.Reserve(8 + Names::kKeySize + keys_.size() * kKeyEntrySize);
  AppendNumber(generation_, 8, &keys);
  keys.Append(names_->key().span());
  for (const auto& [term, key] : keys_) {
    AppendNumber(term, 4, &keys);
    AppendNumber(static_cast<std::uint64_t>(absl::ToUnixNanos(key->install_time)), 8, &keys);
    keys.Append(key->key.bytes().span());
  }
  record_.assign(1, kFormat);
  root_key_->Seal(kKeyringData, keys.view(), &record_);
}

absl::StatusOr<std::shared_ptr<const Keyring>> Keyring::Open(SecretBytes root_key,
                                                             std::string_view record) {
  std::shared_ptr<Keyring> keyring(new Keyring());
  keyring->root_key_ = std::make_shared<GcmKey>(std::move(root_key));
  ASSIGN_OR_RETURN(const SecretBytes keys,
                   OpenRecord(*keyring->root_key_, kKeyringData, record, "keyring"));
  std::string_view rest = keys.view();
  if (rest.size() < 8 + Names::kKeySize + kKeyEntrySize ||
      (rest.size() - 8 - Names::kKeySize) % kKeyEntrySize != 0) {
    return absl::DataLossError("the stored keyring has a wrong size");
  }
  keyring->generation_ = TakeNumber(8, &rest);
  keyring->names_ = std::make_shared<Names>(TakeBytes(Names::kKeySize, &rest));
  while (!rest.empty()) {
    const auto term = static_cast<std::uint32_t>(TakeNumber(4, &rest));
    const auto installed = static_cast<std::int64_t>(TakeNumber(8, &rest));
    keyring->keys_[term] = std::make_shared<DataKey>(term, absl::FromUnixNanos(installed),
                                                     TakeBytes(GcmKey::kKeySize, &rest));
  }
  keyring->record_ = record;
  return keyring;
}

const DataKey* Keyring::Find(std::uint32_t term) const {
  const auto found = keys_.find(term);
  return found == keys_.end() ? nullptr : found->second.get();
}

std::string Keyring::UsageOf(std::uint64_t encryptions) const {
  SecretBytes usage;
  AppendNumber(encryptions, 8, &usage);
  std::string record(1, kFormat);
  newest().key.Seal(kUsageData, usage.view(), &record);
  return record;
}

absl::Status Keyring::Resume(std::string_view usage) const {
  ASSIGN_OR_RETURN(const SecretBytes opened,
                   OpenRecord(newest().key, kUsageData, usage, "count of encryptions"));
  std::string_view rest = opened.view();
  if (rest.size() != 8) return absl::DataLossError("the stored count of encryptions is damaged");
  const std::uint64_t encryptions = TakeNumber(8, &rest);
  newest().encryptions = encryptions;
  newest().reserved = encryptions;
  return absl::OkStatus();
}

}  // namespace coffer::keystore
