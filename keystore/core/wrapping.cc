#include "keystore/core/wrapping.h"

#include <utility>

#include "common/status_macros.h"
#include "keystore/core/envelope.h"
#include "keystore/core/mount_entry.h"
#include "keystore/core/policy.h"

namespace coffer::keystore {
namespace {

// In the token's cubbyhole: {"response": the answer's document}.
constexpr char kPath[] = "response";

bool IsWrapping(const TokenEntry& entry) {
  return entry.policies.size() == 1 && entry.policies.front() == kWrappingPolicy;
}

}  // namespace

absl::Status NotWrapping() {
  return absl::InvalidArgumentError("wrapping token is not valid or does not exist");
}

absl::StatusOr<WrapInfo> WrapText(TokenStore& tokens, Txn& txn, std::string_view text,
                                  std::string_view creation_path, absl::Duration ttl) {
  TokenSpec spec;
  spec.policies = {std::string(kWrappingPolicy)};
  spec.no_default_policy = true;
  spec.ttl = spec.explicit_max_ttl = ttl;
  spec.renewable = false;
  spec.num_uses = 1;
  spec.path = std::string(creation_path);
  MountEntry token_mount;
  token_mount.path = "auth/token/";
  ASSIGN_OR_RETURN(TokenStore::Created created, tokens.Create(txn, std::move(spec), token_mount));
  Txn cubbyhole = TokenStore::Cubbyhole(txn, created.entry->hash);
  RETURN_IF_ERROR(cubbyhole.PutJson(kPath, {{"response", Json::string_t(text)}}));
  return WrapInfo{std::move(created.id), std::move(created.entry), {}};
}

absl::Status Wrap(TokenStore& tokens, Txn& txn, const Request& request, Response* response) {
  SecretBytes text;
  AppendBody(request, *response, request.mount->type, &text);
  ASSIGN_OR_RETURN(WrapInfo wrapped,
                   WrapText(tokens, txn, text.view(), request.path, request.wrap_ttl));
  if (response->auth) wrapped.accessor = response->auth->entry->accessor;
  *response = Response();
  response->wrapped = std::move(wrapped);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const TokenEntry>> FindWrapping(TokenStore& tokens, Txn& txn,
                                                               std::string_view token) {
  if (token.empty()) return NotWrapping();
  ASSIGN_OR_RETURN(std::shared_ptr<const TokenEntry> entry, tokens.Lookup(txn, token));
  if (entry == nullptr || !IsWrapping(*entry)) return NotWrapping();
  return entry;
}

absl::StatusOr<SecretBytes> Unwrap(TokenStore& tokens, Txn& txn, const TokenEntry& wrapping) {
  if (!IsWrapping(wrapping)) return NotWrapping();
  Txn cubbyhole = TokenStore::Cubbyhole(txn, wrapping.hash);
  ASSIGN_OR_RETURN(const std::optional<Json> held, cubbyhole.GetJson(kPath));
  if (!held) return NotWrapping();
  const auto text = held->find("response");
  if (text == held->end() || !text->is_string()) return NotWrapping();
  RETURN_IF_ERROR(tokens.Revoke(txn, wrapping.hash));
  return SecretBytes::CopyOf(std::string_view(text->get_ref<const Json::string_t&>()));
}

}  // namespace coffer::keystore
