#include "provider/provider.h"

#include <atomic>
#include <mutex>
#include <thread>

#include "absl/time/clock.h"
#include "common/http_client_test_server.h"

namespace coffer::provider {
namespace {

// As much of a keystore as a node sees, with a switch for each thing that may go wrong.
class Keystore {
 public:
  Keystore() : server([this](const TestHttpRequest& request) { return Answer(request); }) {}

  std::vector<std::string> log() {
    std::lock_guard lock(mutex);
    return calls;
  }
  int count(std::string_view call) {
    const std::vector<std::string> all = log();
    return static_cast<int>(std::count(all.begin(), all.end(), call));
  }

  std::mutex mutex;
  std::vector<std::string> calls;  // "METHOD path"
  std::string secret = "s3cret";
  int version = 1;
  int failures = 0;  // the next answers are `failure`
  std::string failure;
  bool revoked = false;  // tokens given so far are refused
  int logins = 0;
  int lease = 3600;
  int gather = 0;  // reads wait for so many of them
  std::atomic<int> at_once{0};
  TestHttpServer server;  // last: stops first

 private:
  std::string Answer(const TestHttpRequest& request) {
    const std::string call = StrCat(request.method(), " ", request.target());
    if (call.starts_with("GET ")) {
      ++at_once;
      // Until as many are here as should come together, or never will.
      for (int i = 0; at_once < gather && i < 30'000; ++i) absl::SleepFor(absl::Milliseconds(1));
    }
    std::lock_guard lock(mutex);
    calls.push_back(call);
    if (failures > 0) {
      --failures;
      return failure;
    }
    const auto answer = [](int status, const Json& body) {
      return TestHttpAnswer(status, DumpJson(body).view());
    };
    if (call == "POST /v1/auth/kubernetes/login") {
      const Json body = *ParseJson(request.body);
      if (body["role"] != "webapp" || body["jwt"] != "pod-jwt") {
        return answer(403, {{"errors", {"permission denied"}}});
      }
      revoked = false;
      ++logins;
      return answer(200, {{"auth",
                           {{"client_token", StrCat("hvs.", logins)},
                            {"lease_duration", lease},
                            {"renewable", true}}}});
    }
    if (revoked || request.header("X-Vault-Token") != StrCat("hvs.", logins)) {
      return answer(403, {{"errors", {"permission denied"}}});
    }
    if (call == "POST /v1/auth/token/revoke-self") {
      revoked = true;
      return TestHttpAnswer(204, "");
    }
    if (call == "POST /v1/auth/token/renew-self") {
      return answer(200, {{"auth", {{"lease_duration", lease}, {"renewable", true}}}});
    }
    if (call.ends_with("/denied")) return answer(403, {{"errors", {"permission denied"}}});
    if (call.ends_with("/missing")) return answer(404, {{"errors", Json::array()}});
    if (call.ends_with("/echo")) {
      return answer(400, {{"errors", {StrCat("bad token ", request.header("X-Vault-Token"))}}});
    }
    if (call == "GET /v1/database/creds/app") {
      return answer(200, {{"lease_id", "x"},
                          {"lease_duration", 60},
                          {"data", {{"password", StrCat("made-", calls.size())}}}});
    }
    if (request.method() == "PUT") return answer(200, {{"data", *ParseJson(request.body)}});
    if (call.starts_with("GET /v1/secret/data/")) {
      return answer(
          200,
          {{"request_id", StrCat(calls.size())},
           {"data",
            {{"data", {{"password", secret}, {"hex", "6869"}, {"n", 5}}},
             {"metadata", {{"version", version}, {"created_time", "2026-01-01T00:00:00Z"}}}}}});
    }
    return answer(200, {{"data", {{"password", secret}}}});
  }
};

struct Fixture {
  Keystore keystore;
  ManualClock clock;
  Workers workers{8, absl::Milliseconds(50)};
  Provider provider{clock, workers, Provider::Options()};
  SessionPtr session = NewSession();
  SecretProviderClass secret_class{
      .name = "webapp",
      .kubernetes_namespace = "default",
      .provider = "vault",
      .parameters = {{"vaultAddress", keystore.server.address()}, {"roleName", "webapp"}}};

  static Pod MakePod(std::string_view audience = "", std::string_view jwt = "pod-jwt") {
    Pod pod{.name = "web", .kubernetes_namespace = "default", .service_account = "vault"};
    pod.tokens.emplace(audience, SecretBytes::CopyOf(jwt));
    return pod;
  }

