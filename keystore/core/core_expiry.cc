// What ends tokens without being asked by a request: their TTLs, and revocations of many at once,
// which take more than one transaction.
#include <algorithm>
#include <chrono>

#include "common/log.h"
#include "common/status_macros.h"
#include "keystore/core/core.h"

namespace coffer::keystore {
namespace {

constexpr std::size_t kAtOnce = 256;

}  // namespace

void Core::StartExpiry() {
  expiry_ = std::thread([this] { ExpireForever(); });
}

void Core::ExpireForever() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    lock.unlock();
    if (!barrier_.sealed()) {
      const absl::Status expired = ExpireNow();
      if (!expired.ok() && !absl::IsAborted(expired) && !barrier_.sealed()) {
        log::Warning("expired tokens weren't revoked; they are refused all the same",
                     {{"error", expired}});
      }
      const absl::Status revoked = RevokeNoted();
      if (!revoked.ok() && !absl::IsAborted(revoked) && !barrier_.sealed()) {
        log::Error("tokens that are to be revoked weren't, and are tried again", {{"error", revoked}});
      }
    }
    lock.lock();
    changed_.wait_for(lock, std::chrono::seconds(1), [this] { return ending_; });
  }
}

absl::Status Core::ExpireNow() {
  for (std::size_t revoked = kAtOnce; revoked == kAtOnce;) {
    ASSIGN_OR_RETURN(std::unique_ptr<BarrierTxn> txn, barrier_.Begin());
    Txn root = txn->root();
    ASSIGN_OR_RETURN(revoked, tokens_.RevokeExpired(root, kAtOnce));
    if (!txn->read_only()) RETURN_IF_ERROR(CommitAndWait(barrier_, std::move(txn)));
  }
  return absl::OkStatus();
}

// The note goes last, so that whoever comes after a crash begins again.
absl::Status Core::RevokeNoted() {
  std::lock_guard lock(revoking_);
  ASSIGN_OR_RETURN(const std::unique_ptr<BarrierTxn> snapshot, barrier_.Begin());
  Txn now = snapshot->root();
  ASSIGN_OR_RETURN(const std::vector<TokenStore::Noted> noted, tokens_.ToRevoke(now));
  for (const TokenStore::Noted& note : noted) {
    ASSIGN_OR_RETURN(const std::vector<std::string> hashes, tokens_.HashesBelow(now, note.prefix));
    for (std::size_t done = 0; done < hashes.size(); done += kAtOnce) {
      RETURN_IF_ERROR(Write([&](Txn& root) -> absl::Status {
        for (std::size_t i = done; i < std::min(done + kAtOnce, hashes.size()); ++i) {
          RETURN_IF_ERROR(tokens_.Revoke(root, hashes[i]));
        }
        return absl::OkStatus();
      }));
    }
    RETURN_IF_ERROR(Write([&](Txn& root) { return tokens_.Forget(root, note); }));
    if (hashes.empty()) continue;
    log::Info("tokens revoked", {{"below", note.prefix}, {"tokens", hashes.size()}});
  }
  return absl::OkStatus();
}

absl::Status Core::Write(const std::function<absl::Status(Txn&)>& work) {
  absl::Status written = absl::AbortedError("");
  for (int attempt = 0; attempt < kAttempts && absl::IsAborted(written); ++attempt) {
    ASSIGN_OR_RETURN(std::unique_ptr<BarrierTxn> txn, barrier_.Begin());
    Txn root = txn->root();
    RETURN_IF_ERROR(work(root));
    written = CommitAndWait(barrier_, std::move(txn));
  }
  return written;
}

}  // namespace coffer::keystore
