#include "keystore/system/mount_routes.h"

#include <optional>
#include <utility>

#include "common/log.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

// Members of a mount's config that are kept.
constexpr std::pair<std::string_view, FieldType> kKeptConfig[] = {
    {"audit_non_hmac_request_keys", FieldType::kList},
    {"audit_non_hmac_response_keys", FieldType::kList},
    {"listing_visibility", FieldType::kString},
    {"passthrough_request_headers", FieldType::kList},
    {"allowed_response_headers", FieldType::kList},
    {"token_type", FieldType::kString},
    {"force_no_cache", FieldType::kBoolean}};

// Types by which people ask for kv's two versions.
constexpr std::pair<std::string_view, std::string_view> kKvAliases[] = {
    {"kv", "1"}, {"kv-v1", "1"}, {"generic", "1"}, {"kv-v2", "2"}};

constexpr std::string_view kAuth = "auth/";

// A mount's path as its own API names it.
std::string_view ShownPath(const MountEntry& mount) {
  return std::string_view(mount.path).substr(mount.auth() ? kAuth.size() : 0);
}

bool IsSingleton(const MountEntry& mount) {
  return mount.type == "system" || mount.type == "token" || mount.type == "cubbyhole";
}

// Shared by secrets engines (prefix "") and auth methods (prefix "auth/").
class MountHandlers {
 public:
  MountHandlers(Core& core, MountStore& mounts, TokenStore& tokens, bool auth)
      : core_(core), mounts_(mounts), tokens_(tokens), auth_(auth) {}

  absl::StatusOr<Response> List(const Request&, Txn& txn) const;
  absl::StatusOr<Response> Read(const Request& request, Txn& txn) const;
  absl::StatusOr<Response> Enable(const Request& request, Txn& txn) const;
  absl::StatusOr<Response> Disable(const Request& request, Txn& txn) const;
  absl::StatusOr<Response> ReadTuning(const Request& request, Txn& txn) const;
  absl::StatusOr<Response> Tune(const Request& request, Txn& txn) const;

 private:
  struct Found {
    std::vector<MountEntry> entries;
    std::size_t index;
    MountEntry& entry() { return entries[index]; }
  };
  absl::StatusOr<std::string> FullPath(const Request& request) const;
  absl::StatusOr<Found> Find(const Request& request, Txn& root) const;
  absl::Status NoMount(std::string_view path) const {
    return absl::InvalidArgumentError(auth_
                                          ? StrCat("No auth engine at ", path.substr(kAuth.size()))
                                          : StrCat("No secret engine mount at ", path));
  }

  Core& core_;
  MountStore& mounts_;
  TokenStore& tokens_;
  const bool auth_;
};

Json OptionsOf(const MountEntry& mount) {
  if (mount.options.empty() && IsSingleton(mount)) return nullptr;
  Json options = Json::object();
  for (const auto& [name, value] : mount.options) options[Json::string_t(name)] = value;
  return options;
}

Json ConfigOf(const MountEntry& mount) {
  Json config = {{"default_lease_ttl", absl::ToInt64Seconds(mount.default_lease_ttl)},
                 {"max_lease_ttl", absl::ToInt64Seconds(mount.max_lease_ttl)},
                 {"force_no_cache", false}};
  if (mount.auth()) config["token_type"] = "default-service";
  config.update(mount.config);
  return config;
}

Json Describe(const MountEntry& mount) {
  return {{"type", mount.type},
          {"description", mount.description},
          {"accessor", mount.accessor},
          {"uuid", mount.uuid},
          {"config", ConfigOf(mount)},
          {"options", OptionsOf(mount)},
          {"local", mount.local},
          {"seal_wrap", mount.seal_wrap},
          {"external_entropy_access", false},
          {"plugin_version", ""},
          {"running_plugin_version", ""},
          {"running_sha256", ""},
          {"deprecation_status", "supported"}};
}