  absl::StatusOr<FetchResult> Fetch(std::string_view objects, const Pod& pod = MakePod()) {
    secret_class.parameters["objects"] = objects;
    return provider.Fetch(secret_class, pod, *session, clock.Now() + absl::Seconds(30));
  }
};

constexpr char kPassword[] = "- {objectName: p, secretPath: secret/data/a, secretKey: password}";

TEST_CASE("objects become files, sorted, with their encodings and modes") {
  Fixture f;
  const auto result = f.Fetch(
      "- {objectName: z, secretPath: secret/data/a, secretKey: password}\n"
      "- {objectName: h, secretPath: secret/data/a, secretKey: hex, encoding: hex, filePermission: "
      "0400}\n"
      "- {objectName: n, secretPath: secret/data/a, secretKey: n}\n"
      "- {objectName: v1, secretPath: kv/a, secretKey: password}\n"
      "- {objectName: put, secretPath: x, method: PUT, secretArgs: {a: 1}, secretKey: a}\n"
      "- {objectName: all, secretPath: secret/data/a}\n");
  REQUIRE(result.ok());
  std::map<std::string, std::string> files;
  std::vector<std::string> order;
  for (const File& file : result->files) {
    files[file.path] = file.content.view();
    order.push_back(file.path);
  }
  CHECK(order == std::vector<std::string>{"all", "h", "n", "put", "v1", "z"});
  CHECK(files["z"] == "s3cret");
  CHECK(files["h"] == "hi");
  CHECK(files["n"] == "5");
  CHECK(files["v1"] == "s3cret");
  CHECK(files["put"] == "1");
  const Json all = *ParseJson(files["all"]);
  CHECK(all["data"]["data"]["password"] == "s3cret");
  CHECK(all["request_id"] == "");
  CHECK(result->files[1].mode == 0400);
  CHECK(result->files[0].mode == 0644);
  CHECK_FALSE(result->refetch_by);
  CHECK(f.keystore.count("GET /v1/secret/data/a") == 1);
  CHECK(f.keystore.logins == 1);
}

TEST_CASE("requests go out together") {
  Fixture f;
  std::string objects;
  for (int i = 0; i < 8; ++i) {
    StrAppend(&objects, "- {objectName: o", i, ", secretPath: kv/", i, ", secretKey: password}\n");
  }
  f.keystore.gather = 6;
  const absl::Time start = absl::Now();
  REQUIRE(f.Fetch(objects).ok());
  CHECK(absl::Now() - start < absl::Seconds(30));  // else they waited in vain
}

TEST_CASE("a version changes with the content and tells nothing about it") {
  Fixture f;
  const std::string objects =
      StrCat(kPassword, "\n- {objectName: k, secretPath: kv/a, secretKey: password}");
  const auto first = f.Fetch(objects);
  REQUIRE(first.ok());
  CHECK(first->versions[0].id == "p");
  CHECK(first->versions[0].version == "1-2026-01-01T00:00:00Z");
  CHECK(first->versions[1].version.size() == 43);
  CHECK(f.Fetch(objects)->versions[1].version == first->versions[1].version);
  f.keystore.secret = "other";
  f.keystore.version = 2;
  const auto second = f.Fetch(objects);
  CHECK(second->versions[0].version == "2-2026-01-01T00:00:00Z");
  CHECK(second->versions[1].version != first->versions[1].version);
  Fixture another;
  CHECK(another.Fetch(objects)->versions[1].version != first->versions[1].version);
}

TEST_CASE("the token is kept, renewed, replaced when refused, and revoked at the end") {
  Fixture f;
  REQUIRE(f.Fetch(kPassword).ok());
  REQUIRE(f.Fetch(kPassword).ok());
  CHECK(f.keystore.logins == 1);
  f.clock.Advance(absl::Seconds(2500));  // past two thirds of its hour
  REQUIRE(f.Fetch(kPassword).ok());
  CHECK(f.keystore.count("POST /v1/auth/token/renew-self") == 1);
  CHECK(f.keystore.logins == 1);
  f.keystore.revoked = true;
  REQUIRE(f.Fetch(kPassword).ok());
  CHECK(f.keystore.logins == 2);
  CHECK(f.keystore.count("POST /v1/auth/token/revoke-self") == 1);  // of the refused one
  f.clock.Advance(absl::Seconds(3600));  // over
  REQUIRE(f.Fetch(kPassword).ok());
  CHECK(f.keystore.logins == 3);
  CHECK(HoldsToken(*f.session));
  CHECK(f.provider.Revoke(*f.session, f.clock.Now() + absl::Seconds(5)).ok());
  CHECK_FALSE(HoldsToken(*f.session));
  CHECK(f.keystore.count("POST /v1/auth/token/revoke-self") == 2);
  CHECK(f.provider.Revoke(*f.session, f.clock.Now() + absl::Seconds(5)).ok());
  CHECK(f.keystore.count("POST /v1/auth/token/revoke-self") == 2);
}

TEST_CASE(
    "revoking a token that the keystore has forgotten is fine, one that can't be reached isn't") {
  Fixture f;
  REQUIRE(f.Fetch(kPassword).ok());
  f.keystore.failures = 100;
  f.keystore.failure = TestHttpAnswer(503, R"({"errors":["Vault is sealed"]})");
  CHECK(absl::IsUnavailable(f.provider.Revoke(*f.session, f.clock.Now() + absl::Seconds(5))));
  CHECK(HoldsToken(*f.session));
  f.keystore.failures = 0;
  f.keystore.revoked = true;
  CHECK(f.provider.Revoke(*f.session, f.clock.Now() + absl::Seconds(5)).ok());
}

TEST_CASE("a class that points to another role logs in anew and gives the old token back") {
  Fixture f;
  REQUIRE(f.Fetch(kPassword).ok());
  f.secret_class.parameters["roleName"] = "other";
  CHECK(absl::IsPermissionDenied(f.Fetch(kPassword).status()));
  CHECK(f.keystore.count("POST /v1/auth/token/revoke-self") == 1);
}

TEST_CASE("leased secrets are read again after two thirds of the lease") {
  Fixture f;
  const std::string objects =
      "- {objectName: d, secretPath: database/creds/app, secretKey: password}";
  const absl::Time start = f.clock.Now();
  const std::string first(f.Fetch(objects)->files[0].content.view());
  f.clock.Advance(absl::Seconds(10));
  const auto kept = f.Fetch(objects);
  CHECK(kept->files[0].content.view() == first);
  CHECK(kept->refetch_by == start + absl::Seconds(40));
  f.clock.Advance(absl::Seconds(31));
  CHECK(f.Fetch(objects)->files[0].content.view() != first);
}

TEST_CASE("what may pass is tried again, what can't pass isn't") {
  Fixture f;
  const std::vector<std::string> passing = {TestHttpAnswer(500, ""), TestHttpAnswer(503, "{}"),
                                            TestHttpAnswer(429, "{}"), ""};
  for (const std::string& failure : passing) {
    INFO(failure);
    f.keystore.failures = 2;
    f.keystore.failure = failure;
    CHECK(f.Fetch(kPassword).ok());
    f.keystore.failures = 0;
  }
  f.keystore.calls.clear();
  f.keystore.failures = 1;
  f.keystore.failure = TestHttpAnswer(400, R"({"errors":["no"]})");
  CHECK(absl::IsInvalidArgument(f.Fetch(kPassword).status()));
  CHECK(f.keystore.log().size() == 1);
}

TEST_CASE("errors have the right code, name class, object, path and cause, and hold no secret") {
  struct Case {
    std::string objects;
    absl::StatusCode code;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases = {
      {"- {objectName: o, secretPath: secret/data/denied}",
       absl::StatusCode::kPermissionDenied,
       {"SecretProviderClass default/webapp", "object \"o\"", "GET secret/data/denied", "HTTP 403",
        "permission denied"}},
      {"- {objectName: o, secretPath: secret/data/missing}",
       absl::StatusCode::kNotFound,
       {"secret/data/missing", "HTTP 404"}},
      {"- {objectName: o, secretPath: secret/data/a, secretKey: nope}",
       absl::StatusCode::kNotFound,
       {"secret/data/a", "key \"nope\" does not exist"}},
      {"- {objectName: o, secretPath: secret/data/a, secretKey: password, encoding: hex}",
       absl::StatusCode::kFailedPrecondition,
       {"key \"password\": not hex"}},
      {"- {objectName: o, secretPath: secret/echo}",
       absl::StatusCode::kInvalidArgument,
       {"HTTP 400"}},
  };
  for (const Case& c : cases) {
    Fixture f;
    const auto result = f.Fetch(c.objects);
    INFO(result.status());
    CHECK(result.status().code() == c.code);
    for (const std::string& word : c.words) {
      CHECK_THAT(std::string(Message(result.status())), Catch::Contains(word));
    }
    for (const char* leak : {"s3cret", "hvs.", "pod-jwt"}) {
      CHECK_THAT(std::string(Message(result.status())), !Catch::Contains(leak));
    }
  }
}

TEST_CASE("a keystore that is gone or speaks nonsense is said to be") {
  Fixture f;
  f.keystore.failures = 100;
  f.keystore.failure = TestHttpAnswer(503, R"({"errors":["Vault is sealed"]})");
  auto status = f.Fetch(kPassword).status();
  CHECK(absl::IsUnavailable(status));
  CHECK_THAT(std::string(Message(status)), Catch::Contains("Vault is sealed"));
  CHECK_THAT(std::string(Message(status)),
             Catch::Contains("logging in with role \"webapp\" as service account default/vault"));

  f.keystore.failures = 1;
  f.keystore.failure = TestHttpAnswer(200, "<html>s3cret");
  CHECK(f.Fetch(kPassword).status().code() == absl::StatusCode::kInternal);
  f.keystore.failures = 1;
  f.keystore.failure = TestHttpAnswer(200, R"({"auth":{}})");
  CHECK(f.Fetch(kPassword).status().code() == absl::StatusCode::kInternal);
  f.keystore.failures = 0;

  f.secret_class.parameters["vaultAddress"] = "http://127.0.0.1:1";
  CHECK(absl::IsUnavailable(f.Fetch(kPassword).status()));
}

TEST_CASE("the deadline bounds the attempts") {
  Fixture f;
  f.keystore.failures = 100;
  f.keystore.failure = TestHttpAnswer(500, "");
  f.secret_class.parameters["objects"] = kPassword;
  const auto result = f.provider.Fetch(f.secret_class, Fixture::MakePod(), *f.session,
                                       f.clock.Now() + absl::Milliseconds(60));
  CHECK_FALSE(result.ok());
  CHECK(f.keystore.log().size() <= 2);
}

TEST_CASE("the token is the one of the audience that the class names") {
  Fixture f;
  f.secret_class.parameters["audience"] = "vault";
  CHECK(f.Fetch(kPassword, Fixture::MakePod("vault")).ok());
  f.session = NewSession();
  const auto status = f.Fetch(kPassword, Fixture::MakePod("other")).status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK_THAT(std::string(Message(status)),
             Catch::Contains("no token of audience \"vault\"") && Catch::Contains("\"other\""));
  f.secret_class.parameters.erase("audience");
  CHECK(f.Fetch(kPassword, Fixture::MakePod("other")).ok());  // the only one there is
  f.session = NewSession();
  Pod two = Fixture::MakePod("a");
  two.tokens.emplace("b", SecretBytes::CopyOf("pod-jwt"));
  CHECK(absl::IsFailedPrecondition(f.Fetch(kPassword, two).status()));
  two.tokens.emplace("", SecretBytes::CopyOf("pod-jwt"));
  CHECK(f.Fetch(kPassword, two).ok());
  f.session = NewSession();
  Pod usual = Fixture::MakePod("", "another-jwt");
  CHECK_FALSE(f.Fetch(kPassword, usual).ok());
  usual.tokens.emplace("vault", SecretBytes::CopyOf("pod-jwt"));
  CHECK(f.Fetch(kPassword, usual).ok());
}

TEST_CASE("what in a class means nothing is told once a session, and with each error") {
  Fixture f;
  f.secret_class.parameters["vaultAdress"] = "http://elsewhere";
  const auto first = f.Fetch(kPassword);
  REQUIRE(first.ok());
  CHECK(first->warning ==
        "SecretProviderClass default/webapp: spec.parameters.vaultAdress: unknown, and ignored: see "
        "docs/secret-provider-class.md");
  CHECK(f.Fetch(kPassword)->warning.empty());
  f.secret_class.parameters["more"] = "";
  CHECK_THAT(f.Fetch(kPassword)->warning, Catch::Contains("spec.parameters.more, spec."));
  f.secret_class.parameters["roleName"] = "nobody";
  CHECK_THAT(std::string(Message(f.Fetch(kPassword).status())),
             Catch::Contains("vaultAdress: unknown, and ignored)"));
}

TEST_CASE("workers run everything once, also from within tasks, and end when idle") {
  Workers workers(4, absl::Milliseconds(10));
  std::atomic<int> sum{0};
  workers.ForEach(4, [&](int) { workers.ForEach(50, [&](int i) { sum += i; }); });
  CHECK(sum == 4 * 49 * 50 / 2);
  workers.ForEach(0, [&](int) { sum = 0; });
  std::atomic<int> done{0};
  {
    Workers few(2);
    for (int i = 0; i < 100; ++i) few.Submit([&] { ++done; });
  }
  CHECK(done == 100);
}

}  // namespace
}  // namespace coffer::provider
