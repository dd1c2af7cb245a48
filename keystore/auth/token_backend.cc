#include "keystore/auth/token_backend.h"

#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/core/rfc3339.h"

namespace coffer::keystore {
namespace {

const Field kToken{"token", FieldType::kString, "The token"};
const Field kAccessor{"accessor", FieldType::kString, "The accessor of the token"};
const Field kIncrement{"increment", FieldType::kDuration,
                       "For how long it shall live on; 0: as long as it was given last"};

std::vector<Field> CreateFields() {
  return {{"id", FieldType::kString, "The token itself; needs sudo"},
          {"policies", FieldType::kList, "Names of policies; those of the caller where none is given"},
          {"meta", FieldType::kMap, "Metadata, shown by lookup"},
          {"no_parent", FieldType::kBoolean, "Make an orphan; needs sudo"},
          {"no_default_policy", FieldType::kBoolean, "Leave out the policy \"default\""},
          {"renewable", FieldType::kBoolean, "Whether it can be renewed", true},
          {"lease", FieldType::kDuration, "An old name of ttl"},
          {"ttl", FieldType::kDuration, "For how long it lives"},
          {"explicit_max_ttl", FieldType::kDuration, "A limit that renewals can't pass"},
          {"display_name", FieldType::kString, "For people"},
          {"num_uses", FieldType::kInteger, "How often it can be used; 0: without limit"},
          {"period", FieldType::kDuration, "Renewable for ever, for this long; needs sudo"},
          {"type", FieldType::kString, "\"service\" or \"batch\""},
          {"entity_alias", FieldType::kString, "Not supported"}};
}

std::vector<Field> RoleFields() {
  return {{"allowed_policies", FieldType::kList, "Policies that tokens of this role may have"},
          {"disallowed_policies", FieldType::kList, "Policies that they may not have"},
          {"allowed_policies_glob", FieldType::kList, "As allowed_policies, with \"*\""},
          {"disallowed_policies_glob", FieldType::kList, "As disallowed_policies, with \"*\""},
          {"orphan", FieldType::kBoolean, "Tokens have no parent"},
          {"renewable", FieldType::kBoolean, "Tokens can be renewed", true},
          {"path_suffix", FieldType::kString, "Follows the path that tokens are made by"},
          {"allowed_entity_aliases", FieldType::kList, "Kept, without effect"},
          {"token_period", FieldType::kDuration, "Tokens are renewable for ever, for this long"},
          {"period", FieldType::kDuration, "An old name of token_period"},
          {"token_explicit_max_ttl", FieldType::kDuration, "A limit that renewals can't pass"},
          {"explicit_max_ttl", FieldType::kDuration, "An old name of token_explicit_max_ttl"},
          {"token_bound_cidrs", FieldType::kList, "Addresses that tokens can be used from"},
          {"bound_cidrs", FieldType::kList, "An old name of token_bound_cidrs"},
          {"token_num_uses", FieldType::kInteger, "How often a token can be used"},
          {"token_no_default_policy", FieldType::kBoolean, "Leave out the policy \"default\""},
          {"token_type", FieldType::kString,
           "\"service\", \"batch\", or what a caller who gives no type gets: \"default-service\", "
           "\"default-batch\""}};
}

}  // namespace

TokenBackend::TokenBackend(Core& core, MountStore& mounts, TokenStore& tokens,
                           PolicyStore& policies, const Clock& clock)
    : core_(core),
      mounts_(mounts),
      tokens_(tokens),
      policies_(policies),
      clock_(clock),
      routes_(MakeRoutes()) {}

std::vector<Route> TokenBackend::MakeRoutes() {
  using enum Operation;
  using Method = absl::StatusOr<Response> (TokenBackend::*)(const Request&, Txn&);
  const auto to = [this](Method method) {
    return [this, method](const Request& request, Txn& txn) { return (this->*method)(request, txn); };
  };
  const auto create = [this](bool orphan) {
    return [this, orphan](const Request& request, Txn& txn) { return Create(request, txn, orphan); };
  };
  const auto tidy = [](const Request&, Txn&) -> absl::StatusOr<Response> {
    // Indexes are written in one transaction with what they point to: there is nothing to tidy.
    Response response;
    response.http_status = 202;
    response.warnings = {"Tidy operation successfully started. Any information from the operation "
                         "will be printed to Vault's server logs."};
    return response;
  };
  const auto role_exists = [](const Request& request, Txn& txn) -> absl::StatusOr<bool> {
    ASSIGN_OR_RETURN(const auto role, LoadRole(txn, request.text("role_name")));
    return role.has_value();
  };
  using Backend = TokenBackend;
  return {
      {"create", "Makes a token.", CreateFields(), {{kUpdate, create(false)}}},
      {"create-orphan", "Makes a token without a parent.", CreateFields(), {{kUpdate, create(true)}}},
      {"create/{role_name}", "Makes a token by a role.", CreateFields(),
       {{kUpdate, to(&Backend::CreateByRole)}}},
      {"roles", "Lists the roles.", {}, {{kList, to(&Backend::ListRoles)}}},
      {"roles/{role_name}", "A role: what tokens made by it may be.", RoleFields(),
       {{kRead, to(&Backend::ReadRole)},
        {kUpdate, to(&Backend::WriteRole)},
        {kDelete, to(&Backend::DeleteRole)}},
       Access::kToken, role_exists},
      {"lookup", "Shows a token.", {kToken},
       {{kRead, to(&Backend::Lookup)}, {kUpdate, to(&Backend::Lookup)}}},
      {"lookup-self", "Shows the caller's token.", {kToken},
       {{kRead, to(&Backend::LookupSelf)}, {kUpdate, to(&Backend::LookupSelf)}}},
      {"lookup-accessor", "Shows the token of an accessor, not the token itself.", {kAccessor},
       {{kUpdate, to(&Backend::LookupAccessor)}}},
      {"renew", "Renews a token.", {kToken, kIncrement}, {{kUpdate, to(&Backend::Renew)}}},
      {"renew-self", "Renews the caller's token.", {kToken, kIncrement},
       {{kUpdate, to(&Backend::RenewSelf)}}},
      {"renew-accessor", "Renews the token of an accessor.", {kAccessor, kIncrement},
       {{kUpdate, to(&Backend::RenewAccessor)}}},
      {"revoke", "Revokes a token and all that descend from it.", {kToken},
       {{kUpdate, to(&Backend::Revoke)}}},
      {"revoke-self", "Revokes the caller's token and all that descend from it.", {kToken},
       {{kUpdate, to(&Backend::RevokeSelf)}}},
      {"revoke-orphan", "Revokes a token alone; its children become orphans.", {kToken},
       {{kUpdate, to(&Backend::RevokeOrphan)}}, Access::kSudo},
      {"revoke-accessor", "Revokes the token of an accessor and all that descend from it.",
       {kAccessor}, {{kUpdate, to(&Backend::RevokeAccessor)}}},
      {"accessors", "Lists the accessors of all tokens.", {},
       {{kList, to(&Backend::ListAccessors)}}, Access::kSudo},
      {"tidy", "Cleans indexes.", {}, {{kUpdate, tidy}}},
  };
}

absl::StatusOr<bool> TokenBackend::HasSudo(const Request& request, Txn& txn) {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const auto acl, policies_.AclFor(root, request.caller->policies));
  return acl->root() || acl->HasSudo(request.path);
}

