// From the shell's words to a command: finds the row, reads flags, makes the client, runs.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"

namespace coffer::cli {

// Makes the transport of one run, of the TLS settings that flags and environment ask for.
using TransportFactory = std::function<std::unique_ptr<HttpTransport>(const TlsClientOptions&)>;

// Runs the command that `args` (without the program's name) names and returns its exit code: 127 for
// a command that isn't there, as vault does.
int Dispatch(std::string_view program, std::vector<std::string> args, Console& console,
             const Environment& environment, const TransportFactory& make_transport);

// The flags of every command that talks to a server, and those that shape its output.
const std::vector<Flag>& ConnectionFlags();
const std::vector<Flag>& OutputFlags(Prints prints);

// The client's settings of flags and environment. InvalidArgument: an address, header or variable that
// is wrong; the status of a token file that can't be read.
absl::StatusOr<ClientSettings> SettingsOf(const Flags& flags, const Environment& environment);
absl::StatusOr<TlsClientOptions> TlsOptionsOf(const Flags& flags, const Environment& environment);

// Help texts, without a line end.
std::string CommandHelp(std::string_view program, const Command& command);
// `group` is "" for the whole program or "kv", "operator" and so on.
std::string GroupHelp(std::string_view program, std::string_view group,
                      const std::vector<Command>& commands);

}  // namespace coffer::cli
