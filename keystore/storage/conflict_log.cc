#include "keystore/storage/conflict_log.h"

#include "absl/hash/hash.h"

namespace coffer::keystore {
namespace {

std::size_t HashOf(std::string_view key) { return absl::Hash<std::string_view>()(key); }

}  // namespace

bool ConflictLog::Conflicts(const Changes& changes) const {
  if (log_.empty() || log_.back().id <= changes.snapshot) return changes.snapshot < forgotten_;
  if (changes.snapshot < forgotten_) return true;
  for (std::size_t i = 0; i < changes.reads.size(); ++i) {
    const auto found = newest_.find(HashOf(changes.reads[i]));
    if (found != newest_.end() && found->second > changes.snapshot) return true;
  }
  if (changes.ranges.empty()) return false;
  for (auto written = log_.rbegin(); written != log_.rend() && written->id > changes.snapshot;
       ++written) {
    for (const KeyRange& range : changes.ranges) {
      if (range.Contains(written->view())) return true;
    }
  }
  return false;
}

void ConflictLog::Add(std::uint64_t id, std::string_view key) {
  const std::size_t hash = HashOf(key);
  log_.push_back({id, hash, {key.begin(), key.end()}});
  newest_[hash] = id;
  while (log_.size() > capacity_) {
    const Written& oldest = log_.front();
    forgotten_ = oldest.id;
    const auto found = newest_.find(oldest.hash);
    if (found != newest_.end() && found->second <= forgotten_) newest_.erase(found);
    log_.pop_front();
  }
}

void ConflictLog::Clear() {
  log_.clear();
  newest_.clear();
  forgotten_ = 0;
}

}  // namespace coffer::keystore
