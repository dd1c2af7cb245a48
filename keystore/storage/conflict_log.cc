#include "keystore/storage/conflict_log.h"

#include <algorithm>

namespace coffer::keystore {

bool ConflictLog::Conflicts(const Changes& changes) const {
  if (log_.empty() || log_.back().id <= changes.snapshot) return changes.snapshot < forgotten_;
  if (changes.snapshot < forgotten_) return true;
  for (std::size_t i = 0; i < changes.reads.size(); ++i) {
    const auto found = newest_.find(changes.reads[i]);
    if (found != newest_.end() && found->second > changes.snapshot) return true;
  }
  if (changes.ranges.empty()) return false;
  for (auto written = log_.rbegin(); written != log_.rend() && written->id > changes.snapshot;
       ++written) {
    for (const KeyRange& range : changes.ranges) {
      if (range.Contains(written->key)) return true;
    }
  }
  return false;
}

void ConflictLog::Add(std::uint64_t id, const Changes::Writes& writes) {
  for (const auto& [key, value] : writes) {
    log_.push_back({id, key});
    const std::string& kept = log_.back().key;
    // Erased first: the map keeps the key that it has, which is the older entry's.
    newest_.erase(kept);
    newest_.emplace(kept, id);
  }
  while (log_.size() > capacity_) {
    const Written& oldest = log_.front();
    forgotten_ = oldest.id;
    const auto found = newest_.find(oldest.key);
    if (found != newest_.end() && found->first.data() == oldest.key.data()) newest_.erase(found);
    log_.pop_front();
  }
}

}  // namespace coffer::keystore
