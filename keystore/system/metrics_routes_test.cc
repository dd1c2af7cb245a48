#include <catch2/catch.hpp>

#include "keystore/system/testing.h"

namespace coffer::keystore {
namespace {

absl::StatusOr<Response> Scrape(TestKeystore& keystore, std::string_view token, bool for_all) {
  Request request;
  request.path = "sys/metrics";
  request.data = {{"format", "prometheus"}};
  request.token = SecretBytes::CopyOf(token);
  request.metrics_for_all = for_all;
  return keystore.core.HandleAndWait(request);
}

TEST_CASE("Requests are counted by operation and class of status, logins apart") {
  TestKeystore keystore;
  keystore.core.telemetry().Gauge("core.unsealed", "open", [] { return 1; });
  REQUIRE(keystore.Read("sys/mounts").ok());
  REQUIRE(keystore.Read("sys/mounts").ok());
  REQUIRE_FALSE(keystore.Read("sys/mounts", "wrong").ok());

  const auto scraped = Scrape(keystore, keystore.root_token, /*for_all=*/false);
  REQUIRE(scraped.ok());
  CHECK(scraped->content_type.starts_with("text/plain; version=0.0.4"));
  const std::string text(scraped->raw_body.view());
  CAPTURE(text);
  for (const std::string_view line : {
           "vault_core_unsealed 1\n",
           "# TYPE vault_core_handle_request summary\n",
           "vault_core_handle_request_count 3\n",
           "vault_core_handle_login_request_count 0\n",
           "coffer_keystore_requests_total{operation=\"read\",code=\"2xx\"} 2\n",
           "coffer_keystore_requests_total{operation=\"read\",code=\"4xx\"} 1\n",
           "coffer_keystore_request_duration_seconds_bucket{kind=\"request\",le=\"+Inf\"} 3\n",
           "coffer_keystore_request_duration_seconds_count{kind=\"request\"} 3\n",
       }) {
    CAPTURE(line);
    CHECK(text.find(line) != text.npos);
  }
}

TEST_CASE("Metrics take a token that may read them, unless the listener lets everybody") {
  TestKeystore keystore;
  CHECK(Scrape(keystore, "", false).status().code() == absl::StatusCode::kPermissionDenied);
  CHECK(Scrape(keystore, "wrong", false).status().code() == absl::StatusCode::kPermissionDenied);
  CHECK(Scrape(keystore, "", true).ok());

  REQUIRE(keystore.Write("sys/policies/acl/scrape",
                         {{"policy", "path \"sys/metrics\" { capabilities = [\"read\"] }"}})
              .ok());
  for (const auto& [policy, may] : {std::pair{"scrape", true}, {"default", false}}) {
    TokenSpec spec;
    spec.policies = {policy};
    auto txn = keystore.barrier.Begin();
    REQUIRE(txn.ok());
    Txn root = (*txn)->root();
    MountEntry mount;
    mount.path = "auth/token/";
    auto token = keystore.tokens.Create(root, std::move(spec), mount);
    REQUIRE(token.ok());
    REQUIRE(CommitAndWait(keystore.barrier, *std::move(txn)).ok());
    CAPTURE(policy);
    CHECK(Scrape(keystore, token->id.view(), false).ok() == may);
  }

  keystore.core.Seal();
  CHECK(Scrape(keystore, keystore.root_token, false).status().code() ==
        absl::StatusCode::kUnavailable);
  CHECK(Scrape(keystore, "", true).ok());  // that it is sealed is what alerts want to know
}

TEST_CASE("Without a format metrics are Vault's document; another format is refused") {
  TestKeystore keystore;
  REQUIRE(keystore.Read("sys/mounts").ok());
  const auto answer = keystore.Read("sys/metrics");
  REQUIRE(answer.ok());
  CHECK(answer->bare);
  for (const char* member : {"Timestamp", "Gauges", "Points", "Counters", "Samples"}) {
    CHECK(answer->data.contains(member));
  }
  CHECK(answer->data["Samples"][0]["Name"] == "vault.core.handle_request");
  CHECK(answer->data["Samples"][0]["Count"] == 1);
  CHECK(keystore.Call(Operation::kRead, "sys/metrics", {{"format", "xml"}}).status().message().find(
            "unknown") != std::string_view::npos);
}

}  // namespace
}  // namespace coffer::keystore
