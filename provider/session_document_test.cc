#include "provider/session_document.h"

#include <mutex>
#include <set>

#include "common/http_client_test_server.h"
#include "provider/parameters.h"
#include "provider/session.h"

namespace coffer::provider {
namespace {

// Logs in, lends credentials and takes tokens back.
struct Keystore {
  std::mutex mutex;
  int made = 0;
  std::set<std::string> live;
  TestHttpServer server{[this](const TestHttpRequest& request) {
    std::lock_guard lock(mutex);
    const std::string_view target = request.target();
    if (target == "/v1/auth/kubernetes/login") {
      const std::string token = StrCat("hvs.", ++made);
      live.insert(token);
      return Say({{"auth",
                   {{"client_token", token},
                    {"accessor", "acc"},
                    {"lease_duration", 36000},
                    {"renewable", true}}}});
    }
    const std::string token(request.header("X-Vault-Token"));
    if (!live.contains(token)) return TestHttpAnswer(403, R"({"errors":["permission denied"]})");
    if (target == "/v1/auth/token/revoke-self") live.erase(token);
    return Say({{"lease_id", "db/1"},
                {"lease_duration", 3600},
                {"renewable", true},
                {"data", {{"password", StrCat("made-", ++made)}}}});
  }};
  static std::string Say(const Json& body) { return TestHttpAnswer(200, DumpJson(body).view()); }
};

// One run of the plugin.
struct Plugin {
  explicit Plugin(Keystore& keystore) : keystore(keystore) {}
  std::string Fetch(Session& session) {
    const SecretProviderClass secret_class{
        .name = "c",
        .kubernetes_namespace = "n",
        .provider = "vault",
        .parameters = {{"vaultAddress", keystore.server.address()},
                       {"roleName", "r"},
                       {"vaultCACertPath", "/ca"},
                       {"objects", "- {objectName: d, secretPath: db/creds/a, secretKey: password}"}}};
    Pod pod{.name = "web", .kubernetes_namespace = "n", .uid = "uid-1"};
    pod.tokens.emplace("", SecretBytes::CopyOf("jwt"));
    const auto fetched = provider.Fetch(secret_class, pod, session, clock.Now() + absl::Seconds(60));
    INFO(fetched.status());
    REQUIRE(fetched.ok());
    return std::string(fetched->files[0].content.view());
  }
  absl::Status Revoke(Session& session) {
    return provider.Revoke(session, clock.Now() + absl::Seconds(60));
  }

