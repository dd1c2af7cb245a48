#include "cli/document.h"

#include "cli/table.h"
#include "cli/values.h"

namespace coffer::cli {
namespace {

Json Parse(std::string_view text) { return *ParseJson(text); }

TEST_CASE("JSON looks as Go prints it") {
  const std::pair<std::string_view, std::string_view> kCases[] = {
      {"{}", "{}"},
      {"[]", "[]"},
      {"null", "null"},
      {R"({"b":1,"a":[1,{"c":null}],"e":{},"f":[]})",
       "{\n  \"a\": [\n    1,\n    {\n      \"c\": null\n    }\n  ],\n  \"b\": 1,\n  \"e\": {},\n  "
       "\"f\": []\n}"},
      {R"({"html":"<a&b>"})", "{\n  \"html\": \"\\u003ca\\u0026b\\u003e\"\n}"},
      {R"({"t":"tab\tquote\"ü"})", "{\n  \"t\": \"tab\\tquote\\\"ü\"\n}"},
  };
  for (const auto& [text, want] : kCases) CHECK(PrintJson(Parse(text)).view() == want);
}

TEST_CASE("named members stand first, inner ones too") {
  constexpr std::string_view kOrder[] = {"z", "auth", "missing", "auth.token"};
  CHECK(PrintJson(Parse(R"({"a":1,"auth":{"a":1,"token":2,"z":3},"b":{"z":1,"a":2},"z":4})"), kOrder)
            .view() ==
        "{\n  \"z\": 4,\n  \"auth\": {\n    \"token\": 2,\n    \"a\": 1,\n    \"z\": 3\n  },\n  "
        "\"a\": 1,\n  \"b\": {\n    \"a\": 2,\n    \"z\": 1\n  }\n}");
}

TEST_CASE("YAML quotes what another reader would take for something else") {
  const std::pair<std::string_view, std::string_view> kCases[] = {
      {R"("plain text")", "plain text"},
      {R"("")", "\"\""},
      {R"("true")", "\"true\""},
      {R"("No")", "\"No\""},
      {R"("null")", "\"null\""},
      {R"("123")", "\"123\""},
      {R"("-1.5e3")", "\"-1.5e3\""},
      {R"("0x1F")", "\"0x1F\""},
      {R"("2025-06-03")", "\"2025-06-03\""},
      {R"("1:30")", "\"1:30\""},
      {R"("123abcg")", "123abcg"},
      {R"("a: b")", "'a: b'"},
      {R"("a #b")", "'a #b'"},
      {R"("it's")", "it's"},
      {R"("'quoted'")", "'''quoted'''"},
      {R"("*star")", "'*star'"},
      {R"("@at")", "'@at'"},
      {R"("- item")", "'- item'"},
      {R"("-flag")", "-flag"},
      {R"(" space")", "' space'"},
      {R"("tab\there")", "\"tab\\there\""},
      {"7", "7"},
      {"[]", "[]"},
      {"{}", "{}"},
      {R"({"a":[1,"x",{"b":null,"c":[2]}],"d":{"e":{}}})",
       "a:\n- 1\n- x\n- b: null\n  c:\n  - 2\nd:\n  e: {}"},
      {R"({"policy":"line 1\nline 2\n","x":"a\nb"})",
       "policy: |\n  line 1\n  line 2\nx: |-\n  a\n  b"},
      {R"({"a":{"b":"l\n\nm\n"}})", "a:\n  b: |\n    l\n\n    m"},
      {R"({"true":1,"a b":2})", "a b: 2\n\"true\": 1"},
  };
  for (const auto& [text, want] : kCases) CHECK(PrintYaml(Parse(text)).view() == want);
}

TEST_CASE("tables are columns four spaces apart, empty cells read n/a") {
  Table table = Table::WithHeader("Key", "Value");
  table.Add("created_time", "2025");
  table.Add("deletion_time", "");
  CHECK(table.Print().view() ==
        "Key              Value\n"
        "---              -----\n"
        "created_time     2025\n"
        "deletion_time    n/a");
  Table umlauts;
  umlauts.Add("ü∞", "x");
  umlauts.Add("abc", " y ");
  CHECK(umlauts.Print().view() == "ü∞     x\nabc    y");
}

TEST_CASE("values print as Go prints them") {
  const std::pair<std::string_view, std::string_view> kCases[] = {
      {"null", "<nil>"},
      {"true", "true"},
      {"7", "7"},
      {"1.5", "1.5"},
      {R"("a b")", "a b"},
      {"[]", "[]"},
      {R"(["a","b"])", "[a b]"},
      {R"({"b":1,"a":[null]})", "map[a:[<nil>] b:1]"},
  };
  for (const auto& [text, want] : kCases) CHECK(PrintValue(Parse(text)).view() == want);
  CHECK(PrintQuoted(Parse(R"(["default","web"])")).view() == R"(["default" "web"])");
  CHECK(PrintQuoted(nullptr).view() == "[]");
}

TEST_CASE("seconds under a duration's name print as a duration") {
  const std::tuple<std::string_view, std::string_view, std::string_view> kCases[] = {
      {"ttl", "2764800", "768h"},      {"token_ttl", "0", "0s"}, {"period", "90", "1m30s"},
      {"lease_duration", "3605", "1h5s"}, {"ttl_max", "60", "1m"}, {"throttle", "60", "60"},
      {"ttl", R"("60")", "60"},        {"ttls", "60", "60"},     {"max_ttl", "86400", "24h"},
  };
  for (const auto& [key, value, want] : kCases) {
    CHECK(PrintValueOf(key, Parse(value)).view() == want);
  }
}

TEST_CASE("long lines break between words") {
  CHECK(Wrapped("a b") == "a b");
  CHECK(Wrapped(std::string(78, 'x') + " y") == std::string(78, 'x') + "\ny");
  CHECK(Wrapped(std::string(76, 'x') + " y") == std::string(76, 'x') + " y");
  CHECK(Wrapped("one two", 2) == "  one two");
  CHECK(Wrapped(std::string(76, 'x') + " y", 2) == "  " + std::string(76, 'x') + "\n  y");
}

}  // namespace
}  // namespace coffer::cli
