#include "keystore/core/telemetry.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "absl/time/clock.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr double kBounds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1};
// In the order of Telemetry's timings: Vault's name, and what ours is labelled with.
constexpr std::pair<std::string_view, std::string_view> kTimings[] = {
    {"core.handle_request", "request"}, {"core.handle_login_request", "login"}};

void Head(std::string_view name, std::string_view help, std::string_view type, std::string* text) {
  StrAppend(text, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

// "core.handle_request" as Prometheus may have it.
std::string Underscored(std::string_view prefix, std::string_view name) {
  std::string text = StrCat(prefix, "_", name);
  std::replace(text.begin(), text.end(), '.', '_');
  return text;
}

// Names of gauges without a prefix of their own get Vault's.
bool IsVaults(std::string_view name) { return name.starts_with("core."); }

double ResidentBytes() {
  std::uint64_t all = 0;
  std::uint64_t resident = 0;  // pages
  std::ifstream("/proc/self/statm") >> all >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double ProcessorSeconds() {
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double OpenDescriptors() {
  DIR* const folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  double count = -3;  // ".", ".." and the folder's own
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

}  // namespace

std::uint64_t Telemetry::Timing::count() const {
  std::uint64_t sum = 0;
  for (const Number& bucket : buckets) sum += bucket.load(kRelaxed);
  return sum;
}

double Telemetry::Timing::milliseconds() const {
  return static_cast<double>(nanoseconds.load(kRelaxed)) / 1e6;
}

void Telemetry::Count(Operation operation, bool login, int http_status, absl::Duration took) {
  static_assert(std::size(kBounds) == kBuckets);
  const int code = std::clamp(http_status / 100, 1, static_cast<int>(kCodes)) - 1;
  requests_[static_cast<std::size_t>(operation)][static_cast<std::size_t>(code)].fetch_add(
      1, kRelaxed);
  Timing& timing = timings_[login ? 1 : 0];
  const auto* bucket =
      std::lower_bound(std::begin(kBounds), std::end(kBounds), absl::ToDoubleSeconds(took));
  timing.buckets[static_cast<std::size_t>(bucket - std::begin(kBounds))].fetch_add(1, kRelaxed);
  timing.nanoseconds.fetch_add(static_cast<std::uint64_t>(absl::ToInt64Nanoseconds(took)),
                               kRelaxed);
}

void Telemetry::Gauge(std::string name, std::string help, std::function<double()> value) {
  gauges_.push_back({std::move(name), std::move(help), std::move(value)});
}

std::string Telemetry::Prometheus(std::string_view prefix) const {
  std::string text;
  for (const GaugeFacts& gauge : gauges_) {
    const std::string name = IsVaults(gauge.name) ? Underscored(prefix, gauge.name) : gauge.name;
    Head(name, gauge.help, "gauge", &text);
    StrAppend(&text, name, " ", gauge.value(), "\n");
  }
  for (std::size_t i = 0; i < timings_.size(); ++i) {
    const std::string name = Underscored(prefix, kTimings[i].first);
    Head(name, "How long requests took, in milliseconds", "summary", &text);
    StrAppend(&text, name, "_sum ", timings_[i].milliseconds(), "\n", name, "_count ",
              timings_[i].count(), "\n");
  }

  constexpr std::string_view kRequests = "coffer_keystore_requests_total";
  Head(kRequests, "Requests answered, by operation and class of status", "counter", &text);
  for (std::size_t operation = 0; operation < kOperations; ++operation) {
    for (std::size_t code = 0; code < kCodes; ++code) {
      const std::uint64_t count = requests_[operation][code].load(kRelaxed);
      if (count == 0) continue;
      StrAppend(&text, kRequests, "{operation=\"", OperationName(static_cast<Operation>(operation)),
                "\",code=\"", code + 1, "xx\"} ", count, "\n");
    }
  }
  constexpr std::string_view kDuration = "coffer_keystore_request_duration_seconds";
  Head(kDuration, "How long requests took, until their answer was durable", "histogram", &text);
  for (std::size_t i = 0; i < timings_.size(); ++i) {
    const std::string label = StrCat("kind=\"", kTimings[i].second, "\"");
    std::uint64_t below = 0;
    for (std::size_t bucket = 0; bucket <= kBuckets; ++bucket) {
      below += timings_[i].buckets[bucket].load(kRelaxed);
      StrAppend(&text, kDuration, "_bucket{", label, ",le=\"");
      if (bucket == kBuckets) {
        text += "+Inf";
      } else {
        StrAppend(&text, kBounds[bucket]);
      }
      StrAppend(&text, "\"} ", below, "\n");
    }
    StrAppend(&text, kDuration, "_sum{", label, "} ", timings_[i].milliseconds() / 1e3, "\n",
              kDuration, "_count{", label, "} ", below, "\n");
  }
  return text;
}

Json Telemetry::Document(std::string_view prefix, absl::Time now) const {
  Json gauges = Json::array();
  for (const GaugeFacts& gauge : gauges_) {
    gauges.push_back({{"Name", IsVaults(gauge.name) ? StrCat(prefix, ".", gauge.name) : gauge.name},
                      {"Value", gauge.value()},
                      {"Labels", Json::object()}});
  }
  Json samples = Json::array();
  for (std::size_t i = 0; i < timings_.size(); ++i) {
    const std::uint64_t count = timings_[i].count();
    const double sum = timings_[i].milliseconds();
    samples.push_back({{"Name", StrCat(prefix, ".", kTimings[i].first)},
                       {"Count", count},
                       {"Sum", sum},
                       {"Mean", count == 0 ? 0.0 : sum / static_cast<double>(count)},
                       {"Labels", Json::object()}});
  }
  Json counters = Json::array();
  for (std::size_t operation = 0; operation < kOperations; ++operation) {
    for (std::size_t code = 0; code < kCodes; ++code) {
      const std::uint64_t count = requests_[operation][code].load(kRelaxed);
      if (count == 0) continue;
      counters.push_back(
          {{"Name", "coffer.keystore.requests"},
           {"Count", count},
           {"Labels",
            {{"operation", std::string(OperationName(static_cast<Operation>(operation)))},
             {"code", StrCat(code + 1, "xx")}}}});
    }
  }
  return {{"Timestamp", absl::FormatTime("%Y-%m-%d %H:%M:%S +0000 UTC", now, absl::UTCTimeZone())},
          {"Gauges", std::move(gauges)},
          {"Points", Json::array()},
          {"Counters", std::move(counters)},
          {"Samples", std::move(samples)}};
}

void AddProcessGauges(Telemetry& telemetry) {
  telemetry.Gauge("process_resident_memory_bytes", "Resident memory size in bytes", ResidentBytes);
  telemetry.Gauge("process_cpu_seconds_total", "Total user and system CPU time spent in seconds",
                  ProcessorSeconds);
  telemetry.Gauge("process_open_fds", "Number of open file descriptors", OpenDescriptors);
  telemetry.Gauge("process_start_time_seconds", "Start time of the process since unix epoch",
                  [start = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch())] { return start; });
}

}  // namespace coffer::keystore
