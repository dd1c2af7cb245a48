// Command: one row of the command table: name, help, flags, how many arguments, what runs. The table
// is read by the dispatcher (dispatch.h); a family of commands lives in one file.
#pragma once

#include <climits>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cli/client.h"
#include "cli/console.h"
#include "cli/environment.h"
#include "cli/flags.h"

namespace coffer::cli {

// Exit codes, as vault's.
constexpr int kDone = 0;
constexpr int kUsageError = 1;
constexpr int kApiError = 2;

// One run of one command. Everything it uses was handed in by the dispatcher.
struct Session {
  Console& console;
  const Environment& environment;
  std::string_view program;  // what the person called: "vault" or "coffer"
  Flags flags = {};
  std::vector<std::string> args = {};
  std::string format = "table";  // table, json, yaml, pretty or raw
  ApiClient* api = nullptr;      // null for local commands
  int failure_code = kApiError;

  bool table() const { return format == "table"; }
  // Prints "<what>: <message>", the warnings of a refused write, and returns failure_code.
  int Fail(std::string_view what, const absl::Status& status);
  int Fail(const absl::Status& status);
  int Fail(std::string_view message);
  // Prints the message and returns kUsageError.
  int Refuse(std::string_view message) const;
};

constexpr int kAnyNumber = INT_MAX;

// What a command can print, which decides its -format and -field flags.
enum class Prints { kText, kFormats, kFields };

struct Command {
  std::string_view name;      // "kv put"
  std::string_view synopsis;  // one line
  std::string_view usage;     // "[options] KEY [DATA]"
  std::string_view help;      // paragraphs, wrapped when printed
  int min_args = 0;
  int max_args = 0;
  Prints prints = Prints::kText;
  std::vector<Flag> flags = {};
  int (*run)(Session&) = nullptr;
  // The exit code of what fails; null: kApiError. Another where that is an answer of the command's.
  int (*failure_code)(const Flags&) = nullptr;
  bool local = false;     // makes no client: works without an address or a token
  bool raw_args = false;  // flags aren't read: all arguments are another program's
};

// The families. kv and token and so on each name their rows in one table.
std::vector<Command> StatusCommands();
std::vector<Command> OperatorCommands();
std::vector<Command> LoginCommands();
std::vector<Command> TokenCommands();
std::vector<Command> SecretsCommands();
std::vector<Command> AuthCommands();
std::vector<Command> AuditCommands();
std::vector<Command> KvCommands();
std::vector<Command> KvMetadataCommands();
std::vector<Command> LogicalCommands();
std::vector<Command> PolicyCommands();
std::vector<Command> LeaseCommands();
std::vector<Command> CsiCommands();
std::vector<Command> ImportCommands();
std::vector<Command> LocalCommands();

}  // namespace coffer::cli
