// Barrier: everything that the store holds passes it, encrypted with hidden names on the way in and
// authenticated on the way out. Sealed, it holds no key and opens nothing.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "common/clock.h"
#include "keystore/barrier/txn.h"
#include "keystore/storage/store.h"

namespace coffer::keystore {

class Keyring;

// Owns the store's transaction and what the views of it share.
class BarrierTxn {
 public:
  virtual ~BarrierTxn() = default;
  // The view of the whole tree.
  Txn root() { return Txn(this); }
  virtual bool has_writes() const = 0;
};

class Barrier {
 public:
  // The store must outlive the barrier.
  Barrier(Store& store, const Clock& clock);
  ~Barrier();

  bool sealed() const;
  // Unavailable ("Vault is sealed") while sealed.
  absl::StatusOr<std::unique_ptr<BarrierTxn>> Begin();
  // As Store::Commit. Unavailable, and nothing stored, when the barrier was sealed since Begin().
  void Commit(std::unique_ptr<BarrierTxn> txn, Store::Done done);
};

}  // namespace coffer::keystore
