#include "keystore/barrier/txn.h"

#include <utility>

#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/barrier/barrier.h"

namespace coffer::keystore {
namespace {

absl::Status NoBarrier() { return absl::UnavailableError("Vault is sealed"); }

}  // namespace

absl::StatusOr<std::optional<SecretBytes>> Txn::Get(std::string_view path) {
  if (state_ == nullptr) return NoBarrier();
  return prefix_.empty() ? state_->Get(path) : state_->Get(StrCat(prefix_, path));
}

absl::StatusOr<std::optional<std::string>> Txn::Tag(std::string_view path) {
  if (state_ == nullptr) return NoBarrier();
  return prefix_.empty() ? state_->Tag(path) : state_->Tag(StrCat(prefix_, path));
}

absl::Status Txn::Put(std::string_view path, std::string_view value) {
  if (state_ == nullptr) return NoBarrier();
  return state_->Put(StrCat(prefix_, path), value);
}

absl::Status Txn::Delete(std::string_view path) {
  if (state_ == nullptr) return NoBarrier();
  return state_->Delete(StrCat(prefix_, path));
}

absl::StatusOr<std::vector<std::string>> Txn::List(std::string_view directory) {
  if (state_ == nullptr) return NoBarrier();
  return state_->List(StrCat(prefix_, directory));
}

absl::StatusOr<std::optional<Json>> Txn::GetJson(std::string_view path) {
  ASSIGN_OR_RETURN(const std::optional<SecretBytes> bytes, Get(path));
  if (!bytes) return std::optional<Json>();
  auto document = ParseJson(bytes->view());
  if (!document.ok()) return absl::DataLossError("a stored document is not valid JSON");
  return std::optional<Json>(*std::move(document));
}

absl::Status Txn::PutJson(std::string_view path, const Json& value) {
  return Put(path, DumpJson(value).view());
}

absl::Status Txn::DeleteAll(std::string_view directory) {
  if (state_ == nullptr) return NoBarrier();
  return state_->DeleteAll(StrCat(prefix_, directory));
}

absl::StatusOr<SecretBytes> Txn::SealText(std::string_view purpose, std::string_view text) {
  if (state_ == nullptr) return NoBarrier();
  return state_->SealText(purpose, text);
}

absl::StatusOr<SecretBytes> Txn::OpenText(std::string_view purpose, std::string_view sealed) {
  if (state_ == nullptr) return NoBarrier();
  return state_->OpenText(purpose, sealed);
}

void Txn::OnCommit(std::function<void()> action) {
  if (state_ != nullptr) state_->OnCommit(std::move(action));
}

}  // namespace coffer::keystore
