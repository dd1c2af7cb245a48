#include "keystore/events/event_bus.h"

#include <thread>

#include "absl/time/clock.h"
#include "common/strings.h"
#include "keystore/secrets/kv_v1.h"
#include "keystore/secrets/kv_v2.h"
#include "keystore/system/testing.h"

namespace coffer::keystore {
namespace {

struct Fixture {
  Fixture() {
    keystore.core.Register("system", system);
    keystore.core.Register("kv/1", kv_v1);
    keystore.core.Register("kv/2", kv_v2);
    keystore.Enable("secret", "kv", "2");
    keystore.Enable("old", "kv", "1");
  }

  absl::StatusOr<std::shared_ptr<EventStream>> Subscribe(std::string_view type,
                                                         std::string_view token = "root",
                                                         Json data = {{"json", "true"}}) {
    auto response = keystore.Call(Operation::kRead, StrCat("sys/events/subscribe/", type),
                                  std::move(data), token);
    if (!response.ok()) return response.status();
    return response->events;
  }

  std::string TokenWith(std::string_view policy) {
    const auto written = keystore.Write("sys/policies/acl/p", {{"policy", policy}});
    CAPTURE(written.status());
    REQUIRE(written.ok());
    auto txn = keystore.barrier.Begin();
    Txn root = (*txn)->root();
    TokenSpec spec;
    spec.policies = {"p"};
    spec.path = "auth/token/create";
    MountEntry mount;
    mount.path = "auth/token/";
    auto created = keystore.tokens.Create(root, std::move(spec), mount);
    REQUIRE(created.ok());
    REQUIRE(CommitAndWait(keystore.barrier, *std::move(txn)).ok());
    return std::string(created->id.view());
  }

  // "type data_path current_version" of everything that waits.
  static std::vector<std::string> Take(EventStream& stream) {
    std::vector<std::string> all;
    while (const auto message = stream.Next()) {
      const Json event = ParseJson(message->view()).value();
      const Json& metadata = event["data"]["event"]["metadata"];
      std::string line(std::string_view(event["data"]["event_type"].get_ref<const SecretString&>()));
      for (const char* name : {"data_path", "current_version"}) {
        if (metadata.contains(name)) {
          StrAppend(&line, " ", std::string_view(metadata[name].get_ref<const SecretString&>()));
        }
      }
      all.push_back(std::move(line));
    }
    return all;
  }

  // Waits for the end, which a check every 10 ms brings.
  static std::string EndOf(const EventStream& stream) {
    for (int i = 0; i < 500 && !stream.end(); ++i) absl::SleepFor(absl::Milliseconds(10));
    const auto end = stream.end();
    return end ? StrCat(end->code, " ", end->reason) : "none";
  }

