// CommitQueue: commits that wait for the committing thread, which takes all of them at once. A flush
// costs many commits no more than one, so who is about to come is waited for, as long as that costs
// less than it saves.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "keystore/storage/buffered_txn.h"
#include "keystore/storage/store.h"
#include "keystore/storage/write_batch.h"

namespace coffer::keystore {

struct PendingCommit {
  Changes changes;  // what was read
  WriteBatch writes;
  Store::Done done;
  absl::Status status;
};

class CommitQueue {
 public:
  using Clock = std::chrono::steady_clock;

  // Safe on any thread.
  void Add(PendingCommit commit);
  // No more will be added; what is queued can still be taken.
  void End();

  // What follows is for the committing thread.

  // Waits for commits and takes all that there are into `taken`, which is empty: none, where none
  // came until `deadline`. False once the queue has ended and nothing is left.
  bool Take(Clock::time_point deadline, std::vector<PendingCommit>* taken);
  // `count` commits were answered after a flush that took `flush`. Whoever was answered may come
  // back soon, as clients do that send one request after the other.
  void Answered(std::size_t count, Clock::duration flush);

 private:
  std::size_t answered_ = 0;
  Clock::time_point patient_until_;

  std::mutex mutex_;  // of what follows
  std::condition_variable wanted_;
  std::vector<PendingCommit> queue_;
  std::size_t wake_at_ = 1;  // how many the committing thread waits for
  bool ended_ = false;
};

}  // namespace coffer::keystore
