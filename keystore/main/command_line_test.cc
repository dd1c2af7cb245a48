#include "keystore/main/command_line.h"

#include <catch2/catch.hpp>

using namespace coffer::keystore;

namespace {

absl::StatusOr<CommandLine> Parse(std::vector<const char*> arguments) {
  return ParseCommandLine(arguments);
}

}  // namespace

TEST_CASE("Flags are given with =, or with a word after them, with one dash or two") {
  const CommandLine files = Parse({"-config=a.hcl", "--config", "b.json", "-log-level=debug", "-log-format", "json"}).value();
  CHECK(files.config_paths == std::vector<std::string>{"a.hcl", "b.json"});
  CHECK(files.log_level == "debug");
  CHECK(files.log_format == "json");

  const CommandLine dev =
      Parse({"server", "-dev", "-dev-root-token-id", "root", "-dev-no-store-token=true"}).value();
  CHECK(dev.dev);
  CHECK(dev.dev_root_token_id == "root");
  CHECK(dev.dev_no_store_token);
  CHECK(dev.dev_listen_address == "127.0.0.1:8200");

  CHECK(Parse({"-version"})->version);
  CHECK(Parse({"-h"})->help);
}

TEST_CASE("A wrong command line is one clear error") {
  struct Case {
    std::vector<const char*> arguments;
    std::string says;
  };
  const std::vector<Case> cases = {
      {{}, "-config=FILE"},
      {{"-config"}, "-config needs a value"},
      {{"-conf=a"}, "-conf is not known"},
      {{"-dev=maybe"}, "-dev takes true or false"},
      {{"-dev", "-config=a"}, "don't go together"},
      {{"-dev", "-seccomp=on"}, "-seccomp takes enforce, log or off"},
      {{"-dev", "-log-format=xml"}, "-log-format takes standard or json"},
      {{"-config=a", "-dev-root-token-id=x"}, "needs -dev"},
      {{"a.hcl"}, "unexpected argument \"a.hcl\""},
  };
  for (const Case& c : cases) {
    const auto parsed = Parse(c.arguments);
    REQUIRE_FALSE(parsed.ok());
    CHECK_THAT(std::string(parsed.status().message()), Catch::Contains(c.says));
  }
}
