// Telemetry: what the keystore counts of itself, told in Prometheus' text format and in the document
// of Vault's sys/metrics (https://developer.hashicorp.com/vault/api-docs/system/metrics).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/json.h"
#include "keystore/core/request.h"

namespace coffer::keystore {

// Safe on any thread, without locks: it stands in the way of every request.
class Telemetry {
 public:
  // One request is answered. `login`: it asked to be let in.
  void Count(Operation operation, bool login, int http_status, absl::Duration took);
  // `value` is asked for whenever metrics are. Called before the first request.
  void Gauge(std::string name, std::string help, std::function<double()> value);

  // Version 0.0.4 of the exposition format. `prefix` ("vault") starts the names that Vault has, too.
  std::string Prometheus(std::string_view prefix) const;
  // {"Timestamp", "Gauges", "Points", "Counters", "Samples"}: totals since the start, where Vault
  // tells the last ten seconds.
  Json Document(std::string_view prefix, absl::Time now) const;

 private:
  static constexpr std::size_t kOperations = 7;
  static constexpr std::size_t kCodes = 5;  // 1xx to 5xx
  static constexpr std::size_t kBuckets = 10;
  using Number = std::atomic<std::uint64_t>;
  struct Timing {
    std::array<Number, kBuckets + 1> buckets = {};  // not cumulative; the last: longer than all
    Number nanoseconds = 0;
    std::uint64_t count() const;
    double milliseconds() const;
  };
  struct GaugeFacts {
    std::string name;
    std::string help;
    std::function<double()> value;
  };

  std::array<std::array<Number, kCodes>, kOperations> requests_ = {};
  std::array<Timing, 2> timings_;  // of requests that are no logins, of logins
  std::vector<GaugeFacts> gauges_;
};

// The process's memory, processor time, descriptors and start, as Prometheus' client libraries name
// them.
void AddProcessGauges(Telemetry& telemetry);

}  // namespace coffer::keystore
