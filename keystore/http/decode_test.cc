// Messages that are understood, and what is refused, as tables.
#include "keystore/http/decode.h"

#include <catch2/catch.hpp>

using namespace coffer;
using namespace coffer::keystore;

namespace {

struct Decoded {
  std::optional<HttpRefusal> refusal;
  Request request;
};

Decoded Decode(std::string_view method, std::string_view target, std::string_view body = {},
               std::string content_type = "application/json") {
  HttpMessage message;
  message.method = method;
  message.target = SecretBytes::CopyOf(target);
  message.body = SecretBytes::CopyOf(body);
  message.content_type = std::move(content_type);
  Decoded decoded;
  decoded.refusal = DecodeRequest(message, &decoded.request);
  return decoded;
}

std::string Dump(const Json& json) { return std::string(std::string_view(json.dump())); }

}  // namespace

TEST_CASE("Methods, paths, queries and bodies become operations, paths and data") {
  struct Case {
    std::string_view name, method, target, body;
    Operation operation;
    std::string_view path, data;
  };
  const auto c = GENERATE(values<Case>({
      {"a read", "GET", "/v1/secret/data/a", "", Operation::kRead, "secret/data/a", "{}"},
      {"HEAD is a read", "HEAD", "/v1/sys/health", "", Operation::kRead, "sys/health", "{}"},
      {"a query parameter is a string", "GET", "/v1/secret/data/a?version=2", "", Operation::kRead,
       "secret/data/a", R"({"version":"2"})"},
      {"a parameter given twice is a list", "GET", "/v1/x?a=1&a=2&a=3", "", Operation::kRead, "x",
       R"({"a":["1","2","3"]})"},
      {"a parameter without a value is empty", "GET", "/v1/sys/health?standbyok&&x=", "",
       Operation::kRead, "sys/health", R"({"standbyok":"","x":""})"},
      {"plus and percent are decoded in a query", "GET", "/v1/x?a=b+c%2b%26", "", Operation::kRead,
       "x", R"({"a":"b c+&"})"},
      {"LIST lists a directory", "LIST", "/v1/secret/metadata/a", "", Operation::kList,
       "secret/metadata/a/", "{}"},
      {"GET with list=true lists", "GET", "/v1/secret/metadata/?list=true", "", Operation::kList,
       "secret/metadata/", "{}"},
      {"the root may be listed", "LIST", "/v1/", "", Operation::kList, "", "{}"},
      {"list=false reads", "GET", "/v1/x?list=false", "", Operation::kRead, "x", "{}"},
      {"help=1 asks for help", "GET", "/v1/x?help=1", "", Operation::kHelp, "x", "{}"},
      {"POST updates", "POST", "/v1/x", R"({"a":{"b":1}})", Operation::kUpdate, "x",
       R"({"a":{"b":1}})"},
      {"PUT updates", "PUT", "/v1/x", "", Operation::kUpdate, "x", "{}"},
      {"null is an empty body", "PUT", "/v1/x", " null\n", Operation::kUpdate, "x", "{}"},
      {"a write takes nothing from the query", "PUT", "/v1/x?a=1&b=%", R"({"a":3})",
       Operation::kUpdate, "x", R"({"a":3})"},
      {"a write without a body is empty", "POST", "/v1/x?only=query", "", Operation::kUpdate, "x",
       "{}"},
      {"a patch takes nothing from the query", "PATCH", "/v1/x?b=1", R"({"a":3})",
       Operation::kPatch, "x", R"({"a":3})"},
      {"LIST has parameters", "LIST", "/v1/x/?after=a", "", Operation::kList, "x/",
       R"({"after":"a"})"},
      {"a body's own list is data", "POST", "/v1/x", R"({"list":true})", Operation::kUpdate, "x",
       R"({"list":true})"},
      {"PATCH patches", "PATCH", "/v1/x", R"({"a":null})", Operation::kPatch, "x", R"({"a":null})"},
      {"DELETE ignores a body", "DELETE", "/v1/x?a=1", "{{{", Operation::kDelete, "x",
       R"({"a":"1"})"},
      {"DELETE of a rekey takes its nonce from the body", "DELETE", "/v1/sys/rekey/init?nonce=a",
       R"({"nonce":"b"})", Operation::kDelete, "sys/rekey/init", R"({"nonce":"b"})"},
      {"a path is percent-decoded, and a plus in it stays", "GET", "/v1/secret/data/a%20b%2Fc+d", "",
       Operation::kRead, "secret/data/a b/c+d", "{}"},
      {"a path may be UTF-8", "GET", "/v1/secret/data/%C3%A9\xE2\x82\xAC", "", Operation::kRead,
       "secret/data/\xC3\xA9\xE2\x82\xAC", "{}"},
      {"dots within a segment are a name", "GET", "/v1/a..b/.c", "", Operation::kRead, "a..b/.c",
       "{}"},
  }));
  INFO(c.name);
  const Decoded decoded =
      Decode(c.method, c.target, c.body,
             c.operation == Operation::kPatch ? "application/merge-patch+json" : "application/json");
  if (decoded.refusal) FAIL(decoded.refusal->message);
  CHECK(decoded.request.operation == c.operation);
  CHECK(decoded.request.path == c.path);
  CHECK(Dump(decoded.request.data) == c.data);
}

