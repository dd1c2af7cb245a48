// Stored metadata is a JSON object; members that hold their default are left out:
//   "i" id            "c" current version (0)     "o" oldest version (0)   "m" max_versions (0)
//   "t" created, ns   "u" updated, Unix ns        "r" cas_required (false) "d" delete_version_after, s
//   "x" custom (null) "v" versions: [[number, created ns, deletion ns (0: never), destroyed (0, 1)], ...]
// A stored config has "m", "r" and "d".
#include "keystore/secrets/kv_metadata.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "common/json_writer.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/core/rfc3339.h"

namespace coffer::keystore {
namespace {

constexpr std::int64_t kDefaultMaxVersions = 10;
constexpr std::size_t kMaxCustomKeys = 64;
constexpr std::size_t kMaxCustomKeyLength = 128;
constexpr std::size_t kMaxCustomValueLength = 512;
constexpr std::string_view kCustomFailed = "custom_metadata validation failed";

std::int64_t Number(const Json& stored, const char* name) {
  const auto found = stored.find(name);
  return found == stored.end() ? 0 : found->get<std::int64_t>();
}

// Appends `,"name":number`, unless it is the default.
void AppendNumber(std::string_view name, std::int64_t number, SecretBytes* out) {
  if (number == 0) return;
  out->Append(",\"");
  out->Append(name);
  out->Append("\":");
  AppendJsonInteger(number, out);
}

// In one piece: most of what a write of a secret with ten versions encodes.
void AppendVersion(const KvVersion& version, SecretBytes* out) {
  const bool kept = version.deletion == absl::InfiniteFuture();
  std::array<char, 80> room;
  char* end = room.data();
  char before = '[';
  for (const std::int64_t number :
       {version.number, absl::ToUnixNanos(version.created),
        kept ? 0 : absl::ToUnixNanos(version.deletion), std::int64_t{version.destroyed}}) {
    *end++ = std::exchange(before, ',');
    end = std::to_chars(end, room.data() + room.size(), number).ptr;
  }
  *end++ = ']';
  out->Append(std::string_view(room.data(), static_cast<std::size_t>(end - room.data())));
}

// No control characters (C0, DEL, C1).
bool Printable(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7f) return false;
    if (byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) {
      return false;
    }
  }
  return true;
}

std::string Several(const std::vector<std::string>& errors) {
  std::string text = StrCat(errors.size(), errors.size() == 1 ? " error" : " errors", " occurred:");
  for (const std::string& error : errors) StrAppend(&text, "\n\t* ", error);
  return text + "\n\n";
}

}  // namespace

const KvVersion* KvMetadata::Find(std::int64_t number) const {
  const auto found = std::lower_bound(
      versions.begin(), versions.end(), number,
      [](const KvVersion& version, std::int64_t wanted) { return version.number < wanted; });
  return found == versions.end() || found->number != number ? nullptr : &*found;
}

KvVersion* KvMetadata::Find(std::int64_t number) {
  return const_cast<KvVersion*>(static_cast<const KvMetadata*>(this)->Find(number));
}

absl::Time KvMetadata::DeletionTime(const KvConfig& config, absl::Time from) const {
  constexpr absl::Duration kNone = absl::ZeroDuration();
  if (config.delete_version_after < kNone) return absl::InfiniteFuture();
  absl::Duration after = delete_version_after;
  if (after == kNone || (config.delete_version_after > kNone && config.delete_version_after < after)) {
    after = config.delete_version_after;
  }
  return after == kNone ? absl::InfiniteFuture() : from + after;
}

std::vector<std::int64_t> KvMetadata::AddVersion(const KvConfig& config, absl::Time now) {
  ++current_version;
  versions.push_back({current_version, now, DeletionTime(config, now)});
  updated = now;

  std::int64_t kept = std::max(max_versions, config.max_versions);
  if (kept == 0) kept = kDefaultMaxVersions;
  std::vector<std::int64_t> dropped;
  if (current_version - oldest_version < kept) return dropped;
  oldest_version = current_version - kept + 1;
  std::erase_if(versions, [&](const KvVersion& version) {
    if (version.number >= oldest_version) return false;
    dropped.push_back(version.number);
    return true;
  });
  return dropped;
}

std::string FormatDeletion(absl::Time deletion) {
  return deletion == absl::InfiniteFuture() ? "" : FormatRfc3339(deletion);
}

Json DescribeVersion(const KvMetadata& metadata, const KvVersion& version) {
  return {{"created_time", FormatRfc3339(version.created)},
          {"custom_metadata", metadata.custom},
          {"deletion_time", FormatDeletion(version.deletion)},
          {"destroyed", version.destroyed},
          {"version", version.number}};
}

// The text of DescribeVersion, written without a document in between: each write of a secret needs
// it.
void KvMetadata::MakeNewestText() {
  newest_text.clear();
  const KvVersion* newest = Find(current_version);
  if (newest == nullptr) return;
  StrAppend(&newest_text, "{\"created_time\":\"", FormatRfc3339(newest->created),
            "\",\"custom_metadata\":", custom.is_null() ? "null" : DumpJson(custom).view(),
            ",\"deletion_time\":\"", FormatDeletion(newest->deletion),
            "\",\"destroyed\":", newest->destroyed ? "true" : "false",
            ",\"version\":", newest->number, "}");
}

