// For tests: an HTTPS server that answers TokenReview, namespaces and ServiceAccounts as the
// Kubernetes API server does: it verifies tokens by its issuer's keys, knows audiences, and asks its
// callers who they are.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "common/http_client_test_server.h"
#include "common/json.h"
#include "common/json_members.h"
#include "keystore/auth/jwt.h"
#include "keystore/auth/jwt_keys.h"
#include "keystore/auth/jwt_test_issuer.h"

namespace coffer::keystore {

class TestApiServer {
 public:
  static constexpr std::string_view kAudience = "https://kubernetes.default.svc.cluster.local";

  TestApiServer()
      : ca_(""),
        certificate_("DNS:kubernetes.default.svc,IP:127.0.0.1", &ca_),
        issuer_("RSA", "api-server-key"),
        keys_(*JwtKeySet::FromJwks(Jwks())),
        server_([this](const TestHttpRequest& request) { return Answer(request); },
                &certificate_) {}

  std::string address() const { return server_.address(); }
  std::string ca_pem() const { return ca_.certificate_pem(); }
  std::string key_pem() const { return issuer_.PublicPem(); }
  std::string Jwks() const {
    return std::string(DumpJson({{"keys", Json::array({issuer_.Jwk()})}}).view());
  }
  int requests() const { return server_.requests(); }

  // The claims of a projected token of a ServiceAccount of its.
  Json Claims(std::string_view name_space, std::string_view name, std::string_view audience,
              absl::Time now) const {
    const std::int64_t seconds = absl::ToUnixSeconds(now);
    return {{"iss", kAudience},
            {"sub", StrCat("system:serviceaccount:", name_space, ":", name)},
            {"aud", Json::array({audience})},
            {"iat", seconds},
            {"nbf", seconds},
            {"exp", seconds + 600},
            {"kubernetes.io",
             {{"namespace", name_space},
              {"serviceaccount", {{"name", name}, {"uid", Uid(name_space, name)}}},
              {"pod", {{"name", "pod-1"}, {"uid", "5e9b1f4c"}}}}}};
  }
  std::string Token(std::string_view name_space, std::string_view name,
                    std::string_view audience = kAudience) const {
    return issuer_.Sign("RS256", Claims(name_space, name, audience, now));
  }
  static std::string Uid(std::string_view name_space, std::string_view name) {
    return StrCat("uid-of-", name_space, "-", name);
  }
  const TestIssuer& issuer() const { return issuer_; }

  // What tests change between requests.
  absl::Time now = absl::FromUnixSeconds(1748950851);
  std::set<std::string> reviewers = {"reviewer-token"};  // callers with system:auth-delegator
  std::set<std::string> powerless = {"powerless-token"};  // callers without
  std::set<std::string> deleted;  // uids of accounts that are gone
  std::map<std::string, Json> labels;  // of namespaces
  std::map<std::string, Json> annotations;  // of "namespace/name"
  std::string failure;  // if set, every answer: raw bytes
  std::chrono::milliseconds delay{0};
  std::string last_body;  // of the last request
  std::string last_bearer;

 private:
  static std::string StatusObject(int code, std::string_view reason, std::string_view message) {
    return TestHttpAnswer(code, DumpJson({{"kind", "Status"}, {"apiVersion", "v1"},
                                          {"status", "Failure"}, {"reason", reason},
                                          {"message", message}, {"code", code}}).view());
  }

  // The account of a token that is valid for one of `audiences`, which is left with those that fit.
  std::optional<std::pair<std::string, std::string>> Authenticate(std::string_view token,
                                                                  Json* audiences) const {
    const auto jwt = ParseJwt(token);
    if (!jwt.ok() || !keys_->Verify(*jwt).ok()) return std::nullopt;
    if (!CheckClaims(jwt->claims, {now, "", std::nullopt}).ok()) return std::nullopt;
    Json fitting = Json::array();
    const std::vector<std::string> has = Audiences(jwt->claims).value();
    for (const Json& audience : *audiences) {
      if (std::find(has.begin(), has.end(), audience) != has.end()) fitting.push_back(audience);
    }
    *audiences = fitting;
    const Json& account = jwt->claims.at("kubernetes.io").at("serviceaccount");
    const std::string uid(TextAt(account, "uid"));
    if (fitting.empty() || deleted.contains(uid)) return std::nullopt;
    return std::make_pair(std::string(TextAt(jwt->claims, "sub")), uid);
  }

  std::string Answer(const TestHttpRequest& request) {
    std::this_thread::sleep_for(delay);
    if (!failure.empty()) return failure;
    std::string bearer(request.header("Authorization"));
    if (bearer.starts_with("Bearer ")) bearer.erase(0, 7);
    last_bearer = bearer;
    last_body = request.body;
    Json own_audience = Json::array({kAudience});
    const bool self = Authenticate(bearer, &own_audience).has_value();
    if (powerless.contains(bearer)) {
      return StatusObject(403, "Forbidden", "tokenreviews.authentication.k8s.io is forbidden");
    }
    if (!reviewers.contains(bearer) && !self) return StatusObject(401, "Unauthorized", "Unauthorized");

    const std::string_view target = request.target();
    if (request.method() == "POST" && target == "/apis/authentication.k8s.io/v1/tokenreviews") {
      return Review(request);
    }
    if (request.method() == "GET" && target == "/openid/v1/jwks") return TestHttpAnswer(200, Jwks());
    const std::vector<std::string_view> parts = Split(target, '/');  // "", api, v1, namespaces, ...
    if (request.method() == "GET" && target.starts_with("/api/v1/namespaces/")) {
      const std::string name_space(parts[4]);
      if (parts.size() == 5 && labels.contains(name_space)) {
        return TestHttpAnswer(200, DumpJson({{"kind", "Namespace"},
                                             {"metadata", {{"labels", labels[name_space]}}}}).view());
      }
      if (parts.size() == 7 && parts[5] == "serviceaccounts") {
        return TestHttpAnswer(
            200, DumpJson({{"kind", "ServiceAccount"},
                           {"metadata", {{"annotations", annotations[StrCat(name_space, "/", parts[6])]}}}})
                     .view());
      }
    }
    return StatusObject(404, "NotFound", "not found");
  }

  std::string Review(const TestHttpRequest& request) {
    const auto review = ParseJson(request.body);
    if (!review.ok() || request.header("Content-Type") != "application/json" ||
        TextAt(*review, "kind") != "TokenReview" ||
        TextAt(*review, "apiVersion") != "authentication.k8s.io/v1") {
      return StatusObject(400, "BadRequest", "the object provided is unrecognized");
    }
    Json answer = *review;
    const bool asked = review->at("spec").contains("audiences");
    Json audiences = asked ? review->at("spec").at("audiences") : Json::array({kAudience});
    const auto account = Authenticate(TextAt(review->at("spec"), "token"), &audiences);
    answer["spec"].erase("token");
    if (account) {
      answer["status"] = {{"authenticated", true},
                          {"user", {{"username", account->first}, {"uid", account->second},
                                    {"groups", {"system:serviceaccounts"}}}},
                          {"audiences", audiences}};
    } else {
      answer["status"] = {{"user", Json::object()},
                          {"error", "[invalid bearer token, Token has been invalidated]"}};
    }
    return TestHttpAnswer(201, DumpJson(answer).view());
  }

  const TestCertificate ca_, certificate_;
  const TestIssuer issuer_;
  const std::shared_ptr<const JwtKeySet> keys_;
  TestHttpServer server_;
};

}  // namespace coffer::keystore
