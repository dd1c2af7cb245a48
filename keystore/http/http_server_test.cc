// The real server on loopback ports, spoken to byte by byte and through libcurl.
#include "keystore/http/http_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/time/clock.h"
#include "common/http_client.h"
#include "common/http_client_test_server.h"
#include "common/unique_fd.h"

using namespace coffer;
using namespace coffer::keystore;

namespace {

// What the handler of these tests answers, by path.
void Answer(Request& request, HttpServer::Answer answer) {
  if (request.path == "later") {
    std::thread([answer = std::move(answer)] {
      absl::SleepFor(absl::Milliseconds(100));
      answer(Response::Data({{"from", "another thread"}}));
    }).detach();
  } else if (request.path == "large") {
    Response response;
    response.content_type = "text/plain";
    response.raw_body = SecretBytes(std::size_t{20} << 20);
    answer(std::move(response));
  } else if (request.path == "denied") {
    answer(absl::PermissionDeniedError("permission denied"));
  } else if (request.path == "size") {
    answer(Response::Bare({{"size", request.data["text"].get<SecretString>().size()}}));
  } else {
    answer(Response::Bare({{"path", request.path},
                           {"token", std::string_view(request.token.view())},
                           {"from", request.remote_address}}));
  }
}

int PortOf(const std::string& address) { return std::stoi(address.substr(address.rfind(':') + 1)); }

// A client that sends what it is told.
class RawClient {
 public:
  explicit RawClient(const std::string& address) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{.sin_family = AF_INET,
                   .sin_port = htons(static_cast<std::uint16_t>(PortOf(address))),
                   .sin_addr = {htonl(INADDR_LOOPBACK)}};
    REQUIRE(connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0);
  }
  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  // All that comes until `end` has come, the connection ends or `limit` passes.
  std::string Receive(std::string_view end, int limit_ms = 5000) {
    std::string text;
    char buffer[4096];
    pollfd ready{.fd = fd_.get(), .events = POLLIN};
    while ((end.empty() || text.find(end) == text.npos) && poll(&ready, 1, limit_ms) == 1) {
      const ssize_t size = recv(fd_.get(), buffer, sizeof(buffer), 0);
      if (size <= 0) {
        closed_ = true;
        break;
      }
      text.append(buffer, static_cast<std::size_t>(size));
    }
    return text;
  }
  bool closed() const { return closed_; }

 private:
  UniqueFd fd_;
  bool closed_ = false;
};

struct Served {
  explicit Served(ListenerOptions options = {}, ServerOptions server_options = {.threads = 2})
      : server(Answer, server_options) {
    options.address = "127.0.0.1:0";
    address = server.Listen(options).value();
    server.Start();
  }
  HttpServer server;
  std::string address;
};

std::size_t Count(std::string_view text, std::string_view what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("A connection serves request after request, also pipelined, in order") {
  Served served;
  RawClient client(served.address);
  client.Send("GET /v1/a HTTP/1.1\r\nHost: h\r\nX-Vault-Token: t1\r\n\r\n");
  const std::string first = client.Receive("}\n");
  CHECK_THAT(first, Catch::StartsWith("HTTP/1.1 200 OK\r\n"));
  CHECK_THAT(first, Catch::EndsWith(R"({"from":"127.0.0.1","path":"a","token":"t1"})"
                                    "\n"));
  client.Send(
      "GET /v1/later HTTP/1.1\r\nHost: h\r\n\r\nPOST /v1/b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
      "GET /v1/denied HTTP/1.1\r\nHost: h\r\n\r\nGET /v1/last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  const std::string rest = client.Receive("");
  CHECK(client.closed());
  CHECK(rest.find("another thread") < rest.find("\"path\":\"b\""));
  CHECK(rest.find("\"path\":\"b\"") < rest.find("{\"errors\":[\"permission denied\"]}"));
  CHECK(rest.find("permission denied") < rest.find("\"path\":\"last\""));
  CHECK(Count(rest, "HTTP/1.1 ") == 4);
  CHECK(Count(rest, "Connection: close\r\n") == 1);
  CHECK_THAT(rest, !Catch::Contains("\"token\":\"t1\""));  // each request brings its own
}

TEST_CASE("Malformed requests are answered and end the connection; well-formed wrong ones don't") {
  Served served;
  RawClient broken(served.address);
  broken.Send("nonsense\r\n\r\n");
  CHECK_THAT(broken.Receive(""), Catch::StartsWith("HTTP/1.1 400 Bad Request\r\n"));
  CHECK(broken.closed());

  RawClient wrong(served.address);
  wrong.Send("POST /v1/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n{GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string answers = wrong.Receive("/v1/\"]}\n");
  CHECK_THAT(answers, Catch::Contains("error parsing JSON"));
  CHECK_THAT(answers, Catch::Contains("HTTP/1.1 404 Not Found\r\n"));
  wrong.Send("GET /v1/b HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK_THAT(wrong.Receive("}\n"), Catch::Contains("\"path\":\"b\""));
}

