// A role is stored at "roles/<name>" of the mount as the JSON object that a read answers.
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/auth/token_backend.h"
#include "keystore/core/cidr.h"

namespace coffer::keystore {
namespace {

std::string RolePath(std::string_view name) { return StrCat("roles/", name); }

Json NewRole(std::string_view name) {
  return {{"name", name},
          {"allowed_policies", Json::array()},
          {"disallowed_policies", Json::array()},
          {"allowed_policies_glob", Json::array()},
          {"disallowed_policies_glob", Json::array()},
          {"allowed_entity_aliases", Json::array()},
          {"orphan", false},
          {"renewable", true},
          {"path_suffix", ""},
          {"period", 0},
          {"token_period", 0},
          {"explicit_max_ttl", 0},
          {"token_explicit_max_ttl", 0},
          {"token_no_default_policy", false},
          {"token_num_uses", 0},
          {"token_type", "default-service"}};
}

// A token_ field and the old name that it had, which still sets it and is shown as it was given.
struct Renamed {
  const char* name;
  const char* old_name;
};
constexpr Renamed kRenamed[] = {{"token_period", "period"},
                                {"token_explicit_max_ttl", "explicit_max_ttl"},
                                {"token_bound_cidrs", "bound_cidrs"}};

bool Given(const Request& request, std::string_view name) {
  return request.has(name) && !request.json(name).is_null();
}

// Vault's pattern: \w[\w-.]+\w somewhere in the text, and no "..".
absl::Status CheckPathSuffix(std::string_view suffix) {
  if (suffix.empty()) return absl::OkStatus();
  if (suffix.find("..") != suffix.npos) {
    return absl::InvalidArgumentError(
        "error registering path suffix: path cannot contain parent references");
  }
  const auto word = [](unsigned char c) { return std::isalnum(c) || c == '_'; };
  for (const char c : suffix) {
    if (!word(c) && c != '-' && c != '.' && c != '/') {
      return absl::InvalidArgumentError(
          "given role path suffix contains invalid characters; must match \\w[\\w-.]+\\w");
    }
  }
  if (suffix.size() < 3 || !word(suffix.front()) || !word(suffix.back())) {
    return absl::InvalidArgumentError(
        "given role path suffix contains invalid characters; must match \\w[\\w-.]+\\w");
  }
  return absl::OkStatus();
}

// What Vault demands of a role of batch tokens, of which nothing is stored.
absl::Status CheckBatchRole(const Json& role) {
  if (role.at("token_type") != "batch") return absl::OkStatus();
  for (const auto& [wrong, what] :
       {std::pair(role.at("orphan") != true, "non-orphan tokens"),
        std::pair(role.at("token_period") != 0, "periodic tokens"),
        std::pair(role.at("renewable") != false, "renewable tokens"),
        std::pair(role.at("token_explicit_max_ttl") != 0, "tokens with an explicit max TTL"),
        std::pair(role.at("token_num_uses") != 0, "tokens with limited use count")}) {
    if (!wrong) continue;
    return absl::InvalidArgumentError(
        StrCat("'token_type' cannot be 'batch' when role is set to generate ", what));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<Json>> TokenBackend::LoadRole(Txn& txn, std::string_view name) {
  return txn.GetJson(RolePath(name));
}

absl::StatusOr<Response> TokenBackend::ListRoles(const Request&, Txn& txn) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, txn.List("roles/"));
  if (names.empty()) return absl::NotFoundError("");
  return Response::Data({{"keys", names}});
}

absl::StatusOr<Response> TokenBackend::ReadRole(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(std::optional<Json> role, LoadRole(txn, request.text("role_name")));
  if (!role) return absl::NotFoundError("");
  if (role->at("token_num_uses") == 0) role->erase("token_num_uses");
  Json& aliases = role->at("allowed_entity_aliases");
  if (aliases.empty()) aliases = nullptr;
  return Response::Data(*std::move(role));
}

absl::StatusOr<Response> TokenBackend::DeleteRole(const Request& request, Txn& txn) {
  RETURN_IF_ERROR(txn.Delete(RolePath(request.text("role_name"))));
  return Response::Empty();
}

absl::StatusOr<Response> TokenBackend::WriteRole(const Request& request, Txn& txn) {
  const std::string_view name = request.text("role_name");
  ASSIGN_OR_RETURN(std::optional<Json> stored, LoadRole(txn, name));
  Json role = stored ? *std::move(stored) : NewRole(name);
  Response response;

  for (const char* list : {"allowed_policies", "disallowed_policies", "allowed_policies_glob",
                           "disallowed_policies_glob", "allowed_entity_aliases"}) {
    if (Given(request, list)) role[list] = CleanPolicies(request.list(list), false);
  }
  for (const char* kept :
       {"orphan", "renewable", "path_suffix", "token_no_default_policy", "token_num_uses"}) {
    if (Given(request, kept)) role[kept] = request.json(kept);
  }
  RETURN_IF_ERROR(CheckPathSuffix(request.text("path_suffix")));
  if (role.at("token_num_uses") < 0) {
    return absl::InvalidArgumentError("error parsing role fields: 'token_num_uses' cannot be negative");
  }
  if (request.has("token_type")) {
    const std::string_view type = request.text("token_type");
    if (type != "service" && type != "default-service" && type != "batch" &&
        type != "default-batch") {
      return absl::InvalidArgumentError(StrCat("invalid 'token_type' value \"", type, "\""));
    }
    role["token_type"] = type;
  }
  for (const Renamed& field : kRenamed) {
    const bool by_name = Given(request, field.name);
    const bool by_old_name = Given(request, field.old_name);
    if (!by_name && !by_old_name) continue;
    role[field.name] = request.json(by_name ? field.name : field.old_name);
    if (!by_name) {
      role[field.old_name] = request.json(field.old_name);
    } else if (role.contains(field.old_name)) {
      role[field.old_name] = Json(role[field.old_name].type());  // zero, or empty
    }
    if (by_name && by_old_name) {
      response.warnings.push_back(StrCat("Both '", field.name, "' and deprecated '",
                                         field.old_name,
                                         "' value supplied, ignoring the deprecated value"));
    }
  }
  for (const char* cidrs : {"token_bound_cidrs", "bound_cidrs"}) {
    if (!role.contains(cidrs)) continue;
    for (const Json& cidr : role[cidrs]) {
      const absl::Status valid = CheckCidr(cidr.get_ref<const Json::string_t&>());
      if (!valid.ok()) {
        return absl::InvalidArgumentError(
            StrCat("error parsing role fields: ", Message(valid)));
      }
    }
    if (role[cidrs].empty()) role.erase(cidrs);
  }

  RETURN_IF_ERROR(CheckBatchRole(role));
  const absl::Duration longest = tokens_.ttls().MaxOf(*request.mount);
  const auto limit = role.at("token_explicit_max_ttl").get<std::int64_t>();
  if (limit > absl::ToInt64Seconds(longest)) {
    response.warnings.push_back(
        StrCat("Given explicit max TTL of ", limit,
               " is greater than system/mount allowed value of ", absl::ToInt64Seconds(longest),
               " seconds; until this is fixed attempting to create tokens against this role will "
               "result in an error"));
  }
  RETURN_IF_ERROR(txn.PutJson(RolePath(name), role));
  return response;
}

}  // namespace coffer::keystore
