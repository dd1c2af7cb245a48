// LmdbStore ("lmdb"): an LMDB environment and two commit logs in one folder. One thread takes what
// all of them have queued, writes it to a log, flushes once and answers everyone (group commit);
// another carries it over to LMDB in the background, hundreds of commits at a time. Readers see
// LMDB's map under what isn't carried over yet.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "keystore/storage/commit_log.h"
#include "keystore/storage/commit_queue.h"
#include "keystore/storage/conflict_log.h"
#include "keystore/storage/lmdb_environment.h"
#include "keystore/storage/memtable.h"
#include "keystore/storage/store.h"

namespace coffer::keystore {

struct LmdbOptions {
  std::string path;  // the folder; made with mode 0700 if it isn't there
  // How large the data may grow, in bytes; commits that make it larger are refused then, those that
  // don't aren't. The file may get a fourth larger, as LMDB copies what it changes. Costs address
  // space, not memory or disk.
  std::uint64_t map_size = std::uint64_t{64} << 30;
};

class LmdbStore : public Store {
 public:
  // FailedPrecondition: another process has the folder open. DataLoss: a file in it is torn or
  // isn't what it should be. PermissionDenied, Unavailable, ResourceExhausted: the folder can't be
  // used. Messages name the folder.
  static absl::StatusOr<std::unique_ptr<LmdbStore>> Open(const LmdbOptions& options);
  // All transactions have ended. Commits under way are finished first.
  ~LmdbStore() override;

  absl::StatusOr<std::unique_ptr<StoreTxn>> Begin() override;
  // Calls `done` on the committing thread, which serves everyone: be quick.
  void Commit(std::unique_ptr<StoreTxn> txn, Done done) override;
  std::string_view type() const override { return "lmdb"; }

 private:
  class Snapshot;
  using Pending = PendingCommit;
  using Group = std::vector<Pending*>;

  LmdbStore(LmdbOptions options, std::unique_ptr<LmdbEnvironment> lmdb);

  absl::Status Recover();
  void CommitForever();
  void CommitGroup(Group group);
  absl::Status WriteGroup(const Group& group);
  absl::Status CheckRoom(const Group& group);
  absl::Status Fits(std::int64_t growth, bool exactly);
  std::uint64_t DiskFree(bool exactly);
  // Makes the other log the current one, once it is carried over; an error if that fails.
  absl::Status SwitchLogs();
  absl::Status AwaitApplied();
  void ApplyForever();

  const LmdbOptions options_;
  const std::unique_ptr<LmdbEnvironment> lmdb_;
  std::array<std::unique_ptr<CommitLog>, 2> logs_;

  // Of the committing thread.
  std::size_t current_ = 0;  // the log that is written to
  ConflictLog conflicts_;
  ConflictLog earlier_{SIZE_MAX};  // what earlier members of the group under way wrote
  absl::Status failed_;  // why nothing can be committed any more
  std::chrono::steady_clock::time_point active_since_;
  std::chrono::steady_clock::duration flush_{};  // how long the last one took
  std::uint64_t disk_free_ = 0;                  // bytes, when it was asked for
  std::chrono::steady_clock::time_point disk_asked_;

  std::mutex mutex_;  // of what follows
  std::uint64_t last_commit_ = 0;
  std::shared_ptr<Memtable> active_;  // what the current log holds
  std::shared_ptr<Memtable> frozen_;  // what the other log holds; null once it is carried over
  absl::Status apply_status_;         // of the last attempt to carry it over
  std::uint64_t attempt_ = 0;         // the newest of the attempts asked for that was made
  std::uint64_t attempt_wanted_ = 0;
  std::condition_variable applied_;
  std::condition_variable apply_wanted_;
  bool commits_ended_ = false;

  CommitQueue queue_;

  std::thread applier_;
  std::thread committer_;
};

}  // namespace coffer::keystore
