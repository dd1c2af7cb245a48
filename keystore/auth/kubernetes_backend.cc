// Storage of a mount: "config", as KubernetesConfig::Parse takes it, and "role/<name>", as
// KubernetesRole::Parse does, the name in lower case.
#include "keystore/auth/kubernetes_backend.h"

#include "common/json_members.h"
#include "common/lower_case.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr char kConfigPath[] = "config";

// What "config" holds; a write replaces all of it.
constexpr const char* kConfigFields[] = {"kubernetes_host",
                                         "kubernetes_ca_cert",
                                         "token_reviewer_jwt",
                                         "pem_keys",
                                         "issuer",
                                         "disable_iss_validation",
                                         "disable_local_ca_jwt",
                                         "use_annotations_as_alias_metadata",
                                         "jwks_url",
                                         "jwks_ca_pem",
                                         "token_review"};

std::string RolePath(std::string_view name) { return StrCat("role/", LowerCase(name)); }

// Vault's names: letters, digits, "_", and "-" and "." within.
absl::Status CheckRoleName(std::string_view name) {
  const auto word = [](unsigned char c) { return std::isalnum(c) || c == '_'; };
  const bool inner = std::all_of(name.begin(), name.end(),
                                 [&](char c) { return word(c) || c == '-' || c == '.'; });
  if (!name.empty() && inner && word(name.front()) && word(name.back())) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "a role's name is made of letters, digits, \"_\", and \"-\" and \".\" within");
}

template <class T, class Make>
absl::StatusOr<std::shared_ptr<const T>> Parsed(const SecretBytes& stored, Make make) {
  const absl::StatusOr<Json> document = ParseJson(stored.view());
  if (!document.ok()) return absl::DataLossError("a stored entry isn't JSON");
  return make(*document);
}

}  // namespace

KubernetesBackend::KubernetesBackend(const Clock& clock, PodFiles pod_files, LeaseTtls ttls)
    : clock_(clock), ttls_(ttls), pod_files_(std::move(pod_files)), routes_(MakeRoutes()) {}

void KubernetesBackend::OnSeal() {
  configs_.Clear();
  roles_.Clear();
}

absl::StatusOr<TtlTerms> KubernetesBackend::RenewalTerms(const TokenEntry& token, Txn& txn) {
  const std::string_view name = TextAt(token.meta, "role");
  ASSIGN_OR_RETURN(const RolePtr role, LoadRole(txn, name));
  if (role == nullptr) return NotRenewed(StrCat("role ", name, " does not exist during renewal"));
  return TtlTerms{.ttl = role->ttl,
                  .max_ttl = role->max_ttl,
                  .explicit_max_ttl = token.explicit_max_ttl,
                  .period = role->period};
}

absl::StatusOr<KubernetesBackend::ConfigPtr> KubernetesBackend::LoadConfig(Txn& txn) {
  return configs_.Get(txn, kConfigPath, [this](SecretBytes stored) {
    return Parsed<KubernetesConfig>(stored, [this](const Json& document) {
      return KubernetesConfig::Parse(document, pod_files_, clock_);
    });
  });
}

absl::StatusOr<KubernetesBackend::RolePtr> KubernetesBackend::LoadRole(Txn& txn,
                                                                       std::string_view name) {
  if (!CheckRoleName(name).ok()) return RolePtr();
  return roles_.Get(txn, RolePath(name), [](SecretBytes stored) {
    return Parsed<KubernetesRole>(stored, KubernetesRole::Parse);
  });
}

