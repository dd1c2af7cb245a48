// LmdbEnvironment: LMDB as the store needs it: a folder that is locked, snapshots to read, and sets
// of writes that go in whole.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "keystore/storage/memtable.h"

struct MDB_cursor;
struct MDB_env;
struct MDB_txn;

namespace coffer::keystore {

class LmdbEnvironment {
 public:
  // As LmdbStore::Open.
  static absl::StatusOr<std::unique_ptr<LmdbEnvironment>> Open(std::string folder,
                                                               std::uint64_t map_size);
  ~LmdbEnvironment();

  const std::string& folder() const { return folder_; }
  // The commit up to which everything was applied.
  absl::StatusOr<std::uint64_t> applied();

  // A snapshot to read, kept ready by the environment; to be given back.
  absl::StatusOr<MDB_txn*> BeginRead();
  void EndRead(MDB_txn* reader);

  // The view holds until the snapshot ends.
  absl::StatusOr<std::optional<std::string_view>> Get(MDB_txn* reader, std::string_view key);

  // Goes through a snapshot in byte order.
  class Cursor {
   public:
    ~Cursor();
    // At the first entry at or behind `key`, or at the end.
    absl::Status Seek(std::string_view key) { return Move(key, /*next=*/false); }
    absl::Status Next() { return Move({}, /*next=*/true); }
    bool at_end() const { return at_end_; }
    std::string_view key() const { return key_; }
    std::string_view value() const { return value_; }

   private:
    friend class LmdbEnvironment;
    absl::Status Move(std::string_view key, bool next);

    LmdbEnvironment* environment_ = nullptr;
    MDB_cursor* cursor_ = nullptr;
    bool at_end_ = true;
    std::string_view key_, value_;
  };
  absl::StatusOr<std::unique_ptr<Cursor>> Open(MDB_txn* reader);

  // Stores all of `writes`, and that commits up to its last are applied, or nothing; waits for the
  // disk. By one thread at a time.
  absl::Status Apply(const Memtable& writes);

  // Bytes of the file that are in use, at most. `exactly`: without the pages that were freed, which
  // takes longer to find out.
  absl::StatusOr<std::uint64_t> used(bool exactly);

  // What a code of LMDB's or of the system's means.
  absl::Status Error(std::string_view what, int code) const;

 private:
  LmdbEnvironment(std::string folder, std::uint64_t map_size, UniqueFd lock, MDB_env* env)
      : folder_(std::move(folder)), map_size_(map_size), lock_(std::move(lock)), env_(env) {}
  absl::Status OpenFile();

  const std::string folder_;
  const std::uint64_t map_size_;
  const UniqueFd lock_;
  MDB_env* const env_;
  unsigned entries_ = 0;  // LMDB's number of the tree
  std::mutex mutex_;      // of idle_
  std::vector<MDB_txn*> idle_;
};

}  // namespace coffer::keystore
