// MemoryStore ("inmem"): for tests and -dev; gone with the process. Each key keeps the versions
// that some transaction may still read.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "keystore/storage/conflict_log.h"
#include "keystore/storage/store.h"

namespace coffer::keystore {

class MemoryStore : public Store {
 public:
  ~MemoryStore() override;  // all transactions have ended

  absl::StatusOr<std::unique_ptr<StoreTxn>> Begin() override;
  // Calls `done` before it returns.
  void Commit(std::unique_ptr<StoreTxn> txn, Done done) override;
  std::string_view type() const override { return "inmem"; }

 private:
  class Snapshot;
  using Value = std::shared_ptr<const std::string>;
  struct Version {
    std::uint64_t id;  // the commit that wrote it
    Value value;       // null: deleted
  };
  using Versions = std::vector<Version>;  // oldest first, never empty

  static const Version* VersionAt(const Versions& versions, std::uint64_t snapshot);
  absl::Status Apply(Changes changes);
  std::uint64_t OldestSnapshot() const;
  void Prune(const std::string& key);

  std::shared_mutex mutex_;  // of all that follows
  std::map<std::string, Versions, std::less<>> entries_;
  std::uint64_t last_commit_ = 0;
  std::map<std::uint64_t, int> snapshots_;  // how many transactions read at each commit
  ConflictLog log_;
  // Keys that kept an older version or a deletion, by the commit that outdated it.
  std::deque<std::pair<std::uint64_t, std::string>> outdated_;
};

}  // namespace coffer::keystore
