#include "cli/arguments.h"

#include "cli/test_shell.h"

namespace coffer::cli {
namespace {

std::string Parsed(std::vector<std::string> args, std::string_view input = "") {
  const UniqueFd in = MemoryFile(input), out = MemoryFile();
  Console console(in.get(), out.get(), out.get());
  const absl::StatusOr<Json> data = ParseData(args, console);
  return std::string(data.ok() ? DumpJson(*data).view() : Message(data.status()));
}

// A file with the text, gone with this object.
class TextFile {
 public:
  explicit TextFile(std::string_view text) {
    UniqueFd fd(mkstemp(path_));
    REQUIRE(write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  ~TextFile() { unlink(path_); }
  std::string path() const { return path_; }

 private:
  char path_[32] = "/tmp/coffer_cli_test_XXXXXX";
};

TEST_CASE("data is read from pairs, files and standard input") {
  const TextFile text("line 1\nline 2\n"), json("{\"a\":1,\"b\":{\"c\":[true]}}");
  struct Case {
    std::vector<std::string> args;
    std::string input;
    std::string want;
  };
  const Case kCases[] = {
      {{}, "", "{}"},
      {{"a=b"}, "", R"({"a":"b"})"},
      {{"a="}, "", R"({"a":""})"},
      {{"a=b=c d"}, "", R"({"a":"b=c d"})"},
      {{"=b"}, "", R"({"":"b"})"},
      {{"", "a=b"}, "", R"({"a":"b"})"},
      {{"a=1", "a=2", "a=3"}, "", R"({"a":["1","2","3"]})"},
      {{"a=\\@b"}, "", R"({"a":"@b"})"},
      {{"a=\\b"}, "", R"({"a":"\\b"})"},
      {{"a=@" + text.path()}, "", R"({"a":"line 1\nline 2\n"})"},
      {{"@" + json.path()}, "", R"({"a":1,"b":{"c":[true]}})"},
      {{"@" + json.path(), "z=1"}, "", R"({"a":1,"b":{"c":[true]},"z":"1"})"},
      {{"a=-"}, "s3cret\n", R"({"a":"s3cret\n"})"},
      {{"-"}, R"({"n":7})", R"({"n":7})"},
      {{"x=1", "-"}, R"({"n":7})", R"({"n":7,"x":"1"})"},
  };
  for (const Case& c : kCases) {
    CAPTURE(c.args);
    CHECK(Parsed(c.args, c.input) == c.want);
  }
}

TEST_CASE("wrong data is refused, and messages hold none of it") {
  const TextFile list("[1]"), broken("{\"password\": \"hunter2\"");
  CHECK(Parsed({"a"}) == "format must be key=value");
  CHECK(Parsed({"@" + list.path()}) == "the JSON data isn't an object");
  CHECK(Parsed({"@" + broken.path()}).find("not valid JSON: wrong at byte") == 0);
  CHECK(Parsed({"@" + broken.path()}).find("hunter2") == std::string::npos);
  CHECK(Parsed({"a=@/nowhere/at/all"}).find("error reading file: open /nowhere/at/all") == 0);
  CHECK(Parsed({"a=-", "b=-"}, "x") == "stdin already consumed");
}

}  // namespace
}  // namespace coffer::cli
