// ConflictLog: which keys recent commits wrote, so that a store can tell whether what a transaction
// read still holds when it commits (optimistic concurrency control by backward validation).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "keystore/storage/buffered_txn.h"

namespace coffer::keystore {

class ConflictLog {
 public:
  // Remembers at least the last `capacity` written keys.
  explicit ConflictLog(std::size_t capacity = 16'384) : capacity_(capacity) {}

  // Whether a commit after `changes.snapshot` wrote something that was read, or might have: one
  // that the log has forgotten.
  bool Conflicts(const Changes& changes) const;

  // Notes that commit `id`, not smaller than the last one, wrote `key`.
  void Add(std::uint64_t id, std::string_view key);
  // Knows of no commit, as at first.
  void Clear();

 private:
  struct Written {
    std::uint64_t id;
    absl::InlinedVector<char, 32> key;  // as long as the barrier's

    std::string_view view() const { return {key.data(), key.size()}; }
  };
  // The keys of a stretch of commits. Most transactions began within the newest.
  struct Generation {
    std::vector<Written> written;  // oldest first
    // The newest commit by a key's hash. Two keys with one hash (once in centuries) cost a commit
    // that is run again.
    absl::flat_hash_map<std::size_t, std::uint64_t> newest;
    std::uint64_t last = 0;  // commit

    bool Conflicts(const Changes& changes) const;
  };

  const std::size_t capacity_;
  Generation recent_;
  Generation older_;  // `capacity_` keys, or none; forgotten as a whole
  std::uint64_t forgotten_ = 0;  // commits up to this one may be missing from the log
};

}  // namespace coffer::keystore
