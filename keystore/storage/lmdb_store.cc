#include "keystore/storage/lmdb_store.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/storage/lmdb_check.h"

namespace coffer::keystore {
namespace {

constexpr unsigned kMaxReaders = 4096;
constexpr std::size_t kMaxIdleReaders = 64;
// The part of the map that only commits that don't grow the store may use: LMDB copies what it
// changes, so that even deleting needs room.
constexpr std::uint64_t kReservedPart = 8;
constexpr MDB_dbi kFreeTree = 0;

MDB_val ToVal(std::string_view bytes) {
  return {bytes.size(), const_cast<char*>(bytes.data())};  // NOLINT: LMDB only reads it
}

std::string_view ToView(const MDB_val& value) {
  return {static_cast<const char*>(value.mv_data), value.mv_size};
}

absl::Status SystemError(std::string_view what, std::string_view path) {
  const int error = errno;
  const std::string message = StrCat("storage: ", what, " ", path, ": ", std::strerror(error));
  if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(message);
  if (error == ENOSPC || error == EDQUOT) return absl::ResourceExhaustedError(message);
  return absl::UnavailableError(message);
}

// Makes the folder and those above it, and has the new names written to the disk.
absl::Status MakeFolder(const std::string& path) {
  std::filesystem::path made;
  for (const auto& part : std::filesystem::path(path)) {
    made /= part;
    if (part.empty() || mkdir(made.c_str(), 0700) != 0) {
      if (!part.empty() && errno != EEXIST)
        return SystemError("can't make the folder", made.native());
      continue;
    }
    const auto parent = made.has_parent_path() ? made.parent_path() : std::filesystem::path(".");
    const UniqueFd fd(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || fsync(fd.get()) != 0) return SystemError("can't flush", parent.native());
  }
  return absl::OkStatus();
}

// One process at a time: its caches and conflict log know nothing of another's commits.
absl::StatusOr<UniqueFd> LockFolder(const std::string& folder) {
  const std::string path = folder + "/coffer.lock";
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return SystemError("can't open", path);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return SystemError("can't lock", path);
    char owner[32] = {};
    const ssize_t size = pread(fd.get(), owner, sizeof(owner) - 1, 0);
    return absl::FailedPreconditionError(
        StrCat("storage: another keystore (process ", size > 0 ? owner : "unknown", ") has ",
               folder, " open; stop it, or give this one a folder of its own"));
  }
  const std::string pid = StrCat(getpid());
  if (ftruncate(fd.get(), 0) != 0 || pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) {
    return SystemError("can't write", path);
  }
  return fd;
}

// Pages within the file that hold nothing. LMDB shows the tree of them to read transactions only.
std::size_t FreePages(MDB_txn* reader) {
  MDB_cursor* cursor = nullptr;
  if (mdb_cursor_open(reader, kFreeTree, &cursor) != 0) return 0;
  std::size_t free = 0;
  MDB_val commit;
  MDB_val pages;  // their count, then their numbers
  while (mdb_cursor_get(cursor, &commit, &pages, MDB_NEXT) == 0) {
    std::size_t count;
    std::memcpy(&count, pages.mv_data, sizeof(count));
    free += count;
  }
  mdb_cursor_close(cursor);
  return free;
}

}  // namespace

// A read transaction of LMDB under the buffered writes.
class LmdbStore::Snapshot : public BufferedTxn {
 public:
  Snapshot(LmdbStore& store, MDB_txn* reader)
      : BufferedTxn(mdb_txn_id(reader)), store_(store), reader_(reader) {}
  ~Snapshot() override { store_.ReturnReader(reader_); }

 protected:
  absl::StatusOr<std::optional<std::string_view>> Read(std::string_view key) override {
    MDB_val key_val = ToVal(key);
    MDB_val value;
    const int code = mdb_get(reader_, store_.dbi_, &key_val, &value);
    if (code == MDB_NOTFOUND) return std::optional<std::string_view>();
    if (code != 0) return store_.Error("can't read an entry", code);
    return std::optional<std::string_view>(ToView(value));
  }

  absl::Status Walk(std::string_view begin, Visit visit) override {
    MDB_cursor* opened = nullptr;
    if (const int code = mdb_cursor_open(reader_, store_.dbi_, &opened); code != 0) {
      return store_.Error("can't list entries", code);
    }
    const std::unique_ptr<MDB_cursor, decltype(&mdb_cursor_close)> cursor(opened, mdb_cursor_close);
    MDB_val key = ToVal(begin);
    MDB_val value;
    int code = mdb_cursor_get(opened, &key, &value, begin.empty() ? MDB_FIRST : MDB_SET_RANGE);
    while (code == 0 && visit(ToView(key), ToView(value))) {
      code = mdb_cursor_get(opened, &key, &value, MDB_NEXT);
    }
    if (code != 0 && code != MDB_NOTFOUND) return store_.Error("can't list entries", code);
    return absl::OkStatus();
  }

 private:
  LmdbStore& store_;
  MDB_txn* const reader_;
};

