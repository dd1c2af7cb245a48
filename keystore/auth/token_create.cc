// auth/token/create: what a caller may give to a token that it makes.
#include <cctype>

#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/auth/token_backend.h"

namespace coffer::keystore {
namespace {

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Whether `text` fits `glob`, in which "*" stands for any characters.
bool FitsGlob(std::string_view glob, std::string_view text) {
  std::size_t g = 0, t = 0, star = glob.npos, resume = 0;
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      resume = t;
    } else if (g < glob.size() && glob[g] == text[t]) {
      ++g;
      ++t;
    } else if (star != glob.npos) {
      g = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  return glob.find_first_not_of('*', g) == glob.npos;
}

std::vector<std::string> Texts(const Json& list) {
  std::vector<std::string> texts;
  for (const Json& text : list) {
    texts.emplace_back(std::string_view(text.get_ref<const Json::string_t&>()));
  }
  return texts;
}

// As Go prints a list of strings with %q.
std::string Quoted(const std::vector<std::string>& names) {
  std::string text = "[";
  for (const std::string& name : names) {
    StrAppend(&text, text.size() > 1 ? " " : "", "\"", name, "\"");
  }
  return text + "]";
}

// A set of names that a role gives, by name and by glob.
struct NameSet {
  std::vector<std::string> names;
  std::vector<std::string> globs;
  bool empty() const { return names.empty() && globs.empty(); }
  bool Contains(std::string_view name) const {
    return coffer::keystore::Contains(names, name) ||
           std::any_of(globs.begin(), globs.end(),
                       [&](const std::string& glob) { return FitsGlob(glob, name); });
  }
};

absl::StatusOr<std::vector<std::string>> PoliciesByRole(const Request& request, const Json& role,
                                                        NameSet allowed,
                                                        const NameSet& disallowed) {
  const bool add_default = !request.boolean("no_default_policy") &&
                           !role.at("token_no_default_policy").get<bool>() &&
                           !disallowed.Contains("default");
  std::vector<std::string> policies = request.list("policies");
  if (!policies.empty()) policies = CleanPolicies(policies, add_default);
  if (!allowed.empty()) {
    allowed.names = CleanPolicies(allowed.names, add_default);
    if (policies.empty()) policies = allowed.names;
    for (const std::string& policy : policies) {
      if (allowed.Contains(policy)) continue;
      return absl::InvalidArgumentError(
          StrCat("token policies (", Quoted(policies), ") must be subset of the role's allowed "
                 "policies (", Quoted(allowed.names), ") or glob policies (",
                 Quoted(allowed.globs), ")"));
    }
  } else if (policies.empty()) {
    policies = CleanPolicies(request.caller->policies, add_default);
  }
  for (const std::string& policy : policies) {
    if (disallowed.Contains(policy)) {
      return absl::InvalidArgumentError(
          StrCat("token policy \"", policy, "\" is disallowed by this role"));
    }
  }
  return policies;
}

// What the token may do: a role's rules, or a part of what the caller may do, or with sudo anything.
absl::StatusOr<std::vector<std::string>> ChoosePolicies(const Request& request, const Json* role,
                                                        bool sudo) {
  const std::vector<std::string>& own = request.caller->policies;
  const std::vector<std::string> asked = request.list("policies");
  const bool without_default = request.boolean("no_default_policy");
  std::vector<std::string> policies;
  NameSet allowed, disallowed;
  if (role != nullptr) {
    allowed = {Texts(role->at("allowed_policies")), Texts(role->at("allowed_policies_glob"))};
    disallowed = {Texts(role->at("disallowed_policies")),
                  Texts(role->at("disallowed_policies_glob"))};
  }
  if (!allowed.empty() || !disallowed.empty()) {
    ASSIGN_OR_RETURN(policies, PoliciesByRole(request, *role, std::move(allowed), disallowed));
    policies = CleanPolicies(policies, false);
  } else if (asked.empty()) {
    policies = CleanPolicies(own, false);
  } else if (sudo) {
    policies = CleanPolicies(asked, !without_default);
  } else {
    policies = CleanPolicies(asked, false);
    if (!std::includes(own.begin(), own.end(), policies.begin(), policies.end())) {
      return absl::InvalidArgumentError("child policies must be subset of parent");
    }
    policies = CleanPolicies(policies, !without_default && Contains(own, "default"));
  }
  if (without_default) std::erase(policies, "default");
  RETURN_IF_ERROR(CheckAssignable(policies));
  if (Contains(policies, "root") && !request.caller->root()) {
    return absl::InvalidArgumentError(
        "root tokens may not be created without parent token being root");
  }
  return policies;
}

// "service" or "batch": a role's own, else what the caller asks for, else what the role prefers.
absl::StatusOr<std::string> ChooseType(const Request& request, const Json* role) {
  const std::string_view asked = request.text("type");
  if (!asked.empty() && asked != "service" && asked != "batch") {
    return absl::InvalidArgumentError("invalid 'token_type' value");
  }
  std::string_view by_role = "default-service";
  if (role != nullptr) by_role = role->at("token_type").get_ref<const Json::string_t&>();
  if (by_role == "service" || by_role == "batch") return std::string(by_role);
  if (!asked.empty()) return std::string(asked);
  return by_role == "default-batch" ? "batch" : "service";
}

std::string DisplayName(std::string_view given) {
  if (given.empty()) return "token";
  std::string name = StrCat("token-", given);
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '-';
  }
  if (name.ends_with('-')) name.pop_back();
  return name;
}

absl::StatusOr<Json> MetaOf(const Json& given) {
  if (!given.is_object() || given.empty()) return Json(nullptr);
  Json meta = Json::object();
  for (const auto& [name, value] : given.items()) {
    if (value.is_structured() || value.is_null()) {
      return absl::InvalidArgumentError(
          "Error decoding request: each value of 'meta' must be a string");
    }
    meta[name] = value.is_string() ? value : Json(value.dump());
  }
  return meta;
}

absl::Status CheckId(std::string_view id) {
  if (id.starts_with("hvs.") || id.starts_with("hvb.") || id.starts_with("s.") ||
      id.starts_with("b.")) {
    return absl::InvalidArgumentError(StrCat("custom token ID cannot have the '",
                                             id.substr(0, id.find('.') + 1), "' prefix"));
  }
  if (id.find('.') != id.npos) {
    return absl::InvalidArgumentError("custom token ID cannot have a '.' in the value");
  }
  return absl::OkStatus();
}

// Takes the lesser of the caller's and the role's, where both are set.
void Restrict(absl::Duration* own, absl::Duration by_role, std::string_view what,
              std::vector<std::string>* warnings) {
  if (by_role == absl::ZeroDuration()) return;
  if (*own == absl::ZeroDuration()) {
    *own = by_role;
    return;
  }
  *own = std::min(*own, by_role);
  warnings->push_back(StrCat(what,
                             " specified both during creation call and in role; using the lesser "
                             "value of ",
                             absl::ToInt64Seconds(*own), " seconds"));
}

void ApplyRole(const Json& role, TokenSpec* spec, std::vector<std::string>* warnings) {
  const auto seconds = [&](const char* name) {
    return absl::Seconds(role.at(name).get<std::int64_t>());
  };
  spec->role = std::string_view(role.at("name").get_ref<const Json::string_t&>());
  spec->renewable = spec->renewable && role.at("renewable").get<bool>();
  const std::string_view suffix = role.at("path_suffix").get_ref<const Json::string_t&>();
  if (!suffix.empty()) StrAppend(&spec->path, "/", suffix);
  if (role.contains("token_bound_cidrs")) {
    spec->bound_cidrs = Texts(role.at("token_bound_cidrs"));
  }
  if (spec->type == "batch") return;  // the rest is for what is stored
  Restrict(&spec->explicit_max_ttl, seconds("token_explicit_max_ttl"), "Explicit max TTL",
           warnings);
  Restrict(&spec->period, seconds("token_period"), "Period", warnings);
  const auto uses = role.at("token_num_uses").get<std::int64_t>();
  if (uses > 0) spec->num_uses = spec->num_uses == 0 ? uses : std::min(uses, spec->num_uses);
}

}  // namespace

