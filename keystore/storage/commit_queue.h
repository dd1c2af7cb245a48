// CommitQueue: commits that wait to be written, which are taken all at once.
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
  absl::Status status;   // why it isn't stored
  std::uint64_t id = 0;  // of the commit that it was written as
};

class CommitQueue {
 public:
  using Clock = std::chrono::steady_clock;

  // Safe on any thread.
  void Add(PendingCommit commit);
  // No more will be added; what is queued can still be taken.
  void End();

  // Waits for commits and takes all that there are into `taken`, which is empty: none, where none
  // came until `deadline`. False once the queue has ended and nothing is left. By one thread at a
  // time.
  bool Take(Clock::time_point deadline, std::vector<PendingCommit>* taken);

 private:
  std::mutex mutex_;  // of what follows
  std::condition_variable wanted_;
  std::vector<PendingCommit> queue_;
  bool ended_ = false;
};

}  // namespace coffer::keystore
