#include "keystore/storage/conflict_log.h"

#include <utility>

#include "absl/hash/hash.h"

namespace coffer::keystore {
namespace {

std::size_t HashOf(std::string_view key) { return absl::Hash<std::string_view>()(key); }

}  // namespace

bool ConflictLog::Generation::Conflicts(const Changes& changes) const {
  if (last <= changes.snapshot) return false;
  for (std::size_t i = 0; i < changes.reads.size(); ++i) {
    const auto found = newest.find(HashOf(changes.reads[i]));
    if (found != newest.end() && found->second > changes.snapshot) return true;
  }
  if (changes.ranges.empty()) return false;
  for (auto it = written.rbegin(); it != written.rend() && it->id > changes.snapshot; ++it) {
    for (const KeyRange& range : changes.ranges) {
      if (range.Contains(it->view())) return true;
    }
  }
  return false;
}

bool ConflictLog::Conflicts(const Changes& changes) const {
  return changes.snapshot < forgotten_ || recent_.Conflicts(changes) || older_.Conflicts(changes);
}

void ConflictLog::Add(std::uint64_t id, std::string_view key) {
  if (recent_.written.size() >= capacity_) {
    forgotten_ = older_.last;
    std::swap(recent_, older_);
    recent_.written.clear();
    recent_.newest.clear();
    recent_.newest.reserve(capacity_);
    recent_.last = 0;
  }
  recent_.written.push_back({id, {key.begin(), key.end()}});
  recent_.newest[HashOf(key)] = id;
  recent_.last = id;
}

void ConflictLog::Clear() {
  for (Generation* generation : {&recent_, &older_}) {
    generation->written.clear();
    generation->newest.clear();
    generation->last = 0;
  }
  forgotten_ = 0;
}

}  // namespace coffer::keystore
