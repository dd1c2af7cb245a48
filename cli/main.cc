// coffer: Vault's command line. Called by another name (the link "vault"), it calls itself that too.
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "cli/dispatch.h"

int main(int argc, char** argv) {
  using namespace coffer;
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away is no reason to die half-way
  std::string_view program = argc > 0 ? argv[0] : "coffer";
  program = program.substr(program.rfind('/') + 1);
  std::vector<std::string> args(argv + std::min(argc, 1), argv + argc);
  cli::Console console(STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO);
  const cli::Environment environment([](const char* name) { return std::getenv(name); });
  return cli::Dispatch(program, std::move(args), console, environment, MakeCurlTransport);
}