void LmdbStore::EnvCloser::operator()(MDB_env* env) const { mdb_env_close(env); }

absl::StatusOr<std::unique_ptr<LmdbStore>> LmdbStore::Open(const LmdbOptions& options) {
  const std::string& path = options.path;
  if (path.empty()) return absl::InvalidArgumentError("storage: lmdb needs a path");
  RETURN_IF_ERROR(MakeFolder(path));
  ASSIGN_OR_RETURN(UniqueFd lock, LockFolder(path));
  RETURN_IF_ERROR(CheckLmdbFile(path + "/data.mdb"));

  MDB_env* made = nullptr;
  if (mdb_env_create(&made) != 0) return absl::ResourceExhaustedError("storage: out of memory");
  std::unique_ptr<MDB_env, EnvCloser> env(made);
  const auto failed = [&](int code) {
    return absl::UnavailableError(
        StrCat("storage: can't open LMDB in ", path, ": ", mdb_strerror(code)));
  };
  // Scattered keys: reading ahead would only fill memory.
  const unsigned flags = MDB_NOTLS | MDB_NORDAHEAD;
  int code = mdb_env_set_mapsize(made, options.map_size);
  if (code == 0) code = mdb_env_set_maxreaders(made, kMaxReaders);
  if (code == 0) code = mdb_env_open(made, path.c_str(), flags, 0600);
  if (code != 0) return failed(code);
  MDB_txn* txn = nullptr;
  MDB_dbi dbi = 0;
  code = mdb_txn_begin(made, nullptr, 0, &txn);
  if (code != 0) return failed(code);
  code = mdb_dbi_open(txn, nullptr, 0, &dbi);
  if (code != 0) {
    mdb_txn_abort(txn);
    return failed(code);
  }
  if (code = mdb_txn_commit(txn); code != 0) return failed(code);
  const UniqueFd folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || fsync(folder.get()) != 0) return SystemError("can't flush", path);
  return std::unique_ptr<LmdbStore>(new LmdbStore(options, std::move(lock), std::move(env), dbi));
}

LmdbStore::LmdbStore(LmdbOptions options, UniqueFd lock, std::unique_ptr<MDB_env, EnvCloser> env,
                     unsigned dbi)
    : options_(std::move(options)),
      lock_(std::move(lock)),
      env_(std::move(env)),
      dbi_(dbi),
      committer_([this] { CommitForever(); }) {}

LmdbStore::~LmdbStore() {
  {
    std::lock_guard lock(queue_mutex_);
    ending_ = true;
  }
  queued_.notify_one();
  committer_.join();
  for (MDB_txn* reader : idle_readers_) mdb_txn_abort(reader);
}

absl::StatusOr<std::unique_ptr<StoreTxn>> LmdbStore::Begin() {
  MDB_txn* reader = nullptr;
  {
    std::lock_guard lock(readers_mutex_);
    if (!idle_readers_.empty()) {
      reader = idle_readers_.back();
      idle_readers_.pop_back();
    }
  }
  const int code = reader != nullptr ? mdb_txn_renew(reader)
                                     : mdb_txn_begin(env_.get(), nullptr, MDB_RDONLY, &reader);
  if (code != 0) {
    if (reader != nullptr) mdb_txn_abort(reader);
    return Error("can't begin a transaction", code);
  }
  return std::make_unique<Snapshot>(*this, reader);
}

void LmdbStore::ReturnReader(MDB_txn* reader) {
  mdb_txn_reset(reader);
  {
    std::lock_guard lock(readers_mutex_);
    if (idle_readers_.size() < kMaxIdleReaders) {
      idle_readers_.push_back(reader);
      return;
    }
  }
  mdb_txn_abort(reader);
}

void LmdbStore::Commit(std::unique_ptr<StoreTxn> txn, Done done) {
  Changes changes = static_cast<BufferedTxn&&>(*txn).TakeChanges();
  txn.reset();  // gives the snapshot up: LMDB can't reuse pages that one can still see
  if (!changes.status.ok() || changes.writes.empty()) return done(std::move(changes.status));
  bool was_empty;
  {
    std::lock_guard lock(queue_mutex_);
    was_empty = queue_.empty();
    queue_.push_back({std::move(changes), std::move(done), absl::OkStatus()});
  }
  if (was_empty) queued_.notify_one();
}

void LmdbStore::CommitForever() {
  std::vector<Pending> taken;
  std::vector<Pending*> group;
  for (;;) {
    {
      std::unique_lock lock(queue_mutex_);
      queued_.wait(lock, [&] { return !queue_.empty() || ending_; });
      if (queue_.empty()) return;
      taken.swap(queue_);
    }
    group.clear();
    for (Pending& pending : taken) group.push_back(&pending);
    CommitGroup(group);
    for (Pending& pending : taken) pending.done(std::move(pending.status));
    taken.clear();
  }
}