TEST_CASE("A body over the limit is refused, and the client that goes on sending gets to know") {
  Served served({.max_request_size = 1000});
  RawClient client(served.address);
  client.Send("POST /v1/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n");
  client.Send(std::string(5'000'000, 'x'));
  CHECK_THAT(client.Receive(""), Catch::StartsWith("HTTP/1.1 413 "));
  CHECK(client.closed());
}

TEST_CASE("Bodies of many megabytes come in and go out whole") {
  Served served;
  RawClient client(served.address);
  const std::string text(9'000'000, 'x');
  client.Send("POST /v1/size HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9000011\r\n\r\n");
  CHECK(client.Receive("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send("{\"text\":\"" + text + "\"}");
  CHECK_THAT(client.Receive("}\n"), Catch::EndsWith("{\"size\":9000000}\n"));

  client.Send("GET /v1/large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  const std::string answer = client.Receive("");
  CHECK_THAT(answer.substr(0, 300), Catch::Contains("Content-Length: 20971520\r\n"));
  CHECK(answer.size() - answer.find("\r\n\r\n") - 4 == std::size_t{20} << 20);
}

TEST_CASE("Time-outs: a slow header, a slow body and an idle connection are closed") {
  struct Case {
    std::string_view name, first, drip;
  };
  const auto c = GENERATE(values<Case>({
      {"nothing sent", "", ""},
      {"a header that never ends", "GET /v1/a HTTP/1.1\r\nHost: h\r\n", "A: b\r\n"},
      {"a body that never ends", "POST /v1/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n", "x"},
      {"idle after a request", "GET /v1/a HTTP/1.1\r\nHost: h\r\n\r\n", ""},
  }));
  INFO(c.name);
  Served served({.header_timeout = absl::Milliseconds(200),
                 .read_timeout = absl::Milliseconds(200),
                 .idle_timeout = absl::Milliseconds(200)});
  RawClient client(served.address);
  client.Send(c.first);
  const absl::Time start = absl::Now();
  while (!client.closed() && absl::Now() - start < absl::Seconds(5)) {
    client.Send(c.drip);
    client.Receive("", 20);
  }
  CHECK(client.closed());
  CHECK(absl::Now() - start >= absl::Milliseconds(140));
}

TEST_CASE("A handler that takes too long: the client is told, and the connection ends after it") {
  Served served({.max_request_duration = absl::Milliseconds(20)});
  RawClient client(served.address);
  client.Send("GET /v1/later HTTP/1.1\r\nHost: h\r\n\r\nGET /v1/a HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK_THAT(client.Receive("]}\n"), Catch::StartsWith("HTTP/1.1 503 ") &&
                                         Catch::Contains("Connection: close\r\n") &&
                                         Catch::Contains("max_request_duration, 20ms"));
  CHECK(client.Receive("").empty());
  CHECK(client.closed());
  served.server.Stop(absl::Seconds(5));
}

TEST_CASE("A busy connection outlives its header time-out") {
  Served served({.header_timeout = absl::Milliseconds(200),
                 .read_timeout = absl::Milliseconds(200),
                 .idle_timeout = absl::Seconds(5)});
  RawClient client(served.address);
  for (int i = 0; i < 10; ++i) {
    client.Send("GET /v1/a HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_THAT(client.Receive("}\n"), Catch::Contains("\"path\":\"a\""));
    absl::SleepFor(absl::Milliseconds(60));
  }
}

TEST_CASE("Stop: what is under way is answered, idle connections end, new ones are refused") {
  auto served = std::make_unique<Served>();
  RawClient idle(served->address);
  idle.Send("GET /v1/a HTTP/1.1\r\nHost: h\r\n\r\n");
  idle.Receive("}\n");
  RawClient busy(served->address);
  busy.Send("GET /v1/later HTTP/1.1\r\nHost: h\r\n\r\n");
  absl::SleepFor(absl::Milliseconds(30));
  const absl::Time start = absl::Now();
  served->server.Stop(absl::Seconds(10));
  CHECK(absl::Now() - start < absl::Seconds(5));
  const std::string answer = busy.Receive("");
  CHECK_THAT(answer, Catch::Contains("another thread"));
  CHECK_THAT(answer, Catch::Contains("Connection: close\r\n"));
  CHECK(idle.Receive("").empty());
  CHECK(idle.closed());
}

