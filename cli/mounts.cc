#include "cli/mounts.h"

#include "absl/strings/substitute.h"
#include "absl/time/clock.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/values.h"
#include "common/duration.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

// Flags whose text goes into the configuration's member of the same name, with "_" for "-".
constexpr std::string_view kTextMembers[] = {"listing-visibility", "token-type",
                                             "identity-token-key", "plugin-version"};
constexpr std::string_view kListMembers[] = {
    "audit-non-hmac-request-keys", "audit-non-hmac-response-keys", "passthrough-request-headers",
    "allowed-response-headers", "allowed-managed-keys", "delegated-auth-accessors"};

Json::string_t MemberName(std::string_view flag) {
  Json::string_t name(flag);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

// A negative duration asks for the system's.
Json::string_t TtlText(absl::Duration ttl) {
  return Json::string_t(ttl < absl::ZeroDuration() ? "system" : FormatGoDuration(ttl));
}

// What enable puts into "config", and tune sends by itself.
void AddConfig(const Flags& flags, Json& config) {
  for (std::string_view name : kTextMembers) {
    if (flags.given(name)) config[MemberName(name)] = Json::string_t(flags.text(name));
  }
  for (std::string_view name : kListMembers) {
    if (!flags.given(name)) continue;
    Json& list = config[MemberName(name)] = Json::array();
    for (const std::string& text : flags.texts(name)) list.push_back(Json::string_t(text));
  }
  for (std::string_view name : {"default-lease-ttl", "max-lease-ttl"}) {
    if (flags.given(name)) config[MemberName(name)] = TtlText(flags.duration(name));
  }
}

void AddOptions(const Flags& flags, Json& body) {
  for (const auto& [name, value] : flags.pairs("options")) {
    body["options"][Json::string_t(name)] = Json::string_t(value);
  }
  if (flags.integer("version") > 0) {
    body["options"]["version"] = Json::string_t(StrCat(flags.integer("version")));
  }
}

// Only what was given.
Json TuneBody(const Flags& flags) {
  Json body = Json::object();
  AddConfig(flags, body);
  if (flags.given("description")) body["description"] = Json::string_t(flags.text("description"));
  AddOptions(flags, body);
  return body;
}

std::string TtlCell(const Json& mount, std::string_view name) {
  const std::string_view type = TextAt(mount, "type");
  if (type == "system" || type == "cubbyhole") return "";
  const std::int64_t seconds = IntegerAt(At(mount, "config"), name);
  return seconds == 0 ? "system" : StrCat(seconds);
}

std::string Say(std::string_view words, std::string_view type, std::string_view path) {
  return absl::Substitute(ToAbsl(words), ToAbsl(type), ToAbsl(path));
}

const char* Switch(bool on) { return on ? "true" : "false"; }

void AddDetails(const std::string& path, const Json& mount, Table& table) {
  table.Add(path, TextAt(mount, "type"), TextAt(mount, "accessor"),
            TtlCell(mount, "default_lease_ttl"), TtlCell(mount, "max_lease_ttl"),
            Switch(TrueAt(At(mount, "config"), "force_no_cache")),
            TrueAt(mount, "local") ? "local" : "replicated", Switch(TrueAt(mount, "seal_wrap")),
            Switch(TrueAt(mount, "external_entropy_access")),
            PrintValue(At(mount, "options").is_object() ? At(mount, "options") : Json::object())
                .view(),
            TextAt(mount, "description"), TextAt(mount, "uuid"), TextAt(mount, "plugin_version"),
            TextAt(mount, "running_plugin_version"), TextAt(mount, "running_sha256"),
            TextAt(mount, "deprecation_status"));
}

}  // namespace

int MountTable::Enable(Session& session) const {
  const std::string type(Trim(session.args[0]));
  const std::string path =
      WithSlash(session.flags.given("path") ? session.flags.text("path") : std::string_view(type));
  absl::StatusOr<Json> body = enable_body(session);
  if (!body.ok()) return session.Refuse(Message(body.status()));
  (*body)["type"] = Json::string_t(type);
  const absl::StatusOr<Json> answer = session.api->Call(
      {.method = enable_method, .path = StrCat(api, "/", SanitizePath(path)), .body = &*body});
  if (!answer.ok()) return session.Fail(Say(enable.failed, type, path), answer.status());
  session.console.Line(Say(enable.done, type, path));
  return kDone;
}

int MountTable::Disable(Session& session) const {
  const std::string path = WithSlash(SanitizePath(session.args[0]));
  const absl::StatusOr<Json> answer = session.api->Delete(StrCat(api, "/", SanitizePath(path)));
  if (!answer.ok()) return session.Fail(Say(disable.failed, "", path), answer.status());
  session.console.Line(Say(disable.done, "", path));
  return kDone;
}

int MountTable::List(Session& session) const {
  const absl::StatusOr<Json> answer =
      session.api->Call({.method = "GET", .path = std::string(api)});
  if (!answer.ok()) return session.Fail(list_failed, answer.status());
  const Json entries = MountsOf(*answer);
  return session.table() ? print(session, entries) : PrintDocument(session, entries);
}

int MountTable::Tune(Session& session) const {
  const std::string path = WithSlash(SanitizePath(session.args[0]));
  const Json body = TuneBody(session.flags);
  const absl::StatusOr<Json> answer = session.api->Call(
      {.method = "POST", .path = StrCat(api, "/", path, "tune"), .body = &body});
  if (!answer.ok()) return session.Fail(Say(tune.failed, "", path), answer.status());
  session.console.Line(Say(tune.done, "", path));
  return kDone;
}

