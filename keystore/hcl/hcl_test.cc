#include "keystore/hcl/hcl.h"

namespace coffer::hcl {
namespace {

std::string AsJson(std::string_view text) {
  const auto document = Parse(text);
  if (!document.ok()) return std::string(Message(document.status()));
  return std::string(DumpJson(ToJson(*document)).view());
}

std::string Error(std::string_view text) {
  const auto document = Parse(text);
  if (document.ok()) return "taken";
  CHECK(document.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(Message(document.status()));
}

TEST_CASE("HCL is read into the same tree as the JSON that means the same") {
  const struct {
    std::string_view name;
    std::string_view text;
    std::string_view json;
  } cases[] = {
      {"nothing", "", "{}"},
      {"comments alone", "# a\n// b\n/* c\n = { */", "{}"},
      {"assignments", "a = 1\nb = \"x\"\nc = true\nd = false",
       R"({"a":1,"b":"x","c":true,"d":false})"},
      {"several on a line", "a = 1 b = 2", R"({"a":1,"b":2})"},
      {"Windows lines", "a = 1\r\nb = 2\r\n", R"({"a":1,"b":2})"},
      {"a byte order mark",
       "\xef\xbb\xbf"
       "a = 1",
       R"({"a":1})"},
      {"names with marks", "a-b.c_d = 1", R"({"a-b.c_d":1})"},
      {"names in quotes", "\"secret/*\" = 1", R"({"secret/*":1})"},
      {"a block", "ui { x = 1 }", R"({"ui":{"x":1}})"},
      {"a labelled block", "path \"secret/*\" { policy = \"read\" }",
       R"({"path":{"secret/*":{"policy":"read"}}})"},
      {"labels without quotes", "listener tcp { }", R"({"listener":{"tcp":{}}})"},
      {"nested blocks", "a { b \"c\" { d = 1 } }", R"({"a":{"b":{"c":{"d":1}}}})"},
      {"objects", "a = { b = { c = [] } }", R"({"a":{"b":{"c":[]}}})"},
      {"commas between members", "a = { b = 1, c = 2, }", R"({"a":{"b":1,"c":2}})"},
      {"lists", "a = [1, \"b\", true, [2], { c = 3 }]", R"({"a":[1,"b",true,[2],{"c":3}]})"},
      {"a comma at the end", "a = [\n  \"x\",\n  \"y\",\n]", R"({"a":["x","y"]})"},
      {"integers", "a = 0\nb = -7\nc = 0x1F\nd = 0755\ne = -0x10",
       R"({"a":0,"b":-7,"c":31,"d":493,"e":-16})"},
      {"fractions", "a = 1.5\nb = -2e3\nc = 0.25", R"({"a":1.5,"b":-2000,"c":0.25})"},
      {"escapes", R"(a = "q\" b\\ n\n t\t \u00e9 \U0001F511 s/")",
       "{\"a\":\"q\\\" b\\\\ n\\n t\\t é 🔑 s/\"}"},
      {"hash in a string", "a = \"# no comment\" # one", R"({"a":"# no comment"})"},
      {"a heredoc", "a = <<EOF\none\n  two\nEOF\nb = 1", R"({"a":"one\n  two\n","b":1})"},
      {"an empty heredoc", "a = <<EOF\nEOF", R"({"a":""})"},
      {"an indented heredoc", "a = <<-EOF\n    one\n      two\n    EOF\n",
       R"({"a":"one\n  two\n"})"},
      {"a heredoc whose lines are indented less", "a = <<-EOF\n    one\n  two\n    EOF\n",
       R"({"a":"    one\n  two\n"})"},
      {"a heredoc with Windows lines", "a = <<EOF\r\none\r\nEOF\r\nb = 1",
       R"({"a":"one\r\n","b":1})"},
      {"JSON", " \n{\"a\": {\"b\": [1, 2.5, null, \"\\ud83d\\udd11\\/\"]}, \"c\": false}",
       "{\"a\":{\"b\":[1,2.5,null,\"🔑/\"]},\"c\":false}"},
      {"empty JSON", "{}", "{}"},
  };
  for (const auto& c : cases) {
    INFO(c.name);
    CHECK(AsJson(c.text) == c.json);
  }
}

TEST_CASE("errors name line, column and what was expected") {
  const struct {
    std::string_view text;
    std::string_view error;
  } cases[] = {
      {"a =", "line 1, column 4: expected a value for \"a\", found the end of the text"},
      {"a\n", "line 2, column 1: expected '=' or '{' after \"a\", found the end of the text"},
      {"a = 1\n  = 2", "line 2, column 3: expected the name of a setting or block, found '='"},
      {"path \"x\" = {}", "line 1, column 10: expected '{' after the label of \"path\", found '='"},
      {"a b c d e {}",
       "line 1, column 7: expected '{' after the labels of \"a\", found a word without quotes"},
      {"a {\n  b = 1\n", "line 3, column 1: expected a name or '}', found the end of the text"},
      {"a = [1, 2",
       "line 1, column 10: expected ',' or ']' in the list of \"a\", found the end of the text"},
      {"a = [1 2]", "line 1, column 8: expected ',' or ']' in the list of \"a\", found a number"},
      {"a = yes",
       "line 1, column 5: expected a value for \"a\", found a word (strings need \"quotes\")"},
      {"a = null",
       "line 1, column 5: expected a value for \"a\", found a word (strings need \"quotes\")"},
      {"é = \"é\" ?",
       "line 1, column 9: a character that has no meaning here (strings need \"quotes\")"},
      {"a = \"x\ny\"", "line 1, column 5: the string that starts here isn't closed on its line"},
      {"a = \"x", "line 1, column 5: the string that starts here has no end: expected '\"'"},
      {"a = \"\\q\"", "line 1, column 7: an escape that isn't known (use \\\\ for a backslash)"},
      {"a = \"\\u12\"", "line 1, column 10: expected 4 hexadecimal digits in the escape"},
      {"a = \"\\ud800\"", "line 1, column 7: an escape that is no character"},
      {"a = \"\\UFFFFFFFF\"", "line 1, column 7: an escape that is no character"},
      {"a = <<EOF\nx\n",
       "line 1, column 5: the text that starts here has no end: expected EOF on a line of its own"},
      {"a = <<\n", "line 1, column 5: expected a word and the end of the line after <<"},
      {"/* a", "line 1, column 1: the comment that starts here has no end: expected */"},
      {"a = 08", "line 1, column 5: not a number (strings need \"quotes\")"},
      {"a = 1h", "line 1, column 5: not a number (strings need \"quotes\")"},
      {"a = -", "line 1, column 5: not a number (strings need \"quotes\")"},
      {"a = 9223372036854775808", "line 1, column 5: a number that is out of range"},
      {"a = 1e999", "line 1, column 5: a number that is out of range"},
      {"a = 1\n\nb = \"\xff\"", "line 3, column 6: not UTF-8 text"},
      {"}", "line 1, column 1: expected the name of a setting or block, found '}'"},
      {"{\"a\": 1,}", "line 1, column 9: expected a name in quotes, found '}'"},
      {"{\"a\" 1}", "line 1, column 6: expected ':' after the name, found a number"},
      {"{\"a\": [1,]}", "line 1, column 10: expected a value for \"a\", found ']'"},
      {"{\"a\": 01}", "line 1, column 7: not a number (strings need \"quotes\")"},
      {"{\"a\": \"x\ty\"}", "line 1, column 7: a control character in the string that starts here"},
      {"{\"a\": \"\\v\"}",
       "line 1, column 9: an escape that isn't known (use \\\\ for a backslash)"},
      {"{\"a\": 1} x",
       "line 1, column 10: expected the end of the JSON text, found a word without quotes"},
      {"{\"a\": 1 # b\n}",
       "line 1, column 9: a character that has no meaning here (strings need \"quotes\")"},
      {"{", "line 1, column 2: expected a name in quotes, found the end of the text"},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(Error(c.text) == c.error);
  }
  CHECK(Error(std::string_view("a = \"\0\"", 8)) == "line 1, column 6: a zero byte");
}

TEST_CASE("no message holds what may be a value") {
  for (const std::string_view text :
       {"token = \"ab\"hunter2", "token = \"ab\" \"hunter2\"", "token = \"ab\" \"hunter2\" = 1x",
        "token = hunter2", "token = \"hunter2", "token = [\"x\" \"hunter2\"]",
        "token = \"hunter2\\q\"", "token = <<EOF\nhunter2", "token = 5hunter2",
        "token = \"ab\" hunter2 = [1 2]", "{\"token\": \"ab\"hunter2\"}",
        "{\"token\": \"ab\", \"hunter2\"}", "{\"token\": hunter2}"}) {
    INFO(text);
    const std::string error = Error(text);
    CHECK(error.starts_with("line 1, "));
    CHECK(error.find("hunter2") == std::string::npos);
  }
}

TEST_CASE("depth and size are limited") {
  const auto nested = [](int depth, std::string_view open, std::string_view close) {
    std::string text = "a = ";
    for (int i = 0; i < depth; ++i) text += open;
    for (int i = 0; i < depth; ++i) text += close;
    return text;
  };
  CHECK(Parse(nested(kMaxDepth, "[", "]")).ok());
  CHECK(Error(nested(kMaxDepth + 1, "[", "]")).find("nested deeper than 32") != std::string::npos);
  CHECK(Error(nested(100'000, "[", "]")).find("nested deeper than 32") != std::string::npos);
  CHECK(Error(nested(100'000, "{ a = ", "}")).find("nested deeper than 32") != std::string::npos);
  std::string json = "{\"a\":";
  for (int i = 0; i < 100'000; ++i) json += "{\"a\":";
  CHECK(Error(json).find("nested deeper than 32") != std::string::npos);

  CHECK(Parse("#" + std::string(kMaxTextSize - 1, ' ')).ok());
  CHECK(Error("#" + std::string(kMaxTextSize, ' ')).find("at most 1048576") != std::string::npos);
}

TEST_CASE("every node knows where it stands") {
  const auto document = Parse("a = 1\n\n  path \"é\" {\n    b = [true,\n         \"x\"]\n  }\n");
  REQUIRE(document.ok());
  REQUIRE(document->members.size() == 2);
  const Item& path = document->members[1];
  CHECK(path.at().line == 3);
  CHECK(path.at().column == 3);
  CHECK(path.keys[1].at.column == 8);
  CHECK(path.value.at.line == 3);
  CHECK(path.value.at.column == 12);
  const Value& list = path.value.members[0].value;
  CHECK(list.at.line == 4);
  CHECK(list.at.column == 9);
  CHECK(list.list[1].at.line == 5);
  CHECK(list.list[1].at.column == 10);
}

TEST_CASE("a labelled block is the same in all its forms") {
  const std::string_view forms[] = {
      "listener \"tcp\" { a = 1 }\nlistener \"unix\" { a = 2 }",
      "listener = { tcp = { a = 1 }, unix = { a = 2 } }",
      "listener = [{ tcp = { a = 1 } }, { unix = { a = 2 } }]",
      R"({"listener": {"tcp": {"a": 1}, "unix": {"a": 2}}})",
      R"({"listener": [{"tcp": {"a": 1}}, {"unix": {"a": 2}}]})",
      R"({"listener": {"tcp": [{"a": 1}], "unix": [{"a": 2}]}})",
  };
  for (const std::string_view text : forms) {
    INFO(text);
    const auto document = Parse(text);
    REQUIRE(document.ok());
    std::string found;
    for (const Item& item : document->members) {
      const auto blocks = LabelledBlocks(item);
      REQUIRE(blocks.ok());
      for (const Block& block : *blocks) {
        StrAppend(&found, *block.label, DumpJson(ToJson(*block.object)).view());
      }
    }
    CHECK(found == R"(tcp{"a":1}unix{"a":2})");
  }
}

TEST_CASE("a block of the wrong shape is refused") {
  const struct {
    std::string_view text;
    std::string_view labelled;
    std::string_view plain;
  } cases[] = {
      {"x = 1", "line 1, column 5: \"x\" must be a block { … }, not a number",
       "line 1, column 5: \"x\" must be a block { … }, not a number"},
      {"x = [1]", "line 1, column 6: \"x\" must be a list of objects, not of a number",
       "line 1, column 6: \"x\" must be a list of objects, not of a number"},
      {"x { y = 1 }", "line 1, column 1: \"x\" needs a label: x \"…\" { … }", ""},
      {"x \"a\" \"b\" {}", "line 1, column 7: \"x\" takes one label",
       "line 1, column 3: \"x\" takes no label"},
      {"x \"a\" {}", "", "line 1, column 3: \"x\" takes no label"},
      {"x {}", "", ""},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    const auto document = Parse(c.text);
    REQUIRE(document.ok());
    CHECK(Message(LabelledBlocks(document->members[0]).status()) == c.labelled);
    CHECK(Message(PlainBlocks(document->members[0]).status()) == c.plain);
  }
}

}  // namespace
}  // namespace coffer::hcl