TEST_CASE("Stop: a client that takes nothing is cut off after the grace") {
  Served served;
  RawClient client(served.address);
  client.Send("GET /v1/large HTTP/1.1\r\nHost: h\r\n\r\n");
  absl::SleepFor(absl::Milliseconds(50));
  const absl::Time start = absl::Now();
  served.server.Stop(absl::Milliseconds(200));
  CHECK(absl::Now() - start < absl::Seconds(5));
}

TEST_CASE("More connections than allowed are closed at once, and room comes back") {
  Served served({}, {.threads = 1, .max_connections = 2});
  {
    RawClient one(served.address), two(served.address);
    one.Send("GET /v1/a HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_FALSE(one.Receive("}\n").empty());
    two.Send("GET /v1/a HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_FALSE(two.Receive("}\n").empty());
    RawClient three(served.address);
    CHECK(three.Receive("").empty());
    CHECK(three.closed());
  }
  absl::SleepFor(absl::Milliseconds(50));
  RawClient four(served.address);
  four.Send("GET /v1/a HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK_FALSE(four.Receive("}\n").empty());
}

TEST_CASE("Addresses that can't be listened on are one clear error") {
  HttpServer server(Answer, {});
  const std::string taken = server.Listen({.address = "127.0.0.1:0"}).value();
  CHECK_THAT(std::string(server.Listen({.address = taken}).status().message()),
             Catch::Contains(taken) && Catch::Contains("in use"));
  for (const char* wrong : {"", "127.0.0.1", "127.0.0.1:", "no.such.host.invalid:1", "1.2.3.4:x"}) {
    CHECK_FALSE(server.Listen({.address = wrong}).ok());
  }
}

namespace {

struct TlsFiles {
  TlsFiles() : folder(std::filesystem::temp_directory_path() / StrCat("coffer-tls-", getpid())) {
    std::filesystem::create_directories(folder);
  }
  ~TlsFiles() { std::filesystem::remove_all(folder); }
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = folder / name;
    std::ofstream(path) << text;
    return path;
  }
  std::filesystem::path folder;
};

absl::StatusOr<HttpResponse> Get(const std::string& address, const TlsClientOptions& tls) {
  HttpRequest request;
  request.url = StrCat("https://localhost:", PortOf(address), "/v1/a");
  request.timeout = absl::Seconds(5);
  return MakeCurlTransport(tls)->Send(request);
}

}  // namespace

TEST_CASE("TLS: served with the certificate, which a reload exchanges") {
  TlsFiles files;
  const TestCertificate ca("");
  const TestCertificate other_ca("");
  const TestCertificate server("DNS:localhost,IP:127.0.0.1", &ca);
  const TestCertificate other_server("DNS:localhost,IP:127.0.0.1", &other_ca);
  const std::string certificate = files.Write("tls.crt", server.certificate_pem());
  const std::string key = files.Write("tls.key", server.key_pem());
  Served served({.tls = TlsServerOptions{.certificate_file = certificate, .key_file = key}});

  const auto answer = Get(served.address, {.ca_pem = ca.certificate_pem()});
  REQUIRE(answer.ok());
  CHECK(answer->status == 200);
  CHECK_FALSE(answer->header("strict-transport-security").empty());
  CHECK_FALSE(Get(served.address, {.ca_pem = other_ca.certificate_pem()}).ok());

  files.Write("tls.crt", other_server.certificate_pem());
  CHECK_FALSE(served.server.ReloadCertificates().ok());  // the key doesn't fit
  CHECK(Get(served.address, {.ca_pem = ca.certificate_pem()}).ok());
  files.Write("tls.key", other_server.key_pem());
  CHECK(served.server.ReloadCertificates().ok());
  CHECK(Get(served.address, {.ca_pem = other_ca.certificate_pem()}).ok());

  RawClient plain(served.address);
  plain.Send("GET /v1/a HTTP/1.1\r\nHost: h\r\n\r\n");
  CHECK_THAT(plain.Receive(""), Catch::Contains("Client sent an HTTP request to an HTTPS server"));
}

