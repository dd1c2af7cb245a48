#include "keystore/barrier/barrier.h"

#include <future>
#include <utility>

#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/barrier/keyring.h"
#include "keystore/barrier/tree_txn.h"

namespace coffer::keystore {
namespace {

// How many encryptions the stored usage record is ahead of what was made: what a crash may cost.
constexpr std::uint64_t kUsageStep = std::uint64_t{1} << 20;
constexpr int kRotateAttempts = 16;

absl::Status Sealed() { return absl::UnavailableError("Vault is sealed"); }

}  // namespace

Barrier::Barrier(Store& store, const Clock& clock, std::uint64_t rotate_after)
    : store_(store), clock_(clock), rotate_after_(rotate_after) {}

Barrier::~Barrier() = default;

bool Barrier::sealed() const { return keyring() == nullptr; }

std::shared_ptr<const Keyring> Barrier::keyring() const {
  std::lock_guard lock(mutex_);
  return keyring_;
}

void Barrier::Unseal(std::shared_ptr<const Keyring> keyring) {
  std::lock_guard lock(mutex_);
  keyring_ = std::move(keyring);
}

void Barrier::Seal() {
  std::shared_ptr<const Keyring> forgotten;
  {
    std::lock_guard lock(mutex_);
    forgotten.swap(keyring_);
  }
  // Transactions under way may hold the keys until they end; the names go at once.
  if (forgotten != nullptr) forgotten->names().Forget();
  for (const auto& action : on_seal_) action();
}

void Barrier::Install(std::shared_ptr<const Keyring> next) {
  std::lock_guard lock(mutex_);
  if (keyring_ != nullptr && &keyring_->names() == &next->names() &&
      keyring_->generation() < next->generation()) {
    keyring_ = std::move(next);
  }
}

bool Barrier::IsCurrent(const Keyring& keyring) const {
  std::lock_guard lock(mutex_);
  return keyring_ != nullptr && &keyring_->names() == &keyring.names();
}

absl::StatusOr<std::unique_ptr<BarrierTxn>> Barrier::Begin() {
  std::shared_ptr<const Keyring> keyring = this->keyring();
  if (keyring == nullptr) return Sealed();
  ASSIGN_OR_RETURN(std::unique_ptr<StoreTxn> txn, store_.Begin());
  return std::make_unique<TreeTxn>(std::move(txn), std::move(keyring));
}

void Barrier::Commit(std::unique_ptr<BarrierTxn> txn, Store::Done done) {
  auto& tree = static_cast<TreeTxn&>(*txn);
  if (!IsCurrent(*tree.keyring())) return done(Sealed());
  std::function<void(bool)> after;
  if (tree.encrypted()) after = Account(tree.store_txn(), tree.keyring());
  std::unique_ptr<StoreTxn> store_txn = static_cast<TreeTxn&&>(tree).TakeStoreTxn();
  std::vector<std::function<void()>> actions = static_cast<TreeTxn&&>(tree).TakeActions();
  txn.reset();
  if (after == nullptr && actions.empty()) {
    return store_.Commit(std::move(store_txn), std::move(done));
  }
  store_.Commit(std::move(store_txn), [after = std::move(after), actions = std::move(actions),
                                       done = std::move(done)](absl::Status status) {
    if (after != nullptr) after(status.ok());
    if (status.ok()) {
      for (const auto& action : actions) action();
    }
    done(std::move(status));
  });
}

std::function<void(bool)> Barrier::Account(StoreTxn& txn,
                                           const std::shared_ptr<const Keyring>& keyring) {
  DataKey& key = keyring->newest();
  const std::uint64_t made = key.encryptions.load(std::memory_order_relaxed);
  if (made >= rotate_after_ && !rotating_.exchange(true)) {
    // The commit under way brings a new term along. Reading the record makes it fail where another
    // change of the keyring comes first.
    const auto record = txn.Get(kKeyringRecord);
    if (record.ok() && *record && **record == keyring->record()) {
      std::shared_ptr<const Keyring> next = keyring->WithNewTerm(clock_.Now());
      txn.Put(kKeyringRecord, next->record());
      return [this, next](bool stored) {
        if (stored) Install(next);
        rotating_ = false;
      };
    }
    rotating_ = false;
  }
  if (made + kUsageStep / 2 > key.reserved.load(std::memory_order_relaxed) &&
      !key.reserving.exchange(true)) {
    const std::uint64_t reserved = made + kUsageStep;
    txn.Put(UsageRecord(key.term), keyring->UsageOf(reserved));
    return [keyring, reserved](bool stored) {
      DataKey& newest = keyring->newest();
      if (stored) newest.reserved = reserved;
      newest.reserving = false;
    };
  }
  return nullptr;
}

absl::StatusOr<KeyStatus> Barrier::key_status() const {
  const std::shared_ptr<const Keyring> keyring = this->keyring();
  if (keyring == nullptr) return Sealed();
  const DataKey& key = keyring->newest();
  return KeyStatus{key.term, key.install_time, key.encryptions.load()};
}

absl::Status Barrier::ChangeKeyring(
    std::shared_ptr<const Keyring> next,
    const std::optional<std::pair<std::string, std::string>>& also) {
  const std::shared_ptr<const Keyring> keyring = this->keyring();
  if (keyring == nullptr) return Sealed();
  ASSIGN_OR_RETURN(std::unique_ptr<StoreTxn> txn, store_.Begin());
  ASSIGN_OR_RETURN(const auto record, txn->Get(kKeyringRecord));
  if (!record || *record != keyring->record() || next->generation() != keyring->generation() + 1) {
    return absl::AbortedError("the keyring was changed meanwhile");
  }
  txn->Put(kKeyringRecord, next->record());
  if (also) txn->Put(also->first, also->second);
  RETURN_IF_ERROR(CommitAndWait(store_, std::move(txn)));
  Install(std::move(next));
  return absl::OkStatus();
}

absl::Status Barrier::Rotate() {
  absl::Status status;
  for (int attempt = 0; attempt < kRotateAttempts; ++attempt) {
    const std::shared_ptr<const Keyring> keyring = this->keyring();
    if (keyring == nullptr) return Sealed();
    status = ChangeKeyring(keyring->WithNewTerm(clock_.Now()), std::nullopt);
    if (!absl::IsAborted(status)) break;
  }
  return status;
}

absl::Status CommitAndWait(Barrier& barrier, std::unique_ptr<BarrierTxn> txn) {
  std::promise<absl::Status> result;
  barrier.Commit(std::move(txn), [&](absl::Status status) { result.set_value(std::move(status)); });
  return result.get_future().get();
}

}  // namespace coffer::keystore
