// Store: ordered byte strings under serializable transactions. What is stored here is already
// encrypted; see keystore/barrier.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace coffer::keystore {

inline constexpr std::size_t kMaxKeySize = 510;

struct StoredEntry {
  std::string_view key;
  std::string_view value;
};

// One transaction: a consistent snapshot under the transaction's own writes. Used by one thread at
// a time; may move between threads.
class StoreTxn {
 public:
  virtual ~StoreTxn() = default;

  // The value, or nullopt where there is none; the view holds until the transaction writes or ends.
  // Unavailable: the storage can't be read.
  virtual absl::StatusOr<std::optional<std::string_view>> Get(std::string_view key) = 0;
  // Entries whose key starts with `prefix`, in byte order, after key `after` ("" = from the start),
  // at most `limit` (0 = all). What is listed belongs to what Commit() checks, absent keys too. The
  // views hold until the transaction writes or ends.
  virtual absl::StatusOr<std::vector<StoredEntry>> Scan(std::string_view prefix,
                                                        std::string_view after = {},
                                                        std::size_t limit = 0) = 0;
  // Keys are 1..kMaxKeySize bytes, or Commit() is InvalidArgument. Nothing is stored before
  // Commit().
  virtual void Put(std::string_view key, std::string value) = 0;
  virtual void Delete(std::string_view key) = 0;
  virtual bool has_writes() const = 0;
};

// A store. All of it is safe on any thread.
class Store {
 public:
  // OK: durable. Aborted: another transaction wrote what this one had read; nothing was stored, run
  // it again. ResourceExhausted: storage full, nothing stored. Unavailable: the storage failed;
  // nothing of it is visible to later transactions.
  using Done = std::function<void(absl::Status)>;

  virtual ~Store() = default;
  virtual absl::StatusOr<std::unique_ptr<StoreTxn>> Begin() = 0;
  // Stores all writes or none. `done` is called once, perhaps before Commit() returns, perhaps on a
  // thread of the store's; it mustn't block. A transaction without writes is always OK.
  virtual void Commit(std::unique_ptr<StoreTxn> txn, Done done) = 0;
  // "lmdb", "inmem": what sys/seal-status shows as storage_type.
  virtual std::string_view type() const = 0;
};

// Whether it comes from a store. Such messages name folders, for whoever runs the keystore.
bool IsStorageError(const absl::Status& status);

// Commits and waits.
absl::Status CommitAndWait(Store& store, std::unique_ptr<StoreTxn> txn);

}  // namespace coffer::keystore
