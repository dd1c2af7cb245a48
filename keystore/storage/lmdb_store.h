// LmdbStore ("lmdb"): one LMDB environment in a folder. Readers share its map; one thread commits
// what all of them queued meanwhile, with one flush to the disk for the whole group.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/unique_fd.h"
#include "keystore/storage/conflict_log.h"
#include "keystore/storage/store.h"

struct MDB_env;
struct MDB_txn;

namespace coffer::keystore {

struct LmdbOptions {
  std::string path;  // the folder; made with mode 0700 if it isn't there
  // The most that the data file may grow to, in bytes; an eighth of it is kept for deleting. Costs
  // address space, not memory or disk.
  std::uint64_t map_size = std::uint64_t{64} << 30;
};

class LmdbStore : public Store {
 public:
  // FailedPrecondition: another process has the folder open. DataLoss: the data file is torn or
  // isn't one. PermissionDenied, Unavailable: the folder can't be used. Messages name the folder.
  static absl::StatusOr<std::unique_ptr<LmdbStore>> Open(const LmdbOptions& options);
  // All transactions have ended. Commits under way are finished first.
  ~LmdbStore() override;

  absl::StatusOr<std::unique_ptr<StoreTxn>> Begin() override;
  // Calls `done` on the committing thread, which serves everyone: be quick.
  void Commit(std::unique_ptr<StoreTxn> txn, Done done) override;
  std::string_view type() const override { return "lmdb"; }

 private:
  class Snapshot;
  struct Pending {
    Changes changes;
    Done done;
    absl::Status status;
  };
  struct EnvCloser {
    void operator()(MDB_env* env) const;
  };

  LmdbStore(LmdbOptions options, UniqueFd lock, std::unique_ptr<MDB_env, EnvCloser> env,
            unsigned dbi);

  void CommitForever();
  void CommitGroup(std::vector<Pending*> group);
  absl::Status Apply(const std::vector<Pending*>& group, std::uint64_t* id);
  absl::Status CheckRoom(MDB_txn* txn, const std::vector<Pending*>& group) const;
  absl::Status ApplyOne(MDB_txn* txn, const Changes& changes);
  absl::Status Error(std::string_view what, int code) const;
  void ReturnReader(MDB_txn* reader);

  const LmdbOptions options_;
  const UniqueFd lock_;
  const std::unique_ptr<MDB_env, EnvCloser> env_;
  const unsigned dbi_;
  ConflictLog log_;  // of the committing thread

  std::mutex readers_mutex_;
  std::vector<MDB_txn*> idle_readers_;  // reset, ready to be renewed

  std::mutex queue_mutex_;
  std::condition_variable queued_;
  std::vector<Pending> queue_;
  bool ending_ = false;
  std::thread committer_;  // last: ends first
};

}  // namespace coffer::keystore
