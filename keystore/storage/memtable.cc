#include "keystore/storage/memtable.h"

#include <mutex>
#include <utility>

namespace coffer::keystore {
namespace {

constexpr std::size_t kEntryOverhead = 128;

}  // namespace

void Memtable::Add(std::uint64_t id, WriteBatch batch) {
  std::unique_lock lock(mutex_);
  batches_.push_back(std::move(batch));
  batches_.back().ForEach(
      [&](std::string_view key, const Value& value) { AddWrite(id, key, value); });
  last_commit_ = id;
}

void Memtable::AddWrite(std::uint64_t id, std::string_view key, const Value& value) {
  Versions*& versions = by_hash_[key];
  if (versions == nullptr) {
    versions = &entries_.emplace_back();
    ordered_.emplace(key, versions);
  }
  versions->newest = &versions_.emplace_back(Version{id, value, versions->newest});
  bytes_ += kEntryOverhead + key.size() + (value ? value->size() : 0);
}

const Memtable::Value* Memtable::Find(std::string_view key, std::uint64_t snapshot) const {
  if (empty()) return nullptr;
  std::shared_lock lock(mutex_);
  const auto found = by_hash_.find(key);
  return found == by_hash_.end() ? nullptr : ValueAt(*found->second, snapshot);
}

const Memtable::Value* Memtable::ValueAt(const Versions& versions, std::uint64_t snapshot) {
  for (const Version* version = versions.newest; version != nullptr; version = version->older) {
    if (version->id <= snapshot) return &version->value;
  }
  return nullptr;
}

Memtable::Entry Memtable::FirstFrom(Ordered::const_iterator it, std::uint64_t snapshot) const {
  for (; it != ordered_.end(); ++it) {
    if (const Value* value = ValueAt(*it->second, snapshot)) return {it->first, value};
  }
  return {{}, nullptr};
}

Memtable::Entry Memtable::From(std::string_view key, std::uint64_t snapshot) const {
  std::shared_lock lock(mutex_);
  return FirstFrom(ordered_.lower_bound(key), snapshot);
}

Memtable::Entry Memtable::Behind(std::string_view key, std::uint64_t snapshot) const {
  std::shared_lock lock(mutex_);
  return FirstFrom(ordered_.upper_bound(key), snapshot);
}

void Memtable::ForEach(
    absl::FunctionRef<void(std::string_view key, const Value& value)> visit) const {
  std::shared_lock lock(mutex_);
  for (const auto& [key, versions] : ordered_) visit(key, versions->newest->value);
}

}  // namespace coffer::keystore
