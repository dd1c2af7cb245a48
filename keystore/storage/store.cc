#include "keystore/storage/store.h"

#include <condition_variable>
#include <mutex>
#include <utility>

#include "common/strings.h"

namespace coffer::keystore {

bool IsStorageError(const absl::Status& status) {
  return Message(status).starts_with("storage: ");
}

absl::Status CommitAndWait(Store& store, std::unique_ptr<StoreTxn> txn) {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<absl::Status> result;
  store.Commit(std::move(txn), [&](absl::Status status) {
    // Notified under the lock: once it is free, the waiter may be gone with the condition variable.
    std::lock_guard lock(mutex);
    result = std::move(status);
    changed.notify_one();
  });
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return result.has_value(); });
  return *std::move(result);
}

}  // namespace coffer::keystore