TEST_CASE("TLS: clients without a certificate are refused where one is asked for") {
  TlsFiles files;
  const TestCertificate ca("");
  const TestCertificate server("DNS:localhost", &ca);
  const TestCertificate client("", &ca);
  const std::string ca_pem = ca.certificate_pem();
  Served served({.tls = TlsServerOptions{
                     .certificate_file = files.Write("tls.crt", server.certificate_pem()),
                     .key_file = files.Write("tls.key", server.key_pem()),
                     .client_ca_file = files.Write("ca.crt", ca_pem),
                     .require_client_certificate = true}});
  CHECK_FALSE(Get(served.address, {.ca_pem = ca_pem}).ok());
  CHECK(Get(served.address,
            {.ca_pem = ca_pem,
             .client_certificate_file = files.Write("client.crt", client.certificate_pem()),
             .client_key_file = files.Write("client.key", client.key_pem())})
            .ok());
}

TEST_CASE("TLS: who knows no version from 1.2 on is refused") {
  TlsFiles files;
  const TestCertificate ca("");
  const TestCertificate server("DNS:localhost", &ca);
  Served served({.tls = TlsServerOptions{
                     .certificate_file = files.Write("tls.crt", server.certificate_pem()),
                     .key_file = files.Write("tls.key", server.key_pem())}});
  for (const char minor : {'\1', '\2', '\3'}) {  // 1.0, 1.1, 1.2
    CAPTURE(int{minor});
    // A ClientHello (RFC 5246 section 7.4.1.2): random bytes, no session; ECDHE-ECDSA with AES-128-GCM
    // and, for old versions, AES-128-CBC; no compression; P-256, ECDSA with SHA-256 and SHA-1.
    const std::string random(32, 'r');
    const std::string extensions("\0\12\0\4\0\2\0\27" "\0\13\0\2\1\0" "\0\15\0\6\0\4\4\3\2\3", 24);
    const std::string hello = StrCat(std::string_view("\3", 1), std::string_view(&minor, 1), random,
                                     std::string_view("\0\0\4\xc0\x2b\xc0\x09\1\0\0\30", 11), extensions);
    const auto size = static_cast<char>(hello.size());
    const auto record_size = static_cast<char>(hello.size() + 4);
    RawClient client(served.address);
    client.Send(StrCat(std::string_view("\26\3\1\0", 4), std::string_view(&record_size, 1),
                       std::string_view("\1\0\0", 3), std::string_view(&size, 1), hello));
    if (minor == '\3') {
      CHECK_THAT(client.Receive("\26\3\3"), Catch::StartsWith("\26\3\3"));
    } else {
      const std::string alert = client.Receive("");
      CHECK(client.closed());
      REQUIRE(alert.size() == 7);
      CHECK(alert[0] == '\25');
      CHECK(alert.substr(5) == "\2\106");  // fatal, protocol_version
    }
  }
}

TEST_CASE("TLS: wrong files and options are named") {
  TlsFiles files;
  const TestCertificate ca("");
  const std::string certificate = files.Write("tls.crt", ca.certificate_pem());
  const std::string key = files.Write("tls.key", ca.key_pem());
  struct Case {
    TlsServerOptions options;
    std::string says;
  };
  const std::vector<Case> cases = {
      {{.certificate_file = "/nonexistent", .key_file = key},
       "TLS: can't use tls_cert_file \"/nonexistent\": No such file or directory"},
      {{.certificate_file = certificate, .key_file = "/nonexistent"},
       "TLS: can't use tls_key_file \"/nonexistent\": No such file or directory"},
      {{.certificate_file = certificate, .key_file = key, .client_ca_file = "/nonexistent"},
       "TLS: can't use tls_client_ca_file \"/nonexistent\": No such file or directory"},
      {{.certificate_file = key, .key_file = key},
       StrCat("TLS: can't use tls_cert_file \"", key, "\": no start line")},
      {{.certificate_file = certificate, .key_file = certificate}, "tls_key_file"},
      {{.certificate_file = certificate, .key_file = key, .client_ca_file = key},
       "tls_client_ca_file"},
      {{.certificate_file = certificate, .key_file = key, .min_version = "tls10"},
       "tls_min_version"},
      {{.certificate_file = certificate, .key_file = key, .cipher_suites = "none such"},
       "tls_cipher_suites"},
  };
  for (const Case& c : cases) {
    const auto made = MakeTlsContext(c.options);
    REQUIRE_FALSE(made.ok());
    CHECK_THAT(std::string(made.status().message()), Catch::Contains(c.says));
  }
}