  TestKeystore keystore;
  EventBus events{keystore.barrier, keystore.tokens, keystore.policies, absl::Milliseconds(10), 8};
  SystemBackend system{{PolicyRoutes(keystore.policies, keystore.tokens),
                        MountRoutes(keystore.core, keystore.mounts, keystore.policies,
                                    keystore.tokens),
                        events.Routes()}};
  KvV1 kv_v1{&events};
  KvV2 kv_v2{keystore.clock, &events};
};

constexpr std::string_view kReader = R"(
  path "sys/events/subscribe/*" { capabilities = ["read"] }
  path "secret/data/a" { capabilities = ["subscribe"] }
  path "secret/data/writes" { capabilities = ["subscribe"] subscribe_event_types = ["*write"] }
  path "secret/data/readable" { capabilities = ["read", "list"] }
)";

TEST_CASE("every change of kv makes one event, in order, with the version that it made") {
  Fixture f;
  const auto stream = *f.Subscribe("*");
  const Json data = {{"data", {{"k", "s3cret"}}}};
  const Json versions = {{"versions", {1}}};
  REQUIRE(f.keystore.Write("secret/data/a/b", data).ok());
  REQUIRE(f.keystore.Call(Operation::kPatch, "secret/data/a/b", data).ok());
  REQUIRE(f.keystore.Delete("secret/data/a/b").ok());
  REQUIRE(f.keystore.Write("secret/delete/a/b", versions).ok());
  REQUIRE(f.keystore.Write("secret/undelete/a/b", versions).ok());
  CHECK(Fixture::Take(*stream) ==
        std::vector<std::string>{"kv-v2/data-write secret/data/a/b 1",
                                 "kv-v2/data-patch secret/data/a/b 2",
                                 "kv-v2/data-delete secret/data/a/b 2",
                                 "kv-v2/delete secret/data/a/b 2",
                                 "kv-v2/undelete secret/data/a/b 2"});
  REQUIRE(f.keystore.Write("secret/destroy/a/b", versions).ok());
  REQUIRE(f.keystore.Write("secret/metadata/a/b", {{"max_versions", 3}}).ok());
  REQUIRE(f.keystore.Call(Operation::kPatch, "secret/metadata/a/b", {{"max_versions", 4}}).ok());
  REQUIRE(f.keystore.Delete("secret/metadata/a/b").ok());
  REQUIRE(f.keystore.Write("secret/config", {{"max_versions", 4}}).ok());
  REQUIRE(f.keystore.Write("old/x", {{"k", "s3cret"}}).ok());
  REQUIRE(f.keystore.Delete("old/x").ok());
  CHECK(Fixture::Take(*stream) ==
        std::vector<std::string>{"kv-v2/destroy secret/data/a/b 2",
                                 "kv-v2/metadata-write secret/metadata/a/b 2",
                                 "kv-v2/metadata-patch secret/metadata/a/b 2",
                                 "kv-v2/metadata-delete secret/metadata/a/b 0",
                                 "kv-v2/config-write secret/config",
                                 "kv-v1/write old/x", "kv-v1/delete old/x"});
}

TEST_CASE("what changed nothing, failed or was only read makes no event") {
  Fixture f;
  const auto stream = *f.Subscribe("*");
  CHECK_FALSE(f.keystore.Write("secret/data/a", {{"data", {{"k", 1}}}, {"options", {{"cas", 7}}}})
                  .ok());
  CHECK_FALSE(f.keystore.Write("secret/data/a", Json::object()).ok());
  CHECK(f.keystore.Delete("secret/data/none").ok());
  CHECK(f.keystore.Delete("secret/metadata/none").ok());
  CHECK_FALSE(f.keystore.Read("secret/data/none").ok());
  CHECK(Fixture::Take(*stream).empty());
}

TEST_CASE("an event is Vault's document and holds no secret") {
  Fixture f;
  const auto stream = *f.Subscribe("kv-v2/data-write");
  REQUIRE(f.keystore.Write("secret/data/a", {{"data", {{"k", "s3cret"}}}}).ok());
  const auto message = stream->Next();
  REQUIRE(message != nullptr);
  CHECK(message->view().find("s3cret") == std::string_view::npos);
  const Json event = ParseJson(message->view()).value();
  CHECK(event["specversion"] == "1.0");
  CHECK(event["source"] == "https://vaultproject.io/");
  CHECK(event["datacontentype"] == "application/cloudevents");
  CHECK(event["id"] == event["data"]["event"]["id"]);
  CHECK(event["data"]["event"]["metadata"] == Json({{"current_version", "1"},
                                                    {"data_path", "secret/data/a"},
                                                    {"modified", "true"},
                                                    {"oldest_version", "0"},
                                                    {"operation", "data-write"},
                                                    {"path", "secret/data/a"}}));
  CHECK(event["data"]["plugin_info"]["mount_path"] == "secret/");
  CHECK(event["data"]["plugin_info"]["mount_class"] == "secret");
  CHECK(event["data"]["plugin_info"]["plugin"] == "kv");
}

TEST_CASE("a subscriber sees the types it asks for, of the paths that its policies let it") {
  Fixture f;
  const std::string token = f.TokenWith(kReader);
  const auto all = *f.Subscribe("*", token);
  const auto deletes = *f.Subscribe("kv-v2/*delete", token);
  for (const char* path : {"a", "writes", "readable", "other"}) {
    REQUIRE(f.keystore.Write(StrCat("secret/data/", path), {{"data", {{"k", 1}}}}).ok());
    REQUIRE(f.keystore.Delete(StrCat("secret/data/", path)).ok());
  }
  CHECK(Fixture::Take(*all) == std::vector<std::string>{"kv-v2/data-write secret/data/a 1",
                                                        "kv-v2/data-delete secret/data/a 1",
                                                        "kv-v2/data-write secret/data/writes 1"});
  CHECK(Fixture::Take(*deletes) == std::vector<std::string>{"kv-v2/data-delete secret/data/a 1"});
}

TEST_CASE("who may not subscribe, or asks for what there isn't, is told so") {
  Fixture f;
  const std::string token = f.TokenWith(
      R"(path "sys/events/subscribe/kv-v2/data-write" { capabilities = ["read"] })");
  CHECK(f.Subscribe("kv-v2/data-write", token).ok());
  CHECK(absl::IsPermissionDenied(f.Subscribe("*", token).status()));
  CHECK(absl::IsPermissionDenied(f.Subscribe("*", "hvs.nobody").status()));
  CHECK(absl::IsInvalidArgument(f.Subscribe("*", "root", Json::object()).status()));
  CHECK(absl::IsInvalidArgument(f.Subscribe("", "root").status()));
  CHECK(absl::IsInvalidArgument(
      f.Subscribe("*", "root", {{"json", "true"}, {"filter", "a == b"}}).status()));
  CHECK(f.events.subscriber_count() == 0);
}

TEST_CASE("a subscription ends with its token, with the right to it, at seal, and when too slow") {
  Fixture f;
  const std::string token = f.TokenWith(kReader);
  auto stream = *f.Subscribe("*", token);
  int wakes = 0;
  stream->SetWake([&wakes] { ++wakes; });
  for (int i = 0; i < 9; ++i) {
    REQUIRE(f.keystore.Write("secret/data/a", {{"data", {{"k", i}}}}).ok());
  }
  CHECK(Fixture::EndOf(*stream).starts_with("1013 too slow"));
  CHECK(stream->Next() == nullptr);
  CHECK(wakes == 2);
  stream->SetWake(nullptr);

  stream = *f.Subscribe("*", token);
  REQUIRE(f.keystore.Write("sys/policies/acl/p", {{"policy", "path \"x\" {}"}}).ok());
  CHECK(Fixture::EndOf(*stream).starts_with("1008 the token's policies"));

  REQUIRE(f.keystore.Write("sys/policies/acl/p", {{"policy", kReader}}).ok());
  stream = *f.Subscribe("*", token);
  f.keystore.clock.Advance(absl::Hours(10000));
  CHECK(Fixture::EndOf(*stream).starts_with("1008 the token was revoked"));

  stream = *f.Subscribe("*");
  f.keystore.core.Seal();
  CHECK(stream->end()->reason == "the keystore was sealed");
  stream = nullptr;
  CHECK(f.events.subscriber_count() == 0);
}

TEST_CASE("a policy that grants the path later is seen by those who listen already") {
  Fixture f;
  const std::string token = f.TokenWith(kReader);
  const auto stream = *f.Subscribe("*", token);
  REQUIRE(f.keystore
              .Write("sys/policies/acl/p",
                     {{"policy", StrCat(kReader, "path \"secret/data/new\" { capabilities = "
                                                 "[\"subscribe\"] }")}})
              .ok());
  std::vector<std::string> seen;
  for (int i = 0; i < 500 && seen.empty(); ++i) {
    REQUIRE(f.keystore.Write("secret/data/new", {{"data", {{"k", i}}}}).ok());
    seen = Fixture::Take(*stream);
    absl::SleepFor(absl::Milliseconds(2));
  }
  CHECK_FALSE(seen.empty());
}

TEST_CASE("publishing, subscribing and sealing may happen at the same time") {
  Fixture f;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&f, &stop] {
      while (!stop) {
        auto stream = f.Subscribe("*");
        if (!stream.ok()) continue;
        (*stream)->SetWake([] {});
        while ((*stream)->Next() != nullptr) {
        }
        (*stream)->SetWake(nullptr);
      }
    });
  }
  for (int i = 0; i < 300; ++i) f.events.Publish({.type = "t", .data_path = "p"});
  f.keystore.core.Seal();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(f.events.subscriber_count() == 0);
}

}  // namespace
}  // namespace coffer::keystore
