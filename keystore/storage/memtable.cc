#include "keystore/storage/memtable.h"

#include <mutex>
#include <utility>

namespace coffer::keystore {
namespace {

constexpr std::size_t kEntryOverhead = 128;

}  // namespace

void Memtable::Add(std::uint64_t id, Changes::Writes writes) {
  std::size_t bytes = 0;
  std::unique_lock lock(mutex_);
  while (!writes.empty()) {
    auto node = writes.extract(writes.begin());
    bytes += kEntryOverhead + node.key().size() + (node.mapped() ? node.mapped()->size() : 0);
    entries_[std::move(node.key())].push_front({id, std::move(node.mapped())});
  }
  bytes_ += bytes;
  last_commit_ = id;
}

const Memtable::Value* Memtable::Find(std::string_view key, std::uint64_t snapshot) const {
  if (empty()) return nullptr;
  std::shared_lock lock(mutex_);
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : ValueAt(found->second, snapshot);
}

const Memtable::Value* Memtable::ValueAt(const Versions& versions, std::uint64_t snapshot) {
  for (const Version& version : versions) {
    if (version.id <= snapshot) return &version.value;
  }
  return nullptr;
}

Memtable::Entry Memtable::FirstFrom(Entries::const_iterator it, std::uint64_t snapshot) const {
  for (; it != entries_.end(); ++it) {
    if (const Value* value = ValueAt(it->second, snapshot)) return {it->first, value};
  }
  return {{}, nullptr};
}

Memtable::Entry Memtable::From(std::string_view key, std::uint64_t snapshot) const {
  std::shared_lock lock(mutex_);
  return FirstFrom(entries_.lower_bound(key), snapshot);
}

Memtable::Entry Memtable::Behind(std::string_view key, std::uint64_t snapshot) const {
  std::shared_lock lock(mutex_);
  return FirstFrom(entries_.upper_bound(key), snapshot);
}

void Memtable::ForEach(
    absl::FunctionRef<void(std::string_view key, const Value& value)> visit) const {
  std::shared_lock lock(mutex_);
  for (const auto& [key, versions] : entries_) visit(key, versions.front().value);
}

}  // namespace coffer::keystore
