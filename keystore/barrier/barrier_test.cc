#include "keystore/barrier/barrier.h"

#include <thread>

#include "keystore/barrier/parsed_cache.h"
#include "keystore/barrier/test_barrier.h"

namespace coffer::keystore {
namespace {

TEST_CASE("sealed, the barrier opens nothing, and what was begun before isn't stored") {
  TestBarrier opened;
  REQUIRE(opened.Put("a", "before").ok());
  bool told = false;
  opened.barrier.OnSeal([&] { told = true; });
  auto txn = opened.Begin();
  auto reader = opened.Begin();
  REQUIRE(txn->root().Put("a", "after").ok());
  bool ran = false;
  txn->root().OnCommit([&] { ran = true; });
  const auto keyring = opened.barrier.keyring();
  opened.barrier.Seal();
  CHECK(told);
  CHECK(opened.barrier.sealed());
  CHECK(absl::IsUnavailable(opened.barrier.Begin().status()));
  CHECK(absl::IsUnavailable(opened.barrier.Rotate()));
  CHECK(absl::IsUnavailable(opened.barrier.key_status().status()));
  CHECK(absl::IsUnavailable(CommitAndWait(opened.barrier, std::move(txn))));
  CHECK(absl::IsUnavailable(CommitAndWait(opened.barrier, std::move(reader))));
  CHECK_FALSE(ran);
  opened.barrier.Unseal(*Keyring::Open(keyring->root_key().bytes().Copy(), keyring->record()));
  CHECK(opened.Get("a") == "before");
}

TEST_CASE("a transaction of before a seal doesn't commit after the next unseal") {
  TestBarrier opened;
  auto txn = opened.Begin();
  REQUIRE(txn->root().Put("a", "old").ok());
  const auto keyring = opened.barrier.keyring();
  opened.barrier.Seal();
  opened.barrier.Unseal(*Keyring::Open(keyring->root_key().bytes().Copy(), keyring->record()));
  CHECK(absl::IsUnavailable(CommitAndWait(opened.barrier, std::move(txn))));
}

TEST_CASE("actions run when the transaction is durable, and only then") {
  TestBarrier opened;
  REQUIRE(opened.Put("a", "1").ok());
  int ran = 0;
  auto loser = opened.Begin();
  TestBarrier::GetIn(*loser, "a");
  REQUIRE(opened
              .Change([&](Txn txn) {
                REQUIRE(txn.Put("a", "2").ok());
                txn.OnCommit([&] { ++ran; });
                txn.Under("x/").OnCommit([&] { ++ran; });
              })
              .ok());
  CHECK(ran == 2);
  REQUIRE(loser->root().Put("a", "3").ok());
  loser->root().OnCommit([&] { ran = 100; });
  CHECK(absl::IsAborted(CommitAndWait(opened.barrier, std::move(loser))));
  CHECK(ran == 2);
}

TEST_CASE("rotation begins a new term and everything older stays readable") {
  TestBarrier opened;
  REQUIRE(opened.Put("a", "term 1").ok());
  CHECK(opened.barrier.key_status()->term == 1);
  CHECK(opened.barrier.key_status()->encryptions == 2);
  auto before = opened.Begin();
  REQUIRE(before->root().Put("b", "begun in term 1").ok());
  opened.clock.Advance(absl::Hours(1));
  REQUIRE(opened.barrier.Rotate().ok());
  const KeyStatus status = *opened.barrier.key_status();
  CHECK(status.term == 2);
  CHECK(status.install_time == opened.clock.Now());
  CHECK(status.encryptions == 0);
  CHECK(CommitAndWait(opened.barrier, std::move(before)).ok());
  REQUIRE(opened.Put("c", "term 2").ok());
  CHECK(opened.Get("a") == "term 1");
  CHECK(opened.Get("b") == "begun in term 1");
  CHECK(opened.Get("c") == "term 2");

  // And after a restart.
  const auto keyring = opened.barrier.keyring();
  auto txn = *opened.store.Begin();
  const auto reopened =
      Keyring::Open(keyring->root_key().bytes().Copy(), **txn->Get(kKeyringRecord));
  REQUIRE(reopened.ok());
  txn.reset();
  opened.barrier.Seal();
  opened.barrier.Unseal(*reopened);
  CHECK(opened.Get("a") == "term 1");
  CHECK(opened.Get("c") == "term 2");
  CHECK(opened.barrier.key_status()->term == 2);
}

TEST_CASE("a new term begins by itself before a key has been used too often") {
  TestBarrier opened(100);
  for (int i = 0; i < 400; ++i) {
    absl::Status status;
    while (absl::IsAborted(status = opened.Put(StrCat("a/", i % 10), StrCat(i)))) {
    }
    REQUIRE(status.ok());
    REQUIRE(opened.barrier.key_status()->encryptions < 110);
  }
  CHECK(opened.barrier.key_status()->term > 7);
  for (int i = 0; i < 10; ++i) CHECK(opened.Get(StrCat("a/", i)) == StrCat(390 + i));
}

TEST_CASE("a new term begins by itself under concurrent writes without losing one") {
  TestBarrier opened(50);
  constexpr int kThreads = 4;
  constexpr int kEach = 200;
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach;) {
        auto txn = opened.barrier.Begin();
        if (!txn.ok() || !(*txn)->root().Put(StrCat(t, "/", i), "v").ok()) ++failed;
        const absl::Status status = CommitAndWait(opened.barrier, *std::move(txn));
        if (status.ok()) ++i;
        if (!status.ok() && !absl::IsAborted(status)) ++failed;
      }
    });
  }
  for (int i = 0; i < 20; ++i) CHECK(opened.barrier.Rotate().ok());
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == 0);
  const auto keyring = opened.barrier.keyring();
  CHECK(keyring->newest().term > 25);
  auto txn = *opened.store.Begin();
  CHECK(**txn->Get(kKeyringRecord) == keyring->record());
  for (int t = 0; t < kThreads; ++t) {
    CHECK(opened.Begin()->root().List(StrCat(t, "/"))->size() == kEach);
    for (int i = 0; i < kEach; ++i) CHECK(opened.Get(StrCat(t, "/", i)) == "v");
  }
}

