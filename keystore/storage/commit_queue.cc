#include "keystore/storage/commit_queue.h"

#include <utility>

namespace coffer::keystore {

void CommitQueue::Add(PendingCommit commit) {
  bool first;
  {
    std::lock_guard lock(mutex_);
    first = queue_.empty();
    queue_.push_back(std::move(commit));
  }
  if (first) wanted_.notify_one();
}

void CommitQueue::End() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  wanted_.notify_one();
}

bool CommitQueue::Take(Clock::time_point deadline, std::vector<PendingCommit>* taken) {
  std::unique_lock lock(mutex_);
  wanted_.wait_until(lock, deadline, [this] { return ended_ || !queue_.empty(); });
  taken->swap(queue_);
  return !ended_ || !taken->empty();
}

}  // namespace coffer::keystore
