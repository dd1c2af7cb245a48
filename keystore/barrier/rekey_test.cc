// Rekey and generate-root.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keystore/barrier/keyring.h"
#include "keystore/barrier/test_seal.h"
#include "keystore/storage/fault_store.h"
#include "keystore/storage/lmdb_store.h"
#include "keystore/storage/test_folder.h"

namespace coffer::keystore {
namespace {

TEST_CASE("a rekey replaces the shares") {
  TestSealInMemory keystore;
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
  TestSealInMemory keystore;
  const Shares old = *keystore.Initialize();
  REQUIRE(keystore.UnsealWith(old));
  const std::string nonce = keystore.seal.StartRekey({2, 2}, false)->nonce;
  REQUIRE(keystore.seal.UpdateRekey(Text(old[0]), nonce).ok());
  REQUIRE(keystore.seal.CancelRekey(nonce).ok());
  CHECK(keystore.seal.CancelRekey("").ok());
  CHECK(keystore.seal.CancelRekey("another").ok());
  CHECK(Message(keystore.seal.UpdateRekey(Text(old[1]), nonce).status()) ==
        "no barrier rekey in progress");
  keystore.barrier.Seal();
  CHECK(keystore.UnsealWith(old));
}

TEST_CASE("with verification the new shares count once they were given back") {
  TestSealInMemory keystore;
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
    REQUIRE(keystore.seal.CancelRekey(rekey.nonce).ok());
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
  TestSealInMemory keystore;
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
  TestSealInMemory keystore;
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

TEST_CASE("a rekey whose commit fails leaves the old shares valid") {
  MemoryStore memory;
  FaultStore store(memory, 3);
  TestSeal keystore(store);
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

// A process that rekeys without end, telling its newest shares before and after each switch, and
// dies at any point.
TEST_CASE("kill -9 during rekeys leaves exactly the old or exactly the new shares") {
  TestFolder folder;
  Shares valid;
  {
    auto store = *LmdbStore::Open({folder.path(), 1 << 26});
    TestSeal keystore(*store);
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
      TestSeal keystore(**store);
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
    TestSeal keystore(*store);
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

}  // namespace
}  // namespace coffer::keystore
