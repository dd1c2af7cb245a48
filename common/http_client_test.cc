#include "common/http_client.h"

#include <thread>

#include "common/http_client_test_server.h"

namespace coffer {
namespace {

const std::string kNames = "DNS:localhost,DNS:keystore.test,IP:127.0.0.1";

// Every case holds for each.
using Factory = std::unique_ptr<HttpTransport> (*)(const TlsClientOptions&);

HttpRequest Get(const std::string& url) { return {.url = url}; }

std::string Temporary(std::string_view content) {
  char path[] = "/tmp/coffer_http_XXXXXX";
  UniqueFd fd(mkstemp(path));
  REQUIRE(write(fd.get(), content.data(), content.size()) ==
          static_cast<ssize_t>(content.size()));
  return path;
}

TEST_CASE("a request arrives as it was given, and the answer comes back whole") {
  const Factory Make = GENERATE(MakeCurlTransport, MakeStreamTransport);
  TestHttpRequest seen;
  TestHttpServer server([&](const TestHttpRequest& request) {
    seen = request;
    return TestHttpAnswer(404, R"({"errors":[]})", "X-One: 1\r\nx-two:   two words \r\nX-One: 3\r\n");
  });
  const auto transport = Make({});

  struct Case {
    std::string method, target, body, content_length;
  };
  const Case cases[] = {{"GET", "/v1/secret/data/a?version=2&x=%20", "", ""},
                        {"LIST", "/v1/secret/metadata/a/../b", "", ""},
                        {"POST", "/v1/x", R"({"a":1})", "7"},
                        {"POST", "/v1/x", "", "0"},
                        {"PUT", "/v1/x", std::string("nul\0byte", 8), "8"},
                        {"PUT", "/v1/x", "", "0"},
                        {"PATCH", "/v1/x", "{}", "2"},
                        {"DELETE", "/v1/x", "", ""},
                        {"DELETE", "/v1/x", "{}", "2"}};
  for (const Case& c : cases) {
    CAPTURE(c.method, c.target, c.body);
    HttpRequest request{.method = c.method, .url = server.address() + c.target};
    request.headers.push_back({"X-Vault-Token", SecretBytes::CopyOf("hvs.token")});
    request.headers.push_back({"X-Empty", {}});
    request.body = SecretBytes::CopyOf(c.body);
    const auto response = transport->Send(request);
    REQUIRE(response.ok());
    CHECK(response->status == 404);
    CHECK(response->body.view() == R"({"errors":[]})");
    CHECK(response->header("x-one") == "1");
    CHECK(response->header("X-Two") == "two words");
    CHECK(response->header("x-three").empty());
    CHECK(seen.method() == c.method);
    CHECK(seen.target() == c.target);
    CHECK(seen.body == c.body);
    CHECK(seen.header("content-length") == c.content_length);
    CHECK(seen.header("x-vault-token") == "hvs.token");
    CHECK(seen.head.find("\r\nX-Empty:") != std::string::npos);
    CHECK(seen.header("Content-Type").empty());
    CHECK(seen.header("Expect").empty());
    CHECK(seen.head.starts_with(StrCat(c.method, " ", c.target, " HTTP/1.1\r\n")));
  }
  CHECK(server.connections() == 1);  // kept alive
}

TEST_CASE("HEAD answers have headers and no body, redirects aren't followed, cookies aren't kept") {
  const Factory Make = GENERATE(MakeCurlTransport, MakeStreamTransport);
  TestHttpRequest seen;
  TestHttpServer server([&](const TestHttpRequest& request) {
    seen = request;
    if (request.method() == "HEAD") return std::string("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    return TestHttpAnswer(307, "", "Location: /elsewhere\r\nSet-Cookie: a=b\r\n");
  });
  const auto transport = Make({});
  HttpRequest head{.method = "HEAD", .url = server.address()};
  CHECK(transport->Send(head)->header("Content-Length") == "9");
  const auto redirect = transport->Send(Get(server.address() + "/here"));
  CHECK(redirect->status == 307);
  CHECK(redirect->header("Location") == "/elsewhere");
  CHECK(transport->Send(Get(server.address() + "/here"))->status == 307);
  CHECK(seen.header("Cookie").empty());
}

TEST_CASE("chunked and interim answers are understood") {
  const Factory Make = GENERATE(MakeCurlTransport, MakeStreamTransport);
  TestHttpServer server([](const TestHttpRequest&) {
    return std::string(
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  });
  const auto response = Make({})->Send(Get(server.address()));
  REQUIRE(response.ok());
  CHECK(response->status == 200);
  CHECK(response->body.view() == "abcde");
  CHECK(response->header("Link").empty());
}

TEST_CASE("a transport serves many threads at once, over a connection each") {
  const Factory Make = GENERATE(MakeCurlTransport, MakeStreamTransport);
  TestHttpServer server([](const TestHttpRequest& request) {
    return TestHttpAnswer(200, request.target());
  });
  const auto transport = Make({});
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string target = StrCat("/", t, "/", i);
        const auto response = transport->Send(Get(server.address() + target));
        if (response.ok() && response->body.view() == target) ++right;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 400);
  CHECK(server.connections() <= 8);
}

TEST_CASE("a connection that the server closed while idle is replaced") {
  const Factory Make = GENERATE(MakeCurlTransport, MakeStreamTransport);
  TestHttpServer server([](const TestHttpRequest&) {
    return TestHttpAnswer(200, "", "Connection: close\r\n");
  });
  const auto transport = Make({});
  CHECK(transport->Send(Get(server.address()))->status == 200);
  CHECK(transport->Send(Get(server.address()))->status == 200);
}

TEST_CASE("an answer may come in pieces, cut anywhere") {
  const Factory Make = GENERATE(MakeCurlTransport, MakeStreamTransport);
  const std::string p(1, kTestHttpPause);
  const std::string length = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n";
  const std::string chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
  const std::string to_end = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
  const std::string cases[] = {
      length + "\r\n" + p + "abcdef",
      length + p + "\r\n" + p + "abc" + p + "def",
      length + "\r" + p + "\n" + "abc" + p + "def",
      "HTT" + p + "P/1.1 200 OK\r\nContent-Le" + p + "ngth: 6\r\n\r\nabcdef",
      "HTTP/1.1 103 Early\r\n\r\n" + p + length + "\r\n" + p + "abcdef",
      chunked + "\r\n" + p + "6\r\nabcdef\r\n0\r\n\r\n",
      chunked + "\r\n3\r\nabc\r\n" + p + "3\r" + p + "\nd" + p + "ef\r\n0\r\n" + p + "\r\n",
      to_end + "\r\n" + p + "abc" + p + "def",
  };
  for (const std::string& answer : cases) {
    TestHttpServer server([&](const TestHttpRequest&) { return answer; });
    const auto transport = Make({});
    for (int i = 0; i < 2; ++i) {
      const auto response = transport->Send(Get(server.address()));
      INFO(answer << response.status());
      REQUIRE(response.ok());
      CHECK(response->status == 200);
      CHECK(response->body.view() == "abcdef");
    }
  }
}

TEST_CASE("failures say what was tried and why, without the query") {
  const Factory Make = GENERATE(MakeCurlTransport, MakeStreamTransport);
  TestHttpServer server([](const TestHttpRequest& request) -> std::string {
    if (request.target() == "/slow") std::this_thread::sleep_for(std::chrono::milliseconds(400));
    if (request.target() == "/large") return TestHttpAnswer(200, std::string((32 << 20) + 1, 'x'));
    if (request.target() == "/most") return TestHttpAnswer(200, std::string(32 << 20, 'x'));
    if (request.target() == "/junk") return "junk\r\n\r\n";
    if (request.target() == "/short") return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc";
    if (request.target() == "/headers") {
      return TestHttpAnswer(200, "", StrCat("A: ", std::string(2 << 20, 'x'), "\r\n"));
    }
    return "";
  });
  int closed_port;
  { closed_port = TestHttpServer([](const TestHttpRequest&) { return ""; }).port(); }
  const std::string closed = StrCat("http://127.0.0.1:", closed_port);

  struct Case {
    std::string url;
    absl::StatusCode code;
    std::string_view says;
  };
  const Case cases[] = {
      {closed + "/v1/x?secret=1", absl::StatusCode::kUnavailable,
       "/v1/x: can't connect: Connection refused: is the server running, is the address right?"},
      {"http://user:hunter2@127.0.0.1:1/x", absl::StatusCode::kUnavailable,
       "GET http://127.0.0.1:1/x: can't connect"},
      {"http://no-such-host.invalid/x", absl::StatusCode::kUnavailable, "can't be resolved"},
      {server.address() + "/slow", absl::StatusCode::kDeadlineExceeded, "no answer within 150ms"},
      {server.address() + "/large", absl::StatusCode::kResourceExhausted, "larger than 32 MiB"},
      {server.address() + "/headers", absl::StatusCode::kResourceExhausted, "header line"},
      {server.address() + "/junk", absl::StatusCode::kUnavailable, "/junk: "},
      {server.address() + "/empty?secret=1", absl::StatusCode::kUnavailable, "/empty: "},
      {"ftp://127.0.0.1/x", absl::StatusCode::kInvalidArgument, "http:// or https://"},
      {"127.0.0.1:8200", absl::StatusCode::kInvalidArgument, "http:// or https://"},
      {"http://", absl::StatusCode::kInvalidArgument, "names no host"},
      {"http://a/b c", absl::StatusCode::kInvalidArgument, "a space"},
      {"http://a:99999/", absl::StatusCode::kInvalidArgument, "valid URL"},
      {std::string("http://127.0.0.1/a\0b", 20), absl::StatusCode::kInvalidArgument, "control"}};
  const auto transport = Make({});
  for (const Case& c : cases) {
    HttpRequest request = Get(c.url);
    if (c.url.ends_with("/slow")) request.timeout = absl::Milliseconds(150);
    const auto response = transport->Send(request);
    CAPTURE(c.url, response.status().ToString());
    CHECK(response.status().code() == c.code);
    CHECK(Message(response.status()).find(c.says) != std::string_view::npos);
    CHECK(Message(response.status()).find("secret") == std::string_view::npos);
    CHECK(Message(response.status()).find("hunter2") == std::string_view::npos);
  }
  CHECK(transport->Send(Get(server.address() + "/most"))->body.size() == 32 << 20);
  HttpRequest short_answer = Get(server.address() + "/short");
  short_answer.timeout = absl::Milliseconds(200);
  CHECK_FALSE(transport->Send(short_answer).ok());
}

TEST_CASE("headers and methods can't smuggle lines") {
  const Factory Make = GENERATE(MakeCurlTransport, MakeStreamTransport);
  const auto transport = Make({});
  struct Case {
    std::string method, name, value;
  };
  const Case cases[] = {{"GET", "A", "b\r\nC: d"}, {"GET", "A", "b\nC"},
                        {"GET", "A", std::string("b\0c", 3)}, {"GET", "A: x\r\nB", "c"},
                        {"GET", "", "c"}, {"GET / HTTP/1.1\r\nX:", "A", "b"}, {"", "A", "b"}};
  for (const Case& c : cases) {
    HttpRequest request{.method = c.method, .url = "http://127.0.0.1:1/"};
    request.headers.push_back({c.name, SecretBytes::CopyOf(c.value)});
    CHECK(transport->Send(request).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("TLS: who is trusted is what the options say") {
  const Factory Make = GENERATE(MakeCurlTransport, MakeStreamTransport);
  const TestCertificate ca("");
  const TestCertificate other_ca("");
  const TestCertificate good(kNames, &ca);
  const TestCertificate wrong_name("DNS:elsewhere.test", &ca);
  const auto handler = [](const TestHttpRequest& request) {
    return TestHttpAnswer(200, request.header("Host"));
  };
  TestHttpServer server(handler, &good);
  TestHttpServer elsewhere(handler, &wrong_name);
  TestHttpServer old(handler, &good, nullptr, TLS1_1_VERSION);
  TestHttpServer plain(handler);
  const std::string ca_file = Temporary(ca.certificate_pem());
  const std::string other_file = Temporary(other_ca.certificate_pem());
  const std::string plain_https = StrCat("https://127.0.0.1:", plain.port());

  struct Case {
    std::string_view holds;
    TlsClientOptions tls;
    std::string url;
    std::string_view says;  // "" = works
  };
  const Case cases[] = {
      {"CA as PEM", {.ca_pem = ca.certificate_pem()}, server.address(), ""},
      {"CA as file", {.ca_file = ca_file}, server.address(), ""},
      {"CA as PEM beside another's file",
       {.ca_file = other_file, .ca_pem = ca.certificate_pem()}, server.address(), ""},
      {"CA as file beside another's PEM",
       {.ca_file = ca_file, .ca_pem = other_ca.certificate_pem()}, server.address(), ""},
      {"skip_verify", {.skip_verify = true}, elsewhere.address(), ""},
      {"system CAs alone", {}, server.address(), "TLS: "},
      {"another CA", {.ca_pem = other_ca.certificate_pem()}, server.address(), "is the CA"},
      {"another name", {.ca_pem = ca.certificate_pem()}, elsewhere.address(), "TLS: "},
      {"server_name in place of the host",
       {.ca_pem = ca.certificate_pem(), .server_name = "elsewhere.test"}, elsewhere.address(), ""},
      {"wrong server_name",
       {.ca_pem = ca.certificate_pem(), .server_name = "x.test"}, server.address(), "TLS: "},
      {"TLS 1.1", {.ca_pem = ca.certificate_pem()}, old.address(), "TLS: "},
      {"no PEM", {.ca_pem = "junk"}, server.address(), "TLS: "},
      {"no such CA file", {.ca_file = "/nonexistent/ca.pem"}, server.address(), "TLS: "},
      {"no such CA file beside PEM",
       {.ca_file = "/nonexistent/ca.pem", .ca_pem = ca.certificate_pem()}, server.address(),
       "can't read the CA file /nonexistent/ca.pem"},
      {"https to a plain server", {.skip_verify = true}, plain_https, "plain http://"}};
  for (const Case& c : cases) {
    const auto response = Make(c.tls)->Send(Get(c.url));
    CAPTURE(c.holds, response.status().ToString());
    if (c.says.empty()) {
      REQUIRE(response.ok());
      // The Host header names the address, whatever the certificate is checked for.
      CHECK(c.url.ends_with(response->body.view()));
    } else {
      CHECK(response.status().code() == absl::StatusCode::kFailedPrecondition);
      CHECK(Message(response.status()).find(c.says) != std::string_view::npos);
    }
  }
  CHECK(elsewhere.server_name() == "elsewhere.test");
}

TEST_CASE("TLS: the client shows its certificate where it has one") {
  const Factory Make = GENERATE(MakeCurlTransport, MakeStreamTransport);
  const TestCertificate ca("");
  const TestCertificate good(kNames, &ca);
  const TestCertificate client("", &ca);
  TestHttpServer server([](const TestHttpRequest&) { return TestHttpAnswer(200, "in"); }, &good,
                        &ca);
  TlsClientOptions tls{.ca_pem = ca.certificate_pem()};
  CHECK_FALSE(Make(tls)->Send(Get(server.address())).ok());
  tls.client_certificate_file = Temporary(client.certificate_pem());
  tls.client_key_file = Temporary(client.key_pem());
  const auto transport = Make(tls);
  CHECK(transport->Send(Get(server.address()))->body.view() == "in");
  CHECK(transport->Send(Get(server.address()))->body.view() == "in");
  CHECK(server.connections() == 2);  // the refused one, and one kept alive
}

TEST_CASE("TLS: a server that has gone away raises no signal") {
  const Factory Make = GENERATE(MakeCurlTransport, MakeStreamTransport);
  const TestCertificate ca("");
  const TestCertificate good(kNames, &ca);
  const auto transport = Make({.ca_pem = ca.certificate_pem()});
  for (int i = 0; i < 20; ++i) {
    TestHttpServer server([](const TestHttpRequest&) { return TestHttpAnswer(200, "in"); }, &good);
    HttpRequest request{.method = "POST", .url = server.address()};
    request.body = SecretBytes(i % 2 == 0 ? 0 : 8 << 20);
    CHECK(transport->Send(request)->body.view() == "in");
  }
  sigset_t pending;
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGPIPE) == 0);
}

TEST_CASE("the command line's transport takes proxies from the environment") {
  TestHttpServer proxy([](const TestHttpRequest& request) {
    return TestHttpAnswer(200, request.target());
  });
  setenv("http_proxy", proxy.address().c_str(), 1);
  setenv("no_proxy", "direct.invalid", 1);
  const auto transport = MakeCurlTransport({});
  const auto proxied = transport->Send(Get("http://keystore.invalid:8200/v1/a?b=c"));
  const auto direct = transport->Send(Get("http://direct.invalid:8200/v1/a"));
  unsetenv("http_proxy");
  unsetenv("no_proxy");
  CHECK(proxied->body.view() == "http://keystore.invalid:8200/v1/a?b=c");
  CHECK_FALSE(direct.ok());
  CHECK(proxy.requests() == 1);
}

TEST_CASE("percent-encoding keeps what RFC 3986 calls unreserved") {
  CHECK(EncodeUrlPath("a/b c/d%/\xc3\xa9?#~-._") == "a/b%20c/d%25/%C3%A9%3F%23~-._");
  CHECK(EncodeUrlQuery("a/b&c=d+e") == "a%2Fb%26c%3Dd%2Be");
}

}  // namespace
}  // namespace coffer