TokenBackend::Found TokenBackend::ByAccessor(const Request& request, Txn& txn) {
  if (request.text("accessor").empty()) return absl::InvalidArgumentError("missing accessor");
  Txn root = txn.Root();
  return tokens_.LookupAccessor(root, request.text("accessor"));
}

// The parent is left out on purpose: who knew it could act for it.
Json TokenBackend::Describe(const TokenEntry& entry, std::string_view id) const {
  Json data = {{"accessor", entry.accessor},
               {"creation_time", absl::ToUnixSeconds(entry.creation_time)},
               {"creation_ttl", absl::ToInt64Seconds(entry.creation_ttl)},
               {"display_name", entry.display_name},
               {"entity_id", ""},
               {"expire_time", nullptr},
               {"explicit_max_ttl", absl::ToInt64Seconds(entry.explicit_max_ttl)},
               {"id", id},
               {"meta", entry.meta},
               {"num_uses", entry.num_uses},
               {"orphan", entry.parent.empty()},
               {"path", entry.path},
               {"policies", entry.policies},
               {"ttl", 0},
               {"type", entry.type}};
  if (!entry.role.empty()) data["role"] = entry.role;
  if (entry.period > absl::ZeroDuration()) data["period"] = absl::ToInt64Seconds(entry.period);
  if (!entry.bound_cidrs.empty()) data["bound_cidrs"] = entry.bound_cidrs;
  // A token that nobody made by a request has no lease.
  if (entry.path != kRootTokenPath) {
    data["issue_time"] = FormatRfc3339(entry.creation_time);
    data["renewable"] = entry.renewable && entry.expires();
  }
  if (entry.expires()) {
    const absl::Duration left = entry.expire_time - clock_.Now() + absl::Milliseconds(500);
    data["expire_time"] = FormatRfc3339(entry.expire_time);
    data["ttl"] = std::max<std::int64_t>(0, absl::ToInt64Seconds(left));
  }
  if (entry.last_renewal != absl::InfinitePast()) {
    data["last_renewal"] = FormatRfc3339(entry.last_renewal);
    data["last_renewal_time"] = absl::ToUnixSeconds(entry.last_renewal);
  }
  return data;
}

