// How commits become durable. A committing thread that has the turn takes what is queued, writes it to
// the log (a flight), and flushes; where the disk is slow it lets the next one have the turn before.
// A flight lands when it and all before it are durable: then it becomes visible, and its members are
// answered.
#include <sys/statvfs.h>

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/storage/lmdb_store.h"

namespace coffer::keystore {
namespace {

using std::chrono::steady_clock;

// A log is carried over once it is full, or this long after the first commit in it.
constexpr std::chrono::milliseconds kApplyAfter(2000);
// A log gets larger only where that were at most this part of what is free on the disk.
constexpr std::uint64_t kMaxPartOfDisk = 16;
// A flush that takes longer doesn't keep what comes after it from the disk, which may well do several
// at a time, and faster; a shorter one is worth waiting for: more go together, on one thread. Busy
// processors make one of 0.2 ms look like 0.5.
constexpr std::chrono::microseconds kQuickFlush(600);

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

std::uint64_t FreeOnDisk(const std::string& path) {
  struct statvfs disk;
  return statvfs(path.c_str(), &disk) == 0 ? disk.f_bavail * disk.f_frsize : kUnknownFree;
}

}  // namespace

void LmdbStore::Commit(std::unique_ptr<StoreTxn> txn, Done done) {
  Changes changes = static_cast<BufferedTxn&&>(*txn).TakeChanges();
  txn.reset();  // gives the snapshot up: LMDB can't reuse pages that one can still see
  if (!changes.status.ok() || changes.writes.empty()) return done(std::move(changes.status));
  WriteBatch writes(changes.writes);
  changes.writes.clear();
  queue_.Add({std::move(changes), std::move(writes), std::move(done)});
}

void LmdbStore::CommitForever(std::size_t committer) {
  std::unique_lock turn(turn_);
  for (;;) {
    AwaitTurnToFlush();
    CarryOverIfDue();
    auto flight = std::make_unique<Flight>();
    if (!queue_.Take(CarryOverDue(), &flight->members)) return;
    if (flight->members.empty()) continue;
    Prepare(*flight);
    CommitLog& log = *logs_[current_];
    const Departure departure{flight->written ? &log : nullptr, log.position(), flight->id};
    const bool slow_disk = Depart(std::move(flight));
    if (slow_disk) turn.unlock();
    Land(committer, departure);
    if (slow_disk) turn.lock();
  }
}

// Whether the disk is slow.
bool LmdbStore::Depart(std::unique_ptr<Flight> flight) {
  std::lock_guard lock(flights_mutex_);
  if (flight->written) ++flushing_;
  departed_ = steady_clock::now();
  flights_.push_back(std::move(flight));
  return slow_disk_;
}

void LmdbStore::AwaitTurnToFlush() {
  std::unique_lock lock(flights_mutex_);
  landed_.wait_until(lock, departed_ + kQuickFlush, [this] { return flushing_ == 0; });
}

steady_clock::time_point LmdbStore::CarryOverDue() {
  std::lock_guard lock(flights_mutex_);
  return active_->empty() ? steady_clock::time_point::max() : active_since_ + kApplyAfter;
}

void LmdbStore::CarryOverIfDue() {
  if (steady_clock::now() < CarryOverDue()) return;
  {
    std::scoped_lock lock(flights_mutex_, mutex_);
    if (frozen_ != nullptr) {
      // Not now: the other log is still being carried over.
      active_since_ = steady_clock::now();
      return;
    }
  }
  SwitchLogs().IgnoreError();  // can't fail: the other log is free
}

// Writes what can be committed; the others' status says why they can't.
void LmdbStore::Prepare(Flight& flight) {
  Group group;
  earlier_.Clear();
  for (Pending& member : flight.members) {
    if (conflicts_.Conflicts(member.changes) || earlier_.Conflicts(member.changes)) {
      member.status = Conflict();
      continue;
    }
    if (flight.members.size() > 1) NoteWrites(UINT64_MAX, member.writes, earlier_);
    group.push_back(&member);
  }
  if (const absl::Status room = MakeRoom(&group); !room.ok()) {
    Refuse(group, room);
  } else if (!group.empty()) {
    const absl::Status status = WriteGroup(group);
    if (absl::IsResourceExhausted(status) && group.size() > 1) {
      WriteEach(group);
    } else if (!status.ok()) {
      Refuse(group, status);
    }
  }
  for (const Pending* member : group) flight.written |= member->id != 0;
  flight.id = written_;
}

void LmdbStore::Refuse(const Group& group, const absl::Status& why) {
  for (Pending* member : group) member->status = why;
}

// Leaves in the group those that there is room for, and room for them in the log.
absl::Status LmdbStore::MakeRoom(Group* group) {
  if (group->empty()) return absl::OkStatus();
  {
    std::lock_guard lock(flights_mutex_);
    if (!failed_.ok()) return failed_;
  }
  const absl::Status together = CheckRoom(*group);
  if (!together.ok() && (group->size() <= 1 || !absl::IsResourceExhausted(together))) {
    return together;
  }
  if (!together.ok()) {
    // One may be too large where the others fit.
    Group fitting;
    for (Pending* member : *group) {
      fitting.push_back(member);
      member->status = CheckRoom(fitting);
      if (!member->status.ok()) fitting.pop_back();
    }
    *group = std::move(fitting);
  }
  std::size_t size = 0;
  for (const Pending* member : *group) size += member->writes.bytes().size();
  if (logs_[current_]->Fits(size)) return absl::OkStatus();
  WantLargerLogs();
  return SwitchLogs();
}

// Writes all of the group as one commit, or nothing.
absl::Status LmdbStore::WriteGroup(const Group& group) {
  std::vector<std::string_view> batches;
  batches.reserve(group.size());
  for (const Pending* member : group) batches.push_back(member->writes.bytes());
  const std::uint64_t id = written_ + 1;
  const absl::Status written = logs_[current_]->Write(id, batches);
  if (absl::IsUnavailable(written)) {
    // Whether the record is there nobody knows now, so that the other log can't go on behind it
    // either.
    std::lock_guard lock(flights_mutex_);
    if (failed_.ok()) failed_ = written;
  }
  RETURN_IF_ERROR(written);
  written_ = id;
  for (Pending* member : group) {
    member->id = id;
    NoteWrites(id, member->writes, conflicts_);
  }
  return absl::OkStatus();
}

void LmdbStore::WriteEach(const Group& group) {
  for (Pending* member : group) member->status = WriteGroup({member});
}

// Waits for the disk; then all flights that have landed are answered, which another thread may have
// done by then.
void LmdbStore::Land(std::size_t committer, const Departure& departure) {
  absl::Status flushed;
  const auto before = steady_clock::now();
  if (departure.log != nullptr) flushed = departure.log->Flush(committer, departure.position);
  std::unique_lock lock(flights_mutex_);
  if (departure.log != nullptr) {
    --flushing_;
    slow_disk_ = steady_clock::now() > before + kQuickFlush;
    if (failed_.ok()) failed_ = flushed;
    if (failed_.ok()) durable_ = std::max(durable_, departure.id);
  }
  const Flights landed = TakeLanded();
  landed_.notify_all();
  if (landed.empty()) return;
  std::lock_guard answers(answers_);
  lock.unlock();
  for (const auto& answered : landed) {
    for (Pending& member : answered->members) member.done(std::move(member.status));
  }
}

// Takes the flights off that are durable, or failed.
LmdbStore::Flights LmdbStore::TakeLanded() {
  Flights landed;
  while (!flights_.empty()) {
    Flight& first = *flights_.front();
    if (first.id <= durable_) {
      Publish(first);
    } else if (failed_.ok()) {
      break;
    } else {
      for (Pending& member : first.members) member.status.Update(failed_);
    }
    landed.push_back(std::move(flights_.front()));
    flights_.pop_front();
  }
  return landed;
}

void LmdbStore::Publish(Flight& flight) {
  if (!flight.written) return;
  if (active_->empty()) active_since_ = steady_clock::now();
  for (Pending& member : flight.members) {
    if (member.id != 0) active_->Add(member.id, std::move(member.writes));
  }
  std::lock_guard lock(mutex_);
  last_commit_ = flight.id;
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
  disk_free_ = FreeOnDisk(options_.path);
  disk_asked_ = now;
  return disk_free_;
}

absl::Status LmdbStore::SwitchLogs() {
  {
    std::unique_lock lock(flights_mutex_);
    landed_.wait(lock, [this] { return flights_.empty(); });
  }
  RETURN_IF_ERROR(AwaitApplied());
  std::lock_guard lock(mutex_);
  current_ = 1 - current_;
  logs_[current_]->Restart();
  frozen_ = std::exchange(active_, std::make_shared<Memtable>(logs_[current_]->capacity()));
  apply_wanted_.notify_one();
  return absl::OkStatus();
}

void LmdbStore::WantLargerLogs() {
  std::lock_guard lock(mutex_);
  log_capacity_ = std::min(2 * logs_[current_]->capacity(), kMaxLogCapacity);
}

// The log isn't the current one, and carried over.
void LmdbStore::GrowLog(CommitLog& log, std::size_t capacity) {
  if (capacity > FreeOnDisk(options_.path) / kMaxPartOfDisk) return;
  const absl::Status grown = log.Grow(capacity);
  if (!grown.ok()) log::Warning("storage: a log of commits can't get larger", {{"error", grown}});
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

}  // namespace coffer::keystore