absl::Status CheckConfig(const MountEntry& mount, std::string_view name, const Json& value) {
  const auto text = [&] {
    return value.is_string() ? std::string_view(value.get_ref<const Json::string_t&>()) : "?";
  };
  if (name == "listing_visibility") {
    if (text() == "" || text() == "hidden" || text() == "unauth") return absl::OkStatus();
    return absl::InvalidArgumentError(
        "invalid listing_visibility: it is \"unauth\", \"hidden\" or \"\"");
  }
  if (name != "token_type") return absl::OkStatus();
  if (!mount.auth()) {
    return absl::InvalidArgumentError("'token_type' can only be modified on auth mounts");
  }
  if (mount.type == "token") {
    return absl::InvalidArgumentError(
        "'token_type' cannot be set for 'token' or 'ns_token' auth mounts");
  }
  for (const std::string_view type : {"default-service", "default-batch", "service", "batch"}) {
    if (text() == type) return absl::OkStatus();
  }
  return absl::InvalidArgumentError("invalid value for 'token_type'");
}

// A member of a mount's config as its type wants it: as a field of a route, so that what counts as
// a duration or a list is said in one place.
absl::StatusOr<Json> DecodeSetting(std::string_view name, const Json& value) {
  static const std::vector<Field>* const fields = [] {
    auto* all = new std::vector<Field>{{"default_lease_ttl", FieldType::kDuration, ""},
                                       {"max_lease_ttl", FieldType::kDuration, ""}};
    for (const auto& [kept, type] : kKeptConfig) all->push_back({kept, type, ""});
    return all;
  }();
  static const Route* const settings = new Route{"config", "", *fields, {}};
  std::vector<std::string> unknown;
  ASSIGN_OR_RETURN(const Json decoded,
                   DecodeFields({settings, {}}, {{Json::string_t(name), value}}, &unknown));
  const auto found = decoded.find(name);
  return found == decoded.end() ? value : *found;
}

absl::Status KeepTuning(const Request& request, const Json& config, const LeaseTtls& ttls,
                        MountEntry* mount) {
  for (const auto& [name, target] :
       {std::pair{"default_lease_ttl", &mount->default_lease_ttl},
        std::pair{"max_lease_ttl", &mount->max_lease_ttl}}) {
    const auto given = config.find(name);
    // Go clients send "" for what they don't change.
    if (given == config.end() || given->is_null() || *given == "") continue;
    if (*given == "system") {
      *target = absl::ZeroDuration();
      continue;
    }
    ASSIGN_OR_RETURN(const Json ttl, DecodeSetting(name, *given));
    *target = absl::Seconds(ttl.get<std::int64_t>());
  }
  if (mount->default_lease_ttl > ttls.MaxOf(*mount)) {
    return absl::InvalidArgumentError(
        "the default_lease_ttl is longer than the max_lease_ttl of the mount or the system");
  }
  for (const auto& [name, type] : kKeptConfig) {
    const auto given = config.find(name);
    if (given == config.end() || given->is_null()) continue;
    ASSIGN_OR_RETURN(Json value, DecodeSetting(name, *given));
    if (name == "token_type" && value == "") value = "default-service";
    RETURN_IF_ERROR(CheckConfig(*mount, name, value));
    if (value == "" || value == Json::array()) {
      mount->config.erase(Json::string_t(name));
    } else {
      mount->config[Json::string_t(name)] = std::move(value);
    }
  }
  if (request.has("description")) mount->description = std::string(request.text("description"));
  return absl::OkStatus();
}

