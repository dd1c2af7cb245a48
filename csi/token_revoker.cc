#include "csi/token_revoker.h"

#include <algorithm>

#include "common/log.h"

namespace coffer::csi {
namespace {

using std::chrono::steady_clock;

constexpr absl::Duration kAttempt = absl::Seconds(3);
constexpr absl::Duration kFirstPause = absl::Seconds(1);
constexpr absl::Duration kLongestPause = absl::Minutes(1);

}  // namespace

TokenRevoker::TokenRevoker(const Clock& clock, provider::Provider& provider, Handover* handover)
    : clock_(clock), provider_(provider), handover_(handover), thread_([this] { Run(); }) {}

TokenRevoker::~TokenRevoker() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void TokenRevoker::Revoke(provider::SessionPtr session, Handover::Id document) {
  if (session == nullptr || !provider::HoldsToken(*session)) {
    if (handover_ != nullptr) handover_->Drop(document);
    return;
  }
  std::lock_guard lock(mutex_);
  pending_.push_back({std::move(session), document, steady_clock::now(), kFirstPause});
  changed_.notify_all();
}

bool TokenRevoker::Drain(absl::Time deadline) {
  std::unique_lock lock(mutex_);
  for (Pending& pending : pending_) pending.due = steady_clock::now();
  changed_.notify_all();
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(deadline - clock_.Now()),
                           [this] { return pending_.empty(); });
}

void TokenRevoker::Keep(Pending& pending) {
  if (handover_ == nullptr) return;
  VolumeState state;
  state.session = std::move(pending.session);
  pending.document = handover_->Put(0, "", state);
  pending.session = std::move(state.session);
}

void TokenRevoker::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const auto next =
        std::min_element(pending_.begin(), pending_.end(),
                         [](const Pending& a, const Pending& b) { return a.due < b.due; });
    if (next == pending_.end()) {
      changed_.wait(lock);
      continue;
    }
    if (next->due > steady_clock::now()) {
      changed_.wait_until(lock, next->due);
      continue;
    }
    lock.unlock();  // a list's entries stay where they are, and only this thread removes any
    const absl::Status revoked = provider_.Revoke(*next->session, clock_.Now() + kAttempt);
    if (revoked.ok()) {
      if (handover_ != nullptr) handover_->Drop(next->document);
    } else {
      log::Debug("token not revoked yet", {{"error", revoked}});
      if (next->document == 0) Keep(*next);
    }
    lock.lock();
    if (revoked.ok()) {
      pending_.erase(next);
      changed_.notify_all();
    } else {
      next->due = steady_clock::now() + absl::ToChronoNanoseconds(next->pause);
      next->pause = std::min(next->pause * 2, kLongestPause);
    }
  }
}

}  // namespace coffer::csi