absl::StatusOr<Response> KubernetesBackend::WriteConfig(const Request& request, Txn& txn) {
  Json document = Json::object();
  for (const char* field : kConfigFields) {
    const Json& value = request.json(field);
    if (!value.is_null()) document[field] = value;
  }
  if (request.has("pubkeys")) {
    if (request.has("pem_keys")) {
      return absl::InvalidArgumentError("give pem_keys or its other name pubkeys, not both");
    }
    document["pem_keys"] = request.json("pubkeys");
  }
  ASSIGN_OR_RETURN(const ConfigPtr config, KubernetesConfig::Parse(document, pod_files_, clock_));
  document["token_review"] = config->token_review;
  RETURN_IF_ERROR(txn.PutJson(kConfigPath, document));
  Response response;
  if (config->checks_keys() && config->api_server != nullptr && !request.has("token_review")) {
    response.warnings.push_back(
        "Tokens are checked with the keys alone: one that was revoked is let in until it expires. "
        "Set token_review=true to ask the API server too.");
  }
  for (const char* field : {"kubernetes_host", "jwks_url"}) {
    if (Trim(request.text(field)).starts_with("http://")) {
      response.warnings.push_back(StrCat(field, " is not https: who is on the way can let anyone in."));
    }
  }
  return response;
}

absl::StatusOr<Response> KubernetesBackend::ReadConfig(const Request&, Txn& txn) {
  ASSIGN_OR_RETURN(std::optional<Json> document, txn.GetJson(kConfigPath));
  if (!document) return absl::NotFoundError("");
  const auto reviewer = document->find("token_reviewer_jwt");
  (*document)["token_reviewer_jwt_set"] = reviewer != document->end() && *reviewer != "";
  document->erase("token_reviewer_jwt");
  return Response::Data(*std::move(document));
}

absl::StatusOr<Response> KubernetesBackend::ListRoles(const Request&, Txn& txn) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, txn.List("role/"));
  if (names.empty()) return absl::NotFoundError("");
  return Response::Data({{"keys", names}});
}

absl::StatusOr<Response> KubernetesBackend::ReadRole(const Request& request, Txn& txn) {
  RETURN_IF_ERROR(CheckRoleName(request.text("name")));
  ASSIGN_OR_RETURN(const std::optional<Json> role, txn.GetJson(RolePath(request.text("name"))));
  if (!role) return absl::NotFoundError("");
  return Response::Data(ShownRole(*role));
}

absl::StatusOr<Response> KubernetesBackend::WriteRole(const Request& request, Txn& txn) {
  RETURN_IF_ERROR(CheckRoleName(request.text("name")));
  const std::string path = RolePath(request.text("name"));
  ASSIGN_OR_RETURN(const std::optional<Json> stored, txn.GetJson(path));
  Response response;
  ASSIGN_OR_RETURN(const Json role, ChangedRole(stored.value_or(nullptr), request,
                                                ttls_.MaxOf(*request.mount), &response.warnings));
  RETURN_IF_ERROR(txn.PutJson(path, role));
  return response;
}

absl::StatusOr<Response> KubernetesBackend::DeleteRole(const Request& request, Txn& txn) {
  RETURN_IF_ERROR(CheckRoleName(request.text("name")));
  RETURN_IF_ERROR(txn.Delete(RolePath(request.text("name"))));
  return Response::Empty();
}

