// Answers, byte for byte.
#include "keystore/http/encode.h"

#include <catch2/catch.hpp>

#include "common/strings.h"

using namespace coffer;
using namespace coffer::keystore;

namespace {

constexpr std::string_view kDate = "Tue, 03 Jun 2025 11:40:51 GMT";

std::string Encode(const Response& response, HttpAnswer::Head head = {}) {
  Request request;
  request.id = "0b3d1b4e-0000-4000-8000-000000000000";
  head.date = kDate;
  HttpAnswer answer;
  answer.Write(request, response, "kv", head);
  return std::string(answer.view());
}

std::string Body(const Response& response) {
  const std::string text = Encode(response);
  return text.substr(text.find("\r\n\r\n") + 4);
}

}  // namespace

TEST_CASE("An answer is Vault's envelope under a head with its length") {
  CHECK(Encode(Response::Data({{"b", 1}, {"a", {"x", nullptr, true}}})) ==
        "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nDate: Tue, 03 Jun 2025 11:40:51 GMT\r\n"
        "Content-Type: application/json\r\nContent-Length: 203\r\n\r\n"
        R"({"request_id":"0b3d1b4e-0000-4000-8000-000000000000","lease_id":"","renewable":false,)"
        R"("lease_duration":0,"data":{"a":["x",null,true],"b":1},"wrap_info":null,"warnings":null,)"
        R"("auth":null,"mount_type":"kv"})"
        "\n");
}

