#include "keystore/storage/commit_queue.h"

#include <catch2/catch.hpp>
#include <thread>

namespace coffer::keystore {
namespace {

constexpr auto kNever = CommitQueue::Clock::time_point::max();

std::size_t Take(CommitQueue& queue, CommitQueue::Clock::time_point deadline = kNever) {
  std::vector<PendingCommit> taken;
  REQUIRE(queue.Take(deadline, &taken));
  return taken.size();
}

TEST_CASE("what is queued is taken together, and nothing at the deadline") {
  CommitQueue queue;
  CHECK(Take(queue, CommitQueue::Clock::now()) == 0);
  queue.Add({});
  queue.Add({});
  CHECK(Take(queue) == 2);
  CHECK(Take(queue, CommitQueue::Clock::now()) == 0);
}

TEST_CASE("what was queued before the end is taken") {
  CommitQueue queue;
  queue.Add({});
  queue.End();
  CHECK(Take(queue) == 1);
  std::vector<PendingCommit> taken;
  CHECK_FALSE(queue.Take(kNever, &taken));
}

TEST_CASE("the end wakes who waits") {
  CommitQueue queue;
  std::thread other([&] { queue.End(); });
  std::vector<PendingCommit> taken;
  CHECK_FALSE(queue.Take(kNever, &taken));
  other.join();
}

TEST_CASE("nothing is lost between many threads and the one that takes") {
  CommitQueue queue;
  constexpr std::size_t kThreads = 4, kEach = 1000;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < kEach; ++i) queue.Add({});
    });
  }
  for (std::size_t total = 0; total < kThreads * kEach;) {
    const std::size_t taken = Take(queue);
    REQUIRE(taken > 0);
    total += taken;
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace coffer::keystore
