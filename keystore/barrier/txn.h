// Txn: one transaction on the decrypted tree of names and values behind the barrier.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/json.h"
#include "common/secret_bytes.h"

namespace coffer::keystore {

class BarrierTxn;

// A view of a transaction below a path prefix. Cheap to copy; all views of one transaction share
// its reads and writes. Paths are relative to the view, segments parted by "/", e.g.
// "roles/webapp"; no segment may be empty. An empty view (of a route that runs without the barrier)
// answers Unavailable.
class Txn {
 public:
  Txn() = default;
  explicit Txn(BarrierTxn* state, std::string prefix = {})
      : state_(state), prefix_(std::move(prefix)) {}

  // The value, or nullopt. DataLoss: the stored bytes aren't what the barrier wrote.
  absl::StatusOr<std::optional<SecretBytes>> Get(std::string_view path);
  // Changes whenever the value is written again (it is the entry's nonce); nullopt where there is
  // none. Far cheaper than Get: for caches of parsed values.
  absl::StatusOr<std::optional<std::string>> Tag(std::string_view path);
  absl::Status Put(std::string_view path, std::string_view value);
  absl::Status Delete(std::string_view path);
  // Names directly below `directory` ("" or "a/b/"), sorted; a name that has names below it ends in
  // "/" (one that is both appears twice, as "x" and "x/").
  absl::StatusOr<std::vector<std::string>> List(std::string_view directory);

  absl::StatusOr<std::optional<Json>> GetJson(std::string_view path);
  absl::Status PutJson(std::string_view path, const Json& value);

  // Deletes every path below `directory`.
  absl::Status DeleteAll(std::string_view directory);

  // Encrypts what is handed out instead of stored, for one purpose ("batch-token"), and opens it
  // again, also after rotations of the key. InvalidArgument: it isn't such a text of this keystore.
  absl::StatusOr<SecretBytes> SealText(std::string_view purpose, std::string_view text);
  absl::StatusOr<SecretBytes> OpenText(std::string_view purpose, std::string_view sealed);

  // Runs once the transaction is durable, on a thread of the store's: must be quick.
  void OnCommit(std::function<void()> action);

  // A view below `prefix` (ends in "/") of this view; Root() is the whole tree.
  Txn Under(std::string_view prefix) const { return Txn(state_, prefix_ + std::string(prefix)); }
  Txn Root() const { return Txn(state_); }
  const std::string& prefix() const { return prefix_; }

 private:
  BarrierTxn* state_ = nullptr;
  std::string prefix_;
};

}  // namespace coffer::keystore
