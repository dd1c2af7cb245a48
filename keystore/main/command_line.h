// The command line of coffer-keystore, in the form of `vault server`.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/hardening.h"

namespace coffer::keystore {

struct CommandLine {
  std::vector<std::string> config_paths;  // files, or folders of *.hcl and *.json
  std::string log_level;                  // "": what the configuration says
  std::string log_format;                 // the same
  bool dev = false;
  std::string dev_root_token_id;
  std::string dev_listen_address = "127.0.0.1:8200";
  bool dev_no_store_token = false;
  std::string seccomp = SeccompName(kDefaultSeccomp);
  bool version = false;
  bool help = false;
};

// Flags are "-name=value", "-name value" or, for switches, "-name"; "--" works as "-". A first
// argument "server" is skipped. InvalidArgument names the flag that is wrong.
absl::StatusOr<CommandLine> ParseCommandLine(std::span<const char* const> arguments);

std::string_view UsageText();

}  // namespace coffer::keystore
