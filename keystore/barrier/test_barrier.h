// TestBarrier: an open barrier over a store in memory, for tests.
#pragma once

#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "common/clock.h"
#include "common/strings.h"
#include "keystore/barrier/barrier.h"
#include "keystore/barrier/keyring.h"
#include "keystore/storage/memory_store.h"

namespace coffer::keystore {

struct TestBarrier {
  explicit TestBarrier(std::uint64_t rotate_after = Barrier::kRotateAfter)
      : barrier(store, clock, rotate_after) {
    Reset();
  }
  // A keyring of its own, stored as the seal does.
  void Reset() {
    const auto keyring = Keyring::Create(clock.Now());
    auto txn = *store.Begin();
    txn->Put(kKeyringRecord, keyring->record());
    REQUIRE(CommitAndWait(store, std::move(txn)).ok());
    barrier.Unseal(keyring);
  }
  std::unique_ptr<BarrierTxn> Begin() {
    auto txn = barrier.Begin();
    REQUIRE(txn.ok());
    return *std::move(txn);
  }
  absl::Status Change(std::function<void(Txn)> change) {
    auto txn = Begin();
    change(txn->root());
    return CommitAndWait(barrier, std::move(txn));
  }
  absl::Status Put(std::string_view path, std::string_view value) {
    return Change([&](Txn txn) { REQUIRE(txn.Put(path, value).ok()); });
  }
  std::string Get(std::string_view path) { return GetIn(*Begin(), path); }
  static std::string GetIn(BarrierTxn& txn, std::string_view path) {
    auto value = txn.root().Get(path);
    REQUIRE(value.ok());
    return *value ? std::string((*value)->view()) : "(none)";
  }
  std::string List(std::string_view directory) { return ListIn(*Begin(), directory); }
  static std::string ListIn(BarrierTxn& txn, std::string_view directory) {
    auto names = txn.root().List(directory);
    REQUIRE(names.ok());
    std::string text;
    for (const std::string& name : *names) StrAppend(&text, text.empty() ? "" : " ", name);
    return text;
  }
  // All that the store holds, one after another.
  std::string Dump() {
    auto txn = *store.Begin();
    const auto entries = txn->Scan("");
    std::string dump;
    for (const auto& [key, value] : *entries) StrAppend(&dump, key, value);
    return dump;
  }
  std::size_t Entries() {
    auto txn = *store.Begin();
    std::size_t count = 0;
    const auto entries = txn->Scan("");
    for (const auto& [key, value] : *entries) count += key.size() == 32 ? 1 : 0;
    return count;
  }

  MemoryStore store;
  ManualClock clock;
  Barrier barrier;
};

}  // namespace coffer::keystore
