#include "keystore/auth/token_review.h"

#include <cstdio>
#include <fstream>

#include "keystore/auth/jwt_remote_keys.h"
#include "keystore/auth/kubernetes_test_api_server.h"

namespace coffer::keystore {
namespace {

bool Says(const absl::Status& status, std::string_view text) {
  return Message(status).find(text) != std::string_view::npos;
}

std::unique_ptr<ApiServer> Connect(const TestApiServer& server, std::string_view reviewer,
                                   PodFiles files = {"/nonexistent", "/nonexistent"}) {
  return std::make_unique<ApiServer>(server.address(), server.ca_pem(),
                                     SecretBytes::CopyOf(reviewer), true, std::move(files));
}

TEST_CASE("TokenReview tells whose a token is, for the audience asked") {
  TestApiServer server;
  const auto api = Connect(server, "reviewer-token");
  const std::string token = server.Token("default", "webapp");
  const auto reviewed = api->Review(token, {});
  REQUIRE(reviewed.ok());
  CHECK(reviewed->name == "webapp");
  CHECK(reviewed->name_space == "default");
  CHECK(reviewed->uid == TestApiServer::Uid("default", "webapp"));
  CHECK(server.last_bearer == "reviewer-token");

  CHECK(api->Review(server.Token("default", "webapp", "vault"), {"vault"}).ok());
  CHECK(ParseJson(server.last_body)->at("spec").at("audiences") == Json::array({"vault"}));
  CHECK_FALSE(api->Review(server.Token("default", "webapp", "vault"), {}).ok());
  CHECK_FALSE(api->Review(token, {"vault"}).ok());
  CHECK(api->Review(token, {"vault", std::string(TestApiServer::kAudience)}).ok());
}

TEST_CASE("TokenReview: what the API server refuses is refused, and says why") {
  TestApiServer server;
  const std::string token = server.Token("default", "webapp");
  const auto reviewed_as = [](std::string_view status) {
    return TestHttpAnswer(201, StrCat(R"({"kind":"TokenReview","status":)", status, "}"));
  };
  using enum absl::StatusCode;
  struct Case {
    std::string_view reviewer;
    std::string failure;
    absl::StatusCode code;
    std::string_view says;
  };
  const Case cases[] = {
      {"reviewer-token", reviewed_as(R"({"authenticated":false})"), kPermissionDenied,
       "service account jwt not valid"},
      {"reviewer-token", reviewed_as(R"({"authenticated":"true"})"), kPermissionDenied,
       "not valid"},
      {"reviewer-token", reviewed_as(R"({"authenticated":true,"error":"gone\n"})"),
       kPermissionDenied, "lookup failed: gone "},
      {"reviewer-token", reviewed_as(R"({"authenticated":true,"user":{"username":"alice"}})"),
       kPermissionDenied, "unexpected username format"},
      {"reviewer-token",
       reviewed_as(R"({"authenticated":true,"user":{"username":"system:node:a:b"}})"),
       kPermissionDenied, "not a service account"},
      {"reviewer-token", reviewed_as(R"({"authenticated":true})"), kPermissionDenied, "username"},
      {"reviewer-token",
       reviewed_as(
           R"({"authenticated":true,"audiences":["x"],"user":{"username":"system:serviceaccount:a:b"}})"),
       kPermissionDenied, "not meant for the audience asked for"},
      {"unknown-token", "", kPermissionDenied, "doesn't accept the reviewer's token"},
      {"powerless-token", "", kPermissionDenied, "system:auth-delegator"},
      {"reviewer-token", TestHttpAnswer(500, R"({"kind":"Status","message":"etcd is down"})"),
       kUnavailable, "status 500: etcd is down"},
      {"reviewer-token", TestHttpAnswer(503, "<html>"), kUnavailable, "status 503"},
      {"reviewer-token", TestHttpAnswer(302, "", "Location: /\r\n"), kUnavailable, "status 302"},
      {"reviewer-token", TestHttpAnswer(201, "{\"kind\":"), kUnavailable, "not valid JSON"},
      {"reviewer-token", TestHttpAnswer(200, "[]"), kUnavailable, "no status"},
      {"reviewer-token", TestHttpAnswer(200, R"({"status":"Failure"})"), kUnavailable, "no status"},
      {"reviewer-token", "junk\r\n\r\n", kUnavailable, "can't be asked"}};
  for (const Case& c : cases) {
    server.failure = c.failure;
    const auto reviewed = Connect(server, c.reviewer)->Review(token, {"vault"});
    CAPTURE(c.failure, reviewed.status().ToString());
    CHECK(reviewed.status().code() == c.code);
    CHECK(Says(reviewed.status(), c.says));
    CHECK_FALSE(Says(reviewed.status(), token));
    CHECK_FALSE(Says(reviewed.status(), c.reviewer));
  }
}

TEST_CASE("TokenReview: an API server that can't be reached or trusted is unavailable") {
  TestApiServer server;
  const std::string token = server.Token("default", "webapp");
  ApiServer wrong_ca(server.address(), TestApiServer().ca_pem(), {}, false, {});
  CHECK(wrong_ca.Review(token, {}).status().code() == absl::StatusCode::kUnavailable);
  CHECK(Says(wrong_ca.Review(token, {}).status(), "TLS"));
  ApiServer nobody("https://127.0.0.1:1", server.ca_pem(), {}, false, {});
  CHECK(Says(nobody.Review(token, {}).status(), "Connection refused"));
}

TEST_CASE("the pod's own token is read anew for each review, the client's is the last resort") {
  TestApiServer server;
  const std::string folder = StrCat("/tmp/coffer_pod_", getpid());
  const PodFiles files{folder + "_token", folder + "_ca"};
  const std::string token = server.Token("default", "webapp");
  std::ofstream(files.ca) << server.ca_pem();

  // The CA of the pod's file is trusted where none is configured.
  ApiServer api(server.address(), "", {}, true, files);
  CHECK(api.Review(token, {}).ok());
  CHECK(server.last_bearer == token);
  for (const char* own : {"first", "second\n"}) {
    std::ofstream(files.token) << own;
    server.reviewers = {std::string(Trim(own))};
    CHECK(api.Review(token, {}).ok());
    CHECK(server.last_bearer == Trim(own));
  }
  ApiServer without(server.address(), server.ca_pem(), {}, false, files);
  CHECK(without.Review(token, {}).ok());
  CHECK(server.last_bearer == token);
  server.deleted = {TestApiServer::Uid("default", "webapp")};
  CHECK(Says(without.Review(token, {}).status(), "deleted or recreated"));
  std::remove(files.token.c_str());
  std::remove(files.ca.c_str());
}

TEST_CASE("labels and annotations come with the reviewer's token alone") {
  TestApiServer server;
  server.labels["prod"] = {{"env", "prod"}, {"odd", 1}};
  server.annotations["prod/webapp"] = {{"a", "b"}};
  const auto api = Connect(server, "reviewer-token");
  CHECK(api->NamespaceLabels("prod")->at("env") == "prod");
  CHECK_FALSE(api->NamespaceLabels("prod")->contains("odd"));
  CHECK(api->AccountAnnotations("prod", "webapp")->at("a") == "b");
  CHECK(api->AccountAnnotations("prod", "other")->empty());
  CHECK(api->NamespaceLabels("gone").status().code() == absl::StatusCode::kPermissionDenied);
  // A name can't leave its place in the path.
  CHECK_FALSE(api->NamespaceLabels("prod/serviceaccounts/webapp").ok());
  CHECK(Says(Connect(server, "")->NamespaceLabels("prod").status(),
             "token_reviewer_jwt needs to be configured"));
  server.failure = TestHttpAnswer(200, "junk");
  CHECK(api->NamespaceLabels("prod").status().code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("a JWK set is fetched once, again when old or for an unknown key, but not too often") {
  ManualClock clock;
  const TestIssuer first("P-256", "first"), second("P-256", "second");
  std::string body = std::string(DumpJson({{"keys", {first.Jwk()}}}).view());
  int status = 200;
  TestHttpServer server([&](const TestHttpRequest&) { return TestHttpAnswer(status, body); });
  RemoteKeys keys(server.address() + "/jwks", MakeStreamTransport({}), [] { return SecretBytes(); },
                  clock);
  const std::string of_first = first.Sign("ES256", nullptr), of_second = second.Sign("ES256", nullptr);
  const auto verify = [&](const std::string& token, bool may_block = true) -> absl::Status {
    const Jwt jwt = *ParseJwt(token);
    const auto set = keys.KeysFor(jwt, may_block);
    if (!set.ok()) return set.status();
    return *set == nullptr ? absl::AbortedError("must fetch") : (*set)->Verify(jwt);
  };

  CHECK(verify(of_first, false).code() == absl::StatusCode::kAborted);  // nothing known yet
  CHECK(verify(of_first).ok());
  CHECK(verify(of_first, false).ok());
  CHECK(server.requests() == 1);

  // The issuer's keys change: the new key is found, the old one goes.
  body = std::string(DumpJson({{"keys", {second.Jwk()}}}).view());
  CHECK(Says(verify(of_second), "unknown key"));  // too soon
  CHECK(server.requests() == 1);
  clock.Advance(RemoteKeys::kBetweenFetches);
  CHECK(verify(of_second, false).code() == absl::StatusCode::kAborted);
  CHECK(verify(of_second).ok());
  CHECK(Says(verify(of_first), "unknown key"));
  CHECK(server.requests() == 2);

  // Many tokens of unknown keys make few fetches.
  clock.Advance(RemoteKeys::kBetweenFetches);
  for (int i = 0; i < 20; ++i) CHECK_FALSE(verify(of_first).ok());
  CHECK(server.requests() == 3);

  // Old keys are fetched again; while that fails, the old ones stay in use, but not for ever.
  clock.Advance(RemoteKeys::kFreshFor);
  CHECK(verify(of_second).ok());
  CHECK(server.requests() == 4);
  status = 500;
  clock.Advance(RemoteKeys::kFreshFor);
  CHECK(verify(of_second).ok());
  CHECK(verify(of_second).ok());
  CHECK(server.requests() == 5);
  clock.Advance(RemoteKeys::kUsableFor);
  CHECK(verify(of_second).code() == absl::StatusCode::kUnavailable);
  CHECK(Says(verify(of_second), "status 500"));
  CHECK(server.requests() == 6);
  status = 200;
  clock.Advance(RemoteKeys::kBetweenFetches);
  CHECK(verify(of_second).ok());
}

TEST_CASE("a JWK set that can't be had is an error that says why") {
  ManualClock clock;
  struct Case {
    std::string answer, says;
  };
  const Case cases[] = {{TestHttpAnswer(404, ""), "status 404"},
                        {TestHttpAnswer(200, "<html>"), "not valid JSON"},
                        {TestHttpAnswer(200, R"({"keys":[]})"), "holds no RSA"},
                        {"", "fetch the JWK set"}};
  const Jwt jwt = *ParseJwt(TestIssuer("P-256").Sign("ES256", nullptr));
  for (const Case& c : cases) {
    TestHttpServer server([&](const TestHttpRequest&) { return c.answer; });
    RemoteKeys keys(server.address(), MakeStreamTransport({}), [] { return SecretBytes(); }, clock);
    const auto set = keys.KeysFor(jwt, true);
    CAPTURE(set.status().ToString());
    CHECK(set.status().code() == absl::StatusCode::kUnavailable);
    CHECK(Says(set.status(), c.says));
    CHECK(Says(set.status(), server.address()));
  }
}

TEST_CASE("threads that need the keys at once make one fetch") {
  ManualClock clock;
  const TestIssuer issuer("P-256", "id");
  TestHttpServer server([&](const TestHttpRequest&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return TestHttpAnswer(200, DumpJson({{"keys", {issuer.Jwk()}}}).view());
  });
  RemoteKeys keys(server.address(), MakeStreamTransport({}), [] { return SecretBytes(); }, clock);
  const std::string token = issuer.Sign("ES256", nullptr);
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      const auto set = keys.KeysFor(*ParseJwt(token), true);
      if (set.ok() && *set != nullptr) ++good;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == 8);
  CHECK(server.requests() == 1);
}

}  // namespace
}  // namespace coffer::keystore
