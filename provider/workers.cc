#include "provider/workers.h"

#include <atomic>
#include <memory>
#include <thread>
#include <utility>

#include "absl/time/clock.h"

namespace coffer::provider {

Workers::Workers(int most, absl::Duration idle) : most_(most), idle_(idle) {}

Workers::~Workers() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  work_.notify_all();
  none_.wait(lock, [this] { return threads_.empty(); });
  lock.unlock();
  for (std::thread& thread : ended_) thread.join();
}

void Workers::Submit(std::function<void()> task) {
  std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  if (static_cast<int>(tasks_.size()) > waiting_ && static_cast<int>(threads_.size()) < most_) {
    const auto own = threads_.emplace(threads_.end());
    *own = std::thread([this, own] { Run(own); });
  } else {
    work_.notify_one();
  }
}

void Workers::Run(std::list<std::thread>::iterator own) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (tasks_.empty()) {
      ++waiting_;
      work_.wait_for(lock, absl::ToChronoNanoseconds(idle_),
                     [this] { return stopping_ || !tasks_.empty(); });
      --waiting_;
      if (tasks_.empty()) break;
    }
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    task = nullptr;  // what it owns ends outside the lock
    lock.lock();
  }
  // Who ends joins who has ended before.
  std::list<std::thread> before = std::exchange(ended_, {});
  ended_.splice(ended_.end(), threads_, own);
  none_.notify_all();
  lock.unlock();
  for (std::thread& thread : before) thread.join();
}

void Workers::ForEach(int count, const std::function<void(int)>& task) {
  struct Shared {
    std::atomic<int> next{0};
    std::mutex mutex;
    std::condition_variable finished;
    int done = 0;
  };
  auto shared = std::make_shared<Shared>();
  // A late thread finds no index left and never touches `task`, which is gone by then.
  auto take = [shared, count, &task] {
    for (int i = shared->next++; i < count; i = shared->next++) {
      task(i);
      std::lock_guard lock(shared->mutex);
      if (++shared->done == count) shared->finished.notify_all();
    }
  };
  for (int i = 1; i < count && i <= most_; ++i) Submit(take);
  take();
  std::unique_lock lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->done == count; });
}

}  // namespace coffer::provider