absl::StatusOr<Response> TokenBackend::Lookup(const Request& request, Txn& txn) {
  const std::string_view id = request.text("token");
  if (id.empty()) return LookupSelf(request, txn);
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const auto entry, tokens_.Lookup(root, id));
  if (entry == nullptr) return absl::PermissionDeniedError("bad token");
  return Response::Data(Describe(*entry, id));
}

absl::StatusOr<Response> TokenBackend::LookupSelf(const Request& request, Txn& txn) {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const auto entry, tokens_.LookupHash(root, request.caller->hash));
  if (entry != nullptr) return Response::Data(Describe(*entry, request.token.view()));
  // This is its last use.
  TokenEntry last = *request.caller;
  last.num_uses = 0;
  return Response::Data(Describe(last, request.token.view()));
}

absl::StatusOr<Response> TokenBackend::LookupAccessor(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const auto entry, ByAccessor(request, txn));
  if (entry == nullptr) return absl::InvalidArgumentError("invalid accessor");
  return Response::Data(Describe(*entry, ""));
}

absl::StatusOr<TtlTerms> TokenBackend::RenewalTerms(const TokenEntry& token, Txn& txn) {
  ASSIGN_OR_RETURN(TtlTerms terms, Backend::RenewalTerms(token, txn));
  if (token.role.empty()) return terms;
  ASSIGN_OR_RETURN(const std::optional<Json> role, LoadRole(txn, token.role));
  if (!role) {
    return NotRenewed(
        StrCat("original token role \"", token.role, "\" could not be found, not renewing"));
  }
  terms.period = absl::Seconds(role->at("token_period").get<std::int64_t>());
  terms.explicit_max_ttl = absl::Seconds(role->at("token_explicit_max_ttl").get<std::int64_t>());
  return terms;
}