absl::StatusOr<Response> TokenBackend::Create(const Request& request, Txn& txn, bool orphan) {
  return CreateFrom(request, txn, nullptr, orphan);
}

absl::StatusOr<Response> TokenBackend::CreateByRole(const Request& request, Txn& txn) {
  const std::string_view name = request.text("role_name");
  ASSIGN_OR_RETURN(const std::optional<Json> role, LoadRole(txn, name));
  if (!role) return absl::InvalidArgumentError(StrCat("unknown role ", name));
  return CreateFrom(request, txn, &*role, false);
}

absl::StatusOr<Response> TokenBackend::CreateFrom(const Request& request, Txn& txn,
                                                  const Json* role, bool orphan) {
  const TokenEntry& parent = *request.caller;
  RETURN_IF_ERROR(CheckNotBatch(parent, "create more tokens"));
  if (parent.num_uses != 0) {
    // It could escape its limit through its children.
    return absl::InvalidArgumentError("restricted use token cannot generate child tokens");
  }
  ASSIGN_OR_RETURN(const bool sudo, HasSudo(request, txn));
  if (request.integer("num_uses") < 0) {
    return absl::InvalidArgumentError("number of uses cannot be negative");
  }
  if (!request.text("entity_alias").empty()) {
    return absl::InvalidArgumentError(
        role == nullptr ? "'entity_alias' is only allowed in combination with token role"
                        : "invalid 'entity_alias' value: entities are not supported");
  }

  TokenSpec spec;
  ASSIGN_OR_RETURN(spec.type, ChooseType(request, role));
  spec.path = StrCat(request.mount->path, Trim(request.relative_path));
  if (spec.path.ends_with('/')) spec.path.pop_back();
  spec.display_name = DisplayName(request.text("display_name"));
  spec.num_uses = request.integer("num_uses");
  ASSIGN_OR_RETURN(spec.meta, MetaOf(request.json("meta")));
  if (!request.text("id").empty()) {
    if (!sudo) {
      return absl::InvalidArgumentError("root or sudo privileges required to specify token id");
    }
    RETURN_IF_ERROR(CheckId(request.text("id")));
    spec.id = SecretBytes::CopyOf(request.text("id"));
  }
  ASSIGN_OR_RETURN(spec.policies, ChoosePolicies(request, role, sudo));
  spec.no_default_policy = true;  // it is among them where it should be

  if (role != nullptr) {
    orphan = role->at("orphan").get<bool>();
  } else if (request.boolean("no_parent")) {
    if (!sudo) {
      return absl::InvalidArgumentError(
          "root or sudo privileges required to create orphan token");
    }
    orphan = true;
  }
  if (!orphan) {
    spec.parent = parent.hash;
    if (role == nullptr) spec.bound_cidrs = parent.bound_cidrs;
  }

  spec.explicit_max_ttl = request.duration("explicit_max_ttl");
  spec.period = request.duration("period");
  if (spec.period > absl::ZeroDuration() && !sudo) {
    return absl::InvalidArgumentError(
        "root or sudo privileges required to create periodic token");
  }
  spec.ttl = request.duration(request.has("ttl") ? "ttl" : "lease");
  spec.renewable = request.boolean("renewable");
  Response response;
  if (role != nullptr) ApplyRole(*role, &spec, &response.warnings);

  const bool unending = Contains(spec.policies, "root") && spec.ttl == absl::ZeroDuration() &&
                        spec.period == absl::ZeroDuration() &&
                        spec.explicit_max_ttl == absl::ZeroDuration();
  if (unending && parent.expires()) {
    return absl::InvalidArgumentError(
        "expiring root tokens cannot create non-expiring root tokens");
  }

  if (spec.type == "batch" && spec.explicit_max_ttl > absl::ZeroDuration()) {
    return absl::InvalidArgumentError("batch tokens cannot have \"explicit_max_ttl\" set");
  }

  Txn root = txn.Root();
  ASSIGN_OR_RETURN(TokenStore::Created created,
                   tokens_.Create(root, std::move(spec), *request.mount));
  for (std::string& warning : created.warnings) response.warnings.push_back(std::move(warning));
  for (const std::string& policy : created.entry->policies) {
    ASSIGN_OR_RETURN(const auto text, policies_.Get(root, policy));
    if (!text) response.warnings.push_back(StrCat("Policy \"", policy, "\" does not exist"));
  }
  response.auth = Auth{std::move(created.id), std::move(created.entry)};
  return response;
}

}  // namespace coffer::keystore
