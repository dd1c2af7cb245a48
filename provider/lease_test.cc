// What is lent for a time: tokens shared by a pod's volumes, credentials, certificates, static
// passwords. The server speaks Vault's answers; ours makes no dynamic secrets.
#include "provider/lease.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <thread>

#include "common/http_client_test_server.h"
#include "provider/provider.h"
#include "provider/session_document.h"

namespace coffer::provider {
namespace {

class Vault {
 public:
  int count(std::string_view call) {
    std::lock_guard lock(mutex);
    return static_cast<int>(std::count(calls.begin(), calls.end(), call));
  }

  std::mutex mutex;
  std::vector<std::string> calls;  // "METHOD path"
  int made = 0;                    // tokens, credentials and certificates
  std::set<std::string> live;      // tokens
  int token_ttl = 36000;
  int lease_ttl = 60;
  int renewed_ttl = 60;  // 0: refused
  bool away = false;
  bool renews_nothing = false;     // tokens: HTTP 500
  std::int64_t now = 0;  // of certificates
  TestHttpServer server{[this](const TestHttpRequest& request) { return Answer(request); }};

 private:
  static std::string Say(int status, const Json& body) {
    return TestHttpAnswer(status, DumpJson(body).view());
  }

  std::string Answer(const TestHttpRequest& request) {
    std::lock_guard lock(mutex);
    const std::string call = StrCat(request.method(), " ", request.target());
    calls.push_back(call);
    if (away) return Say(503, {{"errors", {"Vault is sealed"}}});
    const std::string token(request.header("X-Vault-Token"));
    if (call == "POST /v1/auth/kubernetes/login") {
      const std::string made_token = StrCat("hvs.", ++made);
      live.insert(made_token);
      return Say(200, {{"auth",
                        {{"client_token", made_token},
                         {"accessor", "a"},
                         {"lease_duration", token_ttl},
                         {"renewable", true},
                         {"token_type", "service"}}}});
    }
    if (!live.contains(token)) return Say(403, {{"errors", {"permission denied"}}});
    if (call == "POST /v1/auth/token/revoke-self") {
      live.erase(token);
      return TestHttpAnswer(204, "");
    }
    if (call == "POST /v1/auth/token/renew-self") {
      if (renews_nothing) return Say(500, {{"errors", {"internal error"}}});
      return Say(200, {{"auth", {{"lease_duration", token_ttl}, {"renewable", true}}}});
    }
    if (call == "PUT /v1/sys/leases/renew") {
      const Json body = *ParseJson(request.body);
      if (renewed_ttl == 0) return Say(400, {{"errors", {"lease not found"}}});
      return Say(200, {{"lease_id", body["lease_id"]},
                       {"lease_duration", renewed_ttl},
                       {"renewable", true}});
    }
    if (call == "GET /v1/database/creds/app") {
      return Say(200, {{"lease_id", StrCat("database/creds/app/", ++made)},
                       {"lease_duration", lease_ttl},
                       {"renewable", true},
                       {"data", {{"password", StrCat("made-", made)}}}});
    }
    if (call == "GET /v1/database/static-creds/app") {
      return Say(200, {{"lease_id", ""},
                       {"lease_duration", 0},
                       {"data", {{"password", "p"}, {"ttl", 90}, {"rotation_period", 3600}}}});
    }
    if (call == "POST /v1/pki/issue/web") {
      return Say(200,
                 {{"lease_id", ""},
                  {"lease_duration", 0},
                  {"data", {{"certificate", StrCat("c-", ++made)}, {"expiration", now + 300}}}});
    }
    if (call.ends_with("/denied")) return Say(403, {{"errors", {"permission denied"}}});
    return Say(200, {{"data", {{"password", "plain"}}}});
  }
};

struct Volume {
  SessionPtr session = NewSession();
  absl::StatusOr<FetchResult> last = absl::UnknownError("");
};

struct Fixture {
  Fixture() { vault.now = absl::ToUnixSeconds(clock.Now()); }

