// JSON in and out, against RFC 8259 and against nlohmann's reader.
#include "common/json.h"

#include <catch2/catch.hpp>

#include "common/json_writer.h"
#include "common/strings.h"

using namespace coffer;

namespace {

std::string WriteJson(const Json& json) {
  SecretBytes out;
  AppendJson(json, &out);
  return std::string(out.view());
}

}  // namespace

TEST_CASE("JSON: what is written reads the same") {
  struct Case {
    std::string_view name, text;
  };
  const auto c = GENERATE(values<Case>({
      {"empty containers", R"({"a":{},"b":[]})"},
      {"numbers", R"([0,-1,18446744073709551615,-9223372036854775808,1.5,1e+300,0.1])"},
      {"strings", R"(["","a\"b\\c\n\r\t\u0001","é€😀"])"},
      {"booleans and null", R"([true,false,null])"},
  }));
  INFO(c.name);
  const Json parsed = ParseJson(c.text).value();
  CHECK(WriteJson(parsed) == c.text);
  CHECK(ParseJson(WriteJson(parsed)).value() == parsed);
}

TEST_CASE("JSON: a number with a point or an exponent is written as Go's encoding/json writes it") {
  struct Case {
    std::string_view read, written;
  };
  const auto c = GENERATE(values<Case>({
      {"1.0", "1"},
      {"0.0", "0"},
      {"-0.0", "-0"},
      {"1e2", "100"},
      {"1E5", "100000"},
      {"-1.5e3", "-1500"},
      {"12.5", "12.5"},
      {"0.1", "0.1"},
      {"123456.789e3", "123456789"},
      {"1e20", "100000000000000000000"},
      {"1.2345678901234568e20", "123456789012345680000"},
      {"999999999999999868928.0", "999999999999999900000"},
      {"18446744073709551616", "18446744073709552000"},
      {"1e21", "1e+21"},
      {"-1e21", "-1e+21"},
      {"1.5e300", "1.5e+300"},
      {"0.000001", "0.000001"},
      {"0.00000123", "0.00000123"},
      {"0.0000009", "9e-7"},
      {"-1.25e-7", "-1.25e-7"},
      {"1e-10", "1e-10"},
      {"5e-324", "5e-324"},
      {"1.7976931348623157e308", "1.7976931348623157e+308"},
  }));
  const Json parsed = ParseJson(c.read).value();
  CHECK(WriteJson(parsed) == c.written);
  CHECK(ParseJson(c.written).value() == parsed);
}

TEST_CASE("JSON: bytes that aren't UTF-8 become U+FFFD, and the document stays readable") {
  for (const std::string_view wrong :
       {"\xff", "\xc0\xaf", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x80\x80\x80"}) {
    SecretBytes out;
    AppendJsonString(std::string("a") + std::string(wrong) + "b", &out);
    const Json read = ParseJson(out.view()).value();
    CHECK(read.get<SecretString>().find("\xef\xbf\xbd") == 1);
  }
  CHECK(WriteJson(std::numeric_limits<double>::infinity()) == "null");
}


TEST_CASE("JSON: what is well-formed is read, as nlohmann reads it") {
  const auto text = GENERATE(as<std::string>(), R"({"a":{"b":[1,2,{"c":null}]},"d":"e"})", "[]", "{}",
                             " \n\r\t[ 1 , 2 ]\t", "\xef\xbb\xbf{}", "0", "-0", "-1", "1.0", "1.5e3",
                             "1E+2", "1e-7", "0.1", "5e-324", "1.7976931348623157e308",
                             "9223372036854775807", "-9223372036854775808", "18446744073709551615",
                             "18446744073709551616", "-9223372036854775809", R"("")", R"("\u0000")",
                             R"("\"\\\/\b\f\n\r\t")", R"("\u00e9\u20AC\ud83d\ude00")",
                             "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", R"({"a":1,"a":[2]})",
                             R"({"":true})", "true", "false", "null");
  CAPTURE(text);
  const absl::StatusOr<Json> read = ParseJson(text);
  REQUIRE(read.ok());
  const Json expected = Json::parse(text);
  CHECK(*read == expected);
  CHECK(read->type() == expected.type());
  CHECK(ParseJson(DumpJson(*read).view()).value() == *read);
}

TEST_CASE("JSON: what isn't well-formed is refused, with its place") {
  struct Case {
    std::string text;
    int byte;  // 0: another message
  };
  const auto c = GENERATE(values<Case>({
      {"", 1},          {" ", 2},           {"{", 2},           {"[", 2},          {"[1", 3},
      {"[1,", 4},       {"[1,]", 4},        {"[,1]", 2},        {"[1 2]", 4},      {"{\"a\"}", 5},
      {"{\"a\":}", 6}, {"{\"a\":1,}", 8}, {"{a:1}", 2},       {"{1:1}", 2},      {"{}x", 3},
      {"[] []", 4},     {"tru", 4},         {"trux", 4},        {"True", 1},       {"nul", 4},
      {"NaN", 1},       {"01", 2},          {"-", 2},           {"+1", 1},         {".5", 1},
      {"1.", 3},        {"1.e1", 3},        {"1e", 3},          {"1e+", 4},        {"0x1", 2},
      {"\"a", 3},       {"\"a\nb\"", 3},    {"\"\\x\"", 3},    {"\"\\u12g4\"", 6}, {"\"\\u12", 6},
      {"\"\\ud800\"", 8}, {"\"\\ud800\\u0041\"", 14}, {"\"\\udc00\"", 8}, {"\"\xff\"", 2},
      {"\"\xc0\xaf\"", 2}, {"\"\xed\xa0\x80\"", 2}, {"'a'", 1}, {"// a\n1", 1},
      {std::string("\0", 1), 1}, {std::string("[\0]", 3), 2},
      {"1e999", 0},     {"-1e999", 0},
  }));
  CAPTURE(c.text);
  const absl::StatusOr<Json> read = ParseJson(c.text);
  REQUIRE_FALSE(read.ok());
  CHECK(std::string(read.status().message()) ==
        (c.byte == 0 ? "not valid JSON: a number is out of range"
                     : StrCat("not valid JSON: wrong at byte ", c.byte)));
  CHECK_FALSE(Json::accept(c.text));
}

TEST_CASE("JSON: 64 levels are read, 65 are not") {
  const auto nested = [](std::size_t levels) {
    return std::string(levels, '[') + std::string(levels, ']');
  };
  CHECK(ParseJson(nested(64)).ok());
  CHECK(ParseJson(nested(65)).status().message() ==
        "not valid JSON: nested deeper than 64 levels");
  CHECK_FALSE(ParseJson(std::string(1'000'000, '[')).ok());
  CHECK_FALSE(ParseJson("{\"a\":" + std::string(1'000'000, '[')).ok());
}
