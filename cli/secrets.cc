// secrets: enable, disable, list, tune, move.
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
    .tune = {"Error tuning secrets engine $1", "Success! Tuned the secrets engine at: $1"},
    .moved = "secrets engine"};

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
       .help =
           "Moves a secrets engine to a new path. Its leases are revoked; its data moves along.\n"
           "    $ vault secrets move secret/ generic/",
       .min_args = 2,
       .max_args = 2,
       .run = [](Session& session) { return kEngines.Move(session); }},
  };
}

}  // namespace coffer::cli
