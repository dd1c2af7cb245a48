// login: a JWT in, a token out. What costs little is checked first; what waits for the network runs
// on a worker.
#include "common/json_members.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/auth/kubernetes_backend.h"
#include "keystore/core/cidr.h"

namespace coffer::keystore {
namespace {

constexpr std::string_view kAnnotationPrefix = "vault.hashicorp.com/alias-metadata-";

// Whom a ServiceAccount token speaks for, by its claims.
struct Account {
  std::string_view name_space, name, uid, secret_name;
};

// Projected tokens have one claim "kubernetes.io", those of Secrets a claim for each fact.
absl::StatusOr<Account> ReadAccount(const Json& claims) {
  Account account;
  if (const Json& projected = At(claims, "kubernetes.io");
      projected.is_object() && !projected.empty()) {
    const Json& service_account = At(projected, "serviceaccount");
    account = {TextAt(projected, "namespace"), TextAt(service_account, "name"),
               TextAt(service_account, "uid"), TextAt(At(projected, "secret"), "name")};
  } else {
    account = {TextAt(claims, "kubernetes.io/serviceaccount/namespace"),
               TextAt(claims, "kubernetes.io/serviceaccount/service-account.name"),
               TextAt(claims, "kubernetes.io/serviceaccount/service-account.uid"),
               TextAt(claims, "kubernetes.io/serviceaccount/secret.name")};
  }
  if (account.name.empty() || account.name_space.empty() || account.uid.empty()) {
    return absl::PermissionDeniedError(
        "the JWT is refused: it is no service account's: its claims lack the namespace, name or uid");
  }
  const std::string_view subject = TextAt(claims, "sub");
  if (!subject.empty() &&
      subject != StrCat("system:serviceaccount:", account.name_space, ":", account.name)) {
    return absl::PermissionDeniedError(
        "the JWT is refused: its subject (sub) is another than its service account");
  }
  return account;
}

// Whether the namespace's labels are those that the role wants. Waits.
absl::StatusOr<bool> LabelsFit(const KubernetesConfig& config, const KubernetesRole& role,
                               std::string_view name_space) {
  if (config.api_server == nullptr) {
    return absl::FailedPreconditionError(
        "the role's bound_service_account_namespace_selector needs kubernetes_host to be configured");
  }
  ASSIGN_OR_RETURN(const ApiServer::Texts labels, config.api_server->NamespaceLabels(name_space));
  return role.selector->Fits(labels);
}

absl::Status Review(ApiServer& api_server, std::string_view jwt,
                    const std::vector<std::string>& audiences, const Account& account) {
  ASSIGN_OR_RETURN(const ReviewedAccount reviewed, api_server.Review(jwt, audiences));
  if (reviewed.name == account.name && reviewed.name_space == account.name_space &&
      reviewed.uid == account.uid) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError("the JWT is another service account's than it claims");
}

}  // namespace

absl::Status KubernetesBackend::Untold(const absl::Status& failed, std::string_view role_name) {
  const bool refused = absl::IsPermissionDenied(failed);
  if (!refused && !absl::IsUnavailable(failed)) return failed;
  const std::int64_t second = absl::ToUnixSeconds(clock_.Now());
  if (told_in_.exchange(second) != second) {
    log::Warning("a Kubernetes login fails", {{"role", role_name}, {"error", failed}});
  }
  return refused ? absl::PermissionDeniedError("permission denied")
                 : absl::UnavailableError(
                       "the Kubernetes API server can't be asked: the keystore's log says why");
}

absl::StatusOr<Response> KubernetesBackend::LogIn(const Request& request, Txn& txn) {
  const std::string_view role_name = request.text("role");
  if (role_name.empty()) return absl::InvalidArgumentError("missing role");
  // What was read from a file may end in a line end.
  const std::string_view text = Trim(request.text("jwt"));
  if (text.empty()) return absl::InvalidArgumentError("missing jwt");
  ASSIGN_OR_RETURN(const RolePtr role, LoadRole(txn, role_name));
  if (role == nullptr) {
    return absl::InvalidArgumentError(StrCat("invalid role name \"", role_name, "\""));
  }
  if (!role->bound_cidrs.empty() && !InAnyCidr(request.remote_address, role->bound_cidrs)) {
    return absl::PermissionDeniedError("permission denied");
  }
  ASSIGN_OR_RETURN(const ConfigPtr config, LoadConfig(txn));
  if (config == nullptr) {
    return absl::FailedPreconditionError(StrCat("could not load backend configuration: write ",
                                                request.mount->path, "config first"));
  }

  ASSIGN_OR_RETURN(const Jwt jwt, ParseJwt(text));
  bool needs_worker = false;
  ASSIGN_OR_RETURN(const std::shared_ptr<const JwtKeySet> keys,
                   config->KeysFor(jwt, request.may_block, &needs_worker));
  if (needs_worker) return NeedsWorker();
  if (keys != nullptr) RETURN_IF_ERROR(keys->Verify(jwt));
  ClaimRules rules{clock_.Now(), role->audience, std::nullopt};
  if (config->validate_issuer) rules.issuer = config->issuer;
  RETURN_IF_ERROR(CheckClaims(jwt.claims, rules));
  ASSIGN_OR_RETURN(const Account account, ReadAccount(jwt.claims));
  if (!role->AllowsName(account.name)) {
    return absl::PermissionDeniedError("service account name not authorized");
  }
  const bool allowed = role->AllowsNamespace(account.name_space);
  if (!allowed && !role->selector) return absl::PermissionDeniedError("namespace not authorized");

  const bool asks = config->token_review || config->use_annotations || !allowed;
  if (asks && !request.may_block) return NeedsWorker();
  if (config->token_review) {
    // An API server that is asked for no audience takes only what is meant for itself.
    std::vector<std::string> audiences = {role->audience};
    if (role->audience.empty()) {
      ASSIGN_OR_RETURN(audiences, Audiences(jwt.claims));
    }
    const absl::Status reviewed = Review(*config->api_server, text, audiences, account);
    if (!reviewed.ok()) return Untold(reviewed, role_name);
  }
  if (!allowed) {
    const absl::StatusOr<bool> fit = LabelsFit(*config, *role, account.name_space);
    if (!fit.ok()) return Untold(fit.status(), role_name);
    if (!*fit) return absl::PermissionDeniedError("namespace not authorized");
  }
  Json meta = Json::object();
  if (config->use_annotations) {
    const absl::StatusOr<ApiServer::Texts> annotations =
        config->api_server->AccountAnnotations(account.name_space, account.name);
    if (!annotations.ok()) return Untold(annotations.status(), role_name);
    for (const auto& [key, value] : *annotations) {
      if (key.starts_with(kAnnotationPrefix)) {
        meta[Json::string_t(std::string_view(key).substr(kAnnotationPrefix.size()))] = value;
      }
    }
  }
  // After the annotations: these can't be overridden.
  meta["role"] = role_name;
  meta["service_account_name"] = account.name;
  meta["service_account_namespace"] = account.name_space;
  meta["service_account_secret_name"] = account.secret_name;
  meta["service_account_uid"] = account.uid;

  Login login;
  login.token = role->NewToken();
  login.token.path = StrCat(request.mount->path, "login");
  // "kubernetes-default-webapp" of the mount auth/kubernetes/.
  std::string mount = request.mount->path.substr(sizeof("auth/") - 1);
  std::replace(mount.begin(), mount.end(), '/', '-');
  login.token.display_name = StrCat(mount, account.name_space, "-", account.name);
  login.token.meta = std::move(meta);
  login.alias = role->alias_is_name ? Json::string_t(StrCat(account.name_space, "/", account.name))
                                    : Json::string_t(account.uid);
  Response response;
  response.login = std::move(login);
  return response;
}

}  // namespace coffer::keystore
