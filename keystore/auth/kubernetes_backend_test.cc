// Through a whole keystore in memory, with an API server over HTTPS.
#include "keystore/auth/kubernetes_backend.h"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "keystore/auth/kubernetes_test_api_server.h"
#include "keystore/auth/token_backend.h"
#include "keystore/system/testing.h"

namespace coffer::keystore {
namespace {

bool Says(const absl::Status& status, std::string_view text) {
  return Message(status).find(text) != std::string_view::npos;
}

// What `work` says on standard error.
std::string LoggedBy(const std::function<void()>& work) {
  char name[] = "/tmp/coffer-log-XXXXXX";
  const UniqueFd file(mkstemp(name)), before(dup(STDERR_FILENO));
  dup2(file.get(), STDERR_FILENO);
  work();
  dup2(before.get(), STDERR_FILENO);
  std::stringstream text;
  text << std::ifstream(name).rdbuf();
  std::filesystem::remove(name);
  return text.str();
}

struct Fixture : TestKeystore {
  Fixture() {
    core.Register("kubernetes", kubernetes);
    core.Register("token", token_backend);
    Enable("auth/kubernetes", "kubernetes");
    api.now = clock.Now();
    Put("sys/policies/acl/webapp", {{"policy", R"(path "secret/*" { capabilities = ["read"] })"}});
  }

  Response Put(std::string_view path, Json data) {
    auto response = Write(path, std::move(data));
    CAPTURE(path, response.status().ToString());
    REQUIRE(response.ok());
    return *std::move(response);
  }
  void UseKeys() { Put("auth/kubernetes/config", {{"pem_keys", {api.key_pem()}}}); }
  void UseReview(Json more = Json::object()) {
    Json config = {{"kubernetes_host", api.address()}, {"kubernetes_ca_cert", api.ca_pem()},
                   {"token_reviewer_jwt", "reviewer-token"}};
    config.update(more);
    Put("auth/kubernetes/config", config);
  }
  void PutRole(Json more = Json::object(), std::string_view name = "webapp") {
    Json role = {{"bound_service_account_names", "vault"},
                 {"bound_service_account_namespaces", "default"},
                 {"policies", "webapp"},
                 {"ttl", "24h"}};
    role.update(more);
    Put(StrCat("auth/kubernetes/role/", name), role);
  }
  absl::StatusOr<Response> LogIn(std::string_view jwt, std::string_view role = "webapp") {
    return Write("auth/kubernetes/login", {{"role", role}, {"jwt", jwt}}, "");
  }

  TestApiServer api;
  TokenBackend token_backend{core, mounts, tokens, policies, clock};
  KubernetesBackend kubernetes{clock, PodFiles{"/nonexistent", "/nonexistent"}};
};

TEST_CASE_METHOD(Fixture, "a role can give batch tokens, for which nothing is stored") {
  UseKeys();
  PutRole({{"token_type", "batch"}});
  const auto accessors = [this] {
    const auto txn = barrier.Begin().value();
    Txn root = txn->root();
    return tokens.Accessors(root).value().size();
  };
  const std::size_t before = accessors();
  const auto response = LogIn(api.Token("default", "vault"));
  CAPTURE(response.status().ToString());
  REQUIRE(response.ok());
  const std::string token(response->auth->client_token.view());
  CHECK(token.starts_with("hvb."));
  CHECK(response->auth->entry->expire_time == clock.Now() + absl::Hours(24));
  CHECK_FALSE(response->auth->entry->renewable);
  CHECK(accessors() == before);
  const auto txn = barrier.Begin().value();
  Txn root = txn->root();
  const auto found = tokens.Lookup(root, token).value();
  REQUIRE(found != nullptr);
  CHECK(found->batch());
  CHECK(found->meta.at("service_account_name") == "vault");
}

TEST_CASE_METHOD(Fixture, "a service account logs in and gets what its role says") {
  UseKeys();
  PutRole();
  const auto response = LogIn(api.Token("default", "vault") + "\n");
  CAPTURE(response.status().ToString());
  REQUIRE(response.ok());
  REQUIRE(response->auth.has_value());
  const TokenEntry& entry = *response->auth->entry;
  CHECK(response->auth->client_token.view().starts_with("hvs."));
  CHECK(entry.policies == std::vector<std::string>{"default", "webapp"});
  CHECK(entry.display_name == "kubernetes-default-vault");
  CHECK(entry.path == "auth/kubernetes/login");
  CHECK(entry.creation_ttl == absl::Hours(24));
  CHECK(entry.renewable);
  CHECK(entry.parent.empty());
  CHECK(entry.meta == Json({{"role", "webapp"},
                            {"service_account_name", "vault"},
                            {"service_account_namespace", "default"},
                            {"service_account_secret_name", ""},
                            {"service_account_uid", TestApiServer::Uid("default", "vault")}}));
  // The token opens what its policies say.
  const auto allowed = Write("sys/capabilities-self", {{"paths", {"secret/a", "other/a"}}},
                             response->auth->client_token.view());
  CAPTURE(allowed.status().ToString());
  REQUIRE(allowed.ok());
  CHECK(allowed->data.at("secret/a") == Json::array({"read"}));
  CHECK(allowed->data.at("other/a") == Json::array({"deny"}));
  CHECK(Read("sys/mounts", response->auth->client_token.view()).status().code() ==
        absl::StatusCode::kPermissionDenied);
}

TEST_CASE_METHOD(Fixture, "all token fields of a role reach the token") {
  UseKeys();
  PutRole({{"token_no_default_policy", true}, {"token_period", "1h"}, {"token_num_uses", 7},
           {"token_explicit_max_ttl", "30h"}, {"token_bound_cidrs", "127.0.0.0/8"},
           {"token_policies", "b,a"}, {"token_ttl", "2h"}, {"token_max_ttl", "3h"}});
  const auto response = LogIn(api.Token("default", "vault"));
  CAPTURE(response.status().ToString());
  REQUIRE(response.ok());
  const TokenEntry& entry = *response->auth->entry;
  CHECK(entry.policies == std::vector<std::string>{"a", "b"});
  CHECK(entry.period == absl::Hours(1));
  CHECK(entry.num_uses == 7);
  CHECK(entry.explicit_max_ttl == absl::Hours(30));
  CHECK(entry.bound_cidrs == std::vector<std::string>{"127.0.0.0/8"});

  Put("auth/kubernetes/role/webapp", {{"token_bound_cidrs", "10.0.0.0/8"}});
  CHECK(LogIn(api.Token("default", "vault")).status() ==
        absl::PermissionDeniedError("permission denied"));
}

TEST_CASE_METHOD(Fixture, "a login that isn't right is refused, and says why") {
  UseKeys();
  PutRole();
  PutRole({{"audience", "vault"}}, "audience");
  PutRole({{"bound_service_account_names", "web*,job-*-x"}, {"bound_service_account_namespaces", "team-*"}},
          "globs");
  const auto changed = [&](Json changes) {
    Json claims = api.Claims("default", "vault", "vault", clock.Now());
    if (!changes.is_null()) claims.update(changes);
    return api.issuer().Sign("RS256", claims);
  };
  const std::int64_t now = absl::ToUnixSeconds(clock.Now());
  const Json legacy = {{"kubernetes.io", nullptr}, {"exp", now + 9},
                       {"kubernetes.io/serviceaccount/namespace", "default"},
                       {"kubernetes.io/serviceaccount/secret.name", "vault-token-x"},
                       {"kubernetes.io/serviceaccount/service-account.name", "vault"},
                       {"kubernetes.io/serviceaccount/service-account.uid", "u-1"}};
  const Json nameless = {{"kubernetes.io", {{"namespace", "default"}}}};
  using enum absl::StatusCode;
  struct Case {
    std::string role, jwt;
    absl::StatusCode code;
    std::string_view says;
  };
  const Case cases[] = {
      {"", "x", kInvalidArgument, "missing role"},
      {"webapp", "", kInvalidArgument, "missing jwt"},
      {"other", "x", kInvalidArgument, "invalid role name \"other\""},
      {"a/b", "x", kInvalidArgument, "invalid role name \"a/b\""},
      {"webapp", "x", kPermissionDenied, "malformed JWT"},
      {"webapp", changed({}), kOk, ""},
      {"WebApp", changed({}), kOk, ""},
      {"webapp", changed(legacy), kOk, ""},
      {"webapp", TestIssuer("RSA").Sign("RS256", api.Claims("default", "vault", "v", clock.Now())),
       kPermissionDenied, "permission denied: the JWT is refused: its signature is wrong"},
      {"webapp", Base64UrlText(R"({"alg":"none"})") + "." + Base64UrlText("{}") + ".",
       kPermissionDenied, "algorithm isn't accepted"},
      {"webapp", changed({{"exp", now - 61}}), kPermissionDenied, "it expired at"},
      {"webapp", changed({{"nbf", now + 61}}), kPermissionDenied, "isn't valid before"},
      {"audience", changed({}), kOk, ""},
      {"audience", api.Token("default", "vault", "other"), kPermissionDenied,
       "invalid audience (aud) claim"},
      {"webapp", api.Token("default", "other"), kPermissionDenied,
       "service account name not authorized"},
      {"webapp", api.Token("other", "vault"), kPermissionDenied, "namespace not authorized"},
      {"globs", api.Token("team-a", "webapp"), kOk, ""},
      {"globs", api.Token("team-a", "job-7-x"), kOk, ""},
      {"globs", api.Token("team-a", "job-7"), kPermissionDenied, "name not authorized"},
      {"globs", api.Token("a-team-a", "webapp"), kPermissionDenied, "namespace not authorized"},
      {"webapp", changed({{"sub", "system:serviceaccount:default:other"}}), kPermissionDenied,
       "its subject (sub)"},
      {"webapp", changed(nameless), kPermissionDenied, "no service account's"},
      {"webapp", changed({{"kubernetes.io", "x"}}), kPermissionDenied, "no service account's"}};
  for (const Case& c : cases) {
    const auto response = LogIn(c.jwt, c.role);
    CAPTURE(c.role, c.jwt, response.status().ToString());
    CHECK(response.status().code() == c.code);
    CHECK(Says(response.status(), c.says));
    if (c.jwt.size() > 10) CHECK_FALSE(Says(response.status(), c.jwt));
  }
  CHECK(api.requests() == 0);
  CHECK(LogIn(changed(legacy))->auth->entry->meta["service_account_secret_name"] == "vault-token-x");
  // A list as role, or nothing at all, is no reason to stumble.
  CHECK_FALSE(Write("auth/kubernetes/login", {{"role", {"webapp"}}, {"jwt", 1}}, "").ok());
  CHECK_FALSE(Write("auth/kubernetes/login", Json::object(), "").ok());
}

TEST_CASE_METHOD(Fixture, "a login gives none of the keystore's own policies") {
  UseKeys();
  PutRole({{"policies", "webapp,response-wrapping"}});
  CHECK(LogIn(api.Token("default", "vault")).status() ==
        absl::InvalidArgumentError("cannot assign policy \"response-wrapping\""));
}

TEST_CASE_METHOD(Fixture, "without a config nobody logs in") {
  PutRole();
  const auto response = LogIn(api.Token("default", "vault"));
  CHECK(response.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(Says(response.status(), "write auth/kubernetes/config first"));
}

TEST_CASE_METHOD(Fixture, "the issuer is checked where that isn't turned off") {
  PutRole();
  const std::string token = api.Token("default", "vault");
  struct Case {
    Json config;
    bool lets_in;
  };
  const Case cases[] = {
      {{{"issuer", "https://other"}}, true},
      {{{"issuer", "https://other"}, {"disable_iss_validation", false}}, false},
      {{{"disable_iss_validation", false}}, false},  // kubernetes/serviceaccount
      {{{"issuer", TestApiServer::kAudience}, {"disable_iss_validation", false}}, true}};
  for (const Case& c : cases) {
    Json config = c.config;
    config["pem_keys"] = api.key_pem();
    Put("auth/kubernetes/config", config);
    CHECK(LogIn(token).ok() == c.lets_in);
  }
}

TEST_CASE_METHOD(Fixture, "TokenReview decides where no keys are given") {
  UseReview();
  PutRole();
  const std::string token = api.Token("default", "vault");
  CHECK(LogIn(token).ok());
  CHECK(api.last_bearer == "reviewer-token");
  CHECK(LogIn(token).ok());
  CHECK(api.requests() == 2);

  // Of another issuer: its claims are right, the API server doesn't know it.
  const Json claims = api.Claims("default", "vault", TestApiServer::kAudience, clock.Now());
  CHECK(LogIn(TestIssuer("RSA").Sign("RS256", claims)).status().code() ==
        absl::StatusCode::kPermissionDenied);
  // What the claims already rule out isn't asked.
  const int before = api.requests();
  CHECK(Says(LogIn(api.Token("default", "other")).status(), "name not authorized"));
  CHECK(Says(LogIn(api.Token("other", "vault")).status(), "namespace not authorized"));
  CHECK(api.requests() == before);
}

TEST_CASE_METHOD(Fixture,
                 "what the API server says of a login stands in the log, not in the answer") {
  UseReview({{"use_annotations_as_alias_metadata", true}});
  PutRole();
  PutRole({{"bound_service_account_namespaces", ""},
           {"bound_service_account_namespace_selector", R"({"matchLabels":{"env":"prod"}})"}},
          "labels");
  const absl::Status refused = absl::PermissionDeniedError("permission denied");
  const absl::Status unasked = absl::UnavailableError(
      "the Kubernetes API server can't be asked: the keystore's log says why");
  const std::string of_another = TestHttpAnswer(
      201,
      R"({"status":{"authenticated":true,"user":{"username":"system:serviceaccount:default:admin","uid":"1"}}})");
  struct Case {
    std::string_view role;
    std::string failure, deleted;
    absl::Status status;
    std::string_view log;
  };
  const Case cases[] = {
      {"webapp", "", "vault", refused, "lookup failed: [invalid bearer token"},
      {"webapp", of_another, "", refused, "another service account's than it claims"},
      {"webapp", TestHttpAnswer(500, R"({"message":"etcd is down"})"), "", unasked, "etcd is down"},
      {"labels", "", "", refused, "GET /api/v1/namespaces/default with status 404"}};
  const std::string token = api.Token("default", "vault");
  for (const Case& c : cases) {
    api.failure = c.failure;
    api.deleted = {TestApiServer::Uid("default", c.deleted)};
    absl::Status status;
    const std::string log = LoggedBy([&] { status = LogIn(token, c.role).status(); });
    CAPTURE(log);
    CHECK(status == c.status);
    CHECK(log.find(c.log) != log.npos);
    CHECK(log.find(token) == log.npos);
    CHECK(LoggedBy([&] { CHECK(LogIn(token, c.role).status() == c.status); }).empty());
    clock.Advance(absl::Seconds(1));
  }
}

TEST_CASE_METHOD(Fixture,
                 "TokenReview is asked for the role's audience, else for the token's own") {
  UseReview();
  PutRole();
  CHECK(LogIn(api.Token("default", "vault", "elsewhere")).ok());
  CHECK(ParseJson(api.last_body)->at("spec").at("audiences") == Json::array({"elsewhere"}));
  CHECK(LogIn(api.Token("default", "vault")).ok());
  Json claims = api.Claims("default", "vault", "", clock.Now());
  claims["aud"] = "elsewhere";
  CHECK(LogIn(api.issuer().Sign("RS256", claims)).ok());
  claims["aud"] = 1;
  CHECK(Says(LogIn(api.issuer().Sign("RS256", claims)).status(), "\"aud\" isn't a text"));

  PutRole({{"audience", "vault"}});
  CHECK(LogIn(api.Token("default", "vault", "vault")).ok());
  CHECK(ParseJson(api.last_body)->at("spec").at("audiences") == Json::array({"vault"}));
  const int before = api.requests();
  CHECK(Says(LogIn(api.Token("default", "vault")).status(), "invalid audience"));
  CHECK(api.requests() == before);
}

TEST_CASE_METHOD(Fixture, "a client's token asks for itself where there is no reviewer's") {
  UseReview({{"token_reviewer_jwt", ""}});
  PutRole();
  const std::string token = api.Token("default", "vault");
  CHECK(LogIn(token).ok());
  CHECK(api.last_bearer == token);
}

TEST_CASE_METHOD(Fixture, "keys and TokenReview together both decide") {
  const auto warned = Write("auth/kubernetes/config", {{"kubernetes_host", api.address()},
                                                       {"kubernetes_ca_cert", api.ca_pem()},
                                                       {"pem_keys", api.key_pem()}});
  REQUIRE(warned.ok());
  CHECK(warned->warnings.size() == 1);
  PutRole();
  const std::string token = api.Token("default", "vault");
  CHECK(LogIn(token).ok());
  CHECK(api.requests() == 0);  // the keys alone

  UseReview({{"pem_keys", api.key_pem()}, {"token_review", true}});
  CHECK(LogIn(token).ok());
  CHECK(api.requests() == 1);
  const Json claims = api.Claims("default", "vault", TestApiServer::kAudience, clock.Now());
  CHECK(Says(LogIn(TestIssuer("RSA").Sign("RS256", claims)).status(), "signature is wrong"));
  CHECK(api.requests() == 1);
  api.deleted = {TestApiServer::Uid("default", "vault")};
  CHECK_FALSE(LogIn(token).ok());
}

TEST_CASE_METHOD(Fixture, "the API server's own JWK set verifies, with its CA and the reviewer's token") {
  UseReview({{"jwks_url", api.address() + "/openid/v1/jwks"}});
  PutRole();
  CHECK(LogIn(api.Token("default", "vault")).ok());
  CHECK(LogIn(api.Token("default", "vault")).ok());
  CHECK(api.requests() == 1);
  CHECK(api.last_bearer == "reviewer-token");
  CHECK(Says(LogIn(TestIssuer("RSA", "other").Sign("RS256", api.Claims("default", "vault", "a", clock.Now())))
                 .status(),
             "unknown key, with the id \"other\""));
  api.failure = TestHttpAnswer(500, "");
  CHECK(LogIn(api.Token("default", "vault")).ok());
}

TEST_CASE_METHOD(Fixture, "another server's JWK set doesn't see the reviewer's token") {
  TestHttpRequest seen;
  TestHttpServer jwks([&](const TestHttpRequest& request) {
    seen = request;
    return TestHttpAnswer(200, api.Jwks());
  });
  UseReview({{"jwks_url", jwks.address() + "/jwks"}});
  PutRole();
  CHECK(LogIn(api.Token("default", "vault")).ok());
  CHECK(seen.target() == "/jwks");
  CHECK(seen.header("Authorization").empty());
}

TEST_CASE_METHOD(Fixture, "a role can choose namespaces by their labels") {
  UseReview();
  PutRole({{"bound_service_account_namespaces", "default"},
           {"bound_service_account_namespace_selector", R"({"matchLabels":{"env":"prod"}})"}});
  api.labels["prod-1"] = {{"env", "prod"}};
  api.labels["dev-1"] = {{"env", "dev"}};
  CHECK(LogIn(api.Token("default", "vault")).ok());
  CHECK(LogIn(api.Token("prod-1", "vault")).ok());
  CHECK(Says(LogIn(api.Token("dev-1", "vault")).status(), "namespace not authorized"));
  CHECK_FALSE(LogIn(api.Token("gone", "vault")).ok());
  UseKeys();
  CHECK(LogIn(api.Token("default", "vault")).ok());
  CHECK(Says(LogIn(api.Token("prod-1", "vault")).status(), "needs kubernetes_host"));
}

TEST_CASE_METHOD(Fixture, "annotations become metadata where the config says so, and override nothing") {
  UseReview({{"use_annotations_as_alias_metadata", true}});
  PutRole();
  api.annotations["default/vault"] = {{"vault.hashicorp.com/alias-metadata-team", "a"},
                                      {"vault.hashicorp.com/alias-metadata-role", "admin"},
                                      {"other", "x"}};
  const auto response = LogIn(api.Token("default", "vault"));
  REQUIRE(response.ok());
  const Json& meta = response->auth->entry->meta;
  CHECK(meta.at("team") == "a");
  CHECK(meta.at("role") == "webapp");
  CHECK_FALSE(meta.contains("other"));
}

TEST_CASE_METHOD(Fixture, "the audit log tells a login's alias as the role's alias_name_source has it") {
  UseKeys();
  char folder[] = "/tmp/coffer-audit-XXXXXX";
  REQUIRE(mkdtemp(folder) != nullptr);
  const std::string file = StrCat(folder, "/audit.log");
  Put("sys/audit/file", {{"type", "file"}, {"options", {{"file_path", Json::string_t(file)}}}});
  for (const auto& [source, alias] : {std::pair{"serviceaccount_uid", "uid-of-default-vault"},
                                      std::pair{"serviceaccount_name", "default/vault"}}) {
    PutRole({{"alias_name_source", source}});
    REQUIRE(LogIn(api.Token("default", "vault")).ok());
    std::string last;
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) last = line;
    CHECK(ParseJson(last)->at("response").at("auth").at("alias_name") == alias);
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE_METHOD(Fixture, "the config is read back without the reviewer's token") {
  CHECK(Read("auth/kubernetes/config").status().code() == absl::StatusCode::kNotFound);
  Put("auth/kubernetes/config", {{"kubernetes_host", "https://k8s:443"}});
  const Json expected = {{"kubernetes_host", "https://k8s:443"},
                         {"kubernetes_ca_cert", ""},
                         {"pem_keys", Json::array()},
                         {"issuer", ""},
                         {"disable_iss_validation", true},
                         {"disable_local_ca_jwt", false},
                         {"use_annotations_as_alias_metadata", false},
                         {"token_reviewer_jwt_set", false},
                         {"jwks_url", ""},
                         {"jwks_ca_pem", ""},
                         {"token_review", true}};
  CHECK(Read("auth/kubernetes/config")->data == expected);
  UseReview({{"pubkeys", api.key_pem()}});
  const Json shown = Read("auth/kubernetes/config")->data;
  CHECK(shown.at("token_reviewer_jwt_set") == true);
  CHECK(shown.at("pem_keys").size() == 1);
  CHECK(shown.at("token_review") == false);
  CHECK(shown.dump().find("reviewer-token") == std::string::npos);
  // A write replaces everything.
  UseKeys();
  CHECK(Read("auth/kubernetes/config")->data.at("token_reviewer_jwt_set") == false);
  // A wrong one changes nothing.
  const auto wrong = Write("auth/kubernetes/config", {{"pem_keys", "junk"}});
  CHECK(wrong.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(Read("auth/kubernetes/config")->data.at("pem_keys").size() == 1);
}

TEST_CASE_METHOD(Fixture, "roles are listed, read, changed and deleted by name, in any case") {
  CHECK(List("auth/kubernetes/role").status().code() == absl::StatusCode::kNotFound);
  PutRole(Json::object(), "B");
  PutRole(Json::object(), "a.b-c");
  CHECK(List("auth/kubernetes/role")->data == Json({{"keys", {"a.b-c", "b"}}}));
  CHECK(Read("auth/kubernetes/role/b")->data.at("ttl") == 86400);
  Put("auth/kubernetes/role/b", {{"audience", "vault"}});
  CHECK(Read("auth/kubernetes/role/B")->data.at("policies") == Json::array({"webapp"}));
  CHECK(Read("auth/kubernetes/role/B")->data.at("audience") == "vault");
  CHECK(Delete("auth/kubernetes/role/B").ok());
  CHECK(Delete("auth/kubernetes/role/B").ok());
  CHECK(Read("auth/kubernetes/role/b").status() == absl::NotFoundError(""));
  CHECK(Says(LogIn(api.Token("default", "vault"), "b").status(), "invalid role name"));
  for (const char* name : {"-a", "a-", "a b", "a%", "\xc3\xa9"}) {
    CHECK(Write(StrCat("auth/kubernetes/role/", name), {{"policies", "a"}}).status().code() ==
          absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE_METHOD(Fixture, "changes count for the next login; two mounts don't share anything") {
  UseKeys();
  PutRole();
  const std::string token = api.Token("default", "vault");
  CHECK(LogIn(token).ok());
  PutRole({{"bound_service_account_names", "other"}});
  CHECK_FALSE(LogIn(token).ok());
  PutRole();
  Put("auth/kubernetes/config", {{"pem_keys", TestIssuer("RSA").PublicPem()}});
  CHECK_FALSE(LogIn(token).ok());

  Enable("auth/k8s/two", "kubernetes");
  CHECK(Says(Write("auth/k8s/two/login", {{"role", "webapp"}, {"jwt", token}}, "").status(),
             "invalid role name"));
  Put("auth/k8s/two/config", {{"pem_keys", api.key_pem()}});
  Put("auth/k8s/two/role/webapp", {{"bound_service_account_names", "vault"},
                                   {"bound_service_account_namespaces", "default"}});
  const auto response = Write("auth/k8s/two/login", {{"role", "webapp"}, {"jwt", token}}, "");
  CAPTURE(response.status().ToString());
  REQUIRE(response.ok());
  CHECK(response->auth->entry->display_name == "k8s-two-default-vault");
  CHECK(response->auth->entry->path == "auth/k8s/two/login");
}

TEST_CASE_METHOD(Fixture, "a login is renewed as its role and its mount are now") {
  UseKeys();
  PutRole({{"ttl", "1h"}});
  const auto login = LogIn(api.Token("default", "vault"), "WebApp");
  REQUIRE(login.ok());
  const std::string token(login->auth->client_token.view());
  struct Case {
    std::string_view name;
    Json role;
    int mount_max;  // minutes
    int granted;    // minutes; 0: refused
  };
  // Half an hour after the login.
  clock.Advance(absl::Minutes(30));
  const Case cases[] = {
      {"as long as the role says", {{"ttl", "2h"}}, 1000, 120},
      {"as long as the mount says where the role doesn't", {{"ttl", 0}}, 1000, 40},
      {"no longer than the role allows", {{"ttl", "2h"}, {"max_ttl", "2h"}}, 1000, 90},
      {"no longer than the mount allows", {{"ttl", "2h"}}, 100, 70},
      {"the lesser of both", {{"ttl", "2h"}, {"max_ttl", "2h"}}, 100, 70},
      {"a period", {{"period", "3h"}}, 1000, 180},
      {"past the maximum nothing", {{"max_ttl", "30m"}, {"ttl", "10m"}}, 1000, 0}};
  for (const Case& c : cases) {
    INFO(c.name);
    REQUIRE(Write("sys/auth/kubernetes/tune",
                  {{"max_lease_ttl", c.mount_max * 60}, {"default_lease_ttl", "40m"}})
                .ok());
    Put("auth/kubernetes/role/webapp", {{"ttl", 0}, {"max_ttl", 0}, {"period", 0}});
    Put("auth/kubernetes/role/webapp", c.role);
    const auto renewed = Write("auth/token/renew", {{"token", token}});
    CHECK(renewed.ok() == (c.granted > 0));
    if (!renewed.ok()) continue;
    CHECK(renewed->auth->entry->expire_time == clock.Now() + absl::Minutes(c.granted));
  }
  REQUIRE(Delete("auth/kubernetes/role/webapp").ok());
  CHECK(Write("auth/token/renew", {{"token", token}}).status() ==
        absl::InternalError("1 error occurred:\n\t* failed to renew entry: role WebApp does not "
                            "exist during renewal\n\n"));
}

TEST_CASE_METHOD(Fixture, "config and roles need a token, logins none") {
  for (const char* path : {"auth/kubernetes/config", "auth/kubernetes/role/a"}) {
    CHECK(Read(path, "").status().code() == absl::StatusCode::kPermissionDenied);
    CHECK(Write(path, {{"policies", "a"}}, "").status().code() ==
          absl::StatusCode::kPermissionDenied);
  }
  CHECK(List("auth/kubernetes/role", "").status().code() == absl::StatusCode::kPermissionDenied);
}

}  // namespace
}  // namespace coffer::keystore