// Settles the status of each commit of the group.
void LmdbStore::CommitGroup(std::vector<Pending*> group) {
  std::optional<ConflictLog> earlier;  // what members of the group wrote
  if (group.size() > 1) earlier.emplace(SIZE_MAX);
  std::erase_if(group, [&](Pending* member) {
    if (log_.Conflicts(member->changes) || (earlier && earlier->Conflicts(member->changes))) {
      member->status = Conflict();
      return true;
    }
    if (earlier) earlier->Add(UINT64_MAX, member->changes.writes);
    return false;
  });
  if (group.empty()) return;

  std::uint64_t id = 0;
  const absl::Status status = Apply(group, &id);
  if (status.ok()) {
    for (Pending* member : group) log_.Add(id, member->changes.writes);
  } else if (group.size() > 1 && absl::IsResourceExhausted(status)) {
    // One may be too large where the others fit.
    for (Pending* member : group) CommitGroup({member});
  } else {
    for (Pending* member : group) member->status = status;
  }
}

// Stores all of the group or nothing; `id` is the commit's number as snapshots count.
absl::Status LmdbStore::Apply(const std::vector<Pending*>& group, std::uint64_t* id) {
  MDB_txn* txn = nullptr;
  int code = mdb_txn_begin(env_.get(), nullptr, 0, &txn);
  if (code != 0) return Error("can't begin a commit", code);
  *id = mdb_txn_id(txn);
  absl::Status status = CheckRoom(txn, group);
  for (auto member = group.begin(); status.ok() && member != group.end(); ++member) {
    status = ApplyOne(txn, (*member)->changes);
  }
  if (!status.ok()) {
    mdb_txn_abort(txn);
    return status;
  }
  code = mdb_txn_commit(txn);
  if (code != 0) return Error("can't commit", code);
  return absl::OkStatus();
}

// ResourceExhausted where the group would grow the store into the reserved part of its map.
absl::Status LmdbStore::CheckRoom(MDB_txn* txn, const std::vector<Pending*>& group) const {
  MDB_envinfo info;
  MDB_stat stat;
  mdb_env_info(env_.get(), &info);
  mdb_env_stat(env_.get(), &stat);
  const std::int64_t page_size = stat.ms_psize;
  const std::int64_t limit = options_.map_size - options_.map_size / kReservedPart;
  std::int64_t used = (static_cast<std::int64_t>(info.me_last_pgno) + 1) * page_size;
  std::int64_t growth = 0;
  for (const Pending* member : group) {
    for (const auto& [key, value] : member->changes.writes) {
      if (value) growth += key.size() + value->size();
    }
  }
  if (used + growth <= limit) return absl::OkStatus();

  // Near the limit it is worth looking closer: at pages within the file that are free, and at what
  // the writes replace.
  MDB_txn* reader = nullptr;
  if (const int code = mdb_txn_begin(env_.get(), nullptr, MDB_RDONLY, &reader); code != 0) {
    return Error("can't begin a commit", code);
  }
  used -= static_cast<std::int64_t>(FreePages(reader)) * page_size;
  mdb_txn_abort(reader);
  for (const Pending* member : group) {
    for (const auto& [key, value] : member->changes.writes) {
      MDB_val key_val = ToVal(key);
      MDB_val replaced;
      if (mdb_get(txn, dbi_, &key_val, &replaced) == 0) growth -= key.size() + replaced.mv_size;
    }
  }
  if (growth <= 0 || used + growth <= limit) return absl::OkStatus();
  return Error("can't commit", MDB_MAP_FULL);
}

absl::Status LmdbStore::ApplyOne(MDB_txn* txn, const Changes& changes) {
  for (const auto& [key, value] : changes.writes) {
    MDB_val key_val = ToVal(key);
    int code;
    if (value) {
      MDB_val value_val = ToVal(*value);
      code = mdb_put(txn, dbi_, &key_val, &value_val, 0);
    } else {
      code = mdb_del(txn, dbi_, &key_val, nullptr);
      if (code == MDB_NOTFOUND) code = 0;
    }
    if (code != 0) return Error("can't write an entry", code);
  }
  return absl::OkStatus();
}

absl::Status LmdbStore::Error(std::string_view what, int code) const {
  const auto message = [&](std::string_view why) {
    return StrCat("storage: ", what, " in ", options_.path, ": ", why);
  };
  struct statvfs disk;
  switch (code) {
    case MDB_MAP_FULL:
      return absl::ResourceExhaustedError(
          message(StrCat("full: the limit of ", options_.map_size,
                         " bytes is reached; delete secrets, or raise map_size")));
    case MDB_TXN_FULL:
      return absl::ResourceExhaustedError(message("too much for one transaction"));
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(message("the disk is full"));
    case EIO:  // also what LMDB makes of a write that was cut short
      if (statvfs(options_.path.c_str(), &disk) == 0 && disk.f_bavail == 0) {
        return absl::ResourceExhaustedError(message("the disk is full"));
      }
      return absl::UnavailableError(message("the disk failed"));
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
      return absl::DataLossError(message("the data file is damaged; restore a backup"));
    case MDB_PANIC:
      return absl::UnavailableError(message("an earlier write failed for good; start again"));
    default:
      return absl::UnavailableError(message(mdb_strerror(code)));
  }
}

}  // namespace coffer::keystore
