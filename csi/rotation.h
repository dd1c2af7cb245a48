// Rotation: has volumes read anew between the kubelet's calls: after their interval, before what was
// leased ends, when the keystore tells of a change, and again after a failure. Spread out, and a few
// at a time, so that many volumes and many nodes don't ask a keystore in one moment.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "common/clock.h"
#include "csi/rotation_rule.h"
#include "csi/volume_observer.h"
#include "provider/workers.h"

namespace coffer::csi {

class Rotation : public VolumeObserver {
 public:
  // Reads the volume at `target` anew, which is told to all observers. Aborted: another call works
  // on it.
  using Refetch = std::function<absl::Status(const std::string& target)>;

  // `workers` does the fetches, as many at once as it has threads; both are kept by the caller.
  Rotation(const Clock& clock, provider::Workers& workers) : clock_(clock), workers_(workers) {}
  ~Rotation() override { Stop(); }

  void Start(Refetch refetch);
  // Waits for what is under way.
  void Stop();

  // Has the volume read anew after a random time up to `within`, if it isn't to be sooner anyway.
  void Soon(const std::string& target, absl::Duration within);

  void Published(const std::string& target, const VolumeContext& context,
                 PublishOutcome& outcome) override;
  void Unpublished(const std::string& target, const volume::PodFacts& pod,
                   const absl::Status& status) override;
  // It is read anew before long: what the keystore said meanwhile wasn't heard.
  void TakenOver(const std::string& target, const VolumeContext& context,
                 const std::vector<provider::ObjectVersion>& versions,
                 absl::Time fetched) override;

 private:
  // Not the wall clock's, which may be set while something waits.
  using Time = std::chrono::steady_clock::time_point;
  static constexpr Time kNever = Time::max();

  struct Volume {
    Time due = kNever;    // by interval, lease or failure; each fetch sets it anew
    Time asked = kNever;  // by Soon; over only when a fetch has begun after it
    bool running = false;
    int failures = 0;  // since the last fetch that was OK
    int aborts = 0;    // since the last fetch that was tried
  };

  void Run();
  void RefetchNow(const std::string& target);

  const Clock& clock_;
  provider::Workers& workers_;
  Refetch refetch_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Volume> volumes_;  // by target
  int under_way_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

// When to fetch again, counted from a fetch at `now`; InfiniteDuration: never. `random` is in [0, 1)
// and differs from node to node.
absl::Duration NextFetch(const RotationRule& rule, std::optional<absl::Time> refetch_by,
                         absl::Time now, double random);
// After the given number of failures one after another, 1 or more.
absl::Duration RetryAfter(int failures, double random);

}  // namespace coffer::csi
