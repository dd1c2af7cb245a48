// FaultStore: any store, made unreliable on purpose. Fails, tears what is read, delays commits, and
// in a crash forgets or keeps what was under way. The same seed and calls give the same faults.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "absl/time/time.h"
#include "keystore/storage/store.h"

namespace coffer::keystore {

// Chances are 0..1.
struct Faults {
  double begin_fails = 0;    // Unavailable
  double read_fails = 0;     // Unavailable, of Get and Scan
  double read_tears = 0;     // a value is cut short or has a bit flipped
  double commit_fails = 0;   // Unavailable, nothing stored
  double commit_full = 0;    // ResourceExhausted, nothing stored
  double commit_aborts = 0;  // Aborted, nothing stored
  double commit_delays = 0;  // stored and answered later, at a random time up to max_delay
  absl::Duration max_delay = absl::Milliseconds(5);
};

class FaultStore : public Store {
 public:
  // `inner` must outlive it.
  FaultStore(Store& inner, std::uint64_t seed);
  ~FaultStore() override;  // finishes delayed commits

  void Set(const Faults& faults);
  // As if the process had died: each delayed commit is stored or forgotten, and answered
  // Unavailable; what is begun before fails at Commit().
  void Crash();
  std::size_t delayed() const;

  absl::StatusOr<std::unique_ptr<StoreTxn>> Begin() override;
  void Commit(std::unique_ptr<StoreTxn> txn, Done done) override;
  std::string_view type() const override { return inner_.type(); }

 private:
  class Wrapped;
  struct Delayed {
    absl::Time due;
    std::unique_ptr<StoreTxn> txn;
    Done done;
  };

  // True with chance Faults::*kind.
  bool Strikes(double Faults::*kind);
  std::uint64_t Draw();
  void FinishForever();

  Store& inner_;
  mutable std::mutex mutex_;  // of all that follows
  std::condition_variable changed_;
  std::mt19937_64 random_;
  Faults faults_;
  std::list<Delayed> delayed_;
  std::uint64_t life_ = 0;  // counts crashes
  bool ending_ = false;
  std::thread finisher_;  // last: ends first
};

}  // namespace coffer::keystore
