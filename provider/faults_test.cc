// What a keystore and the network may do to a fetch, and what becomes of it.
#include <mutex>

#include "common/http_client_test_server.h"
#include "provider/provider.h"

namespace coffer::provider {
namespace {

using Answers = std::vector<std::string>;

std::string Errors(int status, std::string_view text, std::string_view headers = "") {
  return TestHttpAnswer(status, StrCat(R"({"errors":[")", text, R"("]})"), headers);
}
std::string Redirect(int status, std::string_view to) {
  return TestHttpAnswer(status, "", StrCat("Location: ", to, "\r\n"));
}

// Answers logins and revocations; reads get `answers`, one after the other, and then the secret.
struct Keystore {
  explicit Keystore(const TestCertificate* tls = nullptr)
      : server([this](const TestHttpRequest& request) { return Answer(request); }, tls) {}

  std::string Answer(const TestHttpRequest& request) {
    std::lock_guard lock(mutex);
    if (request.target() == "/v1/auth/kubernetes/login") {
      ++logins;
      return TestHttpAnswer(200, R"({"auth":{"client_token":"hvs.t","lease_duration":3600}})");
    }
    if (request.target().find("/auth/") != std::string_view::npos) return TestHttpAnswer(204, "");
    ++reads;
    targets.emplace_back(request.target());
    tokens.emplace_back(request.header("X-Vault-Token"));
    if (next < answers.size()) return answers[next++];
    return TestHttpAnswer(200, R"({"data":{"password":"s3cret"}})");
  }

  std::mutex mutex;
  Answers answers;
  std::size_t next = 0;
  int logins = 0, reads = 0;
  std::vector<std::string> targets, tokens;
  TestHttpServer server;
};

struct Fixture {
  absl::StatusOr<FetchResult> Fetch(const Keystore& keystore, absl::Duration deadline,
                                    const std::string& ca_pem = "") {
    SecretProviderClass secret_class{
        .name = "c",
        .kubernetes_namespace = "n",
        .provider = "vault",
        .parameters = {{"vaultAddress", keystore.server.address()},
                       {"roleName", "r"},
                       {"objects", "- {objectName: o, secretPath: kv/a, secretKey: password}"}}};
    if (!ca_pem.empty()) secret_class.parameters["vaultCAPem"] = ca_pem;
    Pod pod{.name = "web", .kubernetes_namespace = "n", .uid = "u"};
    pod.tokens.emplace("", SecretBytes::CopyOf("pod-jwt"));
    return provider.Fetch(secret_class, pod, *session, clock.Now() + deadline);
  }

