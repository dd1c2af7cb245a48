#include "keystore/storage/lmdb_environment.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/storage/lmdb_check.h"

namespace coffer::keystore {
namespace {

constexpr unsigned kMaxReaders = 4096;
constexpr std::size_t kMaxIdleReaders = 64;
constexpr MDB_dbi kFreeTree = 0;
// Where the number of the last applied commit stands. Longer than any key may be, and LMDB's
// longest.
const std::string kAppliedKey(kMaxKeySize + 1, '\xff');

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
    if (part.empty()) continue;
    if (mkdir(made.c_str(), 0700) != 0) {
      if (errno == EEXIST) continue;
      return SystemError("can't make the folder", made.native());
    }
    const auto parent = made.has_parent_path() ? made.parent_path() : std::filesystem::path(".");
    const UniqueFd fd(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || fsync(fd.get()) != 0) return SystemError("can't flush", parent.native());
  }
  return absl::OkStatus();
}

// One process at a time: what one holds in memory another knows nothing of.
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
  // Only for the message above, so a disk that is too full for it does no harm.
  if (ftruncate(fd.get(), 0) == 0) (void)!pwrite(fd.get(), pid.data(), pid.size(), 0);
  return fd;
}

std::uint64_t FreePages(MDB_cursor* free_tree) {
  std::uint64_t free = 0;
  MDB_val commit;
  MDB_val pages;  // their count, then their numbers
  while (mdb_cursor_get(free_tree, &commit, &pages, MDB_NEXT) == 0) {
    std::size_t count;
    std::memcpy(&count, pages.mv_data, sizeof(count));
    free += count;
  }
  return free;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LmdbEnvironment>> LmdbEnvironment::Open(std::string folder,
                                                                       std::uint64_t map_size) {
  if (folder.empty()) return absl::InvalidArgumentError("storage: lmdb needs a path");
  RETURN_IF_ERROR(MakeFolder(folder));
  ASSIGN_OR_RETURN(UniqueFd lock, LockFolder(folder));
  RETURN_IF_ERROR(CheckLmdbFile(folder + "/data.mdb"));
  MDB_env* env = nullptr;
  if (mdb_env_create(&env) != 0) return absl::ResourceExhaustedError("storage: out of memory");
  std::unique_ptr<LmdbEnvironment> environment(
      new LmdbEnvironment(std::move(folder), map_size, std::move(lock), env));
  RETURN_IF_ERROR(environment->OpenFile());
  return environment;
}

absl::Status LmdbEnvironment::OpenFile() {
  // Scattered keys: reading ahead would only fill memory.
  const unsigned flags = MDB_NOTLS | MDB_NORDAHEAD;
  int code = mdb_env_set_mapsize(env_, map_size_);
  if (code == 0) code = mdb_env_set_maxreaders(env_, kMaxReaders);
  if (code == 0) code = mdb_env_open(env_, folder_.c_str(), flags, 0600);
  MDB_txn* txn = nullptr;
  if (code == 0) code = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &txn);
  if (code == 0) {
    code = mdb_dbi_open(txn, nullptr, 0, &entries_);
    mdb_txn_abort(txn);
  }
  if (code != 0) return Error("can't open LMDB", code);
  const UniqueFd fd(open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || fsync(fd.get()) != 0) return SystemError("can't flush", folder_);
  return absl::OkStatus();
}

LmdbEnvironment::~LmdbEnvironment() {
  for (MDB_txn* reader : idle_) mdb_txn_abort(reader);
  mdb_env_close(env_);
}

absl::StatusOr<std::uint64_t> LmdbEnvironment::applied() {
  ASSIGN_OR_RETURN(MDB_txn* const reader, BeginRead());
  const auto stored = Get(reader, kAppliedKey);
  std::uint64_t id = 0;
  const bool sound = stored.ok() && (!*stored || (*stored)->size() == sizeof(id));
  if (sound && *stored) std::memcpy(&id, (*stored)->data(), sizeof(id));
  EndRead(reader);
  if (!stored.ok()) return stored.status();
  if (!sound) return Error("can't open LMDB", MDB_CORRUPTED);
  return id;
}

absl::StatusOr<MDB_txn*> LmdbEnvironment::BeginRead() {
  MDB_txn* reader = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      reader = idle_.back();
      idle_.pop_back();
    }
  }
  const bool kept = reader != nullptr;
  const int code = kept ? mdb_txn_renew(reader) : mdb_txn_begin(env_, nullptr, MDB_RDONLY, &reader);
  if (code == 0) return reader;
  if (kept) mdb_txn_abort(reader);
  return Error("can't begin a transaction", code);
}