TEST_CASE("Shapes of answers") {
  SECTION("nothing to say: 204, without body and length") {
    CHECK(Encode(Response::Empty()) ==
          "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n"
          "Date: Tue, 03 Jun 2025 11:40:51 GMT\r\n\r\n");
  }
  SECTION("204 and 304 that are asked for end with the head, too; 205 doesn't") {
    for (const int status : {204, 304}) {
      const std::string text = Encode(Response::Bare({{"sealed", false}}, status));
      CHECK_THAT(text, Catch::StartsWith(StrCat("HTTP/1.1 ", status, " ")));
      CHECK_THAT(text, Catch::EndsWith("GMT\r\n\r\n"));
      CHECK_THAT(text, !Catch::Contains("Content-"));
    }
    CHECK_THAT(Encode(Response::Bare({{"sealed", false}}, 205)),
               Catch::EndsWith("Content-Length: 17\r\n\r\n{\"sealed\":false}\n"));
  }
  SECTION("warnings alone make a body") {
    Response response;
    response.warnings = {"a \"b\""};
    CHECK_THAT(Body(response), Catch::Contains(R"("data":null)"));
    CHECK_THAT(Body(response), Catch::Contains(R"("warnings":["a \"b\""])"));
  }
  SECTION("bare: the document itself") {
    CHECK(Body(Response::Bare({{"sealed", true}}, 503)) == "{\"sealed\":true}\n");
    CHECK_THAT(Encode(Response::Bare({{"sealed", true}}, 503)),
               Catch::StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  }
  SECTION("Vault's own health codes") {
    CHECK_THAT(Encode(Response::Bare(nullptr, 472)), Catch::StartsWith("HTTP/1.1 472 \r\n"));
  }
  SECTION("flattened: members stand at the top too") {
    Response response = Response::Data({{"secret/", {{"type", "kv"}}}});
    response.flattened = true;
    const std::string body = Body(response);
    CHECK_THAT(body, Catch::Contains(R"("data":{"secret/":{"type":"kv"}})"));
    CHECK_THAT(body, Catch::EndsWith(R"("auth":null,"mount_type":"kv","secret/":{"type":"kv"}})"
                                     "\n"));
  }
  SECTION("a lease of kv version 1, in seconds") {
    Response response = Response::Data({{"a", 1}});
    response.lease_duration = absl::Hours(768);
    CHECK_THAT(Body(response), Catch::Contains(R"("lease_duration":2764800,"data":{"a":1})"));
  }
  SECTION("404 that tells more") {
    CHECK_THAT(Encode(Response::NotFoundWith({{"data", nullptr}})),
               Catch::StartsWith("HTTP/1.1 404 Not Found\r\n"));
  }
  SECTION("another content type") {
    Response response;
    response.content_type = "text/plain";
    response.raw_body = SecretBytes::CopyOf(std::string_view("hello"));
    CHECK_THAT(Encode(response), Catch::Contains("Content-Type: text/plain\r\n"));
    CHECK(Body(response) == "hello");
  }
  SECTION("HEAD: the length of the body that isn't there; close; TLS") {
    const std::string text = Encode(Response::Bare({{"a", 1}}),
                                    {.keep_alive = false, .head_only = true, .tls = true});
    CHECK_THAT(text, Catch::Contains("Content-Length: 8\r\n"));
    CHECK_THAT(text, Catch::Contains("Strict-Transport-Security: "));
    CHECK_THAT(text, Catch::EndsWith("Connection: close\r\n\r\n"));
  }
}

TEST_CASE("A login's answer shows the token as Vault does") {
  auto entry = std::make_shared<TokenEntry>();
  entry->accessor = "acc";
  entry->policies = {"default", "webapp"};
  entry->meta = {{"role", "webapp"}};
  entry->renewable = true;
  entry->creation_time = absl::FromUnixSeconds(1000);
  entry->expire_time = absl::FromUnixSeconds(1000 + 86400);
  Response response;
  response.auth = Auth{SecretBytes::CopyOf(std::string_view("hvs.x")), entry};
  const std::string_view shape =
      R"("auth":{"client_token":"hvs.x","accessor":"acc","policies":["default","webapp"],)"
      R"("token_policies":["default","webapp"],"metadata":{"role":"webapp"},)"
      R"("lease_duration":86400,"renewable":true,"entity_id":"","token_type":"service",)"
      R"("orphan":true,"mfa_requirement":null,"num_uses":0},"mount_type":"kv"})"
      "\n";
  CHECK_THAT(Body(response), Catch::EndsWith(std::string(shape)));

  entry->last_renewal = absl::FromUnixSeconds(5000);
  entry->expire_time = absl::FromUnixSeconds(5060);
  CHECK_THAT(Body(response), Catch::Contains(R"("lease_duration":60,)"));
  entry->expire_time = absl::InfiniteFuture();
  CHECK_THAT(Body(response), Catch::Contains(R"("lease_duration":0,"renewable":true)"));
}

TEST_CASE("Errors are Vault's, and an empty message leaves the list empty") {
  HttpAnswer answer;
  answer.WriteError({403, "permission \"denied\"\n"}, {.date = kDate});
  CHECK(std::string(answer.view()) ==
        "HTTP/1.1 403 Forbidden\r\nCache-Control: no-store\r\n"
        "Date: Tue, 03 Jun 2025 11:40:51 GMT\r\nContent-Type: application/json\r\n"
        "Content-Length: 39\r\n\r\n{\"errors\":[\"permission \\\"denied\\\"\\n\"]}\n");
  answer.WriteError({404, ""}, {.date = kDate});
  CHECK_THAT(std::string(answer.view()), Catch::EndsWith("\r\n\r\n{\"errors\":[]}\n"));
  answer.WriteError({307, "x", SecretBytes::CopyOf("/v1/a")}, {.date = kDate});
  CHECK_THAT(std::string(answer.view()), Catch::StartsWith("HTTP/1.1 307 Temporary Redirect\r\n") &&
                                             Catch::Contains("\r\nLocation: /v1/a\r\n"));
}

TEST_CASE("Dates are those of RFC 9110") {
  CHECK(HttpDate(absl::FromUnixSeconds(1748950851)) == kDate);
  CHECK(HttpDate(absl::FromUnixSeconds(784111777)) == "Sun, 06 Nov 1994 08:49:37 GMT");
}
