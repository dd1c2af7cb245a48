// Commands that ask no server: version, print token, server.
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cli/command.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

int Version(Session& session) {
  session.console.Line(StrCat("Coffer v", COFFER_VERSION, " (Vault API)"));
  return kDone;
}

int PrintToken(Session& session) {
  const absl::StatusOr<SecretBytes> token = session.environment.Token();
  if (!token.ok()) return session.Fail(token.status());
  session.console.Line(token->view());
  return kDone;
}

// The keystore lies beside this program; it takes this one's place.
int Server(Session& session) {
  char self[4096];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof self);
  if (length <= 0) {
    return session.Refuse(StrCat("can't tell where this program lies: ", std::strerror(errno)));
  }
  const std::string_view path(self, static_cast<std::size_t>(length));
  const std::string keystore = StrCat(path.substr(0, path.rfind('/') + 1), "coffer-keystore");
  std::vector<char*> argv = {const_cast<char*>(keystore.c_str())};
  for (std::string& arg : session.args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  execv(keystore.c_str(), argv.data());
  return session.Refuse(StrCat("can't start ", keystore, ": ", std::strerror(errno),
                               ": install coffer-keystore beside this program"));
}

}  // namespace

std::vector<Command> LocalCommands() {
  return {
      {.name = "version",
       .synopsis = "Prints the version",
       .usage = "",
       .help = "Prints the version of this program.",
       .run = Version,
       .local = true},
      {.name = "print token",
       .synopsis = "Prints the token currently in use",
       .usage = "",
       .help = "Prints the token that requests are made with: that of VAULT_TOKEN, else that of "
               "~/.vault-token.",
       .run = PrintToken,
       .local = true},
      {.name = "server",
       .synopsis = "Start a server",
       .usage = "[options]",
       .help = "Starts coffer-keystore with the same options.\n"
               "    $ vault server -config=/etc/coffer/keystore.hcl\n    $ vault server -dev",
       .max_args = kAnyNumber,
       .run = Server,
       .local = true,
       .raw_args = true},
  };
}

}  // namespace coffer::cli
