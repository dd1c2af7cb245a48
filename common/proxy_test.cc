#include "common/proxy.h"

#include <poll.h>

#include <list>

#include "common/http_client.h"
#include "common/http_client_test_server.h"

namespace coffer {
namespace {

// The proxy for a URL, "" for none.
std::string Chosen(const ProxyRules& rules, std::string_view url) {
  const auto proxy = rules.For(*ParseUrl(url));
  if (!proxy.ok()) return std::string(Message(proxy.status()));
  return *proxy == nullptr ? "" : (*proxy)->address();
}

TEST_CASE("which requests take a proxy is what Go's programs would do") {
  struct Case {
    std::string_view none, url;
    bool proxied;
  };
  const Case cases[] = {
      {"", "http://vault:8200/v1", true},
      {"", "http://localhost:8200", false},
      {"", "http://LOCALHOST", false},
      {"", "http://127.3.2.1:8200", false},
      {"", "http://[::1]:8200", false},
      {"", "http://[::ffff:127.0.0.1]", false},
      {"", "http://[2001:db8::1]:8200", true},
      {"*", "http://vault", false},
      {"vault", "http://vault:8200", false},
      {"VAULT", "http://Vault:8200", false},
      {"vault", "http://myvault", true},
      {"vault", "http://a.vault", false},
      {".vault", "http://a.vault", false},
      {".vault", "http://vault", true},
      {"*.vault", "http://a.b.vault", false},
      {"*.vault", "http://vault", true},
      {" a , vault ,b", "http://vault", false},
      {"vault:8200", "http://vault:8200", false},
      {"vault:8200", "http://vault:8201", true},
      {"vault:80", "http://vault", false},
      {"10.0.0.1", "http://10.0.0.1:8200", false},
      {"10.0.0.1:8200", "http://10.0.0.1:8200", false},
      {"10.0.0.1:8200", "http://10.0.0.1:8201", true},
      {"10.0.0.1", "http://10.0.0.10", true},
      {"10.96.0.0/12", "http://10.111.0.1", false},
      {"10.96.0.0/12", "http://10.112.0.1", true},
      {"10.96.0.0/12", "http://vault", true},
      {"0.0.0.0/0", "http://10.112.0.1", false},
      {"10.96.0.0/33", "http://10.96.0.1", true},
      {"10.96.0.0/x", "http://10.96.0.1", true},
      {"2001:db8::/32", "http://[2001:db8::1]:8200", false},
      {"2001:db8::1", "http://[2001:db8::1]:8200", false},
      {"[2001:db8::1]:8200", "http://[2001:db8::1]:8200", false},
      {"[2001:db8::1]:8200", "http://[2001:db8::1]:1", true},
      {",,", "http://vault", true},
  };
  for (const Case& c : cases) {
    INFO("NO_PROXY=" << c.none << " " << c.url);
    const ProxyRules rules("http://proxy:3128", "", c.none);
    CHECK(Chosen(rules, c.url) == (c.proxied ? "proxy:3128" : ""));
  }
}

TEST_CASE("proxies are written as URLs or as host and port, for each scheme its own") {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"http://proxy:3128", "proxy:3128"},
      {"HTTP://proxy:3128/", "proxy:3128"},
      {"proxy:3128", "proxy:3128"},
      {"proxy", "proxy:80"},
      {"http://user:p%40ss@proxy:3128", "proxy:3128"},
      {"http://[2001:db8::1]:3128", "2001:db8::1:3128"},
      {"http://[2001:db8::1]", "2001:db8::1:80"},
      {"https://proxy:3128", "the proxy in HTTP_PROXY isn't one that is spoken to over http://"},
      {"socks5://proxy", "the proxy in HTTP_PROXY isn't one that is spoken to over http://"},
      {"http://proxy:x", "the proxy in HTTP_PROXY must be http://host:port"},
      {"http://:3128", "the proxy in HTTP_PROXY must be http://host:port"},
  };
  for (const auto& [text, chosen] : cases) {
    INFO(text);
    CHECK_THAT(Chosen(ProxyRules(text, "", ""), "http://vault"),
               Catch::StartsWith(std::string(chosen)));
    CHECK(Chosen(ProxyRules(text, "", ""), "https://vault").empty());
    CHECK(Chosen(ProxyRules(text, "", ""), "http://localhost").empty());
  }
  const ProxyRules https("", "secure:1", "");
  CHECK(Chosen(https, "https://vault") == "secure:1");
  CHECK(Chosen(https, "http://vault").empty());
  const ProxyRules user("http://user:p%40ss@proxy", "", "");
  CHECK((*user.For(*ParseUrl("http://vault")))->authorization.view() == "Basic dXNlcjpwQHNz");
}