TEST_CASE("the count of encryptions outlives a crash, never too low") {
  TestBarrier opened;
  for (int i = 0; i < 10; ++i) REQUIRE(opened.Put("a", "v").ok());
  const auto keyring = opened.barrier.keyring();
  auto txn = *opened.store.Begin();
  const auto usage = txn->Get(UsageRecord(1));
  REQUIRE(usage->has_value());
  const auto reopened = *Keyring::Open(keyring->root_key().bytes().Copy(), keyring->record());
  REQUIRE(reopened->Resume(**usage).ok());
  CHECK(reopened->newest().encryptions >= 20);
  CHECK(reopened->newest().encryptions < 2'000'000);
  CHECK(absl::IsDataLoss(reopened->Resume("rubbish")));
}

TEST_CASE("parsed values are right even where transactions abort or are older") {
  TestBarrier opened;
  ParsedCache<int> cache;
  int parses = 0;
  const auto read = [&](BarrierTxn& txn) {
    Txn root = txn.root();
    auto value = cache.Get(root, "n", [&](SecretBytes bytes) {
      ++parses;
      return absl::StatusOr<std::shared_ptr<const int>>(
          std::make_shared<int>(std::stoi(std::string(bytes.view()))));
    });
    REQUIRE(value.ok());
    return *value == nullptr ? -1 : **value;
  };
  CHECK(read(*opened.Begin()) == -1);
  REQUIRE(opened.Put("n", "1").ok());
  CHECK(read(*opened.Begin()) == 1);
  CHECK(read(*opened.Begin()) == 1);
  CHECK(parses == 1);
  auto old = opened.Begin();
  REQUIRE(opened.Put("n", "2").ok());
  CHECK(read(*opened.Begin()) == 2);
  CHECK(read(*old) == 1);
  CHECK(read(*opened.Begin()) == 2);
  auto dropped = opened.Begin();
  REQUIRE(dropped->root().Put("n", "3").ok());
  CHECK(read(*dropped) == 3);
  dropped.reset();
  CHECK(read(*opened.Begin()) == 2);
}

}  // namespace
}  // namespace coffer::keystore