// Written without a document in between: each write of a secret does this.
SecretBytes EncodeKvMetadata(const KvMetadata& metadata) {
  constexpr std::size_t kUsualSize = 192;
  constexpr std::size_t kUsualVersionSize = 32;
  SecretBytes stored;
  stored.Reserve(kUsualSize + kUsualVersionSize * metadata.versions.size());
  stored.Append("{\"i\":");
  AppendJsonString(metadata.id, &stored);
  AppendNumber("c", metadata.current_version, &stored);
  AppendNumber("o", metadata.oldest_version, &stored);
  AppendNumber("t", absl::ToUnixNanos(metadata.created), &stored);
  AppendNumber("u", absl::ToUnixNanos(metadata.updated), &stored);
  AppendNumber("m", metadata.max_versions, &stored);
  if (metadata.cas_required) stored.Append(",\"r\":true");
  AppendNumber("d", absl::ToInt64Seconds(metadata.delete_version_after), &stored);
  if (!metadata.custom.is_null()) {
    stored.Append(",\"x\":");
    AppendJson(metadata.custom, &stored);
  }
  stored.Append(",\"v\":[");
  for (const KvVersion& version : metadata.versions) {
    if (&version != &metadata.versions.front()) stored.Append(",");
    AppendVersion(version, &stored);
  }
  stored.Append("]}");
  return stored;
}

absl::StatusOr<std::shared_ptr<const KvMetadata>> DecodeKvMetadata(std::string_view bytes) {
  const absl::StatusOr<Json> stored = ParseJson(bytes);
  if (!stored.ok()) return absl::DataLossError("stored kv metadata is not valid JSON");
  auto metadata = std::make_shared<KvMetadata>();
  try {
    metadata->id = std::string_view(stored->at("i").get_ref<const Json::string_t&>());
    metadata->current_version = Number(*stored, "c");
    metadata->oldest_version = Number(*stored, "o");
    metadata->created = absl::FromUnixNanos(Number(*stored, "t"));
    metadata->updated = absl::FromUnixNanos(Number(*stored, "u"));
    metadata->max_versions = Number(*stored, "m");
    metadata->cas_required = stored->contains("r");
    metadata->delete_version_after = absl::Seconds(Number(*stored, "d"));
    if (stored->contains("x")) metadata->custom = stored->at("x");
    for (const Json& fields : stored->at("v")) {
      KvVersion version{fields.at(0).get<std::int64_t>(),
                        absl::FromUnixNanos(fields.at(1).get<std::int64_t>())};
      const auto deletion = fields.at(2).get<std::int64_t>();
      if (deletion != 0) version.deletion = absl::FromUnixNanos(deletion);
      version.destroyed = fields.at(3).get<std::int64_t>() != 0;
      metadata->versions.push_back(version);
    }
  } catch (const Json::exception&) {
    return absl::DataLossError("stored kv metadata has a member that is missing or of wrong type");
  }
  metadata->MakeNewestText();
  return metadata;
}

SecretBytes EncodeKvConfig(const KvConfig& config) {
  Json stored = Json::object();
  if (config.max_versions != 0) stored["m"] = config.max_versions;
  if (config.cas_required) stored["r"] = true;
  if (config.delete_version_after != absl::ZeroDuration()) {
    stored["d"] = absl::ToInt64Seconds(config.delete_version_after);
  }
  return DumpJson(stored);
}

absl::StatusOr<std::shared_ptr<const KvConfig>> DecodeKvConfig(std::string_view bytes) {
  const absl::StatusOr<Json> stored = ParseJson(bytes);
  if (!stored.ok()) return absl::DataLossError("the stored kv config is not valid JSON");
  auto config = std::make_shared<KvConfig>();
  try {
    config->max_versions = Number(*stored, "m");
    config->cas_required = stored->contains("r");
    config->delete_version_after = absl::Seconds(Number(*stored, "d"));
  } catch (const Json::exception&) {
    return absl::DataLossError("the stored kv config has a member of wrong type");
  }
  return config;
}

absl::StatusOr<Json> CheckCustomMetadata(const Json& given, bool patch) {
  if (given.is_null() || given.empty()) return Json(nullptr);
  if (given.size() > kMaxCustomKeys) {
    return absl::InvalidArgumentError(
        Several({StrCat(kCustomFailed, ": payload must contain at most ", kMaxCustomKeys,
                        " keys, provided ", given.size())}));
  }
  std::vector<std::string> errors;
  Json custom = Json::object();
  for (const auto& [name, value] : given.items()) {
    const std::string_view key = name;
    if (key.empty() || key.size() > kMaxCustomKeyLength) {
      errors.push_back(StrCat(kCustomFailed, ": length of key \"", key, "\" is ", key.size(),
                              " but must be 0 < len(key) <= ", kMaxCustomKeyLength));
    }
    if (!Printable(key)) {
      errors.push_back(StrCat(kCustomFailed, ": key \"", key, "\" contains unprintable characters"));
    }
    if (patch && value.is_null()) {
      custom[name] = nullptr;
      continue;
    }
    if (value.is_structured()) {
      errors.push_back(StrCat(kCustomFailed, ": value for key \"", key, "\" must be a string"));
      continue;
    }
    Json text = value;
    if (value.is_null()) text = "";
    if (value.is_boolean()) text = value.get<bool>() ? "1" : "0";
    if (value.is_number()) text = value.dump();
    const std::string_view held = text.get_ref<const Json::string_t&>();
    if (held.empty() || held.size() > kMaxCustomValueLength) {
      errors.push_back(StrCat(kCustomFailed, ": length of value for key \"", key, "\" is ",
                              held.size(), " but must be 0 < len(value) <= ",
                              kMaxCustomValueLength));
    }
    if (!Printable(held)) {
      errors.push_back(StrCat(kCustomFailed, ": value for key \"", key,
                              "\" contains unprintable characters"));
    }
    custom[name] = std::move(text);
  }
  if (!errors.empty()) return absl::InvalidArgumentError(Several(errors));
  return custom;
}

}  // namespace coffer::keystore
