#include "keystore/storage/memory_store.h"

#include <algorithm>
#include <cassert>
#include <mutex>

namespace coffer::keystore {

// A transaction that reads what was committed up to its beginning.
class MemoryStore::Snapshot : public BufferedTxn {
 public:
  Snapshot(MemoryStore& store, std::uint64_t id) : BufferedTxn(id), store_(store), id_(id) {}
  ~Snapshot() override {
    std::unique_lock lock(store_.mutex_);
    const auto found = store_.snapshots_.find(id_);
    if (--found->second == 0) store_.snapshots_.erase(found);
  }

 protected:
  absl::StatusOr<std::optional<std::string_view>> Read(std::string_view key) override {
    std::shared_lock lock(store_.mutex_);
    const auto found = store_.entries_.find(key);
    if (found == store_.entries_.end()) return std::optional<std::string_view>();
    const Version* version = VersionAt(found->second, id_);
    if (version == nullptr || version->value == nullptr) return std::optional<std::string_view>();
    // Needs no copy: no version that this snapshot can see is pruned before it ends.
    return std::optional<std::string_view>(*version->value);
  }

  absl::Status Walk(std::string_view begin, Visit visit) override {
    std::shared_lock lock(store_.mutex_);
    for (auto it = store_.entries_.lower_bound(begin); it != store_.entries_.end(); ++it) {
      const Version* version = VersionAt(it->second, id_);
      if (version == nullptr || version->value == nullptr) continue;
      if (!visit(it->first, *version->value)) break;
    }
    return absl::OkStatus();
  }

 private:
  MemoryStore& store_;
  const std::uint64_t id_;
};

MemoryStore::~MemoryStore() { assert(snapshots_.empty()); }

absl::StatusOr<std::unique_ptr<StoreTxn>> MemoryStore::Begin() {
  std::unique_lock lock(mutex_);
  ++snapshots_[last_commit_];
  return std::make_unique<Snapshot>(*this, last_commit_);
}

void MemoryStore::Commit(std::unique_ptr<StoreTxn> txn, Done done) {
  Changes changes = static_cast<BufferedTxn&&>(*txn).TakeChanges();
  txn.reset();
  done(Apply(std::move(changes)));
}

absl::Status MemoryStore::Apply(Changes changes) {
  if (!changes.status.ok() || changes.writes.empty()) return changes.status;
  std::unique_lock lock(mutex_);
  if (log_.Conflicts(changes)) return Conflict();
  const std::uint64_t id = ++last_commit_;
  for (auto& [key, value] : changes.writes) {
    log_.Add(id, key);
    const auto found = entries_.find(key);
    if (!value && found == entries_.end()) continue;
    Value stored = value ? std::make_shared<const std::string>(*std::move(value)) : nullptr;
    Versions& versions = found == entries_.end() ? entries_[key] : found->second;
    versions.push_back({id, std::move(stored)});
    if (versions.size() > 1) outdated_.emplace_back(id, key);
  }
  const std::uint64_t oldest = OldestSnapshot();
  for (; !outdated_.empty() && outdated_.front().first <= oldest; outdated_.pop_front()) {
    Prune(outdated_.front().second);
  }
  return absl::OkStatus();
}

const MemoryStore::Version* MemoryStore::VersionAt(const Versions& versions,
                                                   std::uint64_t snapshot) {
  for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
    if (version->id <= snapshot) return &*version;
  }
  return nullptr;
}

std::uint64_t MemoryStore::OldestSnapshot() const {
  return snapshots_.empty() ? last_commit_ : snapshots_.begin()->first;
}

// Drops the versions of `key` that no snapshot can see, and the key itself where a deletion is
// left.
void MemoryStore::Prune(const std::string& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  Versions& versions = found->second;
  const Version* oldest_seen = VersionAt(versions, OldestSnapshot());
  if (oldest_seen == nullptr) return;
  versions.erase(versions.begin(), versions.begin() + (oldest_seen - versions.data()));
  if (versions.size() == 1 && versions.front().value == nullptr) entries_.erase(found);
}

}  // namespace coffer::keystore
