// Memtable: what was committed and isn't in LMDB yet. Only grows, so that views of it hold as long
// as it is there. Keys are found by hash, and in order for scans and for LMDB; keys and values lie
// in the batches that brought them.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <shared_mutex>
#include <string_view>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "keystore/storage/write_batch.h"

namespace coffer::keystore {

class Memtable {
 public:
  using Value = WriteBatch::Value;  // null: deleted
  struct Entry {
    std::string_view key;
    const Value* value;  // null: no entry
  };

  // Adds what commit `id` wrote; not smaller than the ids before.
  void Add(std::uint64_t id, WriteBatch batch);

  // These see commits up to `snapshot`. Safe on any thread.

  const Value* Find(std::string_view key, std::uint64_t snapshot) const;
  // The first entry at or behind `key`.
  Entry From(std::string_view key, std::uint64_t snapshot) const;
  // The first entry behind `key`.
  Entry Behind(std::string_view key, std::uint64_t snapshot) const;

  // Shows each key with its newest value, in order. For a memtable that nobody adds to any more.
  void ForEach(absl::FunctionRef<void(std::string_view key, const Value& value)> visit) const;
  // An estimate of the memory that it takes.
  std::size_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }
  // The last commit in it; 0 if it is empty.
  std::uint64_t last_commit() const { return last_commit_; }

 private:
  struct Version {
    std::uint64_t id;
    Value value;
    const Version* older;
  };
  struct Versions {
    const Version* newest = nullptr;
  };
  using Ordered = absl::btree_map<std::string_view, const Versions*>;

  void AddWrite(std::uint64_t id, std::string_view key, const Value& value);
  static const Value* ValueAt(const Versions& versions, std::uint64_t snapshot);
  Entry FirstFrom(Ordered::const_iterator it, std::uint64_t snapshot) const;

  mutable std::shared_mutex mutex_;  // of what follows
  std::deque<WriteBatch> batches_;
  std::deque<Version> versions_;
  std::deque<Versions> entries_;
  absl::flat_hash_map<std::string_view, Versions*> by_hash_;
  Ordered ordered_;

  std::atomic<std::size_t> bytes_{0};
  std::atomic<std::uint64_t> last_commit_{0};
};

}  // namespace coffer::keystore
