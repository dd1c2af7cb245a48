#include "csi/admin_server.h"

#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "common/strings.h"
#include "common/unix_transport.h"

namespace coffer::csi {
namespace {

// A folder of its own, gone at the end.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/coffer-admin-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~Folder() {
    unlink(socket().c_str());
    rmdir(path_.c_str());
  }
  std::string socket() const { return StrCat(path_, "/admin.sock"); }

 private:
  std::string path_;
};

AdminServer::Routes Routes() {
  using Request = AdminServer::Request;
  return {{"GET /v1/query",
           [](const Request& request) -> absl::StatusOr<Json> {
             const auto days = request.query.find("days");
             return Json{{"days", SecretString(days == request.query.end() ? "" : days->second)}};
           }},
          {"POST /v1/echo",
           [](const Request& request) -> absl::StatusOr<Json> { return request.body; }},
          {"POST /v1/fail", [](const Request&) -> absl::StatusOr<Json> {
             return absl::NotFoundError("no such thing");
           }}};
}

struct Answer {
  int status;
  std::string text;
};

Answer Ask(const std::string& socket, std::string method, std::string_view path,
           std::string_view body = "") {
  HttpRequest request{.method = std::move(method), .url = StrCat("http://node", path)};
  request.body = SecretBytes::CopyOf(body);
  const auto response = MakeUnixTransport(socket)->Send(request);
  INFO(response.status());
  REQUIRE(response.ok());
  return {response->status, std::string(response->body.view())};
}

// What comes back for bytes that no client library would send.
std::string AskRaw(const std::string& socket, std::string_view bytes) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  socket.copy(address.sun_path, sizeof(address.sun_path) - 1);
  REQUIRE(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  std::string answer;
  char buffer[4096];
  for (ssize_t got; (got = read(fd.get(), buffer, sizeof(buffer))) > 0;) answer.append(buffer, got);
  return answer;
}

TEST_CASE("routes are asked over a socket that is the owner's alone") {
  const Folder folder;
  const auto server = AdminServer::Start(folder.socket(), Routes());
  INFO(server.status());
  REQUIRE(server.ok());
  struct stat facts = {};
  REQUIRE(stat(folder.socket().c_str(), &facts) == 0);
  CHECK((facts.st_mode & 07777) == 0600);

  struct Case {
    const char *method, *path, *body;
    int status;
    const char* answer;
  };
  const Case cases[] = {
      {"GET", "/v1/query?days=30&x", "", 200, R"({"days":"30"})"},
      {"GET", "/v1/query", "", 200, R"({"days":""})"},
      {"POST", "/v1/echo", R"({"a": [1, "b"]})", 200, R"({"a":[1,"b"]})"},
      {"POST", "/v1/echo", "", 200, "null"},
      {"POST", "/v1/fail", "{}", 404, R"({"code":"NOT_FOUND","error":"no such thing"})"},
      {"GET", "/v1/echo", "", 404, R"({"code":"NOT_FOUND","error":"there is no GET /v1/echo"})"},
  };
  for (const Case& c : cases) {
    INFO(c.method << " " << c.path);
    const Answer answer = Ask(folder.socket(), c.method, c.path, c.body);
    CHECK(answer.status == c.status);
    CHECK(answer.text == c.answer);
  }
  CHECK(Ask(folder.socket(), "POST", "/v1/echo", "{\"secret").status == 400);
  CHECK(Ask(folder.socket(), "POST", "/v1/echo", "{\"secret").text.find("secret") ==
        std::string::npos);
}

TEST_CASE("what is no request is refused, and the next one is served") {
  const Folder folder;
  const auto server = AdminServer::Start(folder.socket(), Routes());
  REQUIRE(server.ok());
  const std::pair<std::string, std::string> cases[] = {
      {"hello\r\n\r\n", "HTTP/1.1 400 "},
      {"POST /v1/echo HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", "HTTP/1.1 400 "},
      {"POST /v1/echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400 "},
      {"POST /v1/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 400 "},
      {std::string(20'000, 'x'), ""},
      {"POST /v1/echo HTTP/1.1\r\ncontent-length: 4\r\n\r\ntrue", "HTTP/1.1 200 "},
  };
  for (const auto& [bytes, start] : cases) {
    INFO(bytes.substr(0, 60));
    CHECK_THAT(AskRaw(folder.socket(), bytes), Catch::StartsWith(start));
  }
}

TEST_CASE("a request that waits holds up no other") {
  const Folder folder;
  std::atomic<bool> go{false};
  AdminServer::Routes routes = Routes();
  routes["GET /v1/wait"] = [&](const AdminServer::Request&) -> absl::StatusOr<Json> {
    go.wait(false);
    return Json(true);
  };
  const auto server = AdminServer::Start(folder.socket(), std::move(routes));
  REQUIRE(server.ok());
  std::string waited;
  std::thread waiter([&] { waited = AskRaw(folder.socket(), "GET /v1/wait HTTP/1.1\r\n\r\n"); });
  CHECK(Ask(folder.socket(), "GET", "/v1/query").status == 200);
  go = true;
  go.notify_all();
  waiter.join();
  CHECK_THAT(waited, Catch::EndsWith("true"));
}

TEST_CASE("a socket that is left is replaced, and goes with its own server alone") {
  const Folder folder;
  auto first = AdminServer::Start(folder.socket(), Routes());
  REQUIRE(first.ok());
  auto second = AdminServer::Start(folder.socket(), Routes());
  REQUIRE(second.ok());
  first->reset();
  CHECK(Ask(folder.socket(), "GET", "/v1/query").status == 200);
  second->reset();
  CHECK(access(folder.socket().c_str(), F_OK) != 0);
  CHECK(absl::IsInvalidArgument(AdminServer::Start("admin.sock", Routes()).status()));
  CHECK(absl::IsFailedPrecondition(AdminServer::Start("/nowhere/x.sock", Routes()).status()));
  CHECK(absl::IsFailedPrecondition(AdminServer::Start("/dev/null", Routes()).status()));
}

}  // namespace
}  // namespace coffer::csi
