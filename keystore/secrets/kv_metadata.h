// KvMetadata: what kv version 2 keeps of a secret beside the data of its versions.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/json.h"

namespace coffer::keystore {

struct KvVersion {
  std::int64_t number = 0;  // from 1
  absl::Time created;
  absl::Time deletion = absl::InfiniteFuture();  // from then on it is deleted; InfiniteFuture: never
  bool destroyed = false;

  bool deleted(absl::Time now) const { return deletion <= now; }
};

// The settings of a mount. Zero and false: not set.
struct KvConfig {
  std::int64_t max_versions = 0;
  bool cas_required = false;
  absl::Duration delete_version_after;  // negative: off, whatever a secret's metadata says
};

struct KvMetadata {
  std::string id;  // names the entries that hold the data; see kv_v2.cc
  std::int64_t current_version = 0;  // 0: there are settings but no version yet
  std::int64_t oldest_version = 0;
  absl::Time created;
  absl::Time updated;
  std::int64_t max_versions = 0;
  bool cas_required = false;
  absl::Duration delete_version_after;
  Json custom;  // null or an object of strings
  std::vector<KvVersion> versions;  // by number
  // What answers show of the newest version, as JSON text: made when this is decoded or saved, since
  // reads of the newest version are most of all requests. "" where there is none.
  std::string newest_text;

  // Null where there is no such version.
  const KvVersion* Find(std::int64_t number) const;
  KvVersion* Find(std::int64_t number);

  // Adds a version made `now` and drops those that are too old; returns the numbers of these.
  std::vector<std::int64_t> AddVersion(const KvConfig& config, absl::Time now);
  void MakeNewestText();
  // When a version made or undeleted at `from` is deleted.
  absl::Time DeletionTime(const KvConfig& config, absl::Time from) const;
};

// What answers show of a version.
Json DescribeVersion(const KvMetadata& metadata, const KvVersion& version);
// "" for never.
std::string FormatDeletion(absl::Time deletion);

// The stored forms; their grammar stands in kv_metadata.cc. DataLoss: not what was encoded.
SecretBytes EncodeKvMetadata(const KvMetadata& metadata);
absl::StatusOr<std::shared_ptr<const KvMetadata>> DecodeKvMetadata(std::string_view stored);
SecretBytes EncodeKvConfig(const KvConfig& config);
absl::StatusOr<std::shared_ptr<const KvConfig>> DecodeKvConfig(std::string_view stored);

// `given` as an object of strings (numbers and booleans become text; null where nothing is left).
// With `patch`, members that are null are kept as they are, for a JSON merge patch. InvalidArgument
// lists everything that is wrong: at most 64 keys, of 1 to 128 bytes, values of 1 to 512 bytes, all
// printable.
absl::StatusOr<Json> CheckCustomMetadata(const Json& given, bool patch);

}  // namespace coffer::keystore