absl::Status KeepOptions(const Request& request, MountEntry* mount) {
  const Json& options = request.json("options");
  if (!options.is_object()) return absl::OkStatus();
  for (auto option = options.begin(); option != options.end(); ++option) {
    const Json& value = option.value();
    const std::string name(std::string_view(option.key()));
    if (!value.is_string() && !value.is_number_integer() && !value.is_boolean()) {
      return absl::InvalidArgumentError(StrCat("the option \"", name, "\" must be a string"));
    }
    mount->options[name] =
        value.is_string()
            ? std::string(std::string_view(value.get_ref<const Json::string_t&>()))
            : std::string(std::string_view(value.dump()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> MountHandlers::FullPath(const Request& request) const {
  std::string_view path = request.text("path");
  while (path.ends_with('/')) path.remove_suffix(1);
  RETURN_IF_ERROR(CheckMountPath(path));
  return StrCat(auth_ ? "auth/" : "", path, "/");
}

absl::StatusOr<MountHandlers::Found> MountHandlers::Find(const Request& request,
                                                         Txn& root) const {
  ASSIGN_OR_RETURN(const std::string path, FullPath(request));
  ASSIGN_OR_RETURN(const std::shared_ptr<const MountTable> table, mounts_.Load(root));
  Found found{table->entries(), 0};
  for (; found.index < found.entries.size(); ++found.index) {
    if (found.entry().path == path) return found;
  }
  return NoMount(path);
}

absl::StatusOr<Response> MountHandlers::List(const Request&, Txn& txn) const {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const std::shared_ptr<const MountTable> table, mounts_.Load(root));
  Json data = Json::object();
  for (const MountEntry& mount : table->entries()) {
    if (mount.auth() != auth_) continue;
    data[Json::string_t(ShownPath(mount))] = Describe(mount);
  }
  return Response::Flattened(std::move(data));
}

absl::StatusOr<Response> MountHandlers::Read(const Request& request, Txn& txn) const {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(Found found, Find(request, root));
  return Response::Flattened(Describe(found.entry()));
}

absl::StatusOr<Response> MountHandlers::Enable(const Request& request, Txn& txn) const {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(std::string path, FullPath(request));
  if (!auth_ && (path.starts_with("sys/") || path.starts_with("auth/"))) {
    return absl::InvalidArgumentError(StrCat("the path \"", path, "\" is reserved"));
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<const MountTable> table, mounts_.Load(root));
  if (const MountEntry* other = table->Conflict(path)) {
    return absl::InvalidArgumentError(StrCat("path is already in use at ", ShownPath(*other)));
  }
  RETURN_IF_ERROR(tokens_.CheckNotRevoking(root, path));
  MountEntry mount = NewMount(std::move(path), std::string(request.text("type")),
                              std::string(request.text("description")));
  if (mount.type.empty()) return absl::InvalidArgumentError("the field \"type\" is missing");
  for (const auto& [alias, version] : kKvAliases) {
    if (auth_ || request.text("type") != alias) continue;
    mount.type = "kv";
    mount.accessor = StrCat("kv_", std::string_view(RandomUuid()).substr(0, 8));
    if (alias != "kv") mount.options["version"] = std::string(version);
  }
  RETURN_IF_ERROR(KeepOptions(request, &mount));
  const bool holds_secrets = mount.type == "kv";
  if (IsSingleton(mount) || holds_secrets == auth_ || !core_.IsRegistered(mount)) {
    return absl::InvalidArgumentError(
        StrCat("plugin not found in the catalog: this keystore has no ",
               auth_ ? "auth method" : "secrets engine", " of type \"", request.text("type"), "\"",
               auth_ ? "" : " and that version", "; it has ",
               auth_ ? "kubernetes" : "kv (options version=1 or version=2), kv-v1 and kv-v2"));
  }
  mount.local = request.boolean("local");
  mount.seal_wrap = request.boolean("seal_wrap");
  const Json& config = request.json("config");
  RETURN_IF_ERROR(KeepTuning(request, config.is_object() ? config : Json::object(),
                             tokens_.ttls(), &mount));
  Txn storage = root.Under(MountStorage(mount));
  RETURN_IF_ERROR(core_.FindBackend(mount)->OnMount(mount, storage));
  txn.OnCommit([path = mount.path, type = mount.type] {
    log::Info("mounted", {{"path", path}, {"type", type}});
  });
  std::vector<MountEntry> entries = table->entries();
  entries.push_back(std::move(mount));
  RETURN_IF_ERROR(mounts_.Save(root, entries));
  return Response::Empty();
}

absl::StatusOr<Response> MountHandlers::Disable(const Request& request, Txn& txn) const {
  Txn root = txn.Root();
  absl::StatusOr<Found> found = Find(request, root);
  // As Vault: what isn't there is disabled.
  if (absl::IsInvalidArgument(found.status())) return Response::Empty();
  RETURN_IF_ERROR(found.status());
  if (IsSingleton(found->entry())) {
    return absl::InvalidArgumentError(
        StrCat("\"", found->entry().path, "\" can't be disabled: the keystore needs it"));
  }
  RETURN_IF_ERROR(root.DeleteAll(MountStorage(found->entry())));
  RETURN_IF_ERROR(tokens_.RevokeBelow(root, found->entry().path));
  txn.OnCommit([path = found->entry().path] { log::Info("unmounted", {{"path", path}}); });
  found->entries.erase(found->entries.begin() + static_cast<std::ptrdiff_t>(found->index));
  RETURN_IF_ERROR(mounts_.Save(root, found->entries));
  Response response;
  response.revokes = true;
  return response;
}

absl::StatusOr<Response> MountHandlers::ReadTuning(const Request& request, Txn& txn) const {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(Found found, Find(request, root));
  const MountEntry& mount = found.entry();
  Json data = ConfigOf(mount);
  data["default_lease_ttl"] = absl::ToInt64Seconds(tokens_.ttls().DefaultOf(mount));
  data["max_lease_ttl"] = absl::ToInt64Seconds(tokens_.ttls().MaxOf(mount));
  data["description"] = mount.description;
  if (!mount.options.empty()) data["options"] = OptionsOf(mount);
  return Response::Flattened(std::move(data));
}

absl::StatusOr<Response> MountHandlers::Tune(const Request& request, Txn& txn) const {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(Found found, Find(request, root));
  MountEntry& mount = found.entry();
  if (IsSingleton(mount) && !auth_) {
    return absl::InvalidArgumentError(StrCat("cannot tune \"", mount.path, "\""));
  }
  const auto before = mount.options.find("version");
  const std::string version = before == mount.options.end() ? "1" : before->second;
  RETURN_IF_ERROR(KeepOptions(request, &mount));
  const auto after = mount.options.find("version");
  if (mount.type == "kv" && after != mount.options.end() && after->second != version) {
    return absl::InvalidArgumentError(
        StrCat("\"", mount.path, "\" holds kv version ", version,
               " secrets: mount a new engine of the other version and copy them"));
  }
  RETURN_IF_ERROR(KeepTuning(request, request.data, tokens_.ttls(), &mount));
  RETURN_IF_ERROR(mounts_.Save(root, found.entries));
  return Response::Empty();
}

bool Reaches(const Acl& acl, const MountEntry& mount) {
  return acl.root() || acl.GrantsBelow(mount.path);
}

// What everyone may see of the mounts and what a person's token may, for user interfaces and
// `vault kv`. Null `acl`: there is no token.
absl::StatusOr<Response> VisibleMounts(MountStore& mounts, const Acl* acl, Txn& root) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const MountTable> table, mounts.Load(root));
  Json data = {{"auth", Json::object()}, {"secret", Json::object()}};
  for (const MountEntry& mount : table->entries()) {
    const auto listed = mount.config.find("listing_visibility");
    const bool for_all = listed != mount.config.end() && *listed == "unauth";
    if (!for_all && (acl == nullptr || !Reaches(*acl, mount))) continue;
    Json& group = data[mount.auth() ? "auth" : "secret"];
    group[Json::string_t(ShownPath(mount))] = acl != nullptr
                                                  ? Describe(mount)
                                                  : Json{{"type", mount.type},
                                                         {"description", mount.description},
                                                         {"options", OptionsOf(mount)}};
  }
  return Response::Data(std::move(data));
}

absl::StatusOr<Response> VisibleMount(MountStore& mounts, const Acl& acl, const Request& request,
                                      Txn& root) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const MountTable> table, mounts.Load(root));
  const std::string_view path = request.text("path");
  const MountEntry* mount = table->Find(path);
  // The same answer for both, so that it doesn't tell what is mounted.
  if (mount == nullptr || !Reaches(acl, *mount)) {
    return absl::PermissionDeniedError(StrCat("preflight capability check returned 403, please "
                                              "ensure client's policies grant access to path \"",
                                              path, path.ends_with('/') ? "" : "/", "\""));
  }
  Json data = Describe(*mount);
  data["path"] = ShownPath(*mount);
  return Response::Data(std::move(data));
}

