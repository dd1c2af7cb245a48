#include "cli/dispatch.h"

#include "cli/output.h"
#include "common/lower_case.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr int kNoSuchCommand = 127;

std::vector<Command> AllCommands() {
  std::vector<Command> all;
  for (auto family : {StatusCommands, OperatorCommands, LoginCommands, TokenCommands,
                      SecretsCommands, AuthCommands, AuditCommands, KvCommands, KvMetadataCommands,
                      LogicalCommands, PolicyCommands, LeaseCommands, CsiCommands, ImportCommands, LocalCommands}) {
    for (Command& command : family()) all.push_back(std::move(command));
  }
  return all;
}

// How many words of `args` the longest fitting name takes; 0 if none fits.
std::size_t Match(const std::vector<Command>& commands, const std::vector<std::string>& args,
                  const Command** found) {
  std::string name;
  std::size_t words = 0;
  for (std::size_t i = 0; i < std::min<std::size_t>(args.size(), 3); ++i) {
    StrAppend(&name, i == 0 ? "" : " ", args[i]);
    for (const Command& command : commands) {
      if (command.name != name) continue;
      *found = &command;
      words = i + 1;
    }
  }
  return words;
}

// The longest group ("kv", "kv metadata") that the words begin with.
std::string GroupOf(const std::vector<Command>& commands, const std::vector<std::string>& args) {
  std::string group, name;
  for (const std::string& word : args) {
    StrAppend(&name, name.empty() ? "" : " ", word);
    const std::string prefix = StrCat(name, " ");
    for (const Command& command : commands) {
      if (command.name.starts_with(prefix)) group = name;
    }
  }
  return group;
}

bool IsHelp(std::string_view word) {
  return word == "-h" || word == "-help" || word == "--help" || word == "help";
}

std::string CountText(const Command& command) {
  if (command.max_args == kAnyNumber) return StrCat("at least ", command.min_args);
  if (command.min_args == command.max_args) return StrCat(command.min_args);
  return StrCat(command.min_args, "-", command.max_args);
}

// Go's flags end at the first argument: one behind it is most likely a slip.
void WarnOfLateFlags(const Session& session) {
  std::string late;
  for (const std::string& arg : session.args) {
    if (arg.size() > 1 && arg[0] == '-') StrAppend(&late, late.empty() ? "" : ",", arg);
  }
  if (late.empty() || !session.table()) return;
  session.console.Warn(StrCat(
      "Command flags must be provided before positional arguments. The following arguments will not "
      "be parsed as flags: [", late, "]"));
}

int RunWithClient(const Command& command, Session& session, const TransportFactory& make_transport) {
  absl::StatusOr<ClientSettings> settings = SettingsOf(session.flags, session.environment);
  if (!settings.ok()) return session.Fail(settings.status());
  const absl::StatusOr<TlsClientOptions> tls = TlsOptionsOf(session.flags, session.environment);
  if (!tls.ok()) return session.Fail(tls.status());
  const std::unique_ptr<HttpTransport> transport = make_transport(*tls);
  ApiClient api(*std::move(settings), *transport);
  session.api = &api;
  const int code = command.run(session);
  session.console.Mute(false);
  if (api.shown().empty()) return code;
  session.console.Line(api.shown().view());
  return kDone;
}

int RunCommand(const Command& command, Session& session, const TransportFactory& make_transport) {
  Console& console = session.console;
  if (command.raw_args) return command.run(session);
  std::vector<Flag> known = command.flags;
  const auto add = [&](const std::vector<Flag>& flags) {
    known.insert(known.end(), flags.begin(), flags.end());
  };
  add(ConnectionFlags());
  add(OutputFlags(command.prints));
  const absl::Status parsed = Flags::Parse(known, session.args, &session.flags);
  if (absl::IsAborted(parsed)) {
    console.Line(CommandHelp(session.program, command));
    return kDone;
  }
  if (!parsed.ok()) return session.Refuse(Message(parsed));
  if (command.failure_code != nullptr) session.failure_code = command.failure_code(session.flags);
  if (session.flags.on("no-color") || session.environment.Switch("CLI_NO_COLOR").value_or(false)) {
    console.DropColor();
  }
  if (session.flags.on("non-interactive")) console.RefuseInput();

  if (command.prints != Prints::kText) {
    const std::string_view set = session.environment.Setting("FORMAT");
    if (session.flags.given("format") || set.empty()) {
      session.format = session.flags.text("format");
    } else {
      session.format = set;
    }
    if (session.format == "yml") session.format = "yaml";
    session.format = LowerCase(session.format);
    static constexpr std::string_view kFormats[] = {"table", "json", "yaml", "pretty", "raw"};
    if (std::find(std::begin(kFormats), std::end(kFormats), session.format) == std::end(kFormats)) {
      return session.Refuse(StrCat("Invalid output format: ", session.format));
    }
    if (session.format == "raw" && command.name != "read") {
      return session.Refuse("This command does not support the -format=raw option.");
    }
  }
  WarnOfLateFlags(session);

  const int count = static_cast<int>(session.args.size());
  if (count < command.min_args || count > command.max_args) {
    return session.Refuse(StrCat(count < command.min_args ? "Not enough" : "Too many",
                                 " arguments (expected ", CountText(command), ", got ", count, ")"));
  }
  return command.local ? command.run(session) : RunWithClient(command, session, make_transport);
}

}  // namespace

int Session::Fail(std::string_view what, const absl::Status& status) {
  return Fail(StrCat(what, ": ", Message(status)));
}

int Session::Fail(const absl::Status& status) { return Fail(Message(status)); }

int Session::Fail(std::string_view message) {
  // A request that was shown instead of sent is no failure; the dispatcher prints it.
  if (api != nullptr && !api->shown().empty()) console.Mute(true);
  console.Error(message);
  if (api != nullptr && !api->refused().is_null()) PrintSecret(*this, api->refused());
  return failure_code;
}

int Session::Refuse(std::string_view message) const {
  console.Error(message);
  return kUsageError;
}

int Dispatch(std::string_view program, std::vector<std::string> args, Console& console,
             const Environment& environment, const TransportFactory& make_transport) {
  const std::vector<Command> commands = AllCommands();
  if (args.size() == 1 && (args[0] == "-v" || args[0] == "-version" || args[0] == "--version")) {
    args = {"version"};
  }
  if (args.empty() || IsHelp(args[0])) {
    console.Line(GroupHelp(program, "", commands));
    return args.empty() ? kNoSuchCommand : kDone;
  }
  if (args[0].starts_with('-')) {
    console.Error(
        "Invalid flags before the subcommand. If these flags are for the subcommand, please put "
        "them after the subcommand.");
    return kUsageError;
  }

  const Command* command = nullptr;
  const std::size_t words = Match(commands, args, &command);
  if (words == 0) {
    const std::string group = GroupOf(commands, args);
    const bool asked = IsHelp(args.back());
    const std::string help = GroupHelp(program, group, commands);
    if (asked && !group.empty()) {
      console.Line(help);
      return kDone;
    }
    console.Error(help);
    return group.empty() ? kNoSuchCommand : kUsageError;
  }
  Session session{.console = console, .environment = environment, .program = program};
  session.args.assign(std::make_move_iterator(args.begin() + static_cast<std::ptrdiff_t>(words)),
                      std::make_move_iterator(args.end()));
  return RunCommand(*command, session, make_transport);
}

}  // namespace coffer::cli
