// secrets: enable, disable, list, tune, move.
#include "absl/time/clock.h"
#include "cli/mounts.h"
#include "cli/output.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr MountTable kEngines = {
    .api = "sys/mounts",
    .enable_method = "POST",
    .enable_body = MountBody,
    .print = [](Session& session, const Json& engines) {
      return PrintMounts(session, engines, false);
    },
    .enable = {"Error enabling", "Success! Enabled the $0 secrets engine at: $1"},
    .disable = {"Error disabling secrets engine at $1",
                "Success! Disabled the secrets engine (if it existed) at: $1"},
    .list_failed = "Error listing secrets engines",
    .tune = {"Error tuning secrets engine $1", "Success! Tuned the secrets engine at: $1"}};

// The server moves in the background; its status is asked for until it has.
int Move(Session& session) {
  const std::string from = WithSlash(session.args[0]), to = WithSlash(session.args[1]);
  const std::string what = StrCat("Error moving secrets engine ", from, " to ", to);
  const Json body = {{"from", Json::string_t(from)}, {"to", Json::string_t(to)}};
  const absl::StatusOr<Json> started =
      session.api->Call({.method = "POST", .path = "sys/remount", .body = &body});
  if (!started.ok()) return session.Fail(what, started.status());
  const std::string id(TextAt(At(*started, "data"), "migration_id"));
  if (!id.empty()) {
    session.console.Line(StrCat("Started moving secrets engine ", from, " to ", to,
                                ", with migration ID ", id));
  }
  while (!id.empty()) {
    const absl::StatusOr<Json> answer =
        session.api->Call({.method = "GET", .path = StrCat("sys/remount/status/", id)});
    if (!answer.ok()) return session.Fail(what, answer.status());
    const std::string_view status =
        TextAt(At(At(*answer, "data"), "migration_info"), "status");
    if (status == "success") break;
    if (status == "failure") {
      return session.Fail(StrCat("Failure! Error encountered moving secrets engine ", from, " to ",
                                 to, ", with migration ID ", id));
    }
    absl::SleepFor(absl::Milliseconds(500));
  }
  session.console.Line(StrCat("Success! Finished moving secrets engine ", from, " to ", to,
                              id.empty() ? "" : ", with migration ID ", id));
  return kDone;
}

}  // namespace

std::vector<Command> SecretsCommands() {
  std::vector<Flag> enable = MountFlags();
  enable.push_back({"path", FlagType::kText,
                    "Place where the secrets engine will be reached. The default is its type."});
  enable.push_back({"local", FlagType::kSwitch, "Keep the engine out of replication."});
  enable.push_back({"seal-wrap", FlagType::kSwitch, "Wrap critical values by the seal once more."});
  enable.push_back({"force-no-cache", FlagType::kSwitch, "Turn caching off."});
  return {
      {.name = "secrets enable",
       .synopsis = "Enable a secrets engine",
       .usage = "[options] TYPE",
       .help = "Enables a secrets engine. By default it is reached at the path of its type.\n"
               "    $ vault secrets enable -path=secret kv-v2\n"
               "    $ vault secrets enable -path=old -version=1 kv",
       .min_args = 1,
       .max_args = 1,
       .flags = enable,
       .run = [](Session& session) { return kEngines.Enable(session); }},
      {.name = "secrets disable",
       .synopsis = "Disable a secrets engine",
       .usage = "[options] PATH",
       .help = "Disables the secrets engine at a path. All its secrets are revoked and its data is "
               "deleted.",
       .min_args = 1,
       .max_args = 1,
       .run = [](Session& session) { return kEngines.Disable(session); }},
      {.name = "secrets list",
       .synopsis = "List enabled secrets engines",
       .usage = "[options]",
       .help = "Lists the enabled secrets engines. A TTL of \"system\" is the server's default.",
       .prints = Prints::kFormats,
       .flags = {{"detailed", FlagType::kSwitch, "Print TTLs, options and versions too."}},
       .run = [](Session& session) { return kEngines.List(session); }},
      {.name = "secrets tune",
       .synopsis = "Tune a secrets engine configuration",
       .usage = "[options] PATH",
       .help = "Changes the settings of the secrets engine at a path.\n"
               "    $ vault secrets tune -default-lease-ttl=72h secret/",
       .min_args = 1,
       .max_args = 1,
       .flags = MountFlags(),
       .run = [](Session& session) { return kEngines.Tune(session); }},
      {.name = "secrets move",
       .synopsis = "Move a secrets engine to a new path",
       .usage = "[options] SOURCE DESTINATION",
       .help = "Moves a secrets engine to a new path. Its leases are revoked; its data moves along.",
       .min_args = 2,
       .max_args = 2,
       .run = Move},
  };
}

}  // namespace coffer::cli
