// KubeWriter: writes to the API server in the background, so that no publish waits for them. Work on
// one object has one key: what is newer replaces what waits.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "csi/metrics.h"
#include "csi/steady_time.h"

namespace coffer::csi {

class KubeWriter {
 public:
  // Ends by the deadline. What may pass (Unavailable, Aborted, PermissionDenied …) is tried again
  // after 0.2 s, then ever later up to 5 min; InvalidArgument, FailedPrecondition, NotFound and
  // OutOfRange are final.
  using Job = std::function<absl::Status(absl::Time deadline)>;

  // `metrics` is kept by the caller.
  explicit KubeWriter(Metrics& metrics);
  ~KubeWriter();  // gives up on what is left

  // `ended`: called on the writer's thread, unless it ends first, when nothing of this key is left
  // to write: a job was done or refused for good, and no newer one has come.
  void Put(std::string key, Job job, std::function<void()> ended = nullptr);
  // Until nothing is left that hasn't failed before, or `deadline`. True: nothing at all is left.
  bool Drain(absl::Time deadline);
  std::size_t pending() const;

 private:
  struct Entry {
    Job job;
    SteadyTime due;
    absl::Duration pause;
    std::uint64_t turn = 0;   // in the order of Put
    bool running = false;
    bool replaced = false;    // while it ran
    std::vector<std::function<void()>> ended = {};
  };

  void Run();
  std::map<std::string, Entry>::iterator Next();
  void Finish(std::map<std::string, Entry>::iterator entry, const absl::Status& status);

  Metrics& metrics_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Entry> entries_;
  std::uint64_t turns_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace coffer::csi
