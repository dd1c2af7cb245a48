#include "keystore/barrier/shamir_seal.h"

#include <thread>

#include "keystore/barrier/keyring.h"
#include "keystore/barrier/test_seal.h"
#include "keystore/storage/fault_store.h"
#include "keystore/storage/lmdb_store.h"
#include "keystore/storage/test_folder.h"

namespace coffer::keystore {
namespace {

TEST_CASE("a new keystore is not initialised, then sealed, then open") {
  TestSealInMemory keystore;
  SealStatus status = *keystore.seal.status();
  CHECK_FALSE(status.initialized);
  CHECK(status.sealed);
  CHECK(absl::IsInvalidArgument(keystore.seal.Unseal(WrongShare()).status()));

  const Shares shares = *keystore.Initialize();
  REQUIRE(shares.size() == 5);
  status = *keystore.seal.status();
  CHECK(status.initialized);
  CHECK(status.sealed);
  CHECK(status.config == ShareConfig{5, 3});
  CHECK(status.cluster_name.empty());
  CHECK(keystore.barrier.sealed());

  status = *keystore.seal.Unseal(Text(shares[4]));
  CHECK(status.progress == 1);
  CHECK(status.nonce.size() == 36);
  const std::string nonce = status.nonce;
  status = *keystore.seal.Unseal(std::string(EncodeHex(shares[1].span()).view()));
  CHECK(status.progress == 2);
  CHECK(status.nonce == nonce);
  status = *keystore.seal.Unseal(Text(shares[0]));
  CHECK_FALSE(status.sealed);
  CHECK(status.progress == 0);
  CHECK(status.nonce.empty());
  CHECK_THAT(status.cluster_name, Catch::StartsWith("vault-cluster-"));
  CHECK(status.cluster_id.size() == 36);
  CHECK(keystore.HasContents());
  // More shares change nothing.
  CHECK_FALSE(keystore.seal.Unseal(Text(shares[2]))->sealed);
  CHECK(absl::IsInvalidArgument(keystore.seal.ResetUnseal().status()));

  const std::string id = status.cluster_id;
  keystore.barrier.Seal();
  CHECK(keystore.seal.status()->sealed);
  CHECK(keystore.UnsealWith(shares));
  CHECK(keystore.seal.status()->cluster_id == id);
}

TEST_CASE("a new keystore has the name that it is given, and keeps it") {
  MemoryStore store;
  ManualClock clock;
  Shares shares;
  for (const char* name : {"shop", "other"}) {
    Barrier barrier{store, clock};
    ShamirSeal seal{barrier, name};
    if (shares.empty()) shares = *seal.Initialize({1, 1}, [] { return absl::OkStatus(); });
    REQUIRE(seal.Unseal(Text(shares[0])).ok());
    CHECK(seal.status()->cluster_name == "shop");
  }
}

TEST_CASE("every configuration opens with its threshold of shares") {
  for (const ShareConfig config :
       {ShareConfig{1, 1}, {2, 2}, {3, 2}, {7, 7}, {255, 2}, {255, 255}}) {
    CAPTURE(config.shares, config.threshold);
    TestSealInMemory keystore;
    Shares shares = *keystore.Initialize(config);
    REQUIRE(static_cast<int>(shares.size()) == config.shares);
    CHECK(shares[0].size() == (config.shares == 1 ? 32 : 33));
    shares.erase(shares.begin(), shares.end() - config.threshold);
    CHECK(keystore.UnsealWith(shares));
    CHECK(keystore.HasContents());
  }
}

TEST_CASE("initialisation refuses wrong configurations and a second time") {
  TestSealInMemory keystore;
  const auto refused = keystore.Initialize({5, 1});
  CHECK(Message(refused.status()) ==
        "invalid seal configuration: threshold must be greater than one for multiple shares");
  CHECK_FALSE(keystore.seal.status()->initialized);
  const Shares shares = *keystore.Initialize();
  CHECK(Message(keystore.Initialize().status()) == "Vault is already initialized");
  CHECK(keystore.UnsealWith(shares));
}

TEST_CASE("the same share twice counts once") {
  TestSealInMemory keystore;
  const Shares shares = *keystore.Initialize();
  for (int i = 0; i < 5; ++i) CHECK(keystore.seal.Unseal(Text(shares[0]))->progress == 1);
  CHECK(keystore.seal.Unseal(Text(shares[1]))->progress == 2);
  CHECK(keystore.seal.Unseal(Text(shares[1]))->progress == 2);
  CHECK(keystore.seal.Unseal(Text(shares[0]))->sealed);
  CHECK_FALSE(keystore.seal.Unseal(Text(shares[2]))->sealed);
}

TEST_CASE("a wrong share is refused at the end and the progress starts over") {
  TestSealInMemory keystore;
  const Shares shares = *keystore.Initialize();
  CHECK(keystore.seal.Unseal(Text(shares[0]))->progress == 1);
  CHECK(keystore.seal.Unseal(WrongShare())->progress == 2);
  const auto refused = keystore.seal.Unseal(Text(shares[1]));
  CHECK(absl::IsInvalidArgument(refused.status()));
  CHECK(Message(refused.status()) == "Unseal failed, invalid key");
  CHECK(keystore.seal.status()->progress == 0);
  CHECK(keystore.seal.status()->nonce.empty());
  // A share changed in its last byte, which is its x, could be another share's twin.
  SecretBytes twin = shares[1].Copy();
  twin.data()[32] = shares[0].data()[32];
  CHECK(keystore.seal.Unseal(Text(shares[0])).ok());
  CHECK(keystore.seal.Unseal(Text(twin)).ok());
  CHECK(absl::IsInvalidArgument(keystore.seal.Unseal(Text(shares[2])).status()));
  CHECK(keystore.UnsealWith(shares));
}

TEST_CASE("what can't be a share isn't counted") {
  TestSealInMemory keystore;
  const Shares shares = *keystore.Initialize();
  CHECK(keystore.seal.Unseal(Text(shares[0])).ok());
  for (const std::string& text : {std::string(), std::string("?"), std::string("c2hvcnQ="),
                                  Text(RandomSecret(32)), Text(RandomSecret(34))}) {
    CHECK(absl::IsInvalidArgument(keystore.seal.Unseal(text).status()));
  }
  CHECK(keystore.seal.status()->progress == 1);
  CHECK(keystore.seal.ResetUnseal()->progress == 0);
}

TEST_CASE("sealing ends every ceremony") {
  TestSealInMemory keystore;
  const Shares shares = *keystore.Initialize();
  REQUIRE(keystore.UnsealWith(shares));
  REQUIRE(keystore.seal.StartRekey({3, 2}, false).ok());
  REQUIRE(keystore.seal.StartGenerateRoot("").ok());
  keystore.barrier.Seal();
  CHECK(absl::IsUnavailable(keystore.seal.rekey_status().status()));
  CHECK(absl::IsUnavailable(keystore.seal.StartRekey({3, 2}, false).status()));
  CHECK(absl::IsUnavailable(keystore.seal.UpdateRekey(Text(shares[0]), "").status()));
  CHECK(absl::IsUnavailable(keystore.seal.CancelRekey("")));
  CHECK(absl::IsUnavailable(keystore.seal.StartGenerateRoot("").status()));
  REQUIRE(keystore.UnsealWith(shares));
  CHECK_FALSE(keystore.seal.rekey_status()->started);
  CHECK_FALSE(keystore.seal.generate_root_status()->started);
}

TEST_CASE("an initialisation that failed leaves a keystore that can be initialised") {
  int failed = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    MemoryStore memory;
    FaultStore store(memory, seed);
    for (bool initialized = false; !initialized;) {
      TestSeal keystore(store);
      store.Set({.begin_fails = 0.1, .commit_fails = 0.3});
      const auto shares = keystore.Initialize();
      store.Set({});
      CHECK(keystore.barrier.sealed());
      initialized = shares.ok();
      CHECK(keystore.seal.status()->initialized == initialized);
      if (initialized) {
        CHECK(keystore.UnsealWith(*shares));
        CHECK(keystore.HasContents());
      } else {
        ++failed;
      }
    }
  }
  CHECK(failed > 10);
}

TEST_CASE("a store with foreign data is not initialised over") {
  TestSealInMemory keystore;
  auto txn = *keystore.store.Begin();
  txn->Put("someone else's", "data");
  REQUIRE(CommitAndWait(keystore.store, std::move(txn)).ok());
  CHECK(absl::IsFailedPrecondition(keystore.Initialize().status()));
  CHECK((*keystore.store.Begin())->Get("someone else's")->has_value());
}

TEST_CASE("a damaged seal record or keyring is told apart from wrong shares") {
  TestSealInMemory keystore;
  const Shares shares = *keystore.Initialize();
  const std::string_view record = GENERATE(kSealRecord, kKeyringRecord);
  CAPTURE(record);
  auto txn = *keystore.store.Begin();
  txn->Put(record, "rubbish");
  REQUIRE(CommitAndWait(keystore.store, std::move(txn)).ok());
  absl::Status status;
  for (int i = 0; i < 3 && status.ok(); ++i) {
    status = keystore.seal.Unseal(Text(shares[i])).status();
  }
  CHECK(absl::IsDataLoss(status));
  CHECK(keystore.barrier.sealed());
}

TEST_CASE("ceremonies, rotation, writes and sealing at once leave a keystore that opens") {
  TestFolder folder;
  auto store = *LmdbStore::Open({folder.path(), 1 << 28});
  TestSeal keystore(*store);
  const Shares shares = *keystore.Initialize({3, 2});
  REQUIRE(keystore.UnsealWith(shares));
  std::atomic<bool> ending = false;
  std::vector<std::thread> threads;
  const auto forever = [&](auto work) {
    threads.emplace_back([&, work] {
      while (!ending) work();
    });
  };
  forever([&] { keystore.seal.status().IgnoreError(); });
  forever([&] { keystore.seal.Unseal(Text(shares[0])).IgnoreError(); });
  forever([&] { keystore.seal.Unseal(Text(shares[1])).IgnoreError(); });
  forever([&] { keystore.barrier.Rotate().IgnoreError(); });
  forever([&] {
    const auto started = keystore.seal.StartRekey({3, 2}, true);
    if (started.ok()) {
      keystore.seal.UpdateRekey(Text(shares[0]), started->nonce).IgnoreError();
      keystore.seal.UpdateRekey(Text(shares[1]), started->nonce).IgnoreError();
    }
    keystore.seal.CancelRekey(started.ok() ? started->nonce : "").IgnoreError();
  });
  forever([&] {
    auto txn = keystore.barrier.Begin();
    if (!txn.ok()) return;
    (*txn)->root().Put("written", "x").IgnoreError();
    // As sys/seal does: on the store's own thread.
    if (RandomSecret(1).data()[0] < 8) {
      (*txn)->root().OnCommit([&] { keystore.barrier.Seal(); });
    }
    CommitAndWait(keystore.barrier, *std::move(txn)).IgnoreError();
  });
  absl::SleepFor(absl::Seconds(1));
  ending = true;
  for (std::thread& thread : threads) thread.join();
  keystore.barrier.Seal();
  CHECK(keystore.UnsealWith(shares));
  CHECK(keystore.HasContents());
}

}  // namespace
}  // namespace coffer::keystore
