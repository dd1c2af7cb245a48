#include "keystore/storage/fault_store.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <utility>

#include "common/status_macros.h"

namespace coffer::keystore {
namespace {

absl::Status Struck() { return absl::UnavailableError("storage: made to fail"); }

}  // namespace

class FaultStore::Wrapped : public StoreTxn {
 public:
  Wrapped(FaultStore& store, std::unique_ptr<StoreTxn> inner, std::uint64_t life)
      : store_(store), inner_(std::move(inner)), life_(life) {}

  absl::StatusOr<std::optional<std::string_view>> Get(std::string_view key) override {
    if (store_.Strikes(&Faults::read_fails)) return Struck();
    ASSIGN_OR_RETURN(auto value, inner_->Get(key));
    if (!value || !store_.Strikes(&Faults::read_tears)) return value;
    torn_.push_back(Torn(*value));
    return std::optional<std::string_view>(torn_.back());
  }

  absl::StatusOr<std::vector<StoredEntry>> Scan(std::string_view prefix, std::string_view after,
                                                std::size_t limit) override {
    if (store_.Strikes(&Faults::read_fails)) return Struck();
    ASSIGN_OR_RETURN(auto entries, inner_->Scan(prefix, after, limit));
    for (StoredEntry& entry : entries) {
      if (store_.Strikes(&Faults::read_tears)) {
        torn_.push_back(Torn(entry.value));
        entry.value = torn_.back();
      }
    }
    return entries;
  }

  void Put(std::string_view key, std::string value) override { inner_->Put(key, std::move(value)); }
  void Delete(std::string_view key) override { inner_->Delete(key); }
  bool has_writes() const override { return inner_->has_writes(); }

  std::uint64_t life() const { return life_; }
  std::unique_ptr<StoreTxn> TakeInner() && { return std::move(inner_); }

 private:
  // Cut short, or with one bit flipped.
  std::string Torn(std::string_view value) {
    std::string torn(value);
    if (torn.empty()) return torn;
    const std::uint64_t drawn = store_.Draw();
    const std::size_t at = drawn / 16 % torn.size();
    if (drawn % 2 == 0) {
      torn.resize(at);
    } else {
      torn[at] = static_cast<char>(torn[at] ^ 1 << drawn / 2 % 8);
    }
    return torn;
  }

  FaultStore& store_;
  std::unique_ptr<StoreTxn> inner_;
  const std::uint64_t life_;
  std::deque<std::string> torn_;  // what views of torn values are of
};

FaultStore::FaultStore(Store& inner, std::uint64_t seed)
    : inner_(inner), random_(seed), finisher_([this] { FinishForever(); }) {}

FaultStore::~FaultStore() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  finisher_.join();
}

void FaultStore::Set(const Faults& faults) {
  std::lock_guard lock(mutex_);
  faults_ = faults;
}

std::size_t FaultStore::delayed() const {
  std::lock_guard lock(mutex_);
  return delayed_.size();
}

std::uint64_t FaultStore::Draw() {
  std::lock_guard lock(mutex_);
  return random_();
}

bool FaultStore::Strikes(double Faults::*kind) {
  std::lock_guard lock(mutex_);
  const double chance = faults_.*kind;
  // 53 bits, as a double holds; std:: distributions may differ between libraries.
  return chance > 0 && static_cast<double>(random_() >> 11) * 0x1p-53 < chance;
}

void FaultStore::Crash() {
  std::list<Delayed> lost;
  {
    std::lock_guard lock(mutex_);
    ++life_;
    lost.swap(delayed_);
  }
  for (Delayed& commit : lost) {
    const bool stored = Draw() % 2 == 0;
    if (stored) CommitAndWait(inner_, std::move(commit.txn)).IgnoreError();
    commit.txn.reset();
    commit.done(Struck());
  }
}

absl::StatusOr<std::unique_ptr<StoreTxn>> FaultStore::Begin() {
  if (Strikes(&Faults::begin_fails)) return Struck();
  ASSIGN_OR_RETURN(std::unique_ptr<StoreTxn> inner, inner_.Begin());
  std::lock_guard lock(mutex_);
  return std::make_unique<Wrapped>(*this, std::move(inner), life_);
}

void FaultStore::Commit(std::unique_ptr<StoreTxn> txn, Done done) {
  auto& wrapped = static_cast<Wrapped&>(*txn);
  const std::uint64_t life = wrapped.life();
  std::unique_ptr<StoreTxn> inner = static_cast<Wrapped&&>(wrapped).TakeInner();
  txn.reset();
  if (!inner->has_writes()) return inner_.Commit(std::move(inner), std::move(done));

  absl::Status struck;
  if (Strikes(&Faults::commit_fails)) struck = Struck();
  if (Strikes(&Faults::commit_full)) struck = absl::ResourceExhaustedError("storage: made full");
  if (Strikes(&Faults::commit_aborts)) struck = absl::AbortedError("made to run again");
  const bool late = Strikes(&Faults::commit_delays);
  {
    std::lock_guard lock(mutex_);
    if (life != life_) struck = Struck();
    if (struck.ok() && late) {
      const double part = static_cast<double>(random_() >> 11) * 0x1p-53;
      delayed_.push_back(
          {absl::Now() + part * faults_.max_delay, std::move(inner), std::move(done)});
      changed_.notify_all();
      return;
    }
  }
  if (struck.ok()) return inner_.Commit(std::move(inner), std::move(done));
  inner.reset();
  done(std::move(struck));
}

// Hands delayed commits on as they fall due.
void FaultStore::FinishForever() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto next = std::min_element(delayed_.begin(), delayed_.end(),
                                       [](const auto& a, const auto& b) { return a.due < b.due; });
    if (next == delayed_.end()) {
      if (ending_) return;
      changed_.wait(lock);
    } else if (!ending_ && next->due > absl::Now()) {
      changed_.wait_for(lock, absl::ToChronoNanoseconds(next->due - absl::Now()));
    } else {
      Delayed commit = std::move(*next);
      delayed_.erase(next);
      lock.unlock();
      inner_.Commit(std::move(commit.txn), std::move(commit.done));
      lock.lock();
    }
  }
}

}  // namespace coffer::keystore
