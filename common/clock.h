// Clock: time is handed in, so that TTLs are tested without sleeping.
#pragma once

#include <atomic>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace coffer {

class Clock {
 public:
  virtual ~Clock() = default;
  // Wall-clock time. May step backwards when the machine's clock is set.
  virtual absl::Time Now() const = 0;
};

class SystemClock : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

// Stands still until told. Starts at 2025-06-03T11:40:51Z. Safe on any thread.
class ManualClock : public Clock {
 public:
  absl::Time Now() const override {
    return absl::FromUnixNanos(nanos_.load(std::memory_order_relaxed));
  }
  void Advance(absl::Duration by) { nanos_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<std::int64_t> nanos_{1748950851LL * 1'000'000'000};
};

}  // namespace coffer
