#include "csi/rotation.h"

#include <algorithm>

#include "common/random.h"

namespace coffer::csi {
namespace {

using std::chrono::steady_clock;

constexpr absl::Duration kFirstPause = absl::Seconds(5);
constexpr absl::Duration kLongestPause = absl::Minutes(5);
// While another call works on the volume.
constexpr absl::Duration kBusyPause = absl::Milliseconds(25);
// Of an interval: later than it by up to that part, so that nodes which began together drift apart.
constexpr double kIntervalSpread = 0.1;
// Of the time until a lease must be acted on: sooner by up to that part.
constexpr double kLeaseSpread = 0.1;
constexpr absl::Duration kTakeOverSpread = absl::Seconds(5);
constexpr absl::Duration kLongestWait = absl::Hours(24 * 365);

double Random() {
  std::uint32_t random = 0;
  FillRandom({reinterpret_cast<std::uint8_t*>(&random), sizeof(random)});
  return random / 4294967296.0;
}

steady_clock::time_point After(absl::Duration wait) {
  return steady_clock::now() + absl::ToChronoNanoseconds(std::clamp(
                                   wait, absl::ZeroDuration(), kLongestWait));
}

}  // namespace

absl::Duration NextFetch(const RotationRule& rule, std::optional<absl::Time> refetch_by,
                         absl::Time now, double random) {
  absl::Duration next = absl::InfiniteDuration();
  if (!rule.on) return next;
  if (rule.interval > absl::ZeroDuration()) {
    next = rule.interval * (1 + kIntervalSpread * random);
  }
  if (refetch_by) {
    const absl::Duration left = std::max(*refetch_by - now, absl::ZeroDuration());
    next = std::min(next, left * (1 - kLeaseSpread * random));
  }
  return next;
}

absl::Duration RetryAfter(int failures, double random) {
  const absl::Duration pause = kFirstPause * (1 << std::clamp(failures - 1, 0, 10));
  return std::min(pause, kLongestPause) * (0.5 + random);
}

void Rotation::Start(Refetch refetch) {
  refetch_ = std::move(refetch);
  thread_ = std::thread([this] { Run(); });
}

void Rotation::Stop() {
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return under_way_ == 0; });
  }
  if (thread_.joinable()) thread_.join();
}

void Rotation::Soon(const std::string& target, absl::Duration within) {
  std::lock_guard lock(mutex_);
  const auto found = volumes_.find(target);
  if (found == volumes_.end()) return;
  found->second.asked = std::min(found->second.asked, After(within * Random()));
  changed_.notify_all();
}

void Rotation::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const Time now = steady_clock::now();
    Time next = kNever;
    for (auto& [target, volume] : volumes_) {
      if (volume.running) continue;  // looked at again when it ends
      const Time due = std::min(volume.due, volume.asked);
      if (due > now) {
        next = std::min(next, due);
        continue;
      }
      volume.due = volume.asked = kNever;
      volume.running = true;
      ++under_way_;
      workers_.Submit([this, target = target] { RefetchNow(target); });
    }
    if (next == kNever) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, next);
    }
  }
}

void Rotation::RefetchNow(const std::string& target) {
  absl::Status status = absl::CancelledError();
  {
    std::lock_guard lock(mutex_);
    if (!stopping_ && volumes_.contains(target)) status = absl::OkStatus();
  }
  if (status.ok()) status = refetch_(target);
  std::lock_guard lock(mutex_);
  --under_way_;
  changed_.notify_all();
  const auto found = volumes_.find(target);
  if (found == volumes_.end()) return;
  Volume& volume = found->second;
  volume.running = false;
  if (absl::IsAborted(status)) {  // what that call reads may be older than the change
    const Time again = After(kBusyPause * (1 << std::min(volume.aborts++, 6)));
    volume.asked = std::min(volume.asked, again);
    return;
  }
  volume.aborts = 0;
}

void Rotation::Published(const std::string& target, const VolumeContext&,
                         PublishOutcome& outcome) {
  if (absl::IsAborted(outcome.status)) return;
  std::lock_guard lock(mutex_);
  if (!outcome.status.ok()) {
    const auto found = volumes_.find(target);
    if (found == volumes_.end()) return;  // never published: the kubelet comes again
    Volume& volume = found->second;
    volume.due = std::min(volume.due, After(RetryAfter(++volume.failures, Random())));
    changed_.notify_all();
    return;
  }
  Volume& volume = volumes_[target];
  volume.failures = 0;
  const absl::Duration next =
      NextFetch(outcome.rotation, outcome.refetch_by, clock_.Now(), Random());
  volume.due = next == absl::InfiniteDuration() ? kNever : After(next);
  changed_.notify_all();
}

void Rotation::TakenOver(const std::string& target, const VolumeContext&,
                         const std::vector<provider::ObjectVersion>&, absl::Time) {
  std::lock_guard lock(mutex_);
  volumes_[target].asked = After(kTakeOverSpread * Random());
  changed_.notify_all();
}

void Rotation::Unpublished(const std::string& target, const volume::PodFacts&,
                           const absl::Status& status) {
  if (!status.ok()) return;
  std::lock_guard lock(mutex_);
  volumes_.erase(target);
}

}  // namespace coffer::csi