void AddMountRoutes(Core& core, MountStore& mounts, TokenStore& tokens, bool auth,
                    std::vector<Route>* routes) {
  const auto handlers = std::make_shared<const MountHandlers>(core, mounts, tokens, auth);
  const auto bind = [&](absl::StatusOr<Response> (MountHandlers::*handler)(const Request&, Txn&)
                            const) -> Handler {
    return [handlers, handler](const Request& request, Txn& txn) {
      return ((*handlers).*handler)(request, txn);
    };
  };
  const Field path = {"path", FieldType::kString, "Where it is mounted."};
  const std::vector<Field> tuning = {
      path,
      {"default_lease_ttl", FieldType::kAny, "TTL of leases that ask for none; \"system\" resets."},
      {"max_lease_ttl", FieldType::kAny, "The longest TTL of leases; \"system\" resets."},
      {"description", FieldType::kString, "For people."},
      {"options", FieldType::kMap, "Options of the type, as {\"version\": \"2\"}."},
      {"audit_non_hmac_request_keys", FieldType::kList, "Kept."},
      {"audit_non_hmac_response_keys", FieldType::kList, "Kept."},
      {"listing_visibility", FieldType::kString,
       "\"unauth\": sys/internal/ui/mounts shows it to everyone, also without a token; \"hidden\"."},
      {"passthrough_request_headers", FieldType::kList, "Kept."},
      {"allowed_response_headers", FieldType::kList, "Kept."},
      {"token_type", FieldType::kString,
       "Of an auth method: \"service\" or \"batch\", whatever the role says, or where it says "
       "nothing \"default-service\" or \"default-batch\"."}};
  const std::vector<Field> enabling = {
      path,
      {"type", FieldType::kString, "The type, as \"kv\" or \"kubernetes\"."},
      {"description", FieldType::kString, "For people."},
      {"config", FieldType::kMap, "What tune takes."},
      {"options", FieldType::kMap, "Options of the type, as {\"version\": \"2\"}."},
      {"local", FieldType::kBoolean, "Kept."},
      {"seal_wrap", FieldType::kBoolean, "Kept."},
      {"external_entropy_access", FieldType::kBoolean, "Accepted."},
      {"plugin_name", FieldType::kString, "Accepted."},
      {"plugin_version", FieldType::kString, "Accepted."}};
  routes->push_back({auth ? "auth" : "mounts",
                     auth ? "The auth methods." : "The secrets engines.",
                     {},
                     {{Operation::kRead, bind(&MountHandlers::List)}}});
  routes->push_back({auth ? "auth/{path*}/tune" : "mounts/{path*}/tune",
                     "The settings of one mount.",
                     tuning,
                     {{Operation::kRead, bind(&MountHandlers::ReadTuning)},
                      {Operation::kUpdate, bind(&MountHandlers::Tune)}},
                     auth ? Access::kSudo : Access::kToken});
  routes->push_back({auth ? "auth/{path*}" : "mounts/{path*}",
                     "Enables, shows or disables one mount.",
                     enabling,
                     {{Operation::kRead, bind(&MountHandlers::Read)},
                      {Operation::kUpdate, bind(&MountHandlers::Enable)},
                      {Operation::kDelete, bind(&MountHandlers::Disable)}},
                     auth ? Access::kSudo : Access::kToken});
}

}  // namespace

