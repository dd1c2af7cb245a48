// Stored and answered alike, but for what is empty: the fields of kFields, and of each old name in
// kRenamed that a writer used.
#include "keystore/auth/kubernetes_role.h"

#include "common/duration.h"
#include "common/json_members.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/auth/jwt.h"
#include "keystore/core/cidr.h"

namespace coffer::keystore {
namespace {

// A token_ field, and the name it had before: that still sets it, and is then shown too.
struct Renamed {
  const char* name;
  const char* old_name;
};
constexpr Renamed kRenamed[] = {{"token_policies", "policies"}, {"token_bound_cidrs", "bound_cidrs"},
                                {"token_num_uses", "num_uses"}, {"token_ttl", "ttl"},
                                {"token_max_ttl", "max_ttl"},   {"token_period", "period"}};

constexpr const char* kPlain[] = {"bound_service_account_names",
                                  "bound_service_account_namespaces",
                                  "bound_service_account_namespace_selector",
                                  "audience",
                                  "alias_name_source",
                                  "token_explicit_max_ttl",
                                  "token_no_default_policy",
                                  "token_type"};

Json NewRole() {
  return {{"bound_service_account_names", Json::array()},
          {"bound_service_account_namespaces", Json::array()},
          {"bound_service_account_namespace_selector", ""},
          {"audience", ""},
          {"alias_name_source", "serviceaccount_uid"},
          {"token_bound_cidrs", Json::array()},
          {"token_explicit_max_ttl", 0},
          {"token_max_ttl", 0},
          {"token_no_default_policy", false},
          {"token_num_uses", 0},
          {"token_period", 0},
          {"token_policies", Json::array()},
          {"token_ttl", 0},
          {"token_type", "default"}};
}

bool Given(const Request& request, std::string_view name) {
  return request.has(name) && !request.json(name).is_null();
}

std::vector<std::string> Texts(const Json& role, std::string_view name) {
  std::vector<std::string> texts;
  const auto list = role.find(name);
  if (list == role.end() || !list->is_array()) return texts;
  for (const Json& text : *list) {
    if (text.is_string()) texts.emplace_back(std::string_view(text.get_ref<const Json::string_t&>()));
  }
  return texts;
}

std::int64_t Number(const Json& role, std::string_view name) {
  const auto found = role.find(name);
  return found != role.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

absl::Status Wrong(const auto&... pieces) { return absl::InvalidArgumentError(StrCat(pieces...)); }

absl::Status CheckNames(const Json& role) {
  const std::vector<std::string> names = Texts(role, "bound_service_account_names");
  const std::vector<std::string> name_spaces = Texts(role, "bound_service_account_namespaces");
  if (names.empty()) return Wrong("\"bound_service_account_names\" can not be empty");
  const std::string_view selector = TextAt(role, "bound_service_account_namespace_selector");
  if (name_spaces.empty() && selector.empty()) {
    return Wrong("\"bound_service_account_namespaces\" can not be empty if "
                 "\"bound_service_account_namespace_selector\" is not set");
  }
  for (const auto& list : {names, name_spaces}) {
    if (list.size() > 1 && std::find(list.begin(), list.end(), "*") != list.end()) {
      return Wrong("can not mix \"*\" with values");
    }
  }
  const std::string_view source = TextAt(role, "alias_name_source");
  if (source != "serviceaccount_uid" && source != "serviceaccount_name") {
    return Wrong("invalid alias_name_source, must be one of: serviceaccount_uid, serviceaccount_name");
  }
  return absl::OkStatus();
}

absl::Status CheckTokenFields(const Json& role, absl::Duration max_lease_ttl,
                              std::vector<std::string>* warnings) {
  const std::string_view type = TextAt(role, "token_type");
  if (type == "batch" || type == "default-batch") {
    for (const auto& [field, what] :
         {std::pair("token_period", "periodic tokens"),
          std::pair("token_num_uses", "tokens with limited use count")}) {
      if (Number(role, field) <= 0) continue;
      return Wrong("'token_type' cannot be 'batch' or 'default_batch' when set to generate ", what);
    }
  } else if (type != "default" && type != "service" && type != "default-service") {
    return Wrong("invalid 'token_type' value \"", type, "\"");
  }
  for (const std::string& policy : Texts(role, "token_policies")) {
    if (policy == "root") return Wrong("auth methods cannot create root tokens: leave out the policy");
  }
  for (const std::string& block : Texts(role, "token_bound_cidrs")) {
    const absl::Status status = CheckCidr(block);
    if (!status.ok()) return Wrong("token_bound_cidrs: ", Message(status));
  }
  if (Number(role, "token_num_uses") < 0) return Wrong("'token_num_uses' cannot be negative");
  const std::int64_t ttl = Number(role, "token_ttl"), max_ttl = Number(role, "token_max_ttl");
  const std::int64_t longest = absl::ToInt64Seconds(max_lease_ttl);
  if (max_ttl > 0 && ttl > max_ttl) return Wrong("'token_ttl' cannot be greater than 'token_max_ttl'");
  if (const std::int64_t period = Number(role, "token_period"); period > longest) {
    return Wrong("token period of '", FormatGoDuration(absl::Seconds(period)),
                 "' is greater than the backend's maximum lease TTL of '",
                 FormatGoDuration(max_lease_ttl), "'");
  }
  if (max_ttl > longest) {
    warnings->push_back("max_ttl is greater than the system or backend mount's maximum TTL value; "
                        "issued tokens' max TTL value will be truncated");
  }
  return absl::OkStatus();
}

bool IsEmpty(const Json& value) { return value.is_array() ? value.empty() : value == 0; }

}  // namespace

bool FitsGlob(std::string_view pattern, std::string_view text) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == text;
  if (!text.starts_with(pattern.substr(0, star))) return false;
  text.remove_prefix(star);
  pattern.remove_prefix(star + 1);
  // Each piece between stars where it comes first: leaves the most for the rest.
  for (std::size_t next; (next = pattern.find('*')) != std::string_view::npos;) {
    const std::size_t found = text.find(pattern.substr(0, next));
    if (found == std::string_view::npos) return false;
    text.remove_prefix(found + next);
    pattern.remove_prefix(next + 1);
  }
  return text.ends_with(pattern);
}

absl::StatusOr<Json> ChangedRole(const Json& stored, const Request& request,
                                 absl::Duration max_lease_ttl,
                                 std::vector<std::string>* warnings) {
  Json role = stored.is_null() ? NewRole() : stored;
  for (const char* field : kPlain) {
    if (Given(request, field)) role[field] = request.json(field);
  }
  if (TextAt(role, "token_type").empty()) role["token_type"] = "default";
  if (TextAt(role, "alias_name_source").empty()) role["alias_name_source"] = "serviceaccount_uid";
  for (const Renamed& field : kRenamed) {
    const bool by_name = Given(request, field.name);
    const bool by_old_name = Given(request, field.old_name);
    if (!by_name && !by_old_name) continue;
    const char* given = by_name ? field.name : field.old_name;
    Json value = request.json(given);
    if (field.name == std::string_view("token_policies")) {
      value = CleanPolicies(request.list(given), /*add_default=*/false);
    }
    role.erase(field.old_name);
    if (!by_name && !IsEmpty(value)) role[field.old_name] = value;
    role[field.name] = std::move(value);
    if (by_name && by_old_name) {
      warnings->push_back(StrCat("Both '", field.name, "' and deprecated '", field.old_name,
                                 "' value supplied, ignoring the deprecated value"));
    }
  }
  RETURN_IF_ERROR(CheckTokenFields(role, max_lease_ttl, warnings));
  RETURN_IF_ERROR(CheckNames(role));
  RETURN_IF_ERROR(KubernetesRole::Parse(role).status());
  return role;
}

Json ShownRole(const Json& stored) {
  Json shown = stored;
  if (TextAt(shown, "audience").empty()) shown.erase("audience");
  return shown;
}

absl::StatusOr<std::shared_ptr<const KubernetesRole>> KubernetesRole::Parse(const Json& document) {
  if (!document.is_object()) return absl::DataLossError("a stored role isn't an object");
  auto role = std::make_shared<KubernetesRole>();
  role->names = Texts(document, "bound_service_account_names");
  role->name_spaces = Texts(document, "bound_service_account_namespaces");
  const std::string_view selector = TextAt(document, "bound_service_account_namespace_selector");
  if (!selector.empty()) {
    ASSIGN_OR_RETURN(role->selector, LabelSelector::Parse(selector));
  }
  role->audience = TextAt(document, "audience");
  role->alias_is_name = TextAt(document, "alias_name_source") == "serviceaccount_name";
  role->bound_cidrs = Texts(document, "token_bound_cidrs");
  role->policies = Texts(document, "token_policies");
  const auto no_default = document.find("token_no_default_policy");
  role->no_default_policy = no_default != document.end() && *no_default == true;
  role->ttl = absl::Seconds(Number(document, "token_ttl"));
  role->max_ttl = absl::Seconds(Number(document, "token_max_ttl"));
  role->explicit_max_ttl = absl::Seconds(Number(document, "token_explicit_max_ttl"));
  role->period = absl::Seconds(Number(document, "token_period"));
  role->num_uses = Number(document, "token_num_uses");
  role->token_type = TextAt(document, "token_type");
  return role;
}

bool KubernetesRole::AllowsName(std::string_view name) const {
  return std::any_of(names.begin(), names.end(), [&](const auto& p) { return FitsGlob(p, name); });
}

bool KubernetesRole::AllowsNamespace(std::string_view name_space) const {
  return std::any_of(name_spaces.begin(), name_spaces.end(),
                     [&](const auto& p) { return FitsGlob(p, name_space); });
}

TokenSpec KubernetesRole::NewToken() const {
  TokenSpec spec;
  spec.policies = policies;
  spec.no_default_policy = no_default_policy;
  spec.ttl = ttl;
  spec.max_ttl = max_ttl;
  spec.explicit_max_ttl = explicit_max_ttl;
  spec.period = period;
  spec.num_uses = num_uses;
  spec.type = token_type;
  spec.bound_cidrs = bound_cidrs;
  return spec;
}

}  // namespace coffer::keystore
