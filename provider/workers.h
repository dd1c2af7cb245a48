// Workers: a few threads, made when there is work and gone when there is none, so that a plugin at
// rest holds no stacks.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <thread>

#include "absl/time/time.h"

namespace coffer::provider {

class Workers {
 public:
  // `most`: threads at once, 1..256; a thread with nothing to do ends after `idle`.
  explicit Workers(int most, absl::Duration idle = absl::Seconds(10));
  ~Workers();  // after the last task

  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Runs `task` soon; what finds no free thread waits its turn.
  void Submit(std::function<void()> task);

  // Runs task(0) … task(count - 1), on this thread and on whichever others are free, and returns
  // when all have returned. May be called from a task.
  void ForEach(int count, const std::function<void(int)>& task);

 private:
  void Run(std::list<std::thread>::iterator own);

  const int most_;
  const absl::Duration idle_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable none_;
  std::deque<std::function<void()>> tasks_;
  std::list<std::thread> threads_;
  std::list<std::thread> ended_;  // has done its last task, and is yet to be joined: one at most
  int waiting_ = 0;  // threads in need of a task
  bool stopping_ = false;
};

}  // namespace coffer::provider
