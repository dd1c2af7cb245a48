// WorkerPool: threads for handlers that wait for disks or networks, so that no core does.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace coffer::keystore {

class WorkerPool {
 public:
  // Threads start with the first job.
  explicit WorkerPool(int threads) : limit_(threads) {}
  // Runs what is queued, then ends.
  ~WorkerPool();
  void Run(std::function<void()> job);

 private:
  void Work();

  const int limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  int idle_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace coffer::keystore