// The server moves in the background; its status is asked for until it has.
int MountTable::Move(Session& session) const {
  const std::string from = WithSlash(session.args[0]), to = WithSlash(session.args[1]);
  const std::string what = StrCat(moved, " ", from, " to ", to);
  const Json body = {{"from", Json::string_t(from)}, {"to", Json::string_t(to)}};
  const absl::StatusOr<Json> started =
      session.api->Call({.method = "POST", .path = "sys/remount", .body = &body});
  if (!started.ok()) return session.Fail(StrCat("Error moving ", what), started.status());
  const std::string id(TextAt(At(*started, "data"), "migration_id"));
  if (id.empty()) {  // Vault before 1.10, which answers once it has
    session.console.Line(StrCat("Success! Finished moving ", what));
    return kDone;
  }
  const std::string with_id = StrCat(what, ", with migration ID ", id);
  session.console.Line(StrCat("Started moving ", with_id));
  for (bool told = false;; told = true) {
    const absl::StatusOr<Json> answer =
        session.api->Call({.method = "GET", .path = StrCat("sys/remount/status/", id)});
    if (!answer.ok()) {
      return session.Fail(StrCat("Error checking migration status of ", what), answer.status());
    }
    const std::string_view status = TextAt(At(At(*answer, "data"), "migration_info"), "status");
    if (status == "success") break;
    if (status == "failure") {
      return session.Fail(StrCat("Failure! Error encountered moving ", with_id));
    }
    if (!told) {
      session.console.Line(StrCat("Waiting for terminal status in migration of ", with_id));
    }
    absl::SleepFor(absl::Milliseconds(500));
  }
  session.console.Line(StrCat("Success! Finished moving ", with_id));
  return kDone;
}

std::vector<Flag> MountFlags() {
  return {
      {"description", FlagType::kText, "Human-friendly description."},
      {"default-lease-ttl", FlagType::kDuration,
       "The default lease TTL. If not set, the server's counts; a negative one asks for it again."},
      {"max-lease-ttl", FlagType::kDuration,
       "The longest lease TTL. If not set, the server's counts; a negative one asks for it again."},
      {"listing-visibility", FlagType::kText,
       "\"unauth\" or \"hidden\": whether the mount shows to who has no token."},
      {"options", FlagType::kPairs, "Option of the mount. Can be given more than once."},
      {"audit-non-hmac-request-keys", FlagType::kTexts,
       "Key that audit devices show in plain text in requests. Can be given more than once."},
      {"audit-non-hmac-response-keys", FlagType::kTexts,
       "Key that audit devices show in plain text in responses. Can be given more than once."},
      {"passthrough-request-headers", FlagType::kTexts,
       "Request header that is handed on to the mount. Can be given more than once."},
      {"allowed-response-headers", FlagType::kTexts,
       "Response header that the mount may set. Can be given more than once."},
      {"version", FlagType::kInteger, "The version of the engine, where it has several."},
      {"identity-token-key", FlagType::kText, "Key that signs identity tokens."},
      {"plugin-version", FlagType::kText, "Version of the plugin."},
  };
}

absl::StatusOr<Json> MountBody(const Session& session) {
  const Flags& flags = session.flags;
  Json body = {{"description", Json::string_t(flags.text("description"))},
               {"local", flags.on("local")},
               {"seal_wrap", flags.on("seal-wrap")},
               {"config", Json::object()}};
  AddConfig(flags, body["config"]);
  if (flags.on("force-no-cache")) body["config"]["force_no_cache"] = true;
  AddOptions(flags, body);
  return body;
}

Json MountsOf(const Json& answer) {
  if (At(answer, "data").is_object()) return At(answer, "data");
  // Old servers: the mounts alone stand at the top.
  Json mounts = Json::object();
  for (const auto& [path, mount] : answer.items()) {
    if (mount.is_object() && mount.contains("type")) mounts[path] = mount;
  }
  return mounts;
}

int PrintMounts(Session& session, const Json& mounts, bool with_version) {
  const bool detailed = session.flags.on("detailed");
  Table table = detailed
                    ? Table::WithHeader("Path", "Plugin", "Accessor", "Default TTL", "Max TTL",
                                        "Force No Cache", "Replication", "Seal Wrap",
                                        "External Entropy Access", "Options", "Description", "UUID",
                                        "Version", "Running Version", "Running SHA256",
                                        "Deprecation Status")
                : with_version
                    ? Table::WithHeader("Path", "Type", "Accessor", "Description", "Version")
                    : Table::WithHeader("Path", "Type", "Accessor", "Description");
  for (const auto& [path, mount] : mounts.get_ref<const Json::object_t&>()) {
    const std::string_view type = TextAt(mount, "type"), accessor = TextAt(mount, "accessor"),
                           description = TextAt(mount, "description");
    if (detailed) {
      AddDetails(std::string(std::string_view(path)), mount, table);
    } else if (with_version) {
      table.Add(path, type, accessor, description, TextAt(mount, "plugin_version"));
    } else {
      table.Add(path, type, accessor, description);
    }
  }
  session.console.Line(table.Print().view());
  return kDone;
}

}  // namespace coffer::cli
