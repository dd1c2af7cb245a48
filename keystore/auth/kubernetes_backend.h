// KubernetesBackend: lets pods in by the tokens of their ServiceAccounts.
// https://developer.hashicorp.com/vault/api-docs/auth/kubernetes
#pragma once

#include <atomic>

#include "common/clock.h"
#include "keystore/auth/kubernetes_config.h"
#include "keystore/auth/kubernetes_role.h"
#include "keystore/barrier/parsed_cache.h"
#include "keystore/core/backend.h"

namespace coffer::keystore {

class KubernetesBackend : public Backend {
 public:
  // The clock must outlive the backend.
  explicit KubernetesBackend(const Clock& clock, PodFiles pod_files = {}, LeaseTtls ttls = {});
  const std::vector<Route>& routes() const override { return routes_; }
  absl::StatusOr<TtlTerms> RenewalTerms(const TokenEntry& token, Txn& txn) override;
  void OnSeal() override;

 private:
  using ConfigPtr = std::shared_ptr<const KubernetesConfig>;
  using RolePtr = std::shared_ptr<const KubernetesRole>;

  absl::StatusOr<Response> WriteConfig(const Request& request, Txn& txn);
  absl::StatusOr<Response> ReadConfig(const Request& request, Txn& txn);
  absl::StatusOr<Response> ListRoles(const Request& request, Txn& txn);
  absl::StatusOr<Response> ReadRole(const Request& request, Txn& txn);
  absl::StatusOr<Response> WriteRole(const Request& request, Txn& txn);
  absl::StatusOr<Response> DeleteRole(const Request& request, Txn& txn);
  absl::StatusOr<Response> LogIn(const Request& request, Txn& txn);  // kubernetes_login.cc

  // What the API server says is for the log, not for whom nobody knows yet.
  absl::Status Untold(const absl::Status& failed, std::string_view role_name);

  absl::StatusOr<ConfigPtr> LoadConfig(Txn& txn);
  absl::StatusOr<RolePtr> LoadRole(Txn& txn, std::string_view name);

  std::vector<Route> MakeRoutes();

  const Clock& clock_;
  const LeaseTtls ttls_;
  const PodFiles pod_files_;
  ParsedCache<KubernetesConfig> configs_;
  ParsedCache<KubernetesRole> roles_;
  // The second in which the log was last told: anybody can cause a line.
  std::atomic<std::int64_t> told_in_ = 0;
  const std::vector<Route> routes_;
};

}  // namespace coffer::keystore
