#include "common/yaml.h"

#include <catch2/catch.hpp>

namespace coffer {
namespace {

TEST_CASE("scalars stay text, but below the typed key they are what Go's YAML makes of them") {
  const auto documents = ParseYaml(
      "a: 0600\nb: true\nc:\nd: ~\ne: 'x'\n"
      "args: {o: 0600, o2: 0o17, x: 0x1f, i: -5, f: 1.5, t: true, n: null, s: '5', w: 24h, v: "
      "1.2.3,\n"
      "       l: [1, inf, nan]}\n---\n---\n- 1\n",
      "args");
  REQUIRE(documents.ok());
  REQUIRE(documents->size() == 2);
  const Json& first = documents->front();
  CHECK(first["a"] == "0600");
  CHECK(first["b"] == "true");
  CHECK(first["c"].is_null());
  CHECK(first["d"].is_null());
  CHECK(first["e"] == "x");
  CHECK(first["args"] == Json({{"o", 0600},
                               {"o2", 017},
                               {"x", 31},
                               {"i", -5},
                               {"f", 1.5},
                               {"t", true},
                               {"n", nullptr},
                               {"s", "5"},
                               {"w", "24h"},
                               {"v", "1.2.3"},
                               {"l", Json::array({1, "inf", "nan"})}}));
  CHECK(documents->back() == Json::array({"1"}));
}

TEST_CASE("bad YAML is an error that says where") {
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "[";
  std::string laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    StrAppend(&laughs, "a", i, ": &a", i, " [");
    for (int j = 0; j < 10; ++j) StrAppend(&laughs, j ? ", *a" : "*a", i - 1);
    laughs += "]\n";
  }
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a: [", "line "},
      {"a: 1\na: 2", "line 2, column 1: the key a comes twice"},
      {"? [a]\n: 1", "a key must be text"},
      {"a: *nowhere", "line 1"},
      {deep + std::string(100, ']'), "nested deeper than 32 levels"},
      {std::string(100'000, '['), ""},
      {"&a [*a]", ""},
      {laughs, "more than 20000 values"},
      {std::string((1 << 20) + 1, 'x'), "longer than 1 MiB"},
  };
  for (const auto& [text, error] : cases) {
    INFO(text.substr(0, 40));
    const auto documents = ParseYaml(text);
    REQUIRE(absl::IsInvalidArgument(documents.status()));
    CHECK_THAT(std::string(Message(documents.status())), Catch::Contains(error));
  }
}

}  // namespace
}  // namespace coffer
