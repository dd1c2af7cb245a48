#include "cli/policy_format.h"

namespace coffer::cli {
namespace {

TEST_CASE("policies get their canonical layout") {
  const std::pair<std::string_view, std::string_view> kCases[] = {
      {"", ""},
      {"path   \"a\"   {\ncapabilities=[\"read\"]\n}",
       "path \"a\" {\n  capabilities = [\"read\"]\n}\n"},
      {"\n\n# top\npath \"a\" {\n\n\n  x = 1\n longer=2\n}\n\n\n",
       "# top\npath \"a\" {\n\n  x      = 1\n  longer = 2\n}\n"},
      {"path \"a\" {\n required_parameters = [\n\"a\",\n   \"b\"\n]\n}",
       "path \"a\" {\n  required_parameters = [\n    \"a\",\n    \"b\"\n  ]\n}\n"},
      {"path \"a  {b}\" { # keep  this\n}", "path \"a  {b}\" { # keep  this\n}\n"},
      {"x = <<EOT\n  as  it is\nEOT\ny=1", "x = <<EOT\n  as  it is\nEOT\ny = 1\n"},
      {"path \"a\" { capabilities = [\"read\"] }", "path \"a\" { capabilities = [\"read\"] }\n"},
  };
  for (const auto& [source, want] : kCases) {
    const absl::StatusOr<std::string> text = FormatPolicy(source);
    REQUIRE(text.ok());
    CHECK(*text == want);
    CHECK(*FormatPolicy(*text) == *text);  // the layout is a fixed point
  }
}

TEST_CASE("policies whose brackets or quotes don't match are refused") {
  const std::pair<std::string_view, std::string_view> kCases[] = {
      {"path \"a\" {\n", "line 2: a bracket, comment or heredoc isn't closed at the end"},
      {"}\n", "line 1: a bracket closes nothing"},
      {"a = \"b\n", "line 1: a quote isn't closed"},
      {"x = <<EOT\nabc\n", "line 3: a bracket, comment or heredoc isn't closed at the end"},
  };
  for (const auto& [source, want] : kCases) {
    CHECK(Message(FormatPolicy(source).status()) == want);
  }
}

}  // namespace
}  // namespace coffer::cli