  ManualClock clock;
  Workers workers{4, absl::Milliseconds(50)};
  Provider provider{clock, workers, Provider::Options()};
  SessionPtr session = NewSession();
};

TEST_CASE("what may pass is waited for, what can't pass is told at once") {
  const std::string closes = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
  const std::string cut = closes + "Content-Length: 100\r\n\r\n{\"data\":";
  const std::string cut_chunk = closes + "Transfer-Encoding: chunked\r\n\r\n20\r\n{\"data\":";
  struct Case {
    const char* what;
    Answers answers;
    absl::StatusCode code;
    int reads;
    std::string words = "";
  };
  const auto kOk = absl::StatusCode::kOk;
  const auto kAway = absl::StatusCode::kUnavailable;
  const Case cases[] = {
      {"nothing", {}, kOk, 1},
      {"a rate limit", {Errors(429, "quota", "Retry-After: 1\r\n")}, kOk, 2},
      {"a rate limit past the deadline",
       {Errors(429, "quota", "Retry-After: 600\r\n")}, kAway, 1, "HTTP 429: quota"},
      {"a date past the deadline",
       {Errors(503, "later", "Retry-After: Wed, 01 Jan 2031 00:00:00 GMT\r\n")}, kAway, 1, "later"},
      {"a date gone by",
       {Errors(503, "later", "Retry-After: Sat, 01 Jan 2000 00:00:00 GMT\r\n")}, kOk, 2},
      {"a Retry-After that says nothing", {Errors(503, "x", "Retry-After: soon\r\n")}, kOk, 2},
      {"a standby that lags behind",
       {Errors(412, "required index state not present")}, kOk, 2},
      {"a restart", {"", "", Errors(502, "gateway")}, kOk, 4},
      {"sealed", Answers(8, Errors(503, "Vault is sealed")), kAway, 4, "Vault is sealed"},
      {"a full storage", Answers(8, Errors(507, "the storage is full")), kAway, 4, "HTTP 507"},
      {"and one with room again", {Errors(507, "the storage is full")}, kOk, 2},
      {"a connection lost within the body", {cut}, kOk, 2},
      {"and within a chunk", {cut_chunk}, kOk, 2},
      {"always", Answers(8, cut), kAway, 4, "closed before the answer's end"},
      {"refused", Answers(8, Errors(403, "permission denied")), absl::StatusCode::kPermissionDenied,
       1, "permission denied"},
      {"a wrong request", {Errors(400, "no")}, absl::StatusCode::kInvalidArgument, 1, "HTTP 400"},
      {"absent", {Errors(404, "")}, absl::StatusCode::kNotFound, 1, "HTTP 404"},
      {"no JSON", {TestHttpAnswer(200, "<html>s3cret")}, absl::StatusCode::kInternal, 1,
       "with a body that is not valid JSON"},
      {"no HTTP", Answers(8, "nonsense\r\nConnection: close\r\n\r\n"), kAway, 4, "not an HTTP answer"},
  };
  for (const Case& c : cases) {
    INFO(c.what);
    Keystore keystore;
    keystore.answers = c.answers;
    Fixture f;
    const auto fetched = f.Fetch(keystore, absl::Seconds(120));
    INFO(fetched.status());
    CHECK(fetched.status().code() == c.code);
    CHECK(keystore.reads == c.reads);
    CHECK_THAT(std::string(Message(fetched.status())), Catch::Contains(c.words));
    CHECK_THAT(std::string(Message(fetched.status())), !Catch::Contains("s3cret"));
  }
}

TEST_CASE("one redirect is followed, with the token, but never from TLS to none") {
  const TestCertificate ca("");
  const TestCertificate leaf("IP:127.0.0.1", &ca);
  Keystore active;
  for (const int status : {301, 302, 307, 308}) {
    Keystore standby;
    standby.answers = {Redirect(status, active.server.address() + "/v1/elsewhere")};
    Fixture f;
    const auto fetched = f.Fetch(standby, absl::Seconds(120));
    INFO(fetched.status());
    REQUIRE(fetched.ok());
    CHECK(active.targets.back() == "/v1/elsewhere");
    CHECK(active.tokens.back() == "hvs.t");
  }
  {
    Keystore here;
    here.answers = {Redirect(307, "/v1/kv/b")};
    Fixture f;
    CHECK(f.Fetch(here, absl::Seconds(120)).ok());
    CHECK(here.targets == std::vector<std::string>{"/v1/kv/a", "/v1/kv/b"});
  }
  struct Case {
    const TestCertificate* tls;
    Answers answers;
    std::string words;
    int reads;
  };
  const std::string plain = active.server.address();
  const Case cases[] = {
      {nullptr, {Redirect(307, "/v1/a"), Redirect(307, "/v1/b")}, "HTTP 307", 2},
      {nullptr, {Redirect(307, "")}, "HTTP 307", 1},
      {nullptr, {Redirect(307, "ftp://x/y")}, "redirects to what is no URL", 1},
      {nullptr, {Redirect(307, "//x/y")}, "redirects to what is no URL", 1},
      {&leaf, {Redirect(307, plain + "/v1/a")}, "without TLS: refused", 1},
  };
  const std::size_t before = active.targets.size();
  for (const Case& c : cases) {
    INFO(c.words);
    Keystore keystore(c.tls);
    keystore.answers = c.answers;
    Fixture f;
    const auto fetched = f.Fetch(keystore, absl::Seconds(120), c.tls ? ca.certificate_pem() : "");
    CHECK(absl::IsFailedPrecondition(fetched.status()));
    CHECK_THAT(std::string(Message(fetched.status())), Catch::Contains(c.words));
    CHECK(keystore.reads == c.reads);
  }
  CHECK(active.targets.size() == before);
}

TEST_CASE("a wrong certificate is told at once, and nothing is sent") {
  const TestCertificate ca(""), other("");
  const TestCertificate leaf("IP:127.0.0.1", &ca), stranger("DNS:stranger", &ca);
  struct Case {
    const TestCertificate& shown;
    std::string ca_pem, words;
  };
  const Case cases[] = {{leaf, "", "unable to get local issuer"},
                        {leaf, other.certificate_pem(), "unable to get local issuer"},
                        {stranger, ca.certificate_pem(), "mismatch"}};
  for (const Case& c : cases) {
    Keystore keystore(&c.shown);
    Fixture f;
    const auto fetched = f.Fetch(keystore, absl::Seconds(120), c.ca_pem);
    CHECK(absl::IsFailedPrecondition(fetched.status()));
    CHECK_THAT(std::string(Message(fetched.status())), Catch::Contains(c.words));
    CHECK(keystore.server.connections() == 1);
    CHECK(keystore.logins == 0);
  }
}

}  // namespace
}  // namespace coffer::provider
