// Barrier entries: bytes of a store that someone else wrote never open, and never do harm; what was
// sealed opens.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "common/clock.h"
#include "keystore/barrier/barrier.h"
#include "keystore/barrier/entry.h"
#include "keystore/barrier/keyring.h"
#include "keystore/barrier/shamir_seal.h"
#include "keystore/storage/memory_store.h"

namespace {

using namespace coffer;            // NOLINT
using namespace coffer::keystore;  // NOLINT

void Must(bool holds) {
  if (!holds) std::abort();
}

// A barrier over a store in which the fuzzer writes.
struct World {
  World() {
    keyring = Keyring::Create(clock.Now());
    barrier.Unseal(keyring);
  }
  void Store(std::string_view key, std::string value) {
    auto txn = *store.Begin();
    txn->Put(key, std::move(value));
    Must(CommitAndWait(store, std::move(txn)).ok());
  }

  MemoryStore store;
  ManualClock clock;
  Barrier barrier{store, clock};
  std::shared_ptr<const Keyring> keyring;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World& world = *new World();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Names::StoredKey key = world.keyring->names().KeyOf("dir/name");
  const Names::StoredKey directory = world.keyring->names().KeyOf("dir/");

  // As an entry of its own, and in the place of a value and of a directory.
  if (const auto entry = Entry::Parse(bytes); entry.ok()) {
    Must(!entry->OpenName(world.keyring->newest().key, Names::View(key)).ok());
    Must(!entry->OpenValue(world.keyring->newest().key, Names::View(key)).ok());
  }
  world.Store(Names::View(key), std::string(bytes));
  world.Store(Names::View(directory), std::string(bytes));
  auto txn = *world.barrier.Begin();
  Must(!txn->root().Get("dir/name").ok());
  txn->root().Tag("dir/name").IgnoreError();
  Must(!txn->root().List("").ok());
  Must(!txn->root().List("dir/").ok());
  Must(!txn->root().DeleteAll("").ok());
  txn.reset();

  // As each record beside the tree.
  Must(!Keyring::Open(world.keyring->root_key().bytes().Copy(), bytes).ok());
  Must(!world.keyring->Resume(bytes).ok());
  world.Store(kSealRecord, std::string(bytes));
  ShamirSeal* const seal = [] {
    static ShamirSeal& made = *new ShamirSeal(world.barrier);
    return &made;
  }();
  seal->status().IgnoreError();

  // As a value, whole and with one bit changed.
  std::string stored =
      SealValueEntry(world.keyring->newest().key, 1, Names::View(key), "name", bytes);
  const auto good = Entry::Parse(stored);
  Must(good.ok() && good->OpenName(world.keyring->newest().key, Names::View(key))->Equals("name"));
  Must(good->OpenValue(world.keyring->newest().key, Names::View(key))->Equals(bytes));
  if (size < 4) return 0;
  const std::size_t bit = (data[0] | data[1] << 8 | data[2] << 16) % (stored.size() * 8);
  stored[bit / 8] = static_cast<char>(stored[bit / 8] ^ 1 << bit % 8);
  const auto bad = Entry::Parse(stored);
  Must(!bad.ok() || !bad->OpenName(world.keyring->newest().key, Names::View(key)).ok() ||
       !bad->OpenValue(world.keyring->newest().key, Names::View(key)).ok());
  return 0;
}
