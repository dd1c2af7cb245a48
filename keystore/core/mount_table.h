// MountTable: which backend serves which path. One stored document, so that a change is atomic.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "keystore/barrier/parsed_cache.h"
#include "keystore/core/mount_entry.h"

namespace coffer::keystore {

// An immutable table, sorted by path.
class MountTable {
 public:
  explicit MountTable(std::vector<MountEntry> entries);
  // The mount with the longest path that is a prefix of `path` (or is `path` + "/"); null if none.
  const MountEntry* Find(std::string_view path) const;
  // A mount at, above or below `path` (ends in "/"), which keeps others from it; null if none.
  const MountEntry* Conflict(std::string_view path) const;
  const std::vector<MountEntry>& entries() const { return entries_; }

 private:
  std::vector<MountEntry> entries_;
};

// The table in storage. All `txn`s are of the whole tree.
class MountStore {
 public:
  absl::StatusOr<std::shared_ptr<const MountTable>> Load(Txn& txn);
  absl::Status Save(Txn& txn, const std::vector<MountEntry>& entries);
  // Writes the first table: sys/, auth/token/ and cubbyhole/ are always there.
  absl::Status Initialize(Txn& txn);
  void OnSeal() { cache_.Clear(); }

 private:
  ParsedCache<MountTable> cache_;
};

// InvalidArgument where nothing can be mounted at `path` (without the "/" that a mount's ends in).
absl::Status CheckMountPath(std::string_view path);

// A mount with a new uuid and accessor.
MountEntry NewMount(std::string path, std::string type, std::string description);

// The storage of a mount: "mount/<uuid>/".
std::string MountStorage(const MountEntry& mount);

}  // namespace coffer::keystore
