// Barrier: everything that the store holds passes it, encrypted with hidden names on the way in and
// authenticated on the way out. Sealed, it holds no key and opens nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "keystore/barrier/txn.h"
#include "keystore/storage/store.h"

namespace coffer::keystore {

class Keyring;

// One transaction behind the barrier: what the views of it (Txn) share. Paths here are whole. Used
// by one thread at a time; may move between threads.
class BarrierTxn {
 public:
  virtual ~BarrierTxn() = default;
  // The view of the whole tree.
  Txn root() { return Txn(this); }

  // As the members of Txn.
  virtual absl::StatusOr<std::optional<SecretBytes>> Get(std::string_view path) = 0;
  virtual absl::StatusOr<std::optional<std::string>> Tag(std::string_view path) = 0;
  virtual absl::Status Put(std::string_view path, std::string_view value) = 0;
  virtual absl::Status Delete(std::string_view path) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List(std::string_view directory) = 0;
  virtual absl::Status DeleteAll(std::string_view directory) = 0;
  virtual absl::StatusOr<SecretBytes> SealText(std::string_view purpose,
                                               std::string_view text) = 0;
  virtual absl::StatusOr<SecretBytes> OpenText(std::string_view purpose,
                                               std::string_view sealed) = 0;
  virtual void OnCommit(std::function<void()> action) = 0;
  // Whether a commit would do nothing: not even account for what was encrypted.
  virtual bool read_only() const = 0;
};

// What sys/key-status tells of the newest data key.
struct KeyStatus {
  std::uint32_t term = 0;
  absl::Time install_time;
  std::uint64_t encryptions = 0;  // at least as many as were made
};

// All of it is safe on any thread.
class Barrier {
 public:
  // A new term is begun once this many values may have been encrypted under one: well below the
  // 2^32 that NIST SP 800-38D section 8.3 allows with random nonces.
  static constexpr std::uint64_t kRotateAfter = std::uint64_t{1} << 31;

  // The store and the clock must outlive the barrier. `rotate_after`: see kRotateAfter.
  Barrier(Store& store, const Clock& clock, std::uint64_t rotate_after = kRotateAfter);
  ~Barrier();

  bool sealed() const;
  // Unavailable ("Vault is sealed") while sealed.
  absl::StatusOr<std::unique_ptr<BarrierTxn>> Begin();
  // As Store::Commit. Unavailable, and nothing stored, when the barrier was sealed since Begin().
  void Commit(std::unique_ptr<BarrierTxn> txn, Store::Done done);

  // Forgets every key and name. Transactions begun before fail at Commit().
  void Seal();
  // Runs at each Seal(). To be set before the barrier is used.
  void OnSeal(std::function<void()> action) { on_seal_.push_back(std::move(action)); }

  // Unavailable while sealed.
  absl::StatusOr<KeyStatus> key_status() const;
  // Adds a data key, under which all is encrypted from now on, and waits until that is stored.
  absl::Status Rotate();

  Store& store() { return store_; }
  const Clock& clock() const { return clock_; }

  // What follows is for the seal alone.

  // Opens the barrier with the keys that the root key gave.
  void Unseal(std::shared_ptr<const Keyring> keyring);
  // Null while sealed.
  std::shared_ptr<const Keyring> keyring() const;
  // Stores `next`, which was made from the barrier's keyring, and `also` (a key and its value) in
  // one commit, and goes on with it. Aborted: the keyring was changed meanwhile. Waits for the
  // disk.
  absl::Status ChangeKeyring(std::shared_ptr<const Keyring> next,
                             const std::optional<std::pair<std::string, std::string>>& also);

 private:
  class TreeTxn;

  // Goes on with `next`, unless the barrier was sealed or has a newer one.
  void Install(std::shared_ptr<const Keyring> next);
  // Whether transactions begun with `keyring` may commit.
  bool IsCurrent(const Keyring& keyring) const;
  // Adds what keeps the count of encryptions to a transaction; the action follows its commit.
  std::function<void(bool stored)> Account(StoreTxn& txn,
                                           const std::shared_ptr<const Keyring>& keyring);

  Store& store_;
  const Clock& clock_;
  const std::uint64_t rotate_after_;
  std::vector<std::function<void()>> on_seal_;
  std::atomic<bool> rotating_{false};
  mutable std::mutex mutex_;  // of keyring_
  std::shared_ptr<const Keyring> keyring_;
};

// CommitAndWait of a barrier.
absl::Status CommitAndWait(Barrier& barrier, std::unique_ptr<BarrierTxn> txn);

}  // namespace coffer::keystore
