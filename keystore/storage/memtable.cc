#include "keystore/storage/memtable.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/hash/hash.h"

namespace coffer::keystore {
namespace {

constexpr std::size_t kEntryOverhead = 128;

std::size_t HashOf(std::string_view key) { return absl::Hash<std::string_view>()(key); }

}  // namespace

void Memtable::Add(std::uint64_t id, WriteBatch batch) {
  batches_.push_back(std::move(batch));
  batches_.back().ForEach(
      [&](std::string_view key, const Value& value) { AddWrite(id, key, value); });
  last_commit_ = id;
}

// Readers may meet what is added from the moment that it is published; its id is behind their
// snapshots.
void Memtable::AddWrite(std::uint64_t id, std::string_view key, const Value& value) {
  const std::size_t hash = HashOf(key);
  Bucket& bucket = BucketOf(hash);
  Versions* versions = FindIn(bucket, hash, key);
  const Version* older =
      versions == nullptr ? nullptr : versions->newest.load(std::memory_order_relaxed);
  const Version* version = &versions_.emplace_back(Version{id, value, older});
  if (versions != nullptr) {
    versions->newest.store(version, std::memory_order_release);
  } else {
    versions = &entries_.emplace_back();
    versions->hash = hash;
    versions->key = key;
    versions->newest.store(version, std::memory_order_relaxed);
    versions->next = bucket.load(std::memory_order_relaxed);
    bucket.store(versions, std::memory_order_release);
    std::lock_guard lock(mutex_);
    unordered_.push_back(versions);
  }
  bytes_ += kEntryOverhead + key.size() + (value ? value->size() : 0);
}

Memtable::Versions* Memtable::FindIn(const Bucket& bucket, std::size_t hash,
                                     std::string_view key) {
  for (Versions* versions = bucket.load(std::memory_order_acquire); versions != nullptr;
       versions = versions->next) {
    if (versions->hash == hash && versions->key == key) return versions;
  }
  return nullptr;
}

const Memtable::Value* Memtable::Find(std::string_view key, std::uint64_t snapshot) const {
  if (empty()) return nullptr;
  const std::size_t hash = HashOf(key);
  const Versions* versions = FindIn(BucketOf(hash), hash, key);
  return versions == nullptr ? nullptr : ValueAt(*versions, snapshot);
}

const Memtable::Value* Memtable::ValueAt(const Versions& versions, std::uint64_t snapshot) {
  for (const Version* version = versions.newest.load(std::memory_order_acquire);
       version != nullptr; version = version->older) {
    if (version->id <= snapshot) return &version->value;
  }
  return nullptr;
}

// All keys; the mutex is held.
const Memtable::Ordered& Memtable::InOrder() const {
  // Neighbours go in faster one after the other.
  std::sort(unordered_.begin(), unordered_.end(),
            [](const Versions* a, const Versions* b) { return a->key < b->key; });
  auto place = ordered_.end();
  for (const Versions* versions : unordered_) {
    place = std::next(ordered_.emplace_hint(place, versions->key, versions));
  }
  unordered_.clear();
  return ordered_;
}

Memtable::Entry Memtable::FirstFrom(Ordered::const_iterator it, std::uint64_t snapshot) const {
  for (; it != ordered_.end(); ++it) {
    if (const Value* value = ValueAt(*it->second, snapshot)) return {it->first, value};
  }
  return {{}, nullptr};
}

Memtable::Entry Memtable::From(std::string_view key, std::uint64_t snapshot) const {
  std::lock_guard lock(mutex_);
  return FirstFrom(InOrder().lower_bound(key), snapshot);
}

Memtable::Entry Memtable::Behind(std::string_view key, std::uint64_t snapshot) const {
  std::lock_guard lock(mutex_);
  return FirstFrom(InOrder().upper_bound(key), snapshot);
}

void Memtable::ForEach(
    absl::FunctionRef<void(std::string_view key, const Value& value)> visit) const {
  std::lock_guard lock(mutex_);
  for (const auto& [key, versions] : InOrder()) visit(key, versions->newest.load()->value);
}

}  // namespace coffer::keystore
