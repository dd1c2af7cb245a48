// Metrics: counters and histograms in Prometheus' text format, under the names and labels that
// dashboards of secrets-store-csi-driver know.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace coffer::csi {

enum class Counter {
  kNodePublish,
  kNodeUnpublish,
  kNodePublishError,
  kNodeUnpublishError,
  kSyncSecret,
  kRotation,
  kRotationError,
  kKubernetesWrite,
  kOpen,
  kCanary,
};
enum class Moment { kLastOpen };
enum class Timing { kSyncSecret, kRotation, kNodePublish };

// Safe on any thread. A family holds 2,000 series; then the one that was longest without a change
// makes way: pods come and go.
class Metrics {
 public:
  using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

  void Add(Counter counter, Labels labels);
  void Observe(Timing timing, absl::Duration took, Labels labels);
  // A gauge of seconds since 1970.
  void Set(Moment moment, absl::Time time, Labels labels);
  // `value` is asked for at each Text(). Called before threads are made.
  void Gauge(std::string name, std::string help, std::function<double()> value);

  // Version 0.0.4 of the exposition format.
  std::string Text() const;

 private:
  static constexpr std::size_t kBuckets = 17;
  using Order = std::list<const std::string*>;
  struct Count {
    std::uint64_t value = 0;
    Order::iterator place = {};
  };
  struct Instant {
    double seconds = 0;  // since 1970
    Order::iterator place = {};
  };
  struct Histogram {
    std::array<std::uint64_t, kBuckets + 1> buckets = {};  // not cumulative; the last: +Inf
    double sum = 0;                                        // seconds
    Order::iterator place = {};
  };
  struct GaugeFamily {
    std::string name;
    std::string help;
    std::function<double()> value;
  };
  template <class Series>
  struct Family {
    std::map<std::string, Series> series;  // by labels as they are printed
    Order order;                           // of them, by their last change
  };

  template <class Series>
  Series& Find(Family<Series>& family, Labels labels);

  mutable std::mutex mutex_;
  std::array<Family<Count>, 10> counters_;
  std::array<Family<Instant>, 1> moments_;
  std::array<Family<Histogram>, 3> timings_;
  std::vector<GaugeFamily> gauges_;
};

}  // namespace coffer::csi
