// Eventually: for tests of what other threads or processes do in their own time.
#pragma once

#include <chrono>
#include <thread>

namespace coffer {

// Whether it holds within a time that the slowest machine needs.
template <class Holds>
bool Eventually(const Holds& holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace coffer
