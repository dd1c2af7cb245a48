// BufferedTxn: what the transactions of every store have in common. Writes are kept in memory over
// the snapshot; what was read is noted, so that Commit() can tell whether it still holds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/function_ref.h"
#include "keystore/storage/store.h"

namespace coffer::keystore {

// Keys in [begin, end); an empty end is no end.
struct KeyRange {
  std::string begin, end;
  bool Contains(std::string_view key) const { return key >= begin && (end.empty() || key < end); }
};

// Keys one after another in one string: a transaction notes every key it reads, and most never ask
// for them again.
class KeyList {
 public:
  void Add(std::string_view key) {
    if (ends_.empty()) {
      bytes_.reserve(kUsualKeys * key.size());
      ends_.reserve(kUsualKeys);
    }
    bytes_ += key;
    ends_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  }
  std::size_t size() const { return ends_.size(); }
  std::string_view operator[](std::size_t i) const {
    const std::size_t start = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(start, ends_[i] - start);
  }

 private:
  static constexpr std::size_t kUsualKeys = 12;  // of a request

  std::string bytes_;
  std::vector<std::uint32_t> ends_;
};

// A transaction as Commit() sees it.
struct Changes {
  // A null value deletes.
  using Writes = absl::btree_map<std::string, std::optional<std::string>, std::less<>>;

  std::uint64_t snapshot = 0;  // the commit that the reads saw last
  KeyList reads;
  std::vector<KeyRange> ranges;
  Writes writes;
  absl::Status status;  // why it can't be committed
};

class BufferedTxn : public StoreTxn {
 public:
  absl::StatusOr<std::optional<std::string_view>> Get(std::string_view key) final;
  absl::StatusOr<std::vector<StoredEntry>> Scan(std::string_view prefix, std::string_view after,
                                                std::size_t limit) final;
  void Put(std::string_view key, std::string value) final { Write(key, std::move(value)); }
  void Delete(std::string_view key) final { Write(key, std::nullopt); }
  bool has_writes() const final { return !changes_.writes.empty(); }

  // Takes what was done out of the transaction, which is at its end.
  Changes TakeChanges() && { return std::move(changes_); }

 protected:
  explicit BufferedTxn(std::uint64_t snapshot) { changes_.snapshot = snapshot; }

  // The snapshot's value; the view holds until the transaction ends.
  virtual absl::StatusOr<std::optional<std::string_view>> Read(std::string_view key) = 0;
  // Shows the snapshot's entries from key `begin` on, in byte order, until `visit` returns false.
  // The views hold until the transaction ends.
  using Visit = absl::FunctionRef<bool(std::string_view key, std::string_view value)>;
  virtual absl::Status Walk(std::string_view begin, Visit visit) = 0;

 private:
  void Write(std::string_view key, std::optional<std::string> value);

  Changes changes_;
};

// What a commit that comes too late is told.
absl::Status Conflict();

// The first key after all that start with `prefix`; "" if there is none.
std::string PrefixEnd(std::string_view prefix);

}  // namespace coffer::keystore
