// What -help prints.
#include "cli/dispatch.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

// One line for each group of commands.
constexpr std::pair<std::string_view, std::string_view> kGroups[] = {
    {"audit", "Interact with audit devices"},
    {"auth", "Interact with auth methods"},
    {"csi", "Ask this node's CSI plugin"},
    {"import", "Import secrets from elsewhere"},
    {"kv", "Interact with the key-value store"},
    {"kv metadata", "Interact with the metadata of keys"},
    {"lease", "Interact with leases"},
    {"operator", "Perform operator-specific tasks"},
    {"policy", "Interact with policies"},
    {"print", "Prints runtime configurations"},
    {"secrets", "Interact with secrets engines"},
    {"token", "Interact with tokens"},
};

std::string_view TypeName(FlagType type) {
  switch (type) {
    case FlagType::kSwitch:
    case FlagType::kRefused: return "";
    case FlagType::kInteger: return "=<int>";
    case FlagType::kDuration: return "=<duration>";
    case FlagType::kPairs: return "=<key=value>";
    case FlagType::kText:
    case FlagType::kTexts: return "=<string>";
  }
  return "";
}

void AppendFlags(std::string_view title, const std::vector<Flag>& flags, std::string& out) {
  if (flags.empty()) return;
  StrAppend(&out, "\n\n", title, ":");
  for (const Flag& flag : flags) {
    StrAppend(&out, "\n\n  ");
    if (!flag.alias.empty()) StrAppend(&out, "-", flag.alias, ", ");
    StrAppend(&out, "-", flag.name, TypeName(flag.type), "\n", Wrapped(flag.usage, 6));
  }
}

}  // namespace

std::string CommandHelp(std::string_view program, const Command& command) {
  std::string out =
      StrCat("Usage: ", program, " ", command.name, command.usage.empty() ? "" : " ", command.usage);
  // Lines that are indented are examples and stay as they are.
  bool example = false;
  for (std::string_view line : Split(command.help, '\n')) {
    const bool indented = line.starts_with(' ');
    StrAppend(&out, std::exchange(example, indented) && indented ? "\n" : "\n\n",
              indented ? StrCat("  ", line) : Wrapped(line, 2));
  }
  if (command.raw_args) return out;
  if (!command.local) AppendFlags("HTTP Options", ConnectionFlags(), out);
  AppendFlags("Output Options", OutputFlags(command.prints), out);
  AppendFlags("Command Options", command.flags, out);
  return out;
}

std::string GroupHelp(std::string_view program, std::string_view group,
                      const std::vector<Command>& commands) {
  // The next word of every name in the group, with its line.
  std::map<std::string_view, std::string_view> lines;
  const std::string prefix = group.empty() ? "" : StrCat(group, " ");
  for (const Command& command : commands) {
    if (!command.name.starts_with(prefix)) continue;
    const std::string_view rest = command.name.substr(prefix.size());
    const std::string_view word = rest.substr(0, rest.find(' '));
    if (rest == word) lines[word] = command.synopsis;
    for (const auto& [name, synopsis] : kGroups) {
      if (name == StrCat(prefix, word)) lines[word] = synopsis;
    }
  }
  std::size_t width = 0;
  for (const auto& [word, line] : lines) width = std::max(width, word.size());

  std::string out = StrCat("Usage: ", program, group.empty() ? "" : " ", group,
                           group.empty() ? " <command> [args]" : " <subcommand> [options] [args]");
  StrAppend(&out, group.empty() ? "\n\nCommands:" : "\n\nSubcommands:");
  for (const auto& [word, line] : lines) {
    StrAppend(&out, "\n    ", word, std::string(width - word.size() + 4, ' '), line);
  }
  return out;
}

}  // namespace coffer::cli
