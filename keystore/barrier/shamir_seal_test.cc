#include "keystore/barrier/shamir_seal.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "common/random.h"
#include "keystore/barrier/keyring.h"
#include "keystore/storage/fault_store.h"
#include "keystore/storage/lmdb_store.h"
#include "keystore/storage/memory_store.h"
#include "keystore/storage/test_folder.h"

namespace coffer::keystore {
namespace {

using Shares = std::vector<SecretBytes>;

std::string Text(const SecretBytes& share) {
  return std::string(EncodeBase64(share.span()).view());
}

std::string WrongShare() { return Text(RandomSecret(33)); }

struct Keystore {
  explicit Keystore(Store& on) : store(on) {}

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

struct InMemory : MemoryStore, Keystore {
  InMemory() : Keystore(static_cast<MemoryStore&>(*this)) {}
};

TEST_CASE("a new keystore is not initialised, then sealed, then open") {
  InMemory keystore;
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

TEST_CASE("every configuration opens with its threshold of shares") {
  for (const ShareConfig config :
       {ShareConfig{1, 1}, {2, 2}, {3, 2}, {7, 7}, {255, 2}, {255, 255}}) {
    CAPTURE(config.shares, config.threshold);
    InMemory keystore;
    Shares shares = *keystore.Initialize(config);
    REQUIRE(static_cast<int>(shares.size()) == config.shares);
    CHECK(shares[0].size() == (config.shares == 1 ? 32 : 33));
    shares.erase(shares.begin(), shares.end() - config.threshold);
    CHECK(keystore.UnsealWith(shares));
    CHECK(keystore.HasContents());
  }
}

TEST_CASE("initialisation refuses wrong configurations and a second time") {
  InMemory keystore;
  const auto refused = keystore.Initialize({5, 1});
  CHECK(Message(refused.status()) ==
        "invalid seal configuration: threshold must be greater than one for multiple shares");
  CHECK_FALSE(keystore.seal.status()->initialized);
  const Shares shares = *keystore.Initialize();
  CHECK(Message(keystore.Initialize().status()) == "Vault is already initialized");
  CHECK(keystore.UnsealWith(shares));
}

TEST_CASE("the same share twice counts once") {
  InMemory keystore;
  const Shares shares = *keystore.Initialize();
  for (int i = 0; i < 5; ++i) CHECK(keystore.seal.Unseal(Text(shares[0]))->progress == 1);
  CHECK(keystore.seal.Unseal(Text(shares[1]))->progress == 2);
  CHECK(keystore.seal.Unseal(Text(shares[1]))->progress == 2);
  CHECK(keystore.seal.Unseal(Text(shares[0]))->sealed);
  CHECK_FALSE(keystore.seal.Unseal(Text(shares[2]))->sealed);
}

TEST_CASE("a wrong share is refused at the end and the progress starts over") {
  InMemory keystore;
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
  InMemory keystore;
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
  InMemory keystore;
  const Shares shares = *keystore.Initialize();
  REQUIRE(keystore.UnsealWith(shares));
  REQUIRE(keystore.seal.StartRekey({3, 2}, false).ok());
  REQUIRE(keystore.seal.StartGenerateRoot("").ok());
  keystore.barrier.Seal();
  CHECK(absl::IsUnavailable(keystore.seal.rekey_status().status()));
  CHECK(absl::IsUnavailable(keystore.seal.StartRekey({3, 2}, false).status()));
  CHECK(absl::IsUnavailable(keystore.seal.UpdateRekey(Text(shares[0]), "").status()));
  CHECK(absl::IsUnavailable(keystore.seal.CancelRekey()));
  CHECK(absl::IsUnavailable(keystore.seal.StartGenerateRoot("").status()));
  REQUIRE(keystore.UnsealWith(shares));
  CHECK_FALSE(keystore.seal.rekey_status()->started);
  CHECK_FALSE(keystore.seal.generate_root_status()->started);
}

TEST_CASE("a rekey replaces the shares") {
  InMemory keystore;
  const Shares old = *keystore.Initialize();
  REQUIRE(keystore.UnsealWith(old));
  CHECK(absl::IsInvalidArgument(keystore.seal.StartRekey({3, 1}, false).status()));
  RekeyStatus status = *keystore.seal.rekey_status();
  CHECK_FALSE(status.started);
  CHECK(status.required == 3);

  status = *keystore.seal.StartRekey({7, 4}, false);
  CHECK(status.started);
  CHECK(status.config == ShareConfig{7, 4});
  CHECK(status.nonce.size() == 36);
  CHECK(Message(keystore.seal.StartRekey({3, 2}, false).status()) == "rekey already in progress");
  CHECK_THAT(std::string(Message(keystore.seal.UpdateRekey(Text(old[0]), "other").status())),
             Catch::Contains("incorrect nonce supplied; nonce for this rekey operation is \"" +
                             status.nonce));
  CHECK(keystore.seal.UpdateRekey(Text(old[0]), status.nonce)->status.progress == 1);
  CHECK(absl::IsInvalidArgument(keystore.seal.UpdateRekey(Text(old[0]), status.nonce).status()));
  CHECK(keystore.seal.UpdateRekey(WrongShare(), status.nonce)->status.progress == 2);
  CHECK(absl::IsInvalidArgument(keystore.seal.UpdateRekey(Text(old[1]), status.nonce).status()));
  CHECK(keystore.seal.rekey_status()->progress == 0);
  CHECK(keystore.seal.rekey_status()->started);
  for (int i = 0; i < 2; ++i) {
    CHECK_FALSE(keystore.seal.UpdateRekey(Text(old[i]), status.nonce)->complete);
  }
  const auto update = keystore.seal.UpdateRekey(Text(old[4]), status.nonce);
  REQUIRE(update.ok());
  CHECK(update->complete);
  REQUIRE(update->shares.size() == 7);
  CHECK_FALSE(keystore.seal.rekey_status()->started);
  CHECK(keystore.seal.rekey_status()->required == 4);
  CHECK(keystore.HasContents());

  keystore.barrier.Seal();
  CHECK_FALSE(keystore.UnsealWith(old));
  REQUIRE(keystore.seal.ResetUnseal().ok());
  CHECK(keystore.UnsealWith(update->shares));
  CHECK(keystore.HasContents());
}

TEST_CASE("a rekey may be cancelled up to its end") {
  InMemory keystore;
  const Shares old = *keystore.Initialize();
  REQUIRE(keystore.UnsealWith(old));
  const std::string nonce = keystore.seal.StartRekey({2, 2}, false)->nonce;
  REQUIRE(keystore.seal.UpdateRekey(Text(old[0]), nonce).ok());
  REQUIRE(keystore.seal.CancelRekey().ok());
  CHECK(keystore.seal.CancelRekey().ok());
  CHECK(Message(keystore.seal.UpdateRekey(Text(old[1]), nonce).status()) ==
        "no barrier rekey in progress");
  keystore.barrier.Seal();
  CHECK(keystore.UnsealWith(old));
}

TEST_CASE("with verification the new shares count once they were given back") {
  InMemory keystore;
  const Shares old = *keystore.Initialize();
  REQUIRE(keystore.UnsealWith(old));
  CHECK(absl::IsInvalidArgument(keystore.seal.verify_status().status()));
  const Shares fresh = *keystore.Rekey(old, {3, 2}, /*verify=*/true);
  RekeyStatus rekey = *keystore.seal.rekey_status();
  CHECK(rekey.started);
  CHECK(rekey.verification_required);
  CHECK_THAT(std::string(Message(keystore.seal.UpdateRekey(Text(old[0]), rekey.nonce).status())),
             Catch::Contains("verification must be performed"));
  VerifyUpdate verify = *keystore.seal.verify_status();
  CHECK(verify.status.started);
  CHECK(verify.status.nonce == rekey.verification_nonce);
  CHECK(verify.config == ShareConfig{3, 2});

  SECTION("until then the old ones do") {
    keystore.barrier.Seal();
    CHECK_FALSE(keystore.UnsealWith(fresh));
    REQUIRE(keystore.seal.ResetUnseal().ok());
    CHECK(keystore.UnsealWith(old));
  }
  SECTION("cancelled, the new ones are void") {
    REQUIRE(keystore.seal.CancelRekey().ok());
    keystore.barrier.Seal();
    CHECK(keystore.UnsealWith(old));
  }
  SECTION("wrong ones are refused and the verification starts over") {
    const std::string nonce = verify.status.nonce;
    CHECK(keystore.seal.UpdateVerify(Text(fresh[0]), nonce)->status.progress == 1);
    CHECK(absl::IsInvalidArgument(keystore.seal.UpdateVerify(Text(old[0]), nonce).status()));
    CHECK(keystore.seal.verify_status()->status.progress == 0);
    CHECK(absl::IsInvalidArgument(keystore.seal.UpdateVerify(Text(fresh[0]), "other").status()));
  }
  SECTION("given, they count") {
    CHECK(keystore.seal.UpdateVerify(Text(fresh[0]), verify.status.nonce).ok());
    verify = *keystore.seal.RestartVerify();
    CHECK(verify.status.progress == 0);
    CHECK(keystore.seal.UpdateVerify(Text(fresh[2]), verify.status.nonce)->status.progress == 1);
    const auto done = keystore.seal.UpdateVerify(Text(fresh[1]), verify.status.nonce);
    REQUIRE(done.ok());
    CHECK(done->complete);
    CHECK_FALSE(keystore.seal.rekey_status()->started);
    keystore.barrier.Seal();
    CHECK_FALSE(keystore.UnsealWith(old));
    REQUIRE(keystore.seal.ResetUnseal().ok());
    CHECK(keystore.UnsealWith(fresh));
  }
}

TEST_CASE("a rekey changes the root key too, and keeps terms and content") {
  InMemory keystore;
  const Shares old = *keystore.Initialize();
  REQUIRE(keystore.UnsealWith(old));
  REQUIRE(keystore.barrier.Rotate().ok());
  const SecretBytes root = keystore.barrier.keyring()->root_key().bytes().Copy();
  const Shares fresh = *keystore.Rekey(old, {1, 1});
  CHECK_FALSE(keystore.barrier.keyring()->root_key().bytes().Equals(root.view()));
  REQUIRE(keystore.barrier.Rotate().ok());
  keystore.barrier.Seal();
  REQUIRE(keystore.UnsealWith(fresh));
  CHECK(keystore.barrier.key_status()->term == 3);
  CHECK(keystore.HasContents());
}

TEST_CASE("generate-root hands out a token that its OTP opens") {
  InMemory keystore;
  const Shares shares = *keystore.Initialize();
  REQUIRE(keystore.UnsealWith(shares));
  const std::string token = "hvs.abcdefghijklmnopqrstuvwx";
  int made = 0;
  const auto make = [&] {
    ++made;
    return absl::StatusOr<SecretBytes>(SecretBytes::CopyOf(token));
  };
  CHECK(absl::IsInvalidArgument(keystore.seal.StartGenerateRoot("too short").status()));
  GenerateRootStatus status = *keystore.seal.StartGenerateRoot("");
  CHECK(status.started);
  CHECK(status.required == 3);
  REQUIRE(status.otp.size() == ShamirSeal::kOtpLength);
  const SecretBytes otp = std::move(status.otp);
  CHECK(absl::IsInvalidArgument(keystore.seal.StartGenerateRoot("").status()));
  CHECK(keystore.seal.generate_root_status()->otp.empty());
  const std::string nonce = status.nonce;
  CHECK(absl::IsInvalidArgument(
      keystore.seal.UpdateGenerateRoot(Text(shares[0]), "other", make).status()));
  for (int wrong = 1; wrong >= 0; --wrong) {
    CHECK(keystore.seal.UpdateGenerateRoot(Text(shares[0]), nonce, make)->progress == 1);
    CHECK(keystore.seal.UpdateGenerateRoot(Text(shares[1]), nonce, make)->progress == 2);
    if (wrong == 0) break;
    CHECK_FALSE(keystore.seal.UpdateGenerateRoot(WrongShare(), nonce, make).ok());
    CHECK(keystore.seal.generate_root_status()->progress == 0);
  }
  CHECK(made == 0);
  status = *keystore.seal.UpdateGenerateRoot(Text(shares[2]), nonce, make);
  CHECK(status.complete);
  CHECK(status.progress == 3);
  CHECK(made == 1);
  CHECK(status.encoded_token.size() == 38);
  SecretBytes decoded = *DecodeBase64(status.encoded_token.view());
  for (std::size_t i = 0; i < decoded.size(); ++i) decoded.data()[i] ^= otp.data()[i];
  CHECK(decoded.view() == token);
  CHECK_FALSE(keystore.seal.generate_root_status()->started);

  SECTION("it may be cancelled") {
    REQUIRE(keystore.seal.StartGenerateRoot(token).ok());
    REQUIRE(keystore.seal.CancelGenerateRoot().ok());
    CHECK_FALSE(keystore.seal.UpdateGenerateRoot(Text(shares[0]), nonce, make).ok());
  }
}

TEST_CASE("an initialisation that failed leaves a keystore that can be initialised") {
  int failed = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    MemoryStore memory;
    FaultStore store(memory, seed);
    for (bool initialized = false; !initialized;) {
      Keystore keystore(store);
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
  InMemory keystore;
  auto txn = *keystore.store.Begin();
  txn->Put("someone else's", "data");
  REQUIRE(CommitAndWait(keystore.store, std::move(txn)).ok());
  CHECK(absl::IsFailedPrecondition(keystore.Initialize().status()));
  CHECK((*keystore.store.Begin())->Get("someone else's")->has_value());
}

TEST_CASE("a rekey whose commit fails leaves the old shares valid") {
  MemoryStore memory;
  FaultStore store(memory, 3);
  Keystore keystore(store);
  const Shares old = *keystore.Initialize();
  REQUIRE(keystore.UnsealWith(old));
  store.Set({.commit_full = 1});
  CHECK(absl::IsResourceExhausted(keystore.Rekey(old, {3, 2}).status()));
  store.Set({});
  keystore.barrier.Seal();
  REQUIRE(keystore.UnsealWith(old));
  const Shares fresh = *keystore.Rekey(old, {3, 2});
  keystore.barrier.Seal();
  CHECK(keystore.UnsealWith(fresh));
}

TEST_CASE("a damaged seal record or keyring is told apart from wrong shares") {
  InMemory keystore;
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

// A process that rekeys without end, telling its newest shares before and after each switch, and
// dies at any point.
TEST_CASE("kill -9 during rekeys leaves exactly the old or exactly the new shares") {
  TestFolder folder;
  Shares valid;
  {
    auto store = *LmdbStore::Open({folder.path(), 1 << 26});
    Keystore keystore(*store);
    valid = *keystore.Initialize({3, 2});
  }
  for (int round = 0; round < 12; ++round) {
    int told[2];
    REQUIRE(pipe(told) == 0);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      auto store = LmdbStore::Open({folder.path(), 1 << 26});
      if (!store.ok()) _exit(1);
      Keystore keystore(**store);
      if (!keystore.UnsealWith(valid)) _exit(1);
      Shares now = std::move(valid);
      for (;;) {
        // With verification the new shares are known before they count.
        auto fresh = keystore.Rekey(now, {3, 2}, /*verify=*/true);
        if (!fresh.ok()) _exit(1);
        for (const SecretBytes& share : *fresh) {
          if (write(told[1], share.data(), share.size()) != 33) _exit(1);
        }
        const std::string nonce = keystore.seal.verify_status()->status.nonce;
        for (int i = 0; i < 2; ++i) {
          if (!keystore.seal.UpdateVerify(Text((*fresh)[i]), nonce).ok()) _exit(1);
        }
        now = *std::move(fresh);
      }
    }
    close(told[1]);
    std::vector<Shares> candidates;
    candidates.push_back(std::move(valid));
    const auto read_shares = [&] {
      Shares shares;
      for (int i = 0; i < 3; ++i) {
        SecretBytes share(33);
        if (read(told[0], share.data(), 33) != 33) return false;
        shares.push_back(std::move(share));
      }
      candidates.push_back(std::move(shares));
      return true;
    };
    for (int i = 0; i <= round; ++i) REQUIRE(read_shares());
    usleep(37 * round);
    REQUIRE(kill(child, SIGKILL) == 0);
    REQUIRE(waitpid(child, nullptr, 0) == child);
    while (read_shares()) {
    }
    close(told[0]);

    auto store = *LmdbStore::Open({folder.path(), 1 << 26});
    Keystore keystore(*store);
    // The last two sets of shares may be valid, and only one of them is.
    int opened = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (!keystore.UnsealWith(candidates[i])) {
        keystore.seal.ResetUnseal().IgnoreError();
        continue;
      }
      ++opened;
      CHECK(i + 2 >= candidates.size());
      CHECK(keystore.HasContents());
      keystore.barrier.Seal();
      valid.clear();
      for (const SecretBytes& share : candidates[i]) valid.push_back(share.Copy());
    }
    CHECK(opened == 1);
  }
}

TEST_CASE("ceremonies, rotation, writes and sealing at once leave a keystore that opens") {
  TestFolder folder;
  auto store = *LmdbStore::Open({folder.path(), 1 << 28});
  Keystore keystore(*store);
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
    keystore.seal.CancelRekey().IgnoreError();
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
