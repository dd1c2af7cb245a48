#include "keystore/storage/commit_queue.h"

#include <algorithm>

namespace coffer::keystore {
namespace {

// Those who were answered are back after some hundreds of microseconds: a flush that takes no longer
// is better begun at once.
constexpr std::chrono::microseconds kQuickFlush(800);
// The longest that a commit waits for others.
constexpr std::chrono::milliseconds kMostPatience(5);

}  // namespace

void CommitQueue::Add(PendingCommit commit) {
  bool enough;
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(commit));
    enough = queue_.size() == wake_at_;
  }
  if (enough) wanted_.notify_one();
}

void CommitQueue::End() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  wanted_.notify_one();
}

bool CommitQueue::Take(Clock::time_point deadline, std::vector<PendingCommit>* taken) {
  const auto wait_for = [this](std::unique_lock<std::mutex>& lock, std::size_t count,
                               Clock::time_point until) {
    wake_at_ = count;
    wanted_.wait_until(lock, until, [&] { return ended_ || queue_.size() >= count; });
  };
  std::unique_lock lock(mutex_);
  if (answered_ > 0) wait_for(lock, queue_.size() + answered_, patient_until_);
  wait_for(lock, 1, deadline);
  taken->swap(queue_);
  return !ended_ || !taken->empty();
}

void CommitQueue::Answered(std::size_t count, Clock::duration flush) {
  answered_ = flush > kQuickFlush ? count : 0;
  patient_until_ = Clock::now() + std::min<Clock::duration>(flush / 2, kMostPatience);
}

}  // namespace coffer::keystore
