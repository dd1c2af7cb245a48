// Memtable: what was committed and isn't in LMDB yet. Only grows, so that views of it hold as long
// as it is there. Keys are found by hash, without a lock, for every request reads a few of them while
// one thread adds; and in order, which is made when a scan or LMDB asks for it. Keys and values lie
// in the batches that brought them.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
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

  // `log_size`: of the log that holds the same, at most; more only makes it slower.
  explicit Memtable(std::size_t log_size) : buckets_(log_size / kBytesPerBucket) {}

  // Adds what commit `id` wrote; not smaller than the ids before. By one thread at a time.
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
    std::size_t hash;  // of the key
    std::string_view key;
    std::atomic<const Version*> newest = nullptr;
    Versions* next = nullptr;  // in the bucket
  };
  using Bucket = std::atomic<Versions*>;
  using Ordered = absl::btree_map<std::string_view, const Versions*>;
  static constexpr std::size_t kBytesPerBucket = 512;  // about what an entry takes in a log

  Bucket& BucketOf(std::size_t hash) const { return buckets_[hash % buckets_.size()]; }
  static Versions* FindIn(const Bucket& bucket, std::size_t hash, std::string_view key);
  void AddWrite(std::uint64_t id, std::string_view key, const Value& value);
  static const Value* ValueAt(const Versions& versions, std::uint64_t snapshot);
  const Ordered& InOrder() const;
  Entry FirstFrom(Ordered::const_iterator it, std::uint64_t snapshot) const;

  // Of the thread that adds; what is in them stays where it is.
  std::deque<WriteBatch> batches_;
  std::deque<Version> versions_;
  std::deque<Versions> entries_;

  mutable std::vector<Bucket> buckets_;
  mutable std::mutex mutex_;  // of what follows
  mutable Ordered ordered_;
  mutable std::vector<const Versions*> unordered_;  // keys that aren't in ordered_ yet

  std::atomic<std::size_t> bytes_{0};
  std::atomic<std::uint64_t> last_commit_{0};
};

}  // namespace coffer::keystore
