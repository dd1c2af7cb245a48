// audit: enable, disable, list.
#include "cli/arguments.h"
#include "cli/mounts.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

absl::StatusOr<Json> Body(const Session& session) {
  const absl::StatusOr<Json> options =
      ParseData(std::span(session.args).subspan(1), session.console);
  if (!options.ok()) {
    return absl::InvalidArgumentError(
        StrCat("Failed to parse K=V data: ", Message(options.status())));
  }
  return Json{{"description", Json::string_t(session.flags.text("description"))},
              {"local", session.flags.on("local")},
              {"options", options->is_object() ? *options : Json::object()}};
}

// "file_path=/var/log/a.log mode=0600".
std::string OptionsText(const Json& options) {
  std::string text;
  if (!options.is_object()) return text;
  for (const auto& [name, value] : options.get_ref<const Json::object_t&>()) {
    StrAppend(&text, text.empty() ? "" : " ", std::string_view(name), "=",
              PrintValue(value).view());
  }
  return text;
}

int Print(Session& session, const Json& devices) {
  if (devices.empty()) {
    session.console.Line("No audit devices are enabled.");
    return kApiError;
  }
  const bool detailed = session.flags.on("detailed");
  Table table =
      detailed ? Table::WithHeader("Path", "Type", "Description", "Replication", "Options")
               : Table::WithHeader("Path", "Type", "Description");
  for (const auto& [name, device] : devices.get_ref<const Json::object_t&>()) {
    const std::string_view path = name, type = TextAt(device, "type"),
                           description = TextAt(device, "description");
    if (detailed) {
      table.Add(path, type, description, TrueAt(device, "local") ? "local" : "replicated",
                OptionsText(At(device, "options")));
    } else {
      table.Add(path, type, description);
    }
  }
  session.console.Line(table.Print().view());
  return kDone;
}

constexpr MountTable kDevices = {
    .api = "sys/audit",
    .enable_method = "PUT",
    .enable_body = Body,
    .print = Print,
    .enable = {"Error enabling audit device", "Success! Enabled the $0 audit device at: $1"},
    .disable = {"Error disabling audit device",
                "Success! Disabled audit device (if it was enabled) at: $1"},
    .list_failed = "Error listing audits"};

}  // namespace

std::vector<Command> AuditCommands() {
  return {
      {.name = "audit enable",
       .synopsis = "Enables an audit device",
       .usage = "[options] TYPE [CONFIG K=V...]",
       .help = "Enables an audit device, which is told of every request and every answer.\n"
               "    $ vault audit enable file file_path=/var/log/vault_audit.log",
       .min_args = 1,
       .max_args = kAnyNumber,
       .flags = {{"description", FlagType::kText, "Human-friendly description."},
                 {"path", FlagType::kText, "Its name. The default is its type."},
                 {"local", FlagType::kSwitch, "Keep the device out of replication."}},
       .run = [](Session& session) { return kDevices.Enable(session); }},
      {.name = "audit disable",
       .synopsis = "Disables an audit device",
       .usage = "[options] PATH",
       .help = "Disables the audit device of that name. Its file stays.",
       .min_args = 1,
       .max_args = 1,
       .run = [](Session& session) { return kDevices.Disable(session); }},
      {.name = "audit list",
       .synopsis = "Lists enabled audit devices",
       .usage = "[options]",
       .help = "Lists the enabled audit devices.",
       .prints = Prints::kFormats,
       .flags = {{"detailed", FlagType::kSwitch, "Print options and replication too."}},
       .run = [](Session& session) { return kDevices.List(session); }},
  };
}

}  // namespace coffer::cli
