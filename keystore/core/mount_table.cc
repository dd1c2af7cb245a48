#include "keystore/core/mount_table.h"

#include <algorithm>

#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

// The table is stored at this path as an array of objects, one a mount, durations in seconds.
constexpr char kPath[] = "core/mounts";

Json Encode(const MountEntry& mount) {
  Json options = Json::object();
  for (const auto& [name, value] : mount.options) options[Json::string_t(name)] = value;
  return {{"path", mount.path},
          {"type", mount.type},
          {"uuid", mount.uuid},
          {"accessor", mount.accessor},
          {"description", mount.description},
          {"options", std::move(options)},
          {"default_lease_ttl", absl::ToInt64Seconds(mount.default_lease_ttl)},
          {"max_lease_ttl", absl::ToInt64Seconds(mount.max_lease_ttl)},
          {"local", mount.local},
          {"seal_wrap", mount.seal_wrap},
          {"config", mount.config}};
}

std::string Text(const Json& object, const char* name) {
  return std::string(std::string_view(object.at(name).get_ref<const Json::string_t&>()));
}

MountEntry Decode(const Json& object) {
  MountEntry mount;
  mount.path = Text(object, "path");
  mount.type = Text(object, "type");
  mount.uuid = Text(object, "uuid");
  mount.accessor = Text(object, "accessor");
  mount.description = Text(object, "description");
  const Json& options = object.at("options");
  for (auto option = options.begin(); option != options.end(); ++option) {
    mount.options[std::string(std::string_view(option.key()))] =
        std::string(std::string_view(option.value().get_ref<const Json::string_t&>()));
  }
  mount.default_lease_ttl = absl::Seconds(object.at("default_lease_ttl").get<std::int64_t>());
  mount.max_lease_ttl = absl::Seconds(object.at("max_lease_ttl").get<std::int64_t>());
  mount.local = object.at("local").get<bool>();
  mount.seal_wrap = object.at("seal_wrap").get<bool>();
  mount.config = object.at("config");
  return mount;
}

absl::StatusOr<std::shared_ptr<const MountTable>> Parse(const SecretBytes& bytes) {
  ASSIGN_OR_RETURN(const Json document, ParseJson(bytes.view()));
  std::vector<MountEntry> mounts;
  try {
    for (const Json& object : document) mounts.push_back(Decode(object));
  } catch (const Json::exception&) {
    return absl::DataLossError("the stored mount table isn't what the keystore wrote");
  }
  return std::make_shared<const MountTable>(std::move(mounts));
}

}  // namespace

MountTable::MountTable(std::vector<MountEntry> entries) : entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end(),
            [](const MountEntry& a, const MountEntry& b) { return a.path < b.path; });
}

const MountEntry* MountTable::Find(std::string_view path) const {
  const MountEntry* longest = nullptr;
  for (const MountEntry& entry : entries_) {
    const std::string_view mount = entry.path;
    const bool at_root = path.size() + 1 == mount.size() && mount.starts_with(path);
    if (!at_root && !path.starts_with(mount)) continue;
    if (longest == nullptr || mount.size() > longest->path.size()) longest = &entry;
  }
  return longest;
}

const MountEntry* MountTable::Conflict(std::string_view path) const {
  for (const MountEntry& entry : entries_) {
    if (path.starts_with(entry.path) || entry.path.starts_with(path)) return &entry;
  }
  return nullptr;
}

absl::StatusOr<std::shared_ptr<const MountTable>> MountStore::Load(Txn& txn) {
  ASSIGN_OR_RETURN(std::shared_ptr<const MountTable> table, cache_.Get(txn, kPath, Parse));
  if (table == nullptr) return absl::DataLossError("the storage has no mount table");
  return table;
}

absl::Status MountStore::Save(Txn& txn, const std::vector<MountEntry>& entries) {
  Json document = Json::array();
  for (const MountEntry& entry : entries) document.push_back(Encode(entry));
  return txn.PutJson(kPath, document);
}

absl::Status CheckMountPath(std::string_view path) {
  if (path.empty()) return absl::InvalidArgumentError("the path of the mount is missing");
  for (const std::string_view segment : Split(path, '/')) {
    if (segment.empty() || segment == "." || segment == ".." ||
        segment.find_first_of("\n\r\t\\ *+{}") != segment.npos) {
      return absl::InvalidArgumentError(
          StrCat("a mount can't have the path \"", path,
                 "\": segments must be non-empty, without white space, \"..\", or any of \\*+{}"));
    }
  }
  return absl::OkStatus();
}

MountEntry NewMount(std::string path, std::string type, std::string description) {
  MountEntry mount;
  mount.path = std::move(path);
  mount.uuid = RandomUuid();
  mount.accessor = StrCat(mount.path.starts_with("auth/") ? "auth_" : "", type, "_",
                          std::string_view(RandomUuid()).substr(0, 8));
  mount.type = std::move(type);
  mount.description = std::move(description);
  return mount;
}

absl::Status MountStore::Initialize(Txn& txn) {
  return Save(txn, {NewMount("sys/", "system", "system endpoints used for control, policy and debugging"),
                    NewMount("auth/token/", "token", "token based credentials"),
                    NewMount("cubbyhole/", "cubbyhole", "per-token private secret storage")});
}

std::string MountStorage(const MountEntry& mount) { return StrCat("mount/", mount.uuid, "/"); }

}  // namespace coffer::keystore