TEST_CASE(
    "An unclean path of the API is redirected to the clean one, with its query, as in Vault") {
  struct Case {
    std::string_view target, location;
  };
  const auto c = GENERATE(values<Case>({
      {"//v1/secret/x", "/v1/secret/x"},
      {"/v1/secret//x?list=true", "/v1/secret/x?list=true"},
      {"/v1/secret/x//", "/v1/secret/x/"},
      {"/v1/secret/./x", "/v1/secret/x"},
      {"/v1/secret/../sys/x", "/v1/sys/x"},
  }));
  INFO(c.target);
  for (const char* method : {"GET", "LIST", "POST"}) {
    const Decoded decoded = Decode(method, c.target, "");
    REQUIRE(decoded.refusal);
    CHECK(decoded.refusal->status == 307);
    CHECK(decoded.refusal->location.view() == c.location);
  }
}

TEST_CASE("What can't be understood is refused, and the refusal says why") {
  struct Case {
    std::string name;
    std::string_view method;
    std::string target;
    std::string_view body;
    int status;
    std::string_view says;
  };
  const auto c = GENERATE(values<Case>({
      {"another prefix", "GET", "/v2/x", "", 404, "/v1/"},
      {"out of the API", "GET", "/v1/../../x/..", "", 400, ""},
      {"another host", "GET", "//evil.example/x", "", 404, "/v1/"},
      {"another host, to browsers", "GET", "/\\evil.example//v1/x", "", 404, "/v1/"},
      {"the root", "GET", "/", "", 404, "/v1/"},
      {"no path at all", "OPTIONS", "*", "", 404, "/v1/"},
      {"an absolute target", "GET", "http://x/v1/y", "", 404, "/v1/"},
      {"an unknown method", "BREW", "/v1/x", "", 405, "unsupported operation"},
      {"a method in lower case", "get", "/v1/x", "", 405, "unsupported operation"},
      {"half an escape", "GET", "/v1/a%2", "", 400, "percent"},
      {"a wrong escape", "GET", "/v1/a%zz", "", 400, "percent"},
      {"a wrong escape in the query", "GET", "/v1/a?b=%", "", 400, "query"},
      {"encoded parent references", "GET", "/v1/secret/%2e%2e/sys/x", "", 400, "parent references"},
      {"parent references by encoded slashes", "GET", "/v1/secret%2F..%2Fsys", "", 400,
       "parent references"},
      {"an empty segment by encoded slashes", "GET", "/v1/secret%2F%2Fx", "", 400, "empty segment"},
      {"an unclean path that is long", "GET", "/v1//" + std::string(300, 'x'), "", 400,
       "empty segment"},
      {"a NUL", "GET", "/v1/a%00b", "", 400, "control characters"},
      {"a line feed", "GET", "/v1/a%0Ab", "", 400, "control characters"},
      {"overlong UTF-8", "GET", "/v1/a%C0%AF", "", 400, "UTF-8"},
      {"a surrogate", "GET", "/v1/a%ED%A0%80", "", 400, "UTF-8"},
      {"cut off UTF-8", "GET", "/v1/a%E2%82", "", 400, "UTF-8"},
      {"list=maybe", "GET", "/v1/x?list=maybe", "", 400, "list"},
      {"broken JSON", "POST", "/v1/x", R"({"a":)", 400, "error parsing JSON"},
      {"two documents", "POST", "/v1/x", "{}{}", 400, "error parsing JSON"},
      {"an array", "POST", "/v1/x", "[1]", 400, "must be an object"},
      {"a string", "PUT", "/v1/x", "\"a\"", 400, "must be an object"},
  }));
  INFO(c.name);
  const Decoded decoded = Decode(c.method, c.target, c.body);
  REQUIRE(decoded.refusal);
  CHECK(decoded.refusal->status == c.status);
  CHECK_THAT(decoded.refusal->message, Catch::Contains(std::string(c.says)));
}