void LmdbEnvironment::EndRead(MDB_txn* reader) {
  mdb_txn_reset(reader);
  {
    std::lock_guard lock(mutex_);
    if (idle_.size() < kMaxIdleReaders) {
      idle_.push_back(reader);
      return;
    }
  }
  mdb_txn_abort(reader);
}

absl::StatusOr<std::optional<std::string_view>> LmdbEnvironment::Get(MDB_txn* reader,
                                                                     std::string_view key) {
  MDB_val key_val = ToVal(key);
  MDB_val value;
  const int code = mdb_get(reader, entries_, &key_val, &value);
  if (code == MDB_NOTFOUND) return std::optional<std::string_view>();
  if (code != 0) return Error("can't read an entry", code);
  return std::optional<std::string_view>(ToView(value));
}

absl::StatusOr<std::unique_ptr<LmdbEnvironment::Cursor>> LmdbEnvironment::Open(MDB_txn* reader) {
  auto cursor = std::make_unique<Cursor>();
  cursor->environment_ = this;
  const int code = mdb_cursor_open(reader, entries_, &cursor->cursor_);
  if (code != 0) return Error("can't list entries", code);
  return cursor;
}

LmdbEnvironment::Cursor::~Cursor() {
  if (cursor_ != nullptr) mdb_cursor_close(cursor_);
}

absl::Status LmdbEnvironment::Cursor::Move(std::string_view key, bool next) {
  MDB_val key_val = ToVal(key);
  MDB_val value;
  const MDB_cursor_op first = key.empty() ? MDB_FIRST : MDB_SET_RANGE;
  const int code = mdb_cursor_get(cursor_, &key_val, &value, next ? MDB_NEXT : first);
  if (code != 0 && code != MDB_NOTFOUND) return environment_->Error("can't list entries", code);
  // kAppliedKey is behind all others.
  at_end_ = code == MDB_NOTFOUND || key_val.mv_size > kMaxKeySize;
  if (at_end_) return absl::OkStatus();
  key_ = ToView(key_val);
  value_ = ToView(value);
  return absl::OkStatus();
}

absl::Status LmdbEnvironment::Apply(const Memtable& writes) {
  MDB_txn* txn = nullptr;
  int code = mdb_txn_begin(env_, nullptr, 0, &txn);
  if (code != 0) return Error("can't begin a commit", code);
  const auto put = [&](std::string_view key, std::string_view value) {
    MDB_val key_val = ToVal(key);
    MDB_val value_val = ToVal(value);
    return mdb_put(txn, entries_, &key_val, &value_val, 0);
  };
  writes.ForEach([&](std::string_view key, const Memtable::Value& value) {
    if (code != 0) return;
    if (value) {
      code = put(key, *value);
    } else {
      MDB_val key_val = ToVal(key);
      code = mdb_del(txn, entries_, &key_val, nullptr);
      if (code == MDB_NOTFOUND) code = 0;
    }
  });
  const std::uint64_t id = writes.last_commit();
  if (code == 0) {
    code = put(kAppliedKey, {reinterpret_cast<const char*>(&id), sizeof(id)});
  }
  if (code != 0) {
    mdb_txn_abort(txn);
    return Error("can't write an entry", code);
  }
  code = mdb_txn_commit(txn);
  return code == 0 ? absl::OkStatus() : Error("can't commit", code);
}

absl::StatusOr<std::uint64_t> LmdbEnvironment::used(bool exactly) {
  MDB_envinfo info;
  MDB_stat stat;
  mdb_env_info(env_, &info);
  mdb_env_stat(env_, &stat);
  std::uint64_t pages = info.me_last_pgno + 1;
  if (exactly) {
    ASSIGN_OR_RETURN(MDB_txn* const reader, BeginRead());
    MDB_cursor* free_tree = nullptr;
    const int code = mdb_cursor_open(reader, kFreeTree, &free_tree);
    if (code == 0) {
      pages -= std::min(pages, FreePages(free_tree));
      mdb_cursor_close(free_tree);
    }
    EndRead(reader);
    if (code != 0) return Error("can't list free pages", code);
  }
  return pages * stat.ms_psize;
}

absl::Status LmdbEnvironment::Error(std::string_view what, int code) const {
  const auto message = [&](std::string_view why) {
    return StrCat("storage: ", what, " in ", folder_, ": ", why);
  };
  struct statvfs disk;
  switch (code) {
    case MDB_MAP_FULL:
      return absl::ResourceExhaustedError(
          message("the file is at its limit; delete secrets, or raise map_size"));
    case MDB_TXN_FULL:
      return absl::ResourceExhaustedError(message("too much for one transaction"));
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(message("the disk is full"));
    case EIO:  // also what LMDB makes of a write that was cut short
      if (statvfs(folder_.c_str(), &disk) == 0 && disk.f_bavail == 0) {
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
