#include "keystore/main/command_line.h"

#include <array>
#include <variant>

#include "common/strings.h"

namespace coffer::keystore {
namespace {

struct Flag {
  std::string_view name;
  std::variant<bool CommandLine::*, std::string CommandLine::*,
               std::vector<std::string> CommandLine::*>
      target;
};

const std::array<Flag, 10> kFlags = {{{"config", &CommandLine::config_paths},
                                     {"log-level", &CommandLine::log_level},
                                     {"log-format", &CommandLine::log_format},
                                     {"dev", &CommandLine::dev},
                                     {"dev-root-token-id", &CommandLine::dev_root_token_id},
                                     {"dev-listen-address", &CommandLine::dev_listen_address},
                                     {"dev-no-store-token", &CommandLine::dev_no_store_token},
                                     {"seccomp", &CommandLine::seccomp},
                                     {"version", &CommandLine::version},
                                     {"help", &CommandLine::help}}};

absl::Status Wrong(std::string_view flag, std::string_view why) {
  return absl::InvalidArgumentError(StrCat("flag -", flag, " ", why, "; see -help"));
}

absl::Status Check(const CommandLine& parsed) {
  if (parsed.help || parsed.version) return absl::OkStatus();
  if (Seccomp mode; !ParseSeccomp(parsed.seccomp.c_str(), &mode)) {
    return Wrong("seccomp", "takes enforce, log or off");
  }
  if (!parsed.log_format.empty() && parsed.log_format != "standard" && parsed.log_format != "json") {
    return Wrong("log-format", "takes standard or json");
  }
  if (!parsed.dev && parsed.config_paths.empty()) {
    return absl::InvalidArgumentError("give a configuration by -config=FILE, or -dev; see -help");
  }
  if (parsed.dev && !parsed.config_paths.empty()) {
    return absl::InvalidArgumentError("-dev and -config don't go together; see -help");
  }
  if (!parsed.dev && !parsed.dev_root_token_id.empty()) return Wrong("dev-root-token-id", "needs -dev");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(std::span<const char* const> arguments) {
  CommandLine parsed;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view argument = arguments[i];
    if (i == 0 && argument == "server") continue;
    if (!argument.starts_with('-')) {
      return absl::InvalidArgumentError(
          StrCat("unexpected argument \"", argument, "\"; see -help"));
    }
    argument.remove_prefix(argument.starts_with("--") ? 2 : 1);
    if (argument == "h") argument = "help";
    const std::size_t equals = argument.find('=');
    const std::string_view name = argument.substr(0, equals);
    const bool has_value = equals != argument.npos;
    std::string_view value = has_value ? argument.substr(equals + 1) : std::string_view();

    const auto flag = std::find_if(kFlags.begin(), kFlags.end(),
                                   [&](const Flag& candidate) { return candidate.name == name; });
    if (flag == kFlags.end()) return Wrong(name, "is not known");
    if (const auto* on = std::get_if<bool CommandLine::*>(&flag->target)) {
      if (has_value && value != "true" && value != "false") {
        return Wrong(name, "takes true or false");
      }
      parsed.*(*on) = !has_value || value == "true";
      continue;
    }
    if (!has_value) {
      if (++i == arguments.size()) return Wrong(name, "needs a value");
      value = arguments[i];
    }
    if (const auto* text = std::get_if<std::string CommandLine::*>(&flag->target)) {
      parsed.*(*text) = value;
    } else {
      (parsed.*std::get<std::vector<std::string> CommandLine::*>(flag->target))
          .emplace_back(value);
    }
  }
  if (absl::Status status = Check(parsed); !status.ok()) return status;
  return parsed;
}

std::string_view UsageText() {
  return R"(Usage: coffer-keystore [options]

  Starts a keystore that speaks Vault's HTTP API.

    $ coffer-keystore -config=/etc/coffer/keystore.hcl
    $ coffer-keystore -dev

Options:

  -config=<path>              A configuration file in HCL or JSON, or a folder of *.hcl and *.json.
                              May be given several times.
  -log-level=<level>          trace, debug, info, warn or error. Wins over the configuration.
  -log-format=<format>        standard or json. Wins over the configuration.
  -seccomp=<mode>             System calls beyond the program's list: enforce (they are refused, as it
                              is if not given), log (the kernel's audit log has them) or off.
  -version                    Prints the version.
  -help                       Prints this.

Options for a keystore to try things on, in memory, unsealed, gone at the end:

  -dev                        Starts it.
  -dev-root-token-id=<token>  Its root token; drawn at random if not given.
  -dev-listen-address=<addr>  Where it listens: 127.0.0.1:8200 if not given.
  -dev-no-store-token         Doesn't write the root token to ~/.vault-token.

SIGHUP reads the TLS certificates again; SIGTERM and SIGINT finish what is under way, then end it.
)";
}

}  // namespace coffer::keystore