TEST_CASE("A body too deep for recursive code is refused") {
  const std::string deep(100'000, '[');
  CHECK(Decode("POST", "/v1/x", "{\"a\":" + deep).refusal->status == 400);
}

TEST_CASE("Content types: forms are read, JSON under a form's type too, and PATCH is particular") {
  const std::string form = "application/x-www-form-urlencoded";
  CHECK(Dump(Decode("POST", "/v1/x", "a=b+c&d=%7B", form).request.data) == R"({"a":"b c","d":"{"})");
  CHECK(Dump(Decode("POST", "/v1/x", "{\"a\":1}", form).request.data) == R"({"a":1})");
  CHECK(Dump(Decode("POST", "/v1/x?c=d", "a=b", form).request.data) == R"({"a":"b"})");
  CHECK(Decode("POST", "/v1/x", "a=%", form).refusal->status == 400);
  CHECK(Decode("POST", "/v1/x", "a=b", "").refusal->status == 400);
  CHECK_FALSE(Decode("PATCH", "/v1/x", "{}", "Application/Merge-Patch+JSON; charset=utf-8").refusal);
  for (const std::string type : {"application/json", "text/plain"}) {
    const Decoded decoded = Decode("PATCH", "/v1/x", "{}", type + "; charset=utf-8");
    REQUIRE(decoded.refusal);
    CHECK(decoded.refusal->status == 415);
    CHECK(decoded.refusal->message ==
          "PATCH requires Content-Type of application/merge-patch+json, provided " + type);
  }
  CHECK(Decode("PATCH", "/v1/x", "{}", "").refusal->status == 400);
}

TEST_CASE("The token goes into the request; other namespaces are refused") {
  HttpMessage message;
  message.method = "GET";
  message.target = SecretBytes::CopyOf(std::string_view("/v1/x"));
  message.token = SecretBytes::CopyOf(std::string_view("hvs.abc"));
  for (const char* root : {"", "root", "root/", "/"}) {
    message.name_space = root;
    Request request;
    CHECK_FALSE(DecodeRequest(message, &request));
    if (*root == '\0') CHECK(request.token.view() == "hvs.abc");
  }
  Request request;
  message.name_space = "team-a";
  CHECK(DecodeRequest(message, &request)->status == 400);
  message.name_space = "";
  for (const auto& [ttl, seconds] :
       {std::pair{"", 0}, {"0", 0}, {"60", 60}, {"60s", 60}, {"1h30m", 5400}, {"1500ms", 2}}) {
    message.wrap_ttl = ttl;
    CAPTURE(ttl);
    CHECK_FALSE(DecodeRequest(message, &request));
    CHECK(request.wrap_ttl == absl::Seconds(seconds));
  }
  for (const char* wrong : {"soon", "-5s", "5 s"}) {
    message.wrap_ttl = wrong;
    CHECK(DecodeRequest(message, &request)->status == 400);
  }
}
