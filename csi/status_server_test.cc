#include "csi/status_server.h"

#include <atomic>

#include "absl/time/clock.h"
#include "common/http_client.h"
#include "common/stream.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

StatusServer::Pages Pages(std::atomic<int>& ready) {
  return {{"/metrics", [] { return StatusServer::Answer{200, std::string(500'000, 'm')}; }},
          {"/readyz", [&ready] { return StatusServer::Answer{ready, "why\n"}; }}};
}

TEST_CASE("pages are served, by path alone; others aren't there") {
  std::atomic<int> ready{503};
  const auto server = StatusServer::Start("127.0.0.1:0", Pages(ready));
  REQUIRE(server.ok());
  const auto transport = MakeStreamTransport({});
  const auto ask = [&](const std::string& path, const std::string& method = "GET") {
    const auto answer = transport->Send({.method = method,
                                         .url = StrCat("http://127.0.0.1:", (*server)->port(), path),
                                         .headers = {},
                                         .body = {},
                                         .timeout = absl::Seconds(10),
                                         .on_body = {}});
    REQUIRE(answer.ok());
    return std::pair(answer->status, std::string(answer->body.view()));
  };
  CHECK(ask("/readyz?verbose") == std::pair(503, std::string("why\n")));
  ready = 200;
  CHECK(ask("/readyz").first == 200);
  CHECK(ask("/metrics").second == std::string(500'000, 'm'));  // more than a socket's buffer
  CHECK(ask("/metrics", "HEAD").second.empty());
  CHECK(ask("/metrics", "POST").first == 405);
  CHECK(ask("/secrets").first == 404);
}

TEST_CASE("an address that is taken is waited for, where that is wanted") {
  std::atomic<int> ready{200};
  auto first = *StatusServer::Start("127.0.0.1:0", Pages(ready));
  const std::string address = StrCat("127.0.0.1:", first->port());
  CHECK(absl::IsFailedPrecondition(StatusServer::Start(address, Pages(ready)).status()));
  const auto second = StatusServer::Start(address, Pages(ready), StatusServer::IfTaken::kWait);
  REQUIRE(second.ok());
  first.reset();
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!Stream::Connect("127.0.0.1", address.substr(address.rfind(':') + 1), deadline).ok()) {
    REQUIRE(absl::Now() < deadline);
    absl::SleepFor(absl::Milliseconds(10));
  }
}

TEST_CASE("clients that are slow or talk nonsense keep nobody out") {
  std::atomic<int> ready{200};
  const auto server = StatusServer::Start("127.0.0.1:0", Pages(ready));
  REQUIRE(server.ok());
  const std::string port = StrCat((*server)->port());
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  std::vector<std::unique_ptr<Stream>> silent;
  for (int i = 0; i < 5; ++i) {
    silent.push_back(*Stream::Connect("127.0.0.1", port, deadline));
    REQUIRE(silent.back()->Write("GET /metr", deadline).ok());
  }
  const auto answer_to = [&](std::string_view request) {
    const auto stream = *Stream::Connect("127.0.0.1", port, deadline);
    REQUIRE(stream->Write(request, deadline).ok());
    char buffer[1024];
    const auto got = stream->Read(buffer, deadline);
    return got.ok() ? std::string(buffer, *got) : "";
  };
  CHECK_THAT(answer_to("GET /readyz HTTP/1.1\r\n\r\n"), Catch::StartsWith("HTTP/1.1 200 "));
  CHECK_THAT(answer_to("\x16\x03\x01 hello\r\n\r\n"), Catch::StartsWith("HTTP/1.1 400 "));
  CHECK(answer_to(std::string(20'000, 'x')).empty());
  // They are let go of after five seconds.
  char byte;
  const auto end = silent.front()->Read({&byte, 1}, deadline);
  CHECK(end.value_or(0) == 0);
}

TEST_CASE("an address that can't be had is an error that names it") {
  std::atomic<int> ready{200};
  for (const char* address : {"", "8095", "localhost", "127.0.0.1:", "127.0.0.1:http", "x:1"}) {
    INFO(address);
    CHECK(absl::IsInvalidArgument(StatusServer::Start(address, Pages(ready)).status()));
  }
  const auto first = StatusServer::Start(":0", Pages(ready));
  REQUIRE(first.ok());
  const auto second = StatusServer::Start(StrCat(":", (*first)->port()), Pages(ready)).status();
  CHECK(absl::IsFailedPrecondition(second));
  CHECK_THAT(std::string(Message(second)), Catch::Contains("Address already in use"));
}

}  // namespace
}  // namespace coffer::csi
