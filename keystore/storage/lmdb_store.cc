#include "keystore/storage/lmdb_store.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

using std::chrono::steady_clock;

// A log is carried over once it is full, or this long after the first commit in it.
constexpr std::size_t kLogCapacity = std::size_t{4} << 20;
constexpr std::chrono::milliseconds kApplyAfter(500);
constexpr std::chrono::milliseconds kRetryAfter(1000);

constexpr std::chrono::milliseconds kAskDiskEvery(10);
constexpr std::uint64_t kUnknownFree = std::uint64_t{1} << 60;

constexpr std::uint64_t kPage = 4096;
// What commits that make the data larger leave free on the disk, for LMDB copies what it changes:
// without it, nothing could be deleted from a full disk.
constexpr std::uint64_t kDiskReserve = std::uint64_t{8} << 20;

// About what an entry takes in LMDB's file: pages of its own if it is large, else its part of a
// leaf, which is two thirds full on the average.
std::int64_t RoomFor(std::size_t key_size, std::size_t value_size) {
  const std::uint64_t size = key_size + value_size + 16;
  if (size > kPage / 2) return static_cast<std::int64_t>((size + kPage - 1) / kPage * kPage);
  return static_cast<std::int64_t>(size * 3 / 2);
}

void NoteWrites(std::uint64_t id, const WriteBatch& writes, ConflictLog& log) {
  writes.ForEach([&](std::string_view key, const WriteBatch::Value&) { log.Add(id, key); });
}

}  // namespace

// A snapshot: commits up to `id` in the memtables, and LMDB below them.
class LmdbStore::Snapshot : public BufferedTxn {
 public:
  Snapshot(LmdbStore& store, std::uint64_t id, std::shared_ptr<const Memtable> active,
           std::shared_ptr<const Memtable> frozen, MDB_txn* reader)
      : BufferedTxn(id),
        store_(store),
        id_(id),
        memtables_{std::move(active), std::move(frozen)},
        reader_(reader) {}
  ~Snapshot() override { store_.lmdb_->EndRead(reader_); }

 protected:
  absl::StatusOr<std::optional<std::string_view>> Read(std::string_view key) override {
    for (const auto& memtable : memtables_) {
      if (memtable == nullptr) continue;
      const Memtable::Value* value = memtable->Find(key, id_);
      if (value == nullptr) continue;
      if (!*value) return std::optional<std::string_view>();
      return std::optional<std::string_view>(**value);
    }
    return store_.lmdb_->Get(reader_, key);
  }

  absl::Status Walk(std::string_view begin, Visit visit) override {
    ASSIGN_OR_RETURN(const std::unique_ptr<LmdbEnvironment::Cursor> stored,
                     store_.lmdb_->Open(reader_));
    RETURN_IF_ERROR(stored->Seek(begin));
    Memtable::Entry newer[2] = {};
    for (int i = 0; i < 2; ++i) {
      if (memtables_[i] != nullptr) newer[i] = memtables_[i]->From(begin, id_);
    }
    for (;;) {
      // The smallest key, and the newest of its values.
      bool found = !stored->at_end();
      std::string_view key = stored->key();
      std::optional<std::string_view> value = stored->value();
      for (int i = 1; i >= 0; --i) {
        if (newer[i].value == nullptr || (found && newer[i].key > key)) continue;
        found = true;
        key = newer[i].key;
        value.reset();
        if (*newer[i].value) value = **newer[i].value;
      }
      if (!found) return absl::OkStatus();
      if (value && !visit(key, *value)) return absl::OkStatus();
      for (int i = 0; i < 2; ++i) {
        if (newer[i].value != nullptr && newer[i].key == key) {
          newer[i] = memtables_[i]->Behind(key, id_);
        }
      }
      if (!stored->at_end() && stored->key() == key) RETURN_IF_ERROR(stored->Next());
    }
  }

