// Whole, split and broken HTTP.
#include "keystore/http/request_parser.h"

#include <catch2/catch.hpp>

#include "common/strings.h"

using namespace coffer;
using namespace coffer::keystore;

namespace {

struct Parsed {
  HttpMessage message;
  std::optional<HttpRefusal> refusal;
  bool done = false;
  bool persistent = false;
  std::size_t taken = 0;
};

// Feeds `bytes` as a connection would: `piece` more at a time behind what was left.
Parsed Parse(std::string_view bytes, std::size_t piece, std::uint64_t body_limit = 1024) {
  Parsed parsed;
  RequestParser parser(parsed.message, body_limit);
  std::size_t come = 0;
  while (!parser.done() && !parsed.refusal && come < bytes.size()) {
    come = std::min(bytes.size(), come + piece);
    parsed.taken += parser.Take(bytes.substr(parsed.taken, come - parsed.taken), &parsed.refusal);
  }
  parsed.done = parser.done();
  if (parsed.done) parsed.persistent = parser.persistent();
  return parsed;
}

}  // namespace

TEST_CASE("A request is the same however it is split") {
  const std::string_view head =
      "POST /v1/secret/data/a?x=1 HTTP/1.1\r\nHost: h\r\nX-Vault-Token:  hvs.abc \r\n"
      "x-vault-request: true\r\nX-Vault-Namespace: root\r\nContent-Type: application/json\r\n";
  const std::string sized = StrCat(head, "Content-Length: 7\r\n\r\n{\"a\":1}");
  const std::string chunked =
      StrCat(head, "Transfer-Encoding: chunked\r\n\r\n3;e=f\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n",
             "X-Vault-Token: trailer\r\n\r\n");
  for (const std::string& text : {sized, chunked}) {
    for (const std::size_t piece : {1, 2, 3, 7, 50, 10'000}) {
      CAPTURE(text, piece);
      const Parsed parsed = Parse(text + "GET", piece);
      if (parsed.refusal) FAIL(parsed.refusal->message);
      REQUIRE(parsed.done);
      CHECK(parsed.persistent);
      CHECK(parsed.taken == text.size());
      CHECK(parsed.message.method == "POST");
      CHECK(parsed.message.target.view() == "/v1/secret/data/a?x=1");
      CHECK(parsed.message.token.view() == "hvs.abc");
      CHECK(parsed.message.vault_request);
      CHECK(parsed.message.name_space == "root");
      CHECK(parsed.message.content_type == "application/json");
      CHECK(parsed.message.body.view() == "{\"a\":1}");
    }
  }
}

TEST_CASE("Tokens: either header, and X-Vault-Token wins") {
  struct Case {
    std::string_view headers, token;
  };
  const auto c = GENERATE(values<Case>({
      {"X-Vault-Token: a\r\n", "a"},
      {"authorization: bearer b\r\n", "b"},
      {"Authorization: Basic b\r\n", ""},
      {"Authorization: Bearer \r\n", ""},
      {"Authorization: Bearer b\r\nX-Vault-Token: a\r\n", "a"},
      {"X-Vault-Token: a\r\nAuthorization: Bearer b\r\n", "a"},
      {"X-Vault-Token: \r\nAuthorization: Bearer b\r\n", "b"},
  }));
  CAPTURE(c.headers);
  const Parsed parsed = Parse(StrCat("GET /v1/x HTTP/1.1\r\nHost: h\r\n", c.headers, "\r\n"), 9999);
  REQUIRE(parsed.done);
  CHECK(parsed.message.token.view() == c.token);
}

TEST_CASE("A target may name its origin, which is left out") {
  struct Case {
    std::string_view sent, target;
  };
  const auto c = GENERATE(values<Case>({
      {"/v1/x?a=http://b/", "/v1/x?a=http://b/"},
      {"http://vault:8200/v1/x?a=b", "/v1/x?a=b"},
      {"HTTPS://vault/v1/x", "/v1/x"},
      {"http://vault", "/"},
      {"http://vault?a=b", "/?a=b"},
      {"httpx://vault/", "httpx://vault/"},
      {"*", "*"},
  }));
  CAPTURE(c.sent);
  const Parsed parsed = Parse(StrCat("GET ", c.sent, " HTTP/1.1\r\nHost: other\r\n\r\n"), 7);
  REQUIRE(parsed.done);
  CHECK(parsed.message.target.view() == c.target);
}

TEST_CASE("A connection persists unless its client says otherwise") {
  CHECK(Parse("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 99).persistent);
  CHECK_FALSE(Parse("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 99).persistent);
  CHECK_FALSE(Parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 99).persistent);
  CHECK(Parse("GET / HTTP/1.0\r\n\r\n", 99).done);  // which knows no Host
}

TEST_CASE("Broken HTTP is refused") {
  struct Case {
    std::string name, text;
    int status;
  };
  const std::string large(70'000, 'x');
  const auto c = GENERATE_COPY(values<Case>({
      {"not HTTP", "\x16\x03\x01\x02\x00\x01\r\n\r\n", 400},
      {"no version", "GET /v1/x\r\n\r\n", 400},
      {"HTTP/2", "GET /v1/x HTTP/2.0\r\n\r\n", 400},
      {"a control character in the target", "GET /v1/\x01 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"a header without a name", "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", 400},
      {"a space before the colon", "GET / HTTP/1.1\r\nHost: h\r\nA : x\r\n\r\n", 400},
      {"a NUL in a header", std::string("GET / HTTP/1.1\r\nHost: h\r\nA: \0b\r\n\r\n", 35), 400},
      {"no host", "GET / HTTP/1.1\r\nA: b\r\n\r\n", 400},
      {"no host, and a body", "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400},
      {"no host in an absolute target", "GET http:///v1/x HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"a length that is no number", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400},
      {"two lengths", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
      {"a length beyond 64 bits",
       "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
      {"a length and chunks",
       "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"chunks and a length",
       "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
      {"a coding that isn't known", "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 400},
      {"chunked within another coding",
       "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400},
      {"a chunk that is no number",
       "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {"a body too large", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1025\r\n\r\n", 413},
      {"a chunk too large", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n", 413},
      {"a target too long", "GET /" + large + " HTTP/1.1\r\nHost: h\r\n\r\n", 431},
      {"a field too long", "GET / HTTP/1.1\r\nHost: h\r\nA: " + large + "\r\n\r\n", 431},
  }));
  for (const std::size_t piece : {1, 1000, 100'000}) {
    if (piece == 1 && c.text.size() > 1000) continue;
    CAPTURE(c.name, piece);
    const Parsed parsed = Parse(c.text, piece);
    REQUIRE(parsed.refusal);
    CHECK(parsed.refusal->status == c.status);
  }
}

TEST_CASE("Many small header fields count together") {
  std::string text = "GET / HTTP/1.1\r\nHost: h\r\n";
  for (int i = 0; i < 10'000; ++i) text += "A: 12345\r\n";
  const Parsed parsed = Parse(text + "\r\n", 500);
  REQUIRE(parsed.refusal);
  CHECK(parsed.refusal->status == 431);
}
