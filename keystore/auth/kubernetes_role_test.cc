#include "keystore/auth/kubernetes_role.h"

#include "keystore/auth/jwt_test_issuer.h"
#include "keystore/auth/kubernetes_config.h"

namespace coffer::keystore {
namespace {

bool Says(const absl::Status& status, std::string_view text) {
  return Message(status).find(text) != std::string_view::npos;
}

TEST_CASE("a star in a name stands for any text") {
  struct Case {
    std::string_view pattern, text;
    bool fits;
  };
  const Case cases[] = {{"webapp", "webapp", true},    {"webapp", "webapp2", false},
                        {"webapp", "web", false},      {"*", "", true},
                        {"*", "anything", true},       {"web*", "webapp", true},
                        {"web*", "web", true},         {"web*", "aweb", false},
                        {"*app", "webapp", true},      {"*app", "webapps", false},
                        {"w*p", "webapp", true},       {"w*p", "wp", true},
                        {"w*p", "w", false},           {"wp*p", "wp", false},
                        {"a*b*c", "a1b2c", true},      {"a*b*c", "abc", true},
                        {"a*b*c", "acb", false},       {"a*bc*c", "abcbc", true},
                        {"a*b*b", "ab", false},        {"**", "x", true},
                        {"*a*", "bab", true},          {"*a*", "b", false},
                        {"", "", true},                {"", "x", false},
                        {"a?c", "abc", false},         {"[a]", "a", false}};
  for (const Case& c : cases) {
    CAPTURE(c.pattern, c.text);
    CHECK(FitsGlob(c.pattern, c.text) == c.fits);
  }
}

TEST_CASE("label selectors mean what Kubernetes says they mean") {
  const ApiServer::Texts labels = {{"env", "prod"}, {"team", "a"}};
  struct Case {
    std::string_view selector;
    bool fits;
  };
  const Case cases[] = {
      {R"({"matchLabels":{"env":"prod"}})", true},
      {R"({"matchLabels":{"env":"dev"}})", false},
      {R"({"matchLabels":{"env":"prod","team":"b"}})", false},
      {R"({"matchLabels":{"other":""}})", false},
      {"matchLabels:\n  env: prod\n  team: a\n", true},
      {"matchExpressions:\n- key: env\n  operator: In\n  values: [dev, prod]\n", true},
      {"matchExpressions: [{key: env, operator: In, values: [dev]}]", false},
      {"matchExpressions: [{key: env, operator: NotIn, values: [dev]}]", true},
      {"matchExpressions: [{key: other, operator: NotIn, values: [dev]}]", true},
      {"matchExpressions: [{key: env, operator: NotIn, values: [prod]}]", false},
      {"matchExpressions: [{key: env, operator: Exists}]", true},
      {"matchExpressions: [{key: other, operator: Exists}]", false},
      {"matchExpressions: [{key: other, operator: DoesNotExist}]", true},
      {"matchExpressions: [{key: env, operator: DoesNotExist, values: []}]", false},
      {"{matchLabels: {env: prod}, matchExpressions: [{key: team, operator: In, values: [b]}]}", false},
      {"{}", true}};
  for (const Case& c : cases) {
    const auto selector = LabelSelector::Parse(c.selector);
    CAPTURE(c.selector, selector.status().ToString());
    REQUIRE(selector.ok());
    CHECK(selector->Fits(labels) == c.fits);
  }
  for (const char* wrong :
       {"", "[]", "text", "{", "{matchLabel: {env: prod}}", "{matchLabels: [env]}",
        "{matchLabels: {env: [prod]}}", "{matchExpressions: {key: env}}",
        "{matchExpressions: [env]}", "{matchExpressions: [{key: env}]}",
        "{matchExpressions: [{operator: Exists}]}",
        "{matchExpressions: [{key: env, operator: Gt, values: [1]}]}",
        "{matchExpressions: [{key: env, operator: In}]}",
        "{matchExpressions: [{key: env, operator: In, values: []}]}",
        "{matchExpressions: [{key: env, operator: Exists, values: [a]}]}"}) {
    CAPTURE(wrong);
    const auto selector = LabelSelector::Parse(wrong);
    CHECK(selector.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(Says(selector.status(), "invalid \"bound_service_account_namespace_selector\""));
  }
}

TEST_CASE("hosts and URLs are made whole, and checked") {
  struct Case {
    std::string_view given, url;  // "" = refused
  };
  const Case cases[] = {{"https://10.0.0.1:443", "https://10.0.0.1:443"},
                        {"https://10.0.0.1:443/", "https://10.0.0.1:443"},
                        {" https://k8s \n", "https://k8s"},
                        {"k8s.example.com", "https://k8s.example.com"},
                        {"k8s:6443", "https://k8s:6443"},
                        {"http://localhost:8080", "http://localhost:8080"},
                        {"https://[fd00::1]:6443/base/", "https://[fd00::1]:6443/base"},
                        {"https://rancher/k8s/clusters/c-1", "https://rancher/k8s/clusters/c-1"},
                        {"https://", ""},
                        {"https://:443", ""},
                        {"https://k8s:0", ""},
                        {"https://k8s:99999", ""},
                        {"https://k8s:port", ""},
                        {"https://k8s:", ""},
                        {"https://user:password@k8s", ""},
                        {"https://k8s/a b", ""},
                        {"https://k8s/?a=b", ""},
                        {"https://k8s#a", ""},
                        {"https://k 8s", ""},
                        {"ftp://k8s", ""},
                        {"unix:///run/k8s.sock", ""}};
  for (const Case& c : cases) {
    const auto url = CheckedUrl("kubernetes_host", c.given);
    CAPTURE(c.given, url.status().ToString());
    CHECK(url.value_or("") == c.url);
    if (!url.ok()) CHECK(Says(url.status(), "kubernetes_host: "));
  }
}

TEST_CASE("a config that can't work is refused when it is written") {
  const TestIssuer issuer("P-256");
  const std::string pem = issuer.PublicPem();
  ManualClock clock;
  struct Case {
    Json document;
    std::string_view says;  // "" = taken
  };
  const Case cases[] = {
      {{{"kubernetes_host", "https://k8s"}}, ""},
      {{{"pem_keys", {pem}}}, ""},
      {{{"jwks_url", "https://k8s/openid/v1/jwks"}}, ""},
      {{{"kubernetes_host", "https://k8s"}, {"pem_keys", {pem}}, {"token_review", true}}, ""},
      {Json::object(), "no host provided"},
      {{{"kubernetes_host", ""}}, "no host provided"},
      {{{"kubernetes_host", "ftp://k8s"}}, "kubernetes_host: "},
      {{{"pem_keys", {pem}}, {"token_review", true}}, "no host provided"},
      {{{"kubernetes_host", "https://k8s"}, {"token_review", false}}, "nothing would check a token"},
      {{{"pem_keys", {"junk"}}}, "public key 1: data does not contain"},
      {{{"pem_keys", {pem, issuer.PrivatePem()}}}, "public key 2: it holds a private key"},
      {{{"pem_keys", {pem}}, {"jwks_url", "https://k8s/jwks"}}, "not both"},
      {{{"jwks_url", "ftp://k8s/jwks"}}, "jwks_url: "},
      {{{"jwks_url", "https://k8s/jwks"}, {"jwks_ca_pem", "junk"}}, "jwks_ca_pem: it must be"},
      {{{"kubernetes_host", "https://k8s"}, {"kubernetes_ca_cert", "junk"}},
       "kubernetes_ca_cert: it must be"},
      {{{"kubernetes_host", "https://k8s"}, {"kubernetes_ca_cert", pem}},
       "kubernetes_ca_cert: it must be"},
      {{{"kubernetes_host", "https://k8s"}, {"token_reviewer_jwt", "a\r\nb"}},
       "token_reviewer_jwt: "},
      {{{"pem_keys", {pem}}, {"use_annotations_as_alias_metadata", true}}, "needs kubernetes_host"}};
  for (const Case& c : cases) {
    const auto config = KubernetesConfig::Parse(c.document, PodFiles{}, clock);
    CAPTURE(c.document.dump(), config.status().ToString());
    CHECK(config.ok() == c.says.empty());
    CHECK(Says(config.status(), c.says));
  }
}

Request Given(Json fields) {
  Request request;
  request.fields = std::move(fields);
  return request;
}

absl::StatusOr<Json> Change(const Json& stored, Json fields,
                            std::vector<std::string>* warnings = nullptr) {
  std::vector<std::string> unused;
  return ChangedRole(stored, Given(std::move(fields)), absl::Hours(768),
                     warnings ? warnings : &unused);
}

Json With(Json fields) {
  Json all = {{"bound_service_account_names", {"vault"}},
              {"bound_service_account_namespaces", {"default"}}};
  if (!fields.is_null()) all.update(fields);
  return all;
}

TEST_CASE("a role answers its fields as Vault does") {
  const auto role = Change(nullptr, With({{"policies", {"WebApp ", "b", "b"}}, {"ttl", 86400}}));
  REQUIRE(role.ok());
  CHECK(ShownRole(*role) == Json({{"alias_name_source", "serviceaccount_uid"},
                                  {"bound_service_account_names", {"vault"}},
                                  {"bound_service_account_namespace_selector", ""},
                                  {"bound_service_account_namespaces", {"default"}},
                                  {"policies", {"b", "webapp"}},
                                  {"token_bound_cidrs", Json::array()},
                                  {"token_explicit_max_ttl", 0},
                                  {"token_max_ttl", 0},
                                  {"token_no_default_policy", false},
                                  {"token_num_uses", 0},
                                  {"token_period", 0},
                                  {"token_policies", {"b", "webapp"}},
                                  {"token_ttl", 86400},
                                  {"token_type", "default"},
                                  {"ttl", 86400}}));

  // A change keeps what it doesn't name; a new name puts the old one away.
  std::vector<std::string> warnings;
  const auto changed = Change(*role, {{"token_ttl", 60}, {"ttl", 70}, {"audience", "vault"}}, &warnings);
  REQUIRE(changed.ok());
  CHECK(changed->at("token_ttl") == 60);
  CHECK_FALSE(changed->contains("ttl"));
  CHECK(changed->at("policies") == role->at("policies"));
  CHECK(ShownRole(*changed).at("audience") == "vault");
  CHECK(warnings.size() == 1);
  CHECK(Says(absl::InternalError(warnings[0]), "'token_ttl' and deprecated 'ttl'"));
}

TEST_CASE("a role that can't work is refused, in Vault's words") {
  struct Case {
    Json fields;
    std::string_view says;  // "" = taken
  };
  const Case cases[] = {
      {With({}), ""},
      {{{"bound_service_account_namespaces", {"a"}}}, "\"bound_service_account_names\" can not be empty"},
      {{{"bound_service_account_names", {"a"}}},
       "\"bound_service_account_namespaces\" can not be empty if "
       "\"bound_service_account_namespace_selector\" is not set"},
      {{{"bound_service_account_names", {"a"}},
        {"bound_service_account_namespace_selector", "{matchLabels: {a: b}}"}}, ""},
      {With({{"bound_service_account_namespace_selector", "{matchLabel: {a: b}}"}}), "invalid \"bound"},
      {With({{"bound_service_account_names", {"a", "*"}}}), "can not mix \"*\" with values"},
      {With({{"bound_service_account_namespaces", {"*", "b"}}}), "can not mix \"*\" with values"},
      {With({{"bound_service_account_names", {"*"}}}), ""},
      {With({{"bound_service_account_names", {"a*", "b*"}}}), ""},
      {With({{"alias_name_source", "name"}}), "invalid alias_name_source, must be one of"},
      {With({{"alias_name_source", "serviceaccount_name"}}), ""},
      {With({{"alias_name_source", ""}}), ""},
      {With({{"token_type", "batch"}}), ""},
      {With({{"token_type", "default-batch"}}), ""},
      {With({{"token_type", "batch"}, {"token_period", 60}}),
       "'token_type' cannot be 'batch' or 'default_batch' when set to generate periodic tokens"},
      {With({{"token_type", "default-batch"}, {"token_num_uses", 1}}),
       "when set to generate tokens with limited use count"},
      {With({{"token_type", "x"}}), "invalid 'token_type' value"},
      {With({{"token_type", "service"}}), ""},
      {With({{"token_policies", {"a", "Root"}}}), "cannot create root tokens"},
      {With({{"token_bound_cidrs", {"10.0.0.0/33"}}}), "token_bound_cidrs: "},
      {With({{"bound_cidrs", {"10.0.0.0/8", "::1"}}}), ""},
      {With({{"token_num_uses", -1}}), "'token_num_uses' cannot be negative"},
      {With({{"token_ttl", 20}, {"token_max_ttl", 10}}), "cannot be greater than 'token_max_ttl'"},
      {With({{"ttl", 20}, {"max_ttl", 10}}), "cannot be greater than 'token_max_ttl'"},
      {With({{"period", 3600 * 769}}), "token period of '769h0m0s' is greater than the backend's "
                                       "maximum lease TTL of '768h0m0s'"}};
  for (const Case& c : cases) {
    const auto role = Change(nullptr, c.fields);
    CAPTURE(c.fields.dump(), role.status().ToString());
    CHECK(role.ok() == c.says.empty());
    CHECK(Says(role.status(), c.says));
    if (!role.ok()) CHECK(role.status().code() == absl::StatusCode::kInvalidArgument);
  }
  std::vector<std::string> warnings;
  CHECK(Change(nullptr, With({{"max_ttl", 3600 * 769}}), &warnings).ok());
  CHECK(warnings.size() == 1);
}

}  // namespace
}  // namespace coffer::keystore
