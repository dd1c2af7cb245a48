#include "keystore/storage/lmdb_store.h"

#include <malloc.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr std::chrono::milliseconds kRetryAfter(1000);
// When nothing was carried over for so long, what a storm of commits took goes back to the system.
constexpr std::chrono::seconds kCalm(5);

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
  ASSIGN_OR_RETURN(std::unique_ptr<LmdbEnvironment> lmdb,
                   LmdbEnvironment::Open(
                       options.path, options.map_size + options.map_size / 4 + kMaxLogCapacity));
  std::unique_ptr<LmdbStore> store(new LmdbStore(options, std::move(lmdb)));
  RETURN_IF_ERROR(store->Recover());
  store->applier_ = std::thread([s = store.get()] { s->ApplyForever(); });
  for (std::size_t i = 0; i < kCommitters; ++i) {
    store->committers_.emplace_back([s = store.get(), i] { s->CommitForever(i); });
  }
  return store;
}

LmdbStore::LmdbStore(LmdbOptions options, std::unique_ptr<LmdbEnvironment> lmdb)
    : options_(std::move(options)),
      lmdb_(std::move(lmdb)),
      active_(std::make_shared<Memtable>(kLogCapacity)) {}

LmdbStore::~LmdbStore() {
  queue_.End();
  for (std::thread& committer : committers_) committer.join();
  // What can't be carried over stays in the logs for the next process.
  if (!committers_.empty() && !active_->empty()) SwitchLogs().IgnoreError();
  {
    std::lock_guard lock(mutex_);
    commits_ended_ = true;
    apply_wanted_.notify_one();
  }
  if (applier_.joinable()) applier_.join();
}

// Takes up what the logs hold beyond LMDB, as it was when the last process ended.
absl::Status LmdbStore::Recover() {
  ASSIGN_OR_RETURN(const std::uint64_t applied, lmdb_->applied());
  std::vector<CommitLog::Record> records[2];
  for (int i = 0; i < 2; ++i) {
    ASSIGN_OR_RETURN(logs_[i],
                     CommitLog::Open(StrCat(options_.path, "/commits.", i), kLogCapacity, kCommitters));
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
      frozen_ = std::exchange(active_, std::make_shared<Memtable>(kLogCapacity));
    }
  }
  written_ = durable_ = last_commit_;
  active_since_ = std::chrono::steady_clock::now();
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

void LmdbStore::ApplyForever() {
  std::unique_lock lock(mutex_);
  const auto wanted = [&] { return frozen_ != nullptr || commits_ended_; };
  for (bool freed = false;; freed = true) {
    if (freed && !apply_wanted_.wait_for(lock, kCalm, wanted)) {
      lock.unlock();
      malloc_trim(0);
      lock.lock();
    }
    apply_wanted_.wait(lock, wanted);
    if (frozen_ == nullptr) return;
    const std::shared_ptr<Memtable> frozen = frozen_;
    const std::uint64_t attempt = attempt_wanted_;
    CommitLog& log = *logs_[1 - current_];
    const std::size_t capacity = log_capacity_;
    lock.unlock();
    const absl::Status status = lmdb_->Apply(*frozen);
    if (status.ok() && log.capacity() < capacity) GrowLog(log, capacity);
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