// Sets a variable for as long as it lives; "" = unset.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    const char* before = getenv(name);
    if (before != nullptr) before_ = before;
    Set(value);
  }
  ~Variable() { Set(before_); }

 private:
  void Set(const std::string& value) const {
    if (value.empty()) {
      unsetenv(name_);
    } else {
      setenv(name_, value.c_str(), 1);
    }
  }
  const char* name_;
  std::string before_;
};

// A proxy that connects whatever is asked for to one port here.
class Tunnels {
 public:
  explicit Tunnels(int target) : target_(target) {
    listener_ = Listen(&port_);
    acceptor_ = std::thread([this] {
      for (;;) {
        const int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) return;
        threads_.emplace_back([this, fd] { Serve(UniqueFd(fd)); });
      }
    });
  }
  ~Tunnels() {
    stop_ = true;
    shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    for (std::thread& thread : threads_) thread.join();
  }
  std::string address() const { return StrCat("http://me:secret@127.0.0.1:", port_); }
  std::string head() const {
    std::lock_guard lock(mutex_);
    return head_;
  }

 private:
  static UniqueFd Listen(int* port) {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        listen(fd.get(), 8) != 0 ||
        getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      std::abort();
    }
    *port = ntohs(address.sin_port);
    return fd;
  }

  void Serve(UniqueFd client) {
    std::string head;
    char c;
    while (!head.ends_with("\r\n\r\n") && recv(client.get(), &c, 1, 0) == 1) head += c;
    {
      std::lock_guard lock(mutex_);
      head_ = head;
    }
    UniqueFd server(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address{.sin_family = AF_INET,
                              .sin_port = htons(static_cast<std::uint16_t>(target_)),
                              .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (connect(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      return;
    }
    const std::string_view answer = "HTTP/1.1 200 Connection established\r\n\r\n";
    send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    pollfd ends[] = {{.fd = client.get(), .events = POLLIN, .revents = 0},
                     {.fd = server.get(), .events = POLLIN, .revents = 0}};
    while (!stop_) {
      if (poll(ends, 2, 100) <= 0) continue;
      for (int i = 0; i < 2; ++i) {
        if (ends[i].revents == 0) continue;
        char buffer[4096];
        const ssize_t got = recv(ends[i].fd, buffer, sizeof(buffer), 0);
        if (got <= 0) return;
        for (ssize_t sent = 0; sent < got;) {
          const ssize_t more = send(ends[1 - i].fd, buffer + sent,
                                    static_cast<std::size_t>(got - sent), MSG_NOSIGNAL);
          if (more <= 0) return;
          sent += more;
        }
      }
    }
  }

  const int target_;
  int port_ = 0;
  UniqueFd listener_;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  std::string head_;
  std::list<std::thread> threads_;  // the acceptor's, until it has ended
  std::thread acceptor_;
};

TEST_CASE("daemons reach servers through a proxy, plain or through a tunnel of their own TLS") {
  const TestCertificate ca("");
  const TestCertificate leaf("DNS:vault.invalid", &ca);
  TestHttpServer server([](const TestHttpRequest& request) {
    return TestHttpAnswer(200, request.target());
  }, &leaf);
  Tunnels tunnels(server.port());
  TestHttpRequest seen;
  TestHttpServer plain([&](const TestHttpRequest& request) {
    seen = request;
    return TestHttpAnswer(200, request.target());
  });
  const Variable http("HTTP_PROXY", StrCat("http://u:p@127.0.0.1:", plain.port()));
  const Variable https("HTTPS_PROXY", tunnels.address());
  const Variable none("NO_PROXY", "");
  const auto transport = MakeStreamTransport({.ca_pem = ca.certificate_pem()});

  for (int i = 0; i < 2; ++i) {
    const auto proxied = transport->Send({.url = "http://vault.invalid:8200/v1/a?b=c"});
    REQUIRE(proxied.ok());
    CHECK(proxied->body.view() == "http://vault.invalid:8200/v1/a?b=c");
    CHECK(seen.header("Host") == "vault.invalid:8200");
    CHECK(seen.header("Proxy-Authorization") == "Basic dTpw");
    const auto tunnelled = transport->Send({.url = "https://vault.invalid/v1/a?b=c"});
    INFO(tunnelled.status());
    REQUIRE(tunnelled.ok());
    CHECK(tunnelled->body.view() == "/v1/a?b=c");
  }
  CHECK(tunnels.head() ==
        "CONNECT vault.invalid:443 HTTP/1.1\r\nHost: vault.invalid:443\r\n"
        "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n");
  CHECK(server.connections() == 1);
  CHECK(server.server_name() == "vault.invalid");
  CHECK(plain.requests() == 2);
  // What the tunnel leads to must still be who it should be.
  const auto other = transport->Send({.url = "https://other.invalid/"});
  CHECK(absl::IsFailedPrecondition(other.status()));
}

TEST_CASE("a proxy that is named for all requests goes before the environment's, and takes all") {
  setenv("HTTP_PROXY", "http://127.0.0.1:9", 1);
  setenv("NO_PROXY", "*", 1);
  for (const auto& Make : {MakeCurlTransportThrough, MakeStreamTransportThrough}) {
    std::vector<std::string> targets;
    std::string authorization;
    TestHttpServer proxy([&](const TestHttpRequest& request) {
      targets.emplace_back(request.target());
      authorization = request.header("Proxy-Authorization");
      return TestHttpAnswer(200, "");
    });
    const std::string address = proxy.address().substr(proxy.address().find("://") + 3);
    const auto transport = Make("http://user:secret@" + address, {});
    for (const char* url : {"http://api.invalid/a", "http://localhost:1/b"}) {
      const auto answer = transport->Send({.url = url});
      INFO(answer.status());
      CHECK(answer.ok());
    }
    CHECK(targets == std::vector<std::string>{"http://api.invalid/a", "http://localhost:1/b"});
    CHECK(authorization == "Basic dXNlcjpzZWNyZXQ=");
  }
  unsetenv("HTTP_PROXY");
  unsetenv("NO_PROXY");
}

TEST_CASE("a proxy that is away or refuses is named, with what it said and without passwords") {
  struct Case {
    std::string answer;
    absl::StatusCode code;
    std::string words;
  };
  const Case cases[] = {
      {TestHttpAnswer(407, "log in"), absl::StatusCode::kFailedPrecondition,
       "it answers HTTP 407 to CONNECT vault.invalid:8200"},
      {TestHttpAnswer(502, ""), absl::StatusCode::kUnavailable, "HTTP 502"},
      {"", absl::StatusCode::kUnavailable, "closed before the answer's end"},
      {"nonsense\r\n\r\n", absl::StatusCode::kUnavailable, "not an HTTP answer"},
  };
  for (const Case& c : cases) {
    TestHttpServer proxy([&](const TestHttpRequest&) { return c.answer; });
    const Variable https("HTTPS_PROXY", StrCat("http://me:secret@127.0.0.1:", proxy.port()));
    const Variable none("NO_PROXY", "");
    const auto answer = MakeStreamTransport({})->Send({.url = "https://vault.invalid:8200/v1/a"});
    CHECK(answer.status().code() == c.code);
    const std::string message(Message(answer.status()));
    CHECK_THAT(message, Catch::Contains(c.words));
    CHECK_THAT(message, Catch::Contains(StrCat("through the proxy 127.0.0.1:", proxy.port())));
    CHECK_THAT(message, !Catch::Contains("secret"));
  }
  const Variable wrong("HTTPS_PROXY", "socks5://me:secret@proxy");
  const auto answer = MakeStreamTransport({})->Send({.url = "https://vault.invalid:8200/v1/a"});
  CHECK(absl::IsFailedPrecondition(answer.status()));
  CHECK_THAT(std::string(Message(answer.status())),
             Catch::Contains("HTTPS_PROXY") && !Catch::Contains("secret"));
}

}  // namespace
}  // namespace coffer