absl::StatusOr<Response> TokenBackend::RenewEntry(const Request& request, Txn& txn,
                                                  const TokenEntry& entry, std::string_view id) {
  RETURN_IF_ERROR(CheckRenewable(entry));
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const auto mounts, mounts_.Load(root));
  const MountEntry* mount = mounts->Find(entry.path);
  Backend* method = mount == nullptr ? nullptr : core_.FindBackend(*mount);
  // Its method was disabled, and it is about to be revoked.
  if (method == nullptr) return absl::InvalidArgumentError("token not found");
  Txn of_method = root.Under(MountStorage(*mount));
  ASSIGN_OR_RETURN(TtlTerms terms, method->RenewalTerms(entry, of_method));
  ASSIGN_OR_RETURN(TokenStore::Renewed renewed,
                   tokens_.Renew(root, entry, terms, *mount, request.duration("increment")));
  Response response;
  response.auth = Auth{SecretBytes::CopyOf(id), std::move(renewed.entry)};
  response.warnings = std::move(renewed.warnings);
  return response;
}

absl::StatusOr<Response> TokenBackend::Renew(const Request& request, Txn& txn) {
  const std::string_view id = request.text("token");
  if (id.empty()) return absl::InvalidArgumentError("missing token ID");
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const auto entry, tokens_.Lookup(root, id));
  if (entry == nullptr) return absl::InvalidArgumentError("token not found");
  return RenewEntry(request, txn, *entry, id);
}

absl::StatusOr<Response> TokenBackend::RenewSelf(const Request& request, Txn& txn) {
  return RenewEntry(request, txn, *request.caller, request.token.view());
}

absl::StatusOr<Response> TokenBackend::RenewAccessor(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const auto entry, ByAccessor(request, txn));
  if (entry == nullptr) return absl::InvalidArgumentError("invalid accessor");
  return RenewEntry(request, txn, *entry, "");
}

absl::StatusOr<Response> TokenBackend::Revoke(const Request& request, Txn& txn) {
  const std::string_view id = request.text("token");
  if (id.empty()) return absl::InvalidArgumentError("missing token ID");
  Txn root = txn.Root();
  if (IsBatchToken(id)) {
    ASSIGN_OR_RETURN(const auto entry, tokens_.Lookup(root, id));
    if (entry != nullptr) RETURN_IF_ERROR(CheckNotBatch(*entry, "be revoked"));
  }
  RETURN_IF_ERROR(tokens_.Revoke(root, TokenHash(id)));
  return Response::Empty();
}

absl::StatusOr<Response> TokenBackend::RevokeSelf(const Request& request, Txn& txn) {
  RETURN_IF_ERROR(CheckNotBatch(*request.caller, "be revoked"));
  Txn root = txn.Root();
  RETURN_IF_ERROR(tokens_.Revoke(root, request.caller->hash));
  return Response::Empty();
}

absl::StatusOr<Response> TokenBackend::RevokeOrphan(const Request& request, Txn& txn) {
  const std::string_view id = request.text("token");
  if (id.empty()) return absl::InvalidArgumentError("missing token ID");
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const auto entry, tokens_.Lookup(root, id));
  if (entry == nullptr) return absl::InvalidArgumentError("token to revoke not found");
  RETURN_IF_ERROR(CheckNotBatch(*entry, "be revoked"));
  RETURN_IF_ERROR(tokens_.RevokeOrphan(root, entry->hash));
  return Response::Empty();
}

absl::StatusOr<Response> TokenBackend::RevokeAccessor(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const auto entry, ByAccessor(request, txn));
  Response response;
  if (entry == nullptr) {
    response.warnings = {"No token found with this accessor"};
    return response;
  }
  Txn root = txn.Root();
  RETURN_IF_ERROR(tokens_.Revoke(root, entry->hash));
  return response;
}

absl::StatusOr<Response> TokenBackend::ListAccessors(const Request&, Txn& txn) {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const std::vector<std::string> accessors, tokens_.Accessors(root));
  if (accessors.empty()) return absl::NotFoundError("");
  return Response::Data({{"keys", accessors}});
}

}  // namespace coffer::keystore