 private:
  LmdbStore& store_;
  const std::uint64_t id_;
  const std::shared_ptr<const Memtable> memtables_[2];  // the newer first; null where there is none
  MDB_txn* const reader_;
};

absl::StatusOr<std::unique_ptr<LmdbStore>> LmdbStore::Open(const LmdbOptions& options) {
  ASSIGN_OR_RETURN(
      std::unique_ptr<LmdbEnvironment> lmdb,
      LmdbEnvironment::Open(options.path, options.map_size + options.map_size / 4 + kLogCapacity));
  std::unique_ptr<LmdbStore> store(new LmdbStore(options, std::move(lmdb)));
  RETURN_IF_ERROR(store->Recover());
  store->applier_ = std::thread([s = store.get()] { s->ApplyForever(); });
  store->committer_ = std::thread([s = store.get()] { s->CommitForever(); });
  return store;
}

LmdbStore::LmdbStore(LmdbOptions options, std::unique_ptr<LmdbEnvironment> lmdb)
    : options_(std::move(options)), lmdb_(std::move(lmdb)), active_(std::make_shared<Memtable>()) {}

LmdbStore::~LmdbStore() {
  queue_.End();
  if (committer_.joinable()) committer_.join();
  if (applier_.joinable()) applier_.join();
}

// Takes up what the logs hold beyond LMDB, as it was when the last process ended.
absl::Status LmdbStore::Recover() {
  ASSIGN_OR_RETURN(const std::uint64_t applied, lmdb_->applied());
  std::vector<CommitLog::Record> records[2];
  for (int i = 0; i < 2; ++i) {
    ASSIGN_OR_RETURN(logs_[i],
                     CommitLog::Open(StrCat(options_.path, "/commits.", i), kLogCapacity));
    ASSIGN_OR_RETURN(records[i], logs_[i]->Replay(applied));
  }
  const auto first_of = [&](int i) { return records[i].empty() ? 0 : records[i].front().id; };
  current_ = first_of(1) > first_of(0) ? 1 : 0;
  last_commit_ = applied;
  for (const std::size_t i : {1 - current_, current_}) {
    for (CommitLog::Record& record : records[i]) {
      if (record.id != last_commit_ + 1) {
        return absl::DataLossError(StrCat("storage: commits are missing in ", options_.path, " (",
                                          last_commit_ + 1, "); restore a backup of it"));
      }
      last_commit_ = record.id;
      active_->Add(record.id, std::move(record.writes));
    }
    if (i != current_ && !active_->empty()) {
      frozen_ = std::exchange(active_, std::make_shared<Memtable>());
    }
  }
  active_since_ = steady_clock::now();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<StoreTxn>> LmdbStore::Begin() {
  // LMDB's snapshot is taken with the rest: were logs switched in between, it could hold commits
  // that this one is not to see.
  std::lock_guard lock(mutex_);
  ASSIGN_OR_RETURN(MDB_txn* const reader, lmdb_->BeginRead());
  return std::make_unique<Snapshot>(*this, last_commit_, active_->empty() ? nullptr : active_,
                                    frozen_, reader);
}

void LmdbStore::Commit(std::unique_ptr<StoreTxn> txn, Done done) {
  Changes changes = static_cast<BufferedTxn&&>(*txn).TakeChanges();
  txn.reset();  // gives the snapshot up: LMDB can't reuse pages that one can still see
  if (!changes.status.ok() || changes.writes.empty()) return done(std::move(changes.status));
  WriteBatch writes(changes.writes);
  changes.writes.clear();
  queue_.Add({std::move(changes), std::move(writes), std::move(done), absl::OkStatus()});
}

void LmdbStore::CommitForever() {
  std::vector<Pending> taken;
  Group group;
  const auto deadline = [this] {
    return active_->empty() ? steady_clock::time_point::max() : active_since_ + kApplyAfter;
  };
  while (queue_.Take(deadline(), &taken)) {
    group.clear();
    for (Pending& pending : taken) group.push_back(&pending);
    if (!group.empty()) CommitGroup(group);
    for (Pending& pending : taken) pending.done(std::move(pending.status));
    queue_.Answered(taken.size(), flush_);
    taken.clear();
    if (!active_->empty() && steady_clock::now() >= active_since_ + kApplyAfter) {
      std::unique_lock lock(mutex_);
      if (frozen_ != nullptr) {
        // Not now: the other log is still being carried over.
        active_since_ = steady_clock::now();
      } else {
        lock.unlock();
        SwitchLogs().IgnoreError();  // can't fail: the other log is free
      }
    }
  }
  // What can't be carried over stays in the logs for the next process.
  if (!active_->empty()) SwitchLogs().IgnoreError();
  std::lock_guard lock(mutex_);
  commits_ended_ = true;
  apply_wanted_.notify_one();
}

// Settles the status of each commit of the group.
void LmdbStore::CommitGroup(Group group) {
  earlier_.Clear();
  const bool several = group.size() > 1;
  std::erase_if(group, [&](Pending* member) {
    if (conflicts_.Conflicts(member->changes) || earlier_.Conflicts(member->changes)) {
      member->status = Conflict();
      return true;
    }
    if (several) NoteWrites(UINT64_MAX, member->writes, earlier_);
    return false;
  });
  if (group.empty()) return;

  const absl::Status status = WriteGroup(group);
  if (group.size() > 1 && absl::IsResourceExhausted(status)) {
    // One may be too large where the others fit.
    for (Pending* member : group) CommitGroup({member});
  } else if (!status.ok()) {
    for (Pending* member : group) member->status = status;
  }
}

// Makes all of the group durable and visible, or nothing.
absl::Status LmdbStore::WriteGroup(const Group& group) {
  if (!failed_.ok()) return failed_;
  RETURN_IF_ERROR(CheckRoom(group));
  std::vector<std::string_view> batches;
  batches.reserve(group.size());
  std::size_t size = 0;
  for (const Pending* member : group) {
    batches.push_back(member->writes.bytes());
    size += batches.back().size();
  }
  if (!logs_[current_]->Fits(size)) RETURN_IF_ERROR(SwitchLogs());
  const std::uint64_t id = last_commit_ + 1;
  const auto before = steady_clock::now();
  const absl::Status appended = logs_[current_]->Append(id, batches);
  flush_ = steady_clock::now() - before;
  // Whether the record is there nobody knows now, so that the other log can't go on behind it
  // either.
  if (absl::IsUnavailable(appended)) failed_ = appended;
  RETURN_IF_ERROR(appended);

  if (active_->empty()) active_since_ = steady_clock::now();
  for (Pending* member : group) {
    NoteWrites(id, member->writes, conflicts_);
    active_->Add(id, std::move(member->writes));
  }
  std::lock_guard lock(mutex_);
  last_commit_ = id;
  return absl::OkStatus();
}

// ResourceExhausted where the group would make the data larger than it may get.
absl::Status LmdbStore::CheckRoom(const Group& group) {
  std::int64_t growth = 0;
  for (const Pending* member : group) {
    member->writes.ForEach([&](std::string_view key, const WriteBatch::Value& value) {
      if (value) growth += RoomFor(key.size(), value->size());
    });
  }
  if (Fits(growth, /*exactly=*/false).ok()) return absl::OkStatus();

  // Near the limit it is worth looking closer: at what the writes replace, and at pages of the file
  // that are free, once all is carried over.
  ASSIGN_OR_RETURN(const std::unique_ptr<StoreTxn> now, Begin());
  for (const Pending* member : group) {
    absl::Status status;
    member->writes.ForEach([&](std::string_view key, const WriteBatch::Value&) {
      const auto replaced = now->Get(key);
      status.Update(replaced.status());
      if (replaced.ok() && *replaced) growth -= RoomFor(key.size(), (*replaced)->size());
    });
    RETURN_IF_ERROR(status);
  }
  if (growth <= 0 || Fits(growth, /*exactly=*/true).ok()) return absl::OkStatus();
  if (!active_->empty()) RETURN_IF_ERROR(SwitchLogs());
  RETURN_IF_ERROR(AwaitApplied());
  return Fits(growth, /*exactly=*/true);
}

// Whether that many bytes more keep within the limit, and within the disk with something to spare.
absl::Status LmdbStore::Fits(std::int64_t growth, bool exactly) {
  std::size_t waiting = active_->bytes();
  {
    std::lock_guard lock(mutex_);
    if (frozen_ != nullptr) waiting += frozen_->bytes();
  }
  growth += static_cast<std::int64_t>(waiting * 3 / 2);
  ASSIGN_OR_RETURN(const std::uint64_t file, lmdb_->used(/*exactly=*/false));
  ASSIGN_OR_RETURN(const std::uint64_t used, exactly ? lmdb_->used(true) : file);
  if (growth > static_cast<std::int64_t>(options_.map_size - used)) {
    return absl::ResourceExhaustedError(
        StrCat("storage: ", options_.path, " is full: the limit of ", options_.map_size,
               " bytes is reached; delete secrets, or raise map_size"));
  }
  const std::uint64_t free = DiskFree(exactly) + (file - used);
  if (growth > static_cast<std::int64_t>(free - kDiskReserve)) {
    return absl::ResourceExhaustedError(StrCat("storage: the disk of ", options_.path,
                                               " is full; delete secrets, or give it more room"));
  }
  return absl::OkStatus();
}

// Asked for now and then: nothing fills the reserve in the meantime that couldn't fill it after the
// question.
std::uint64_t LmdbStore::DiskFree(bool exactly) {
  const auto now = steady_clock::now();
  if (!exactly && now < disk_asked_ + kAskDiskEvery) return disk_free_;
  struct statvfs disk;
  const bool known = statvfs(options_.path.c_str(), &disk) == 0;
  disk_free_ = known ? disk.f_bavail * disk.f_frsize : kUnknownFree;
  disk_asked_ = now;
  return disk_free_;
}

absl::Status LmdbStore::SwitchLogs() {
  RETURN_IF_ERROR(AwaitApplied());
  std::lock_guard lock(mutex_);
  current_ = 1 - current_;
  logs_[current_]->Restart();
  frozen_ = std::exchange(active_, std::make_shared<Memtable>());
  apply_wanted_.notify_one();
  return absl::OkStatus();
}

// Waits until the other log is carried over, or another attempt at it has failed.
absl::Status LmdbStore::AwaitApplied() {
  std::unique_lock lock(mutex_);
  if (frozen_ == nullptr) return absl::OkStatus();
  const std::uint64_t attempt = ++attempt_wanted_;
  apply_wanted_.notify_one();
  applied_.wait(lock, [&] { return frozen_ == nullptr || attempt_ >= attempt; });
  return frozen_ == nullptr ? absl::OkStatus() : apply_status_;
}

void LmdbStore::ApplyForever() {
  std::unique_lock lock(mutex_);
  for (;;) {
    apply_wanted_.wait(lock, [&] { return frozen_ != nullptr || commits_ended_; });
    if (frozen_ == nullptr) return;
    const std::shared_ptr<Memtable> frozen = frozen_;
    const std::uint64_t attempt = attempt_wanted_;
    lock.unlock();
    const absl::Status status = lmdb_->Apply(*frozen);
    lock.lock();
    if (!status.ok() && apply_status_.ok()) {
      log::Error("storage: commits can't be carried over; they are kept in the log",
                 {{"error", status}});
    }
    apply_status_ = status;
    if (status.ok()) frozen_ = nullptr;
    attempt_ = attempt;
    applied_.notify_all();
    if (status.ok()) continue;
    if (commits_ended_) return;
    apply_wanted_.wait_for(lock, kRetryAfter,
                           [&] { return attempt_wanted_ > attempt || commits_ended_; });
  }
}

}  // namespace coffer::keystore