std::vector<Route> KubernetesBackend::MakeRoutes() {
  const auto on = [this](auto method) {
    return [this, method](const Request& request, Txn& txn) { return (this->*method)(request, txn); };
  };
  using enum FieldType;
  return {
      {.pattern = "login",
       .summary = "Authenticates Kubernetes service accounts with Vault.",
       .fields = {{"role", kString, "Name of the role against which the login is being attempted."},
                  {"jwt", kString, "A signed JWT for authenticating a service account."}},
       .operations = {{Operation::kUpdate, on(&KubernetesBackend::LogIn)}},
       .access = Access::kUnauthenticated},
      {.pattern = "config",
       .summary = "Configures how the tokens of service accounts are checked.",
       .fields =
           {{"kubernetes_host", kString,
             "A host, a host:port pair, or a URL to the base of the Kubernetes API server.", ""},
            {"kubernetes_ca_cert", kString,
             "CA certificates in PEM that the API server's must be signed by. If not set, the local "
             "pod's CA or, with disable_local_ca_jwt, the system's CAs.", ""},
            {"token_reviewer_jwt", kString,
             "The token to ask the TokenReview API with. If not set, the local pod's or, with "
             "disable_local_ca_jwt, the one that logs in.", ""},
            {"pem_keys", kList,
             "Public keys or certificates in PEM that verify the signatures of service account JWTs.",
             Json::array()},
            {"pubkeys", kList, "Another name of pem_keys."},
            {"issuer", kString,
             "Issuer that JWTs must name. Default: kubernetes/serviceaccount. See "
             "disable_iss_validation.", ""},
            {"disable_iss_validation", kBoolean, "Don't check the JWTs' issuer.", true},
            {"disable_local_ca_jwt", kBoolean,
             "Don't fall back to the local pod's CA certificate and token.", false},
            {"use_annotations_as_alias_metadata", kBoolean,
             "Add the service account's annotations vault.hashicorp.com/alias-metadata-KEY to the "
             "token's metadata.", false},
            {"jwks_url", kString,
             "URL of the JWK set that verifies the signatures of service account JWTs.", ""},
            {"jwks_ca_pem", kString,
             "CA certificates in PEM that jwks_url's server must be signed by.", ""},
            {"token_review", kBoolean,
             "Ask the API server about each token. Default: only where neither pem_keys nor jwks_url "
             "is set."}},
       .operations = {{Operation::kRead, on(&KubernetesBackend::ReadConfig)},
                      {Operation::kUpdate, on(&KubernetesBackend::WriteConfig)}}},
      {.pattern = "role",
       .summary = "Lists all the roles registered with the backend.",
       .operations = {{Operation::kList, on(&KubernetesBackend::ListRoles)}}},
      {.pattern = "role/{name}",
       .summary = "Register a role with the backend.",
       .fields =
           {{"name", kString, "Name of the role."},
            {"bound_service_account_names", kList,
             "Service account names able to access this role; \"*\" stands for any text."},
            {"bound_service_account_namespaces", kList,
             "Namespaces allowed to access this role; \"*\" stands for any text."},
            {"bound_service_account_namespace_selector", kString,
             "A label selector, as JSON or YAML, for namespaces allowed to access this role, besides "
             "those of bound_service_account_namespaces."},
            {"audience", kString, "Optional audience claim to verify in the JWT."},
            {"alias_name_source", kString,
             "Where the alias's name comes from: serviceaccount_uid (default) or "
             "serviceaccount_name, <namespace>/<name>."},
            {"token_policies", kList, "Policies of the tokens."},
            {"token_ttl", kDuration, "The initial TTL of the tokens."},
            {"token_max_ttl", kDuration, "The maximum lifetime of the tokens."},
            {"token_explicit_max_ttl", kDuration, "A maximum lifetime that nothing extends."},
            {"token_period", kDuration, "Makes the tokens renewable for ever, for this long each."},
            {"token_num_uses", kInteger, "How often a token can be used; 0 = without limit."},
            {"token_bound_cidrs", kList, "Blocks of addresses that may log in and use the tokens."},
            {"token_no_default_policy", kBoolean, "Don't add the default policy."},
            {"token_type", kString,
             "The type of the tokens: service, batch, or default, default-service, default-batch."},
            {"policies", kList, "Deprecated: use token_policies."},
            {"ttl", kDuration, "Deprecated: use token_ttl."},
            {"max_ttl", kDuration, "Deprecated: use token_max_ttl."},
            {"period", kDuration, "Deprecated: use token_period."},
            {"num_uses", kInteger, "Deprecated: use token_num_uses."},
            {"bound_cidrs", kList, "Deprecated: use token_bound_cidrs."}},
       .operations = {{Operation::kRead, on(&KubernetesBackend::ReadRole)},
                      {Operation::kUpdate, on(&KubernetesBackend::WriteRole)},
                      {Operation::kDelete, on(&KubernetesBackend::DeleteRole)}},
       .exists = [](const Request& request, Txn& txn) -> absl::StatusOr<bool> {
         if (!CheckRoleName(request.text("name")).ok()) return false;
         ASSIGN_OR_RETURN(const auto tag, txn.Tag(RolePath(request.text("name"))));
         return tag.has_value();
       }}};
}

}  // namespace coffer::keystore
