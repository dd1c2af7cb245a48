// TokenBackend: the mount auth/token/, over which tokens are made, looked up, renewed and revoked.
// https://developer.hashicorp.com/vault/api-docs/auth/token
#pragma once

#include "keystore/core/core.h"

namespace coffer::keystore {

class TokenBackend : public Backend {
 public:
  // What it is given must outlive it.
  TokenBackend(Core& core, MountStore& mounts, TokenStore& tokens, PolicyStore& policies,
               const Clock& clock);
  const std::vector<Route>& routes() const override { return routes_; }
  absl::StatusOr<TtlTerms> RenewalTerms(const TokenEntry& token, Txn& txn) override;

 private:
  enum class Self { kYes, kNo };
  using Found = absl::StatusOr<std::shared_ptr<const TokenEntry>>;

  // token_create.cc
  absl::StatusOr<Response> Create(const Request& request, Txn& txn, bool orphan);
  absl::StatusOr<Response> CreateByRole(const Request& request, Txn& txn);
  absl::StatusOr<Response> CreateFrom(const Request& request, Txn& txn, const Json* role,
                                      bool orphan);
  // token_roles.cc
  absl::StatusOr<Response> ListRoles(const Request& request, Txn& txn);
  absl::StatusOr<Response> ReadRole(const Request& request, Txn& txn);
  absl::StatusOr<Response> WriteRole(const Request& request, Txn& txn);
  absl::StatusOr<Response> DeleteRole(const Request& request, Txn& txn);
  static absl::StatusOr<std::optional<Json>> LoadRole(Txn& txn, std::string_view name);

  absl::StatusOr<Response> Lookup(const Request& request, Txn& txn);
  absl::StatusOr<Response> LookupSelf(const Request& request, Txn& txn);
  absl::StatusOr<Response> LookupAccessor(const Request& request, Txn& txn);
  absl::StatusOr<Response> Renew(const Request& request, Txn& txn);
  absl::StatusOr<Response> RenewSelf(const Request& request, Txn& txn);
  absl::StatusOr<Response> RenewAccessor(const Request& request, Txn& txn);
  absl::StatusOr<Response> Revoke(const Request& request, Txn& txn);
  absl::StatusOr<Response> RevokeSelf(const Request& request, Txn& txn);
  absl::StatusOr<Response> RevokeOrphan(const Request& request, Txn& txn);
  absl::StatusOr<Response> RevokeAccessor(const Request& request, Txn& txn);
  absl::StatusOr<Response> ListAccessors(const Request& request, Txn& txn);

  Json Describe(const TokenEntry& entry, std::string_view id) const;
  absl::StatusOr<Response> RenewEntry(const Request& request, Txn& txn, const TokenEntry& entry,
                                      std::string_view id);
  Found ByAccessor(const Request& request, Txn& txn);
  absl::StatusOr<bool> HasSudo(const Request& request, Txn& txn);

  std::vector<Route> MakeRoutes();

  Core& core_;
  MountStore& mounts_;
  TokenStore& tokens_;
  PolicyStore& policies_;
  const Clock& clock_;
  const std::vector<Route> routes_;
};

}  // namespace coffer::keystore
