// audit: enable, disable, list.
#include "cli/arguments.h"
#include "cli/mounts.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

int Enable(Session& session) {
  const std::string type(Trim(session.args[0]));
  const std::string path =
      WithSlash(session.flags.given("path") ? session.flags.text("path") : std::string_view(type));
  const absl::StatusOr<Json> options =
      ParseData(std::span(session.args).subspan(1), session.console);
  if (!options.ok()) {
    return session.Refuse(StrCat("Failed to parse K=V data: ", Message(options.status())));
  }
  const Json body = {{"type", Json::string_t(type)},
                     {"description", Json::string_t(session.flags.text("description"))},
                     {"local", session.flags.on("local")},
                     {"options", options->is_object() ? *options : Json::object()}};
  const absl::StatusOr<Json> answer = session.api->Call(
      {.method = "PUT", .path = StrCat("sys/audit/", SanitizePath(path)), .body = &body});
  if (!answer.ok()) return session.Fail("Error enabling audit device", answer.status());
  session.console.Line(StrCat("Success! Enabled the ", type, " audit device at: ", path));
  return kDone;
}

int Disable(Session& session) {
  const std::string path = WithSlash(SanitizePath(session.args[0]));
  const absl::StatusOr<Json> answer =
      session.api->Delete(StrCat("sys/audit/", SanitizePath(path)));
  if (!answer.ok()) return session.Fail("Error disabling audit device", answer.status());
  session.console.Line(StrCat("Success! Disabled audit device (if it was enabled) at: ", path));
  return kDone;
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

int List(Session& session) {
  const absl::StatusOr<Json> answer = session.api->Call({.method = "GET", .path = "sys/audit"});
  if (!answer.ok()) return session.Fail("Error listing audits", answer.status());
  const Json devices = MountsOf(*answer);
  if (!session.table()) return PrintDocument(session, devices);
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
       .run = Enable},
      {.name = "audit disable",
       .synopsis = "Disables an audit device",
       .usage = "[options] PATH",
       .help = "Disables the audit device of that name. Its file stays.",
       .min_args = 1,
       .max_args = 1,
       .run = Disable},
      {.name = "audit list",
       .synopsis = "Lists enabled audit devices",
       .usage = "[options]",
       .help = "Lists the enabled audit devices.",
       .prints = Prints::kFormats,
       .flags = {{"detailed", FlagType::kSwitch, "Print options and replication too."}},
       .run = List},
  };
}

}  // namespace coffer::cli
