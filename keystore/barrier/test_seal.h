// TestSeal: a seal and its barrier over any store, for tests.
#pragma once

#include <string>
#include <vector>

#include "common/clock.h"
#include "common/random.h"
#include "keystore/barrier/shamir_seal.h"
#include "keystore/storage/memory_store.h"

namespace coffer::keystore {

using Shares = std::vector<SecretBytes>;

inline std::string Text(const SecretBytes& share) {
  return std::string(EncodeBase64(share.span()).view());
}

inline std::string WrongShare() { return Text(RandomSecret(33)); }

struct TestSeal {
  explicit TestSeal(Store& on) : store(on) {}

  absl::StatusOr<Shares> Initialize(ShareConfig config = {5, 3}) {
    return seal.Initialize(config, [this]() -> absl::Status {
      auto txn = barrier.Begin();
      if (!txn.ok()) return txn.status();
      const absl::Status put = (*txn)->root().Put("contents", "here");
      return put.ok() ? CommitAndWait(barrier, *std::move(txn)) : put;
    });
  }
  // Gives shares as long as the keystore is sealed; whether it is open then.
  bool UnsealWith(const Shares& shares) {
    for (const SecretBytes& share : shares) {
      if (!barrier.sealed()) break;
      if (!seal.Unseal(Text(share)).ok()) return false;
    }
    return !barrier.sealed();
  }
  bool HasContents() {
    auto txn = barrier.Begin();
    return txn.ok() && (*txn)->root().Get("contents")->value().view() == "here";
  }
  // Starts a rekey and gives it old shares until new ones come.
  absl::StatusOr<Shares> Rekey(const Shares& old, ShareConfig config, bool verify = false) {
    const auto started = seal.StartRekey(config, verify);
    if (!started.ok()) return started.status();
    for (const SecretBytes& share : old) {
      auto update = seal.UpdateRekey(Text(share), started->nonce);
      if (!update.ok()) return update.status();
      if (update->complete) return std::move(update->shares);
    }
    return absl::InternalError("too few shares");
  }

  Store& store;
  ManualClock clock;
  Barrier barrier{store, clock};
  ShamirSeal seal{barrier};
};

struct TestSealInMemory : MemoryStore, TestSeal {
  TestSealInMemory() : TestSeal(static_cast<MemoryStore&>(*this)) {}
};

}  // namespace coffer::keystore
