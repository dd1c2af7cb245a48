// TreeTxn: the tree of names and values as entries of a store's transaction. A directory has an
// entry of its own from its first child to its last; what is read to keep that so is part of what
// the store checks at commit, so that it also holds against transactions at the same time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "keystore/barrier/barrier.h"
#include "keystore/barrier/entry.h"
#include "keystore/barrier/keyring.h"

namespace coffer::keystore {

class Barrier::TreeTxn : public BarrierTxn {
 public:
  TreeTxn(std::unique_ptr<StoreTxn> txn, std::shared_ptr<const Keyring> keyring)
      : txn_(std::move(txn)), keyring_(std::move(keyring)) {}

  absl::StatusOr<std::optional<SecretBytes>> Get(std::string_view path) override;
  absl::StatusOr<std::optional<std::string>> Tag(std::string_view path) override;
  absl::Status Put(std::string_view path, std::string_view value) override;
  absl::Status Delete(std::string_view path) override;
  absl::StatusOr<std::vector<std::string>> List(std::string_view directory) override;
  absl::Status DeleteAll(std::string_view directory) override;
  absl::StatusOr<SecretBytes> SealText(std::string_view purpose, std::string_view text) override;
  absl::StatusOr<SecretBytes> OpenText(std::string_view purpose, std::string_view sealed) override;
  void OnCommit(std::function<void()> action) override { actions_.push_back(std::move(action)); }
  bool read_only() const override {
    return !encrypted_ && actions_.empty() && !txn_->has_writes();
  }

  // Whether it has encrypted anything.
  bool encrypted() const { return encrypted_; }

  const std::shared_ptr<const Keyring>& keyring() const { return keyring_; }
  StoreTxn& store_txn() { return *txn_; }
  std::unique_ptr<StoreTxn> TakeStoreTxn() && { return std::move(txn_); }
  std::vector<std::function<void()>> TakeActions() && { return std::move(actions_); }

 private:
  // The entry of a value as it is stored; none: there is none.
  absl::StatusOr<std::optional<Entry>> Find(const Names::StoredKey& stored_key);
  const Entry* WasMet(const Names::StoredKey& stored_key) const;
  absl::StatusOr<const GcmKey*> KeyFor(const Entry& entry) const;
  // The key to encrypt the next `values` with, which are counted.
  const DataKey& KeyToEncrypt(std::uint64_t values);
  absl::StatusOr<SecretBytes> NameOf(const StoredEntry& stored, const Entry& entry) const;
  absl::Status MakeDirectories(std::string_view path);
  // Removes `directory`, and those above it, as far as nothing is left in them.
  absl::Status RemoveEmpty(std::string_view directory);
  absl::Status DeleteBelow(std::string_view prefix);
  // Whether this transaction put something into the directory that is still there; false where it
  // doesn't remember.
  bool PutInto(std::string_view prefix) const;

  std::unique_ptr<StoreTxn> txn_;
  const std::shared_ptr<const Keyring> keyring_;
  std::vector<std::function<void()>> actions_;
  // What was put last: spares looking into directories that can't be empty.
  static constexpr std::size_t kRemembered = 8;
  std::vector<Names::StoredKey> put_;
  // Values that were met before anything was written, as they are stored: where one is put anew its
  // directories are there, and its name is sealed.
  struct Met {
    Names::StoredKey key;
    Entry entry;
  };
  absl::InlinedVector<Met, kRemembered> met_;
  bool encrypted_ = false;
};

}  // namespace coffer::keystore
