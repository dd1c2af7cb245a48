// SteadyTime: time that nobody sets, for what waits and what lasts. Handed in where a test must make it
// pass.
#pragma once

#include <chrono>
#include <functional>

namespace coffer::csi {

using SteadyTime = std::chrono::steady_clock::time_point;
using SteadyNow = std::function<SteadyTime()>;

}  // namespace coffer::csi
