#include "cli/flags.h"

#include "common/strings.h"

namespace coffer::cli {
namespace {

const std::vector<Flag> kKnown = {{"on", FlagType::kSwitch, ""},
                                  {"name", FlagType::kText, "", "nobody", "n"},
                                  {"list", FlagType::kTexts, ""},
                                  {"count", FlagType::kInteger, "", "5"},
                                  {"ttl", FlagType::kDuration, ""},
                                  {"pair", FlagType::kPairs, ""}};

TEST_CASE("flags are read as Go reads them") {
  struct Case {
    std::vector<std::string> args;
    std::string name;
    bool on;
    int rest;
  };
  const Case kCases[] = {
      {{"-on", "x"}, "nobody", true, 1},
      {{"--on", "x"}, "nobody", true, 1},
      {{"-on=false", "x"}, "nobody", false, 1},
      {{"-on=T"}, "nobody", true, 0},
      {{"-on", "false"}, "nobody", true, 1},  // a switch takes no value behind a space
      {{"-name", "a", "x"}, "a", false, 1},
      {{"-name=a=b"}, "a=b", false, 0},
      {{"--n", "-"}, "-", false, 0},
      {{"-name", "-on"}, "-on", false, 0},  // the next word is the value, whatever it is
      {{"-name="}, "", false, 0},
      {{"x", "-on"}, "nobody", false, 2},  // flags end at the first argument
      {{"--", "-on"}, "nobody", false, 1},
      {{"-", "-on"}, "nobody", false, 2},
      {{"-name=a", "-name=b"}, "b", false, 0},
  };
  for (const Case& c : kCases) {
    std::vector<std::string> args = c.args;
    Flags flags;
    CAPTURE(c.args);
    REQUIRE(Flags::Parse(kKnown, args, &flags).ok());
    CHECK(flags.text("name") == c.name);
    CHECK(flags.on("on") == c.on);
    CHECK(static_cast<int>(args.size()) == c.rest);
  }
}

TEST_CASE("values are typed, and absent flags have their fallback") {
  std::vector<std::string> args = {"-list=a",   "-list", "b,c",    "-count=-3",
                                   "-ttl=1h30m", "-pair", "k=v=w", "-pair=x="};
  Flags flags;
  REQUIRE(Flags::Parse(kKnown, args, &flags).ok());
  CHECK(flags.texts("list") == std::vector<std::string>{"a", "b,c"});
  CHECK(flags.integer("count") == -3);
  CHECK(flags.duration("ttl") == absl::Minutes(90));
  REQUIRE(flags.pairs("pair").size() == 2);
  CHECK(flags.pairs("pair")[0].first == "k");
  CHECK(flags.pairs("pair")[0].second == "v=w");
  CHECK(flags.pairs("pair")[1].second.empty());
  CHECK_FALSE(flags.given("name"));

  Flags none;
  args.clear();
  REQUIRE(Flags::Parse(kKnown, args, &none).ok());
  CHECK(none.integer("count") == 5);
  CHECK(none.duration("ttl") == absl::ZeroDuration());
  CHECK(none.texts("list").empty());
}

TEST_CASE("wrong flags are refused in Go's words") {
  const std::pair<std::vector<std::string>, std::string_view> kCases[] = {
      {{"-nope"}, "flag provided but not defined: -nope"},
      {{"-name"}, "flag needs an argument: -name"},
      {{"-count=x"}, "invalid value \"x\" for flag -count: parse error"},
      {{"-count=3x"}, "invalid value \"3x\" for flag -count: parse error"},
      {{"-count=99999999999999999999"},
       "invalid value \"99999999999999999999\" for flag -count: parse error"},
      {{"-on=maybe"}, "invalid boolean value \"maybe\" for flag -on: parse error"},
      {{"-ttl=soon"}, "invalid value \"soon\" for flag -ttl: parse error"},
      {{"-pair=x"}, "invalid value \"x\" for flag -pair: missing = in KV pair"},
      {{"---on"}, "bad flag syntax: ---on"},
      {{"-=x"}, "bad flag syntax: -=x"},
  };
  for (const auto& [given, message] : kCases) {
    std::vector<std::string> args = given;
    Flags flags;
    const absl::Status status = Flags::Parse(kKnown, args, &flags);
    CHECK(absl::IsInvalidArgument(status));
    CHECK(Message(status) == message);
  }
}

TEST_CASE("-h and -help ask for help") {
  for (const char* word : {"-h", "-help", "--help"}) {
    std::vector<std::string> args = {word};
    Flags flags;
    CHECK(absl::IsAborted(Flags::Parse(kKnown, args, &flags)));
  }
}

}  // namespace
}  // namespace coffer::cli
