#include "csi/metrics.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

constexpr std::size_t kMostSeries = 2000;

struct FamilyFacts {
  std::string_view name;
  std::string_view help;
};

// In the order of the enumerations.
constexpr FamilyFacts kCounters[] = {
    {"node_publish_total", "Total number of node publish calls"},
    {"node_unpublish_total", "Total number of node unpublish calls"},
    {"node_publish_error_total", "Total number of node publish calls with error"},
    {"node_unpublish_error_total", "Total number of node unpublish calls with error"},
    {"sync_k8s_secret_total", "Total number of k8s secrets synced"},
    {"rotation_reconcile_total", "Total number of rotation reconciles"},
    {"rotation_reconcile_error_total", "Total number of rotation reconciles with error"},
    {"coffer_csi_kubernetes_writes_total", "Writes to the API server, by result"},
    {"coffer_csi_opens_total", "Opens of files of audited volumes, and refused ones of all, by result"},
    {"coffer_csi_canary_opens_total", "Canary files that were opened: the first open of each"},
};
constexpr FamilyFacts kMoments[] = {
    {"coffer_csi_last_open_timestamp_seconds", "When a file of an audited volume was last opened"},
};
constexpr FamilyFacts kTimings[] = {
    {"sync_k8s_secret_duration_sec", "Distribution of how long it took to sync k8s secret"},
    {"rotation_reconcile_duration_sec",
     "Distribution of how long it took to rotate secrets-store content for pods"},
    {"coffer_csi_node_publish_duration_sec", "Distribution of how long it took to publish volumes"},
};
// The upstream driver's, and finer ones below, since publishing takes milliseconds here.
constexpr double kBounds[] = {0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 1,
                              1.5,   2,    2.5,  3,   5,   10,  15,  30};

// name="value", sorted as they are given; a value's backslash, quote and line end are escaped.
std::string Printed(Metrics::Labels labels) {
  std::string text;
  for (const auto& [name, value] : labels) {
    StrAppend(&text, text.empty() ? "" : ",", name, "=\"");
    for (const char c : value) {
      if (c == '\n') {
        text += "\\n";
      } else {
        if (c == '\\' || c == '"') text += '\\';
        text += c;
      }
    }
    text += '"';
  }
  return text;
}

void Head(const FamilyFacts& facts, std::string_view type, std::string* text) {
  StrAppend(text, "# HELP ", facts.name, " ", facts.help, "\n# TYPE ", facts.name, " ", type, "\n");
}

}  // namespace

template <class Series>
Series& Metrics::Find(Family<Series>& family, Labels labels) {
  Order& order = family.order;
  const auto [found, added] = family.series.try_emplace(Printed(labels));
  Series& series = found->second;
  if (added) {
    series.place = order.insert(order.end(), &found->first);
  } else {
    order.splice(order.end(), order, series.place);
  }
  if (order.size() > kMostSeries) {
    const auto oldest = family.series.find(*order.front());
    order.pop_front();
    family.series.erase(oldest);
  }
  return series;
}

void Metrics::Add(Counter counter, Labels labels) {
  std::lock_guard lock(mutex_);
  ++Find(counters_[static_cast<std::size_t>(counter)], labels).value;
}

void Metrics::Observe(Timing timing, absl::Duration took, Labels labels) {
  static_assert(std::size(kBounds) == kBuckets);
  const double seconds = absl::ToDoubleSeconds(took);
  const auto bucket = std::lower_bound(std::begin(kBounds), std::end(kBounds), seconds);
  std::lock_guard lock(mutex_);
  Histogram& histogram = Find(timings_[static_cast<std::size_t>(timing)], labels);
  ++histogram.buckets[static_cast<std::size_t>(bucket - std::begin(kBounds))];
  histogram.sum += seconds;
}

void Metrics::Set(Moment moment, absl::Time time, Labels labels) {
  std::lock_guard lock(mutex_);
  Find(moments_[static_cast<std::size_t>(moment)], labels).seconds =
      static_cast<double>(absl::ToUnixMillis(time)) / 1000;
}

void Metrics::Gauge(std::string name, std::string help, std::function<double()> value) {
  gauges_.push_back({std::move(name), std::move(help), std::move(value)});
}

std::string Metrics::Text() const {
  std::string text;
  for (const GaugeFamily& gauge : gauges_) {
    Head({gauge.name, gauge.help}, "gauge", &text);
    StrAppend(&text, gauge.name, " ", gauge.value(), "\n");
  }
  std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < counters_.size(); ++i) {
    Head(kCounters[i], "counter", &text);
    for (const auto& [labels, count] : counters_[i].series) {
      StrAppend(&text, kCounters[i].name, "{", labels, "} ", count.value, "\n");
    }
  }
  for (std::size_t i = 0; i < moments_.size(); ++i) {
    Head(kMoments[i], "gauge", &text);
    for (const auto& [labels, instant] : moments_[i].series) {
      // More digits than absl::StrCat prints.
      StrAppend(&text, kMoments[i].name, "{", labels, "} ",
                absl::StrFormat("%.3f", instant.seconds), "\n");
    }
  }
  for (std::size_t i = 0; i < timings_.size(); ++i) {
    const std::string_view name = kTimings[i].name;
    Head(kTimings[i], "histogram", &text);
    for (const auto& [labels, histogram] : timings_[i].series) {
      std::uint64_t below = 0;
      for (std::size_t bucket = 0; bucket <= kBuckets; ++bucket) {
        below += histogram.buckets[bucket];
        StrAppend(&text, name, "_bucket{", labels, labels.empty() ? "" : ",", "le=\"");
        if (bucket == kBuckets) {
          text += "+Inf";
        } else {
          StrAppend(&text, kBounds[bucket]);
        }
        StrAppend(&text, "\"} ", below, "\n");
      }
      StrAppend(&text, name, "_sum{", labels, "} ", histogram.sum, "\n", name, "_count{", labels,
                "} ", below, "\n");
    }
  }
  return text;
}

}  // namespace coffer::csi
