// LmdbStore ("lmdb"): an LMDB environment and two commit logs in one folder. A thread takes what all
// have queued, writes it to a log, flushes once and answers everyone (group commit), while others do
// the same with what came meanwhile; another carries the log over to LMDB in the background,
// hundreds of commits at a time. Readers see LMDB's map under what isn't carried over yet.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
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
  // Calls `done`, in the order of the commits, on a committing thread, which serves everyone: be
  // quick.
  void Commit(std::unique_ptr<StoreTxn> txn, Done done) override;
  std::string_view type() const override { return "lmdb"; }

 private:
  class Snapshot;
  using Pending = PendingCommit;
  using Group = std::vector<Pending*>;
  // Commits that go to the disk together.
  struct Flight {
    std::vector<Pending> members;
    bool written = false;  // some of them are in the log
    std::uint64_t id = 0;  // the last commit that was written for it, or before it
  };
  using Flights = std::vector<std::unique_ptr<Flight>>;
  // What a thread flushes for: the flight itself may have landed with a later one before.
  struct Departure {
    CommitLog* log = nullptr;  // null: nothing was written
    std::size_t position = 0;
    std::uint64_t id = 0;
  };
  static constexpr std::size_t kCommitters = 4;
  // Of a log, at first. One that is full before it is time to carry it over gets larger: the more
  // is carried over together, the more entries share a page of LMDB.
  static constexpr std::size_t kLogCapacity = std::size_t{8} << 20;
  static constexpr std::size_t kMaxLogCapacity = std::size_t{32} << 20;

  LmdbStore(LmdbOptions options, std::unique_ptr<LmdbEnvironment> lmdb);

  absl::Status Recover();
  void ApplyForever();

  // lmdb_store_commit.cc
  void CommitForever(std::size_t committer);
  bool Depart(std::unique_ptr<Flight> flight);
  void AwaitTurnToFlush();
  void CarryOverIfDue();
  std::chrono::steady_clock::time_point CarryOverDue();
  void Prepare(Flight& flight);
  void Refuse(const Group& group, const absl::Status& why);
  absl::Status MakeRoom(Group* group);
  absl::Status WriteGroup(const Group& group);
  void WriteEach(const Group& group);
  void Land(std::size_t committer, const Departure& departure);
  Flights TakeLanded();
  void Publish(Flight& flight);
  absl::Status CheckRoom(const Group& group);
  absl::Status Fits(std::int64_t growth, bool exactly);
  std::uint64_t DiskFree(bool exactly);
  // Makes the other log the current one, once it is carried over; an error if that fails.
  absl::Status SwitchLogs();
  void WantLargerLogs();
  void GrowLog(CommitLog& log, std::size_t capacity);
  absl::Status AwaitApplied();

  const LmdbOptions options_;
  const std::unique_ptr<LmdbEnvironment> lmdb_;
  std::array<std::unique_ptr<CommitLog>, 2> logs_;

  // Held by the committing thread whose turn it is to take and write commits. Of what follows:
  std::mutex turn_;
  std::size_t current_ = 0;    // the log that is written to; changed under mutex_ too
  std::uint64_t written_ = 0;  // the last commit that was
  ConflictLog conflicts_;
  ConflictLog earlier_{SIZE_MAX};  // what earlier members of the group under way wrote
  std::uint64_t disk_free_ = 0;    // bytes, when it was asked for
  std::chrono::steady_clock::time_point disk_asked_;

  std::mutex flights_mutex_;  // of what follows
  std::deque<std::unique_ptr<Flight>> flights_;  // what was written and not answered, in its order
  std::size_t flushing_ = 0;                     // flights
  std::chrono::steady_clock::time_point departed_;  // the newest
  bool slow_disk_ = false;  // by the latest flush
  std::uint64_t durable_ = 0;                       // commits up to this one are
  absl::Status failed_;                             // why nothing can be committed any more
  std::condition_variable landed_;
  std::chrono::steady_clock::time_point active_since_;
  std::mutex answers_;  // held while answers are given; taken under flights_mutex_, so in order

  std::mutex mutex_;  // of what follows
  std::uint64_t last_commit_ = 0;
  std::shared_ptr<Memtable> active_;  // what the current log holds
  std::shared_ptr<Memtable> frozen_;  // what the other log holds; null once it is carried over
  std::size_t log_capacity_ = kLogCapacity;  // of a log once it has been carried over
  absl::Status apply_status_;         // of the last attempt to carry it over
  std::uint64_t attempt_ = 0;         // the newest of the attempts asked for that was made
  std::uint64_t attempt_wanted_ = 0;
  std::condition_variable applied_;
  std::condition_variable apply_wanted_;
  bool commits_ended_ = false;

  CommitQueue queue_;

  std::thread applier_;
  std::vector<std::thread> committers_;
};

}  // namespace coffer::keystore