  Keystore& keystore;
  ManualClock clock;
  Workers workers{2, absl::Milliseconds(50)};
  Provider provider{clock, workers, Provider::Options()};
};

TEST_CASE("sessions go on in the next process: same token, same credentials, one revocation") {
  Keystore keystore;
  SecretBytes first, second;
  std::string password, other_password;
  {
    Plugin plugin(keystore);
    const SessionPtr one = NewSession(), two = NewSession();
    password = plugin.Fetch(*one);
    other_password = plugin.Fetch(*two);
    first = WriteSession(*one);
    second = WriteSession(*two);
  }
  Plugin plugin(keystore);
  auto one = ReadSession(first.view(), plugin.provider);
  auto two = ReadSession(second.view(), plugin.provider);
  REQUIRE(one.ok());
  REQUIRE(two.ok());
  CHECK(WriteSession(**one).view() == first.view());
  CHECK(plugin.Fetch(**one) == password);
  CHECK(plugin.Fetch(**two) == other_password);
  CHECK(keystore.made == 3);  // one token, two credentials
  CHECK(plugin.Revoke(**one).ok());
  CHECK(keystore.live.size() == 1);
  CHECK(HoldsToken(**two));
  CHECK(plugin.Revoke(**two).ok());
  CHECK(keystore.live.empty());
}

TEST_CASE("documents of different times give their pod one login with all their tokens") {
  Keystore keystore;
  Plugin before(keystore);
  const SessionPtr one = NewSession(), two = NewSession();
  before.Fetch(*one);
  const SecretBytes old = WriteSession(*one);  // and then the token is replaced
  before.clock.Advance(absl::Seconds(36000 - 1));
  before.Fetch(*two);
  CHECK(keystore.live.size() == 2);
  const SecretBytes late = WriteSession(*two);

  Plugin plugin(keystore);
  auto from_old = ReadSession(old.view(), plugin.provider);
  auto from_late = ReadSession(late.view(), plugin.provider);
  REQUIRE(from_old.ok());
  REQUIRE(from_late.ok());
  CHECK((*from_old)->pod_login == (*from_late)->pod_login);
  CHECK((*from_old)->pod_login->current()->secret.view() ==
        two->pod_login->current()->secret.view());
  CHECK(plugin.Revoke(**from_late).ok());
  CHECK(plugin.Revoke(**from_old).ok());
  CHECK(keystore.live.empty());
}

TEST_CASE("a session that never logged in is one after reading, too") {
  Keystore keystore;
  Plugin plugin(keystore);
  const auto read = ReadSession(WriteSession(*NewSession()).view(), plugin.provider);
  REQUIRE(read.ok());
  CHECK_FALSE(HoldsToken(**read));
  plugin.Fetch(**read);
  CHECK(HoldsToken(**read));
}

TEST_CASE("what is no session is refused by field, without its values") {
  Keystore keystore;
  Plugin plugin(keystore);
  const SessionPtr session = NewSession();
  plugin.Fetch(*session);
  const Json good = *ParseJson(WriteSession(*session).view());
  const std::vector<std::pair<std::function<void(Json&)>, std::string>> cases = {
      {[](Json& s) { s = Json::array(); }, "session:"},
      {[](Json& s) { s["version"] = 2; }, "version must be 1"},
      {[](Json& s) { s["version"] = "1"; }, "version must be a number"},
      {[](Json& s) { s["extra"] = 1; }, "extra is unknown"},
      {[](Json& s) { s.erase("pod"); }, "pod is missing"},
      {[](Json& s) { s["login"] = 1; }, "login must be an object"},
      {[](Json& s) { s["login"].erase("role"); }, "login.role is missing"},
      {[](Json& s) { s["login"]["tls"]["skip_verify"] = 0; },
       "login.tls.skip_verify must be true or false"},
      {[](Json& s) { s["tokens"] = Json::object(); }, "tokens must be a list"},
      {[](Json& s) { s["tokens"][0]["secret"] = ""; }, "tokens[0].secret is empty"},
      {[](Json& s) { s["tokens"][0]["secret"] = 5; }, "tokens[0].secret must be text"},
      {[](Json& s) { s["tokens"][0]["expires_at"] = "soon"; },
       "tokens[0].expires_at must be a number"},
      {[](Json& s) {
         Json other = s["tokens"][0];
         other["secret"] = "hvs.other";
         s["tokens"].push_back(other);
       },
       "tokens[1].current comes twice"},
      {[](Json& s) { s["leased_with"] = 1; }, "leased_with is no token's number"},
      {[](Json& s) { s["leased_with"] = "0"; }, "leased_with is no token's number"},
      {[](Json& s) { s["leases"][0].erase("act_at"); }, "leases[0].act_at is missing"},
      {[](Json& s) { s["leases"][0]["x"] = "hvs.1"; }, "leases[0].x is unknown"},
      {[](Json& s) { s["leases"].push_back(s["leases"][0]); }, "leases[1].request comes twice"},
  };
  for (const auto& [spoil, words] : cases) {
    Json document = good;
    spoil(document);
    const auto read = ReadSession(DumpJson(document).view(), plugin.provider);
    INFO(words);
    REQUIRE(absl::IsInvalidArgument(read.status()));
    CHECK_THAT(std::string(Message(read.status())), Catch::Contains(words));
    CHECK_THAT(std::string(Message(read.status())), !Catch::Contains("hvs."));
  }
  const SecretBytes whole = DumpJson(good);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CHECK_FALSE(ReadSession(whole.view().substr(0, size), plugin.provider).ok());
  }
  CHECK(ReadSession(whole.view(), plugin.provider).ok());
}

}  // namespace
}  // namespace coffer::provider