  // What the only object's file holds, or the status.
  std::string Fetch(Volume& volume, std::string_view objects, std::string_view uid = "pod-1") {
    const SecretProviderClass secret_class{.name = "webapp",
                                           .kubernetes_namespace = "default",
                                           .provider = "vault",
                                           .parameters = {{"vaultAddress", vault.server.address()},
                                                          {"roleName", "webapp"},
                                                          {"objects", std::string(objects)}}};
    Pod pod{.name = "web", .kubernetes_namespace = "default", .uid = std::string(uid)};
    pod.tokens.emplace("", SecretBytes::CopyOf("pod-jwt"));
    volume.last =
        provider.Fetch(secret_class, pod, *volume.session, clock.Now() + absl::Seconds(60));
    if (!volume.last.ok()) return absl::StatusCodeToString(volume.last.status().code());
    return std::string(volume.last->files[0].content.view());
  }
  absl::Duration due(const Volume& volume) { return *volume.last->refetch_by - clock.Now(); }
  absl::Status Revoke(Volume& volume) {
    return provider.Revoke(*volume.session, clock.Now() + absl::Seconds(60));
  }

  Vault vault;
  ManualClock clock;
  Workers workers{8, absl::Milliseconds(50)};
  Provider provider{clock, workers, Provider::Options()};
  Volume volume;
};

constexpr char kDatabase[] = "- {objectName: d, secretPath: database/creds/app, secretKey: password}";
constexpr char kPlain[] = "- {objectName: p, secretPath: kv/a, secretKey: password}";
constexpr char kIssue[] =
    "- {objectName: c, secretPath: pki/issue/web, method: POST, secretKey: certificate, secretArgs: "
    "{common_name: web}}";

TEST_CASE("a lease is renewed after two thirds, and the credentials stay") {
  Fixture f;
  const std::string first = f.Fetch(f.volume, kDatabase);
  for (int i = 0; i < 5; ++i) {
    CHECK(f.due(f.volume) == absl::Seconds(40));
    f.clock.Advance(absl::Seconds(40));
    CHECK(f.Fetch(f.volume, kDatabase) == first);
  }
  CHECK(f.vault.count("PUT /v1/sys/leases/renew") == 5);
  CHECK(f.vault.count("GET /v1/database/creds/app") == 1);
}

TEST_CASE("a lease near its longest time is read anew before it ends") {
  Fixture f;
  const std::string first = f.Fetch(f.volume, kDatabase);
  f.clock.Advance(absl::Seconds(40));
  f.vault.renewed_ttl = 24;  // less than half of 60
  CHECK(f.Fetch(f.volume, kDatabase) == first);
  CHECK(f.due(f.volume) == absl::Seconds(16));
  f.clock.Advance(absl::Seconds(16));
  CHECK(f.Fetch(f.volume, kDatabase) != first);
  CHECK(f.vault.count("PUT /v1/sys/leases/renew") == 1);
}

TEST_CASE("a lease that can't be renewed is read anew at once, as is one that has ended") {
  Fixture f;
  std::string last = f.Fetch(f.volume, kDatabase);
  for (const int renewed : {0, 5}) {  // refused, or next to nothing
    f.vault.renewed_ttl = renewed;
    f.clock.Advance(absl::Seconds(41));
    const std::string next = f.Fetch(f.volume, kDatabase);
    CHECK(next != last);
    last = next;
  }
  CHECK(f.vault.count("PUT /v1/sys/leases/renew") == 2);
  f.clock.Advance(absl::Seconds(61));
  CHECK(f.Fetch(f.volume, kDatabase) != last);
  CHECK(f.vault.count("PUT /v1/sys/leases/renew") == 2);
}

TEST_CASE("while the keystore is away a fetch fails, and what is leased isn't forgotten") {
  Fixture f;
  const std::string first = f.Fetch(f.volume, kDatabase);
  f.clock.Advance(absl::Seconds(45));
  f.vault.away = true;
  CHECK(f.Fetch(f.volume, kDatabase) == "UNAVAILABLE");
  f.vault.away = false;
  CHECK(f.Fetch(f.volume, kDatabase) == first);
}

TEST_CASE("credentials end with their token: a new one has new ones, and all go back at the end") {
  Fixture f;
  f.vault.lease_ttl = 7200;
  f.vault.token_ttl = 60;
  const std::string first = f.Fetch(f.volume, kDatabase);
  CHECK(f.due(f.volume) == absl::Seconds(40));  // the token's
  f.clock.Advance(absl::Seconds(41));
  CHECK(f.Fetch(f.volume, kDatabase) == first);
  f.clock.Advance(absl::Seconds(41));
  f.vault.live.clear();  // it can't be renewed
  CHECK(f.Fetch(f.volume, kDatabase) != first);
  CHECK(f.vault.count("POST /v1/auth/kubernetes/login") == 2);
  CHECK(f.Revoke(f.volume).ok());
  CHECK(f.vault.live.empty());
}

TEST_CASE("a token whose renewal fails serves while it lasts, and is tried again later") {
  Fixture f;
  f.vault.lease_ttl = 7200;
  f.vault.token_ttl = 60;
  f.vault.renews_nothing = true;
  const std::string first = f.Fetch(f.volume, kDatabase);
  f.clock.Advance(absl::Seconds(40));
  CHECK(f.Fetch(f.volume, kDatabase) == first);
  CHECK(f.due(f.volume) == absl::Seconds(5));  // a quarter of what is left
  f.vault.renews_nothing = false;
  f.clock.Advance(absl::Seconds(5));
  CHECK(f.Fetch(f.volume, kDatabase) == first);
  CHECK(f.due(f.volume) == absl::Seconds(40));
  CHECK(f.vault.count("POST /v1/auth/kubernetes/login") == 1);
}

TEST_CASE("tokens that have ended are forgotten, however long a pod runs") {
  Fixture f;
  f.vault.token_ttl = 60;
  for (int i = 0; i < 20; ++i) {
    f.Fetch(f.volume, kPlain);
    f.clock.Advance(absl::Seconds(58));  // too late to be renewed
  }
  CHECK(f.vault.count("POST /v1/auth/kubernetes/login") == 20);
  CHECK((*ParseJson(WriteSession(*f.volume.session).view()))["tokens"].size() <= 2);
  CHECK(f.Revoke(f.volume).ok());
  CHECK(f.vault.count("POST /v1/auth/token/revoke-self") == 1);  // only one still lives
}

TEST_CASE("after the clock was set back all is renewed: nobody knows how much time is left") {
  Fixture f;
  const std::string first = f.Fetch(f.volume, kDatabase);
  f.clock.Advance(-absl::Hours(1));
  CHECK(f.Fetch(f.volume, kDatabase) == first);
  CHECK(f.vault.count("POST /v1/auth/token/renew-self") == 1);
  CHECK(f.vault.count("PUT /v1/sys/leases/renew") == 1);
  CHECK(f.due(f.volume) == absl::Seconds(40));
  CHECK(f.Fetch(f.volume, kDatabase) == first);
  CHECK(f.vault.count("PUT /v1/sys/leases/renew") == 1);
}

TEST_CASE("certificates are made once for two thirds of their time, without a lease too") {
  Fixture f;
  const std::string first = f.Fetch(f.volume, kIssue);
  CHECK(f.due(f.volume) == absl::Seconds(200));
  f.clock.Advance(absl::Seconds(199));
  CHECK(f.Fetch(f.volume, kIssue) == first);
  f.clock.Advance(absl::Seconds(2));
  f.vault.now += 201;
  CHECK(f.Fetch(f.volume, kIssue) != first);
  CHECK(f.vault.count("POST /v1/pki/issue/web") == 2);
}

TEST_CASE("a static password is due when the keystore has changed it, and asked for each time") {
  Fixture f;
  constexpr char kStatic[] =
      "- {objectName: s, secretPath: database/static-creds/app, secretKey: password}";
  CHECK(f.Fetch(f.volume, kStatic) == "p");
  CHECK(f.due(f.volume) == absl::Seconds(91));
  CHECK(f.Fetch(f.volume, kStatic) == "p");
  CHECK(f.vault.count("GET /v1/database/static-creds/app") == 2);
}

TEST_CASE("what a class no longer names is no longer due") {
  Fixture f;
  f.Fetch(f.volume, kDatabase);
  CHECK(f.volume.last->refetch_by);
  CHECK(f.Fetch(f.volume, kPlain) == "plain");
  CHECK_FALSE(f.volume.last->refetch_by);
}

TEST_CASE("volumes of one pod share a login; the last one gives the token back") {
  Fixture f;
  std::vector<Volume> volumes(8);
  {
    std::vector<std::thread> threads;
    for (Volume& volume : volumes) threads.emplace_back([&] { f.Fetch(volume, kPlain); });
    for (std::thread& thread : threads) thread.join();
  }
  for (const Volume& volume : volumes) CHECK(volume.last.ok());
  CHECK(f.vault.count("POST /v1/auth/kubernetes/login") == 1);
  Volume other;
  CHECK(f.Fetch(other, kPlain, "pod-2") == "plain");
  CHECK(f.vault.live.size() == 2);
  for (Volume& volume : volumes) {
    CHECK(f.vault.count("POST /v1/auth/token/revoke-self") == 0);
    CHECK(f.Revoke(volume).ok());
    CHECK_FALSE(HoldsToken(*volume.session));
  }
  CHECK(f.vault.live.size() == 1);
  CHECK(f.Fetch(volumes[0], kPlain) == "plain");  // and again
  CHECK(f.vault.live.size() == 2);
}

TEST_CASE("what a volume may not read costs the others of its pod nothing") {
  Fixture f;
  Volume refused;
  const std::string first = f.Fetch(f.volume, kDatabase);
  for (int i = 0; i < 3; ++i) {
    CHECK(f.Fetch(refused, "- {objectName: x, secretPath: kv/denied}") == "PERMISSION_DENIED");
    CHECK(f.vault.live.size() == 1);  // each login to see whether it helps is given back
    CHECK(f.Fetch(f.volume, kDatabase) == first);
  }
}

TEST_CASE("leases are told by what an answer says") {
  const absl::Time now = absl::FromUnixSeconds(1000);
  struct Case {
    const char* answer;
    bool made;
    int due;  // seconds from now, -1: no lease
    bool kept;
  };
  const Case cases[] = {
      {R"({"lease_id":"x","lease_duration":60,"data":{}})", false, 40, true},
      {R"({"lease_id":"","lease_duration":2764800,"data":{"a":1}})", false, -1, false},
      {R"({"lease_id":"x","lease_duration":0,"data":{}})", false, -1, false},
      {R"({"lease_id":5,"lease_duration":60})", false, -1, false},
      {R"({"data":{"certificate":"c","expiration":1300}})", true, 200, true},
      {R"({"data":{"certificate":"c","expiration":1300}})", false, -1, false},
      {R"({"data":{"certificate":"c","expiration":900}})", true, -1, false},
      {R"({"data":{"ttl":30,"rotation_schedule":"0 0 * * *"}})", false, 31, false},
      {R"({"data":{"ttl":30}})", false, -1, false},
      {R"({"data":{"ttl":"30","rotation_period":5}})", false, -1, false},
      {R"({"lease_id":"x","lease_duration":1e300,"data":null})", false, -2, true},
      {"null", false, -1, false},
  };
  for (const Case& c : cases) {
    INFO(c.answer);
    const auto lease = LeaseOf(*ParseJson(c.answer), c.made, now);
    REQUIRE(lease.has_value() == (c.due != -1));
    if (!lease) continue;
    CHECK(lease->response.is_null() != c.kept);
    if (c.due > 0) CHECK(lease->act_at == now + absl::Seconds(c.due));
    CHECK(lease->act_at > now);
    CHECK(lease->act_at < absl::InfiniteFuture());
  }
}

}  // namespace
}  // namespace coffer::provider