std::vector<Route> MountRoutes(Core& core, MountStore& mounts, PolicyStore& policies,
                               TokenStore& tokens) {
  std::vector<Route> routes;
  AddMountRoutes(core, mounts, tokens, /*auth=*/false, &routes);
  AddMountRoutes(core, mounts, tokens, /*auth=*/true, &routes);
  routes.push_back({"internal/ui/mounts",
                    "The mounts that are listed for everyone, and those that the caller's policies "
                    "reach.",
                    {},
                    {{Operation::kRead, [&](const Request& request, Txn& txn)
                          -> absl::StatusOr<Response> {
                        Txn root = txn.Root();
                        if (request.caller == nullptr) return VisibleMounts(mounts, nullptr, root);
                        ASSIGN_OR_RETURN(const auto acl,
                                         policies.AclFor(root, request.caller->policies));
                        return VisibleMounts(mounts, acl.get(), root);
                      }}},
                    Access::kOptionalToken});
  routes.push_back({"internal/ui/mounts/{path*}",
                    "The mount that serves a path.",
                    {{"path", FieldType::kString, "The path."}},
                    {{Operation::kRead, [&](const Request& request, Txn& txn)
                          -> absl::StatusOr<Response> {
                        Txn root = txn.Root();
                        ASSIGN_OR_RETURN(const auto acl,
                                         policies.AclFor(root, request.caller->policies));
                        return VisibleMount(mounts, *acl, request, root);
                      }}},
                    Access::kAnyToken});
  return routes;
}

}  // namespace coffer::keystore
