#include "keystore/secrets/kv_metadata.h"

#include <catch2/catch.hpp>

namespace coffer::keystore {
namespace {

KvMetadata Full() {
  KvMetadata metadata;
  metadata.id = "aBcD";
  metadata.created = absl::FromUnixNanos(1'748'950'851'000'000'123);
  metadata.max_versions = 2;
  metadata.cas_required = true;
  metadata.delete_version_after = absl::Hours(1);
  metadata.custom = {{"owner", "a\"b"}};
  for (int i = 0; i < 3; ++i) metadata.AddVersion({}, metadata.created + absl::Seconds(i));
  metadata.versions[0].destroyed = true;
  return metadata;
}

TEST_CASE("a secret's metadata comes out of storage as it went in") {
  KvMetadata bare;
  bare.id = "x";
  bare.created = bare.updated = absl::UnixEpoch();
  for (const KvMetadata& metadata : {bare, Full()}) {
    const auto decoded = DecodeKvMetadata(EncodeKvMetadata(metadata).view());
    REQUIRE(decoded.ok());
    const KvMetadata& read = **decoded;
    CHECK(read.id == metadata.id);
    CHECK(read.current_version == metadata.current_version);
    CHECK(read.oldest_version == metadata.oldest_version);
    CHECK(read.created == metadata.created);
    CHECK(read.updated == metadata.updated);
    CHECK(read.max_versions == metadata.max_versions);
    CHECK(read.cas_required == metadata.cas_required);
    CHECK(read.delete_version_after == metadata.delete_version_after);
    CHECK(read.custom == metadata.custom);
    REQUIRE(read.versions.size() == metadata.versions.size());
    for (std::size_t i = 0; i < read.versions.size(); ++i) {
      CHECK(read.versions[i].number == metadata.versions[i].number);
      CHECK(read.versions[i].created == metadata.versions[i].created);
      CHECK(read.versions[i].deletion == metadata.versions[i].deletion);
      CHECK(read.versions[i].destroyed == metadata.versions[i].destroyed);
    }
  }
}

TEST_CASE("the newest version's text is that of its description") {
  KvMetadata metadata = Full();
  metadata.MakeNewestText();
  CHECK(metadata.newest_text ==
        DumpJson(DescribeVersion(metadata, metadata.versions.back())).view());
  metadata.custom = nullptr;
  metadata.versions.back().deletion = absl::InfiniteFuture();
  metadata.MakeNewestText();
  CHECK(metadata.newest_text ==
        DumpJson(DescribeVersion(metadata, metadata.versions.back())).view());
  metadata.versions.clear();
  metadata.MakeNewestText();
  CHECK(metadata.newest_text.empty());
}

}  // namespace
}  // namespace coffer::keystore
