// WriteBatch: the writes of one commit as bytes, made once, by the thread that commits: the log
// appends them and the memtable points into them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "keystore/storage/buffered_txn.h"

namespace coffer::keystore {

class WriteBatch {
 public:
  using Value = std::optional<std::string_view>;  // null: deleted

  WriteBatch() = default;
  explicit WriteBatch(const Changes::Writes& writes);
  // Null where `bytes` aren't those of batches one behind the other.
  static std::optional<WriteBatch> Parse(std::string_view bytes);

  const std::string& bytes() const { return bytes_; }
  // Shows the writes in their order; the views hold as long as the batch stays where it is.
  void ForEach(absl::FunctionRef<void(std::string_view key, const Value& value)> visit) const;

 private:
  std::string bytes_;
};

}  // namespace coffer::keystore
