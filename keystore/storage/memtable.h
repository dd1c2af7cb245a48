// Memtable: what was committed and isn't in LMDB yet. Only grows, so that views of it hold as long
// as it is there.
#pragma once

#include <atomic>
#include <cstdint>
#include <forward_list>
#include <map>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "keystore/storage/buffered_txn.h"

namespace coffer::keystore {

class Memtable {
 public:
  using Value = std::optional<std::string>;  // null: deleted
  struct Entry {
    std::string_view key;
    const Value* value;  // null: no entry
  };

  // Adds what commit `id` wrote; not smaller than the ids before.
  void Add(std::uint64_t id, Changes::Writes writes);

  // These see commits up to `snapshot`. Safe on any thread.

  const Value* Find(std::string_view key, std::uint64_t snapshot) const;
  // The first entry at or behind `key`.
  Entry From(std::string_view key, std::uint64_t snapshot) const;
  // The first entry behind `key`.
  Entry Behind(std::string_view key, std::uint64_t snapshot) const;

  // Shows each key with its newest value. For a memtable that nobody adds to any more.
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
  };
  using Versions = std::forward_list<Version>;  // newest first, never empty
  using Entries = std::map<std::string, Versions, std::less<>>;

  static const Value* ValueAt(const Versions& versions, std::uint64_t snapshot);
  Entry FirstFrom(Entries::const_iterator it, std::uint64_t snapshot) const;

  mutable std::shared_mutex mutex_;  // of entries_
  Entries entries_;
  std::atomic<std::size_t> bytes_{0};
  std::atomic<std::uint64_t> last_commit_{0};
};

}  // namespace coffer::keystore
