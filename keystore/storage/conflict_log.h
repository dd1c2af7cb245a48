// ConflictLog: which keys recent commits wrote, so that a store can tell whether what a transaction
// read still holds when it commits (optimistic concurrency control by backward validation).
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "keystore/storage/buffered_txn.h"

namespace coffer::keystore {

class ConflictLog {
 public:
  // Remembers at least the last `capacity` written keys.
  explicit ConflictLog(std::size_t capacity = 32'768) : capacity_(capacity) {}

  // Whether a commit after `changes.snapshot` wrote something that was read, or might have: one
  // that the log has forgotten.
  bool Conflicts(const Changes& changes) const;

  // Notes commit `id`, not smaller than the last one's.
  void Add(std::uint64_t id, const Changes::Writes& writes);

 private:
  struct Written {
    std::uint64_t id;
    std::string key;
  };

  const std::size_t capacity_;
  std::deque<Written> log_;  // oldest first
  // The newest commit of each key; the views are of the newest entry's key.
  absl::flat_hash_map<std::string_view, std::uint64_t> newest_;
  std::uint64_t forgotten_ = 0;  // commits up to this one may be missing from the log
};

}  // namespace coffer::keystore
