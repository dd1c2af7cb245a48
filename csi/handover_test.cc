#include "csi/handover.h"

#include "common/json.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

struct Fixture {
  SystemClock clock;
  provider::Workers workers{1};
  provider::Provider provider{clock, workers, provider::Provider::Options()};
};

VolumeState FullState() {
  VolumeState state;
  state.volume_id = "csi-1";
  state.versions = {{"password", "3-x"}, {"user\n", ""}};
  state.context.secret_class = "webapp";
  state.context.pod.name = "web";
  state.context.pod.kubernetes_namespace = "default";
  state.context.pod.uid = "u-1";
  state.context.pod.service_account = "vault";
  state.context.pod.tokens.emplace("", SecretBytes::CopyOf("jwt \"1\""));
  state.context.pod.tokens.emplace("vault", SecretBytes::CopyOf("jwt-2"));
  state.context.expirations = {{"vault", "2035-01-01T00:00:00Z"}};
  state.context.attributes = {{"a", "b"}};
  state.context.secrets = SecretBytes::CopyOf("{}");
  state.context.fs_group = 2000;
  state.fingerprint = ~std::size_t{0};
  state.fetched = absl::FromUnixMicros(1'800'000'000'000'001);
  return state;
}

TEST_CASE("what is written of a volume is read again") {
  Fixture f;
  VolumeState full = FullState();
  const auto read = ReadVolumeDocument(WriteVolumeDocument("/t", full).view(), f.provider);
  INFO(read.status());
  REQUIRE(read.ok());
  CHECK(read->target == "/t");
  CHECK(WriteVolumeDocument("/t", read->state).view() == WriteVolumeDocument("/t", full).view());
  CHECK(read->state.context.pod.tokens.at("").view() == "jwt \"1\"");
  CHECK(read->state.fetched == full.fetched);
  CHECK(read->state.fingerprint == full.fingerprint);
  CHECK(read->state.versions.size() == 2);
  CHECK(read->state.context.fs_group == 2000);

  const auto empty = ReadVolumeDocument(WriteVolumeDocument("", VolumeState()).view(), f.provider);
  REQUIRE(empty.ok());
  CHECK(empty->state.fetched == absl::InfinitePast());
  CHECK_FALSE(provider::HoldsToken(*empty->state.session));
}

TEST_CASE("another build's document is refused by field, and nothing of it is told") {
  Fixture f;
  const SecretBytes good = WriteVolumeDocument("/t", FullState());
  CHECK_FALSE(ReadVolumeDocument("", f.provider).ok());
  CHECK_FALSE(ReadVolumeDocument("[]", f.provider).ok());
  CHECK_FALSE(ReadVolumeDocument(good.view().substr(0, good.size() / 2), f.provider).ok());
  const Json document = *ParseJson(good.view());
  for (const auto& [name, value] : document.items()) {
    const std::string field(std::string_view{name});
    for (const bool missing : {true, false}) {
      Json changed = document;
      if (missing) {
        changed.erase(name);
      } else {
        changed[name] = -1.5;
      }
      const auto read = ReadVolumeDocument(DumpJson(changed).view(), f.provider);
      INFO(field << ": " << read.status());
      CHECK(absl::IsInvalidArgument(read.status()));
      CHECK_THAT(std::string(Message(read.status())), Catch::Contains(field));
      CHECK_THAT(std::string(Message(read.status())), !Catch::Contains("jwt"));
    }
  }
}

TEST_CASE("without a keeper nothing is kept, and all goes on") {
  Fixture f;
  Handover handover(nullptr);
  CHECK(handover.Put(0, "/t", FullState()) == 0);
  handover.Drop(0);
  CHECK(handover.Take(f.provider).empty());
  CHECK_FALSE(handover.Holds());
}

}  // namespace
}  // namespace coffer::csi
