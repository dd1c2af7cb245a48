#include "csi/rotation.h"

#include "absl/time/clock.h"

namespace coffer::csi {
namespace {

TEST_CASE("the next fetch is after the interval, but before a lease ends") {
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  const RotationRule off{false, absl::Minutes(2)}, kubelets{true, absl::ZeroDuration()},
      minutes{true, absl::Minutes(2)};
  struct Case {
    RotationRule rule;
    std::optional<absl::Duration> lease;
    double random;
    absl::Duration wanted;
  };
  const Case cases[] = {
      {kubelets, std::nullopt, 0.5, absl::InfiniteDuration()},
      {off, absl::Seconds(10), 0.5, absl::InfiniteDuration()},
      {minutes, std::nullopt, 0, absl::Seconds(120)},
      {minutes, std::nullopt, 0.5, absl::Seconds(126)},
      {minutes, absl::Seconds(100), 0, absl::Seconds(100)},
      {minutes, absl::Seconds(100), 0.5, absl::Seconds(95)},
      {minutes, absl::Hours(1), 0, absl::Seconds(120)},
      {kubelets, absl::Seconds(100), 0, absl::Seconds(100)},
      {kubelets, -absl::Seconds(100), 0.5, absl::ZeroDuration()},
  };
  for (const Case& c : cases) {
    const auto by = c.lease ? std::optional(now + *c.lease) : std::nullopt;
    const absl::Duration next = NextFetch(c.rule, by, now, c.random);
    const bool as_wanted =
        next == c.wanted || absl::AbsDuration(next - c.wanted) < absl::Milliseconds(1);
    INFO("next " << next << ", wanted " << c.wanted);
    CHECK(as_wanted);
  }
}

TEST_CASE("retries come ever later, spread out, five minutes apart at most or so") {
  CHECK(RetryAfter(1, 0.5) == absl::Seconds(5));
  CHECK(RetryAfter(1, 0) == absl::Seconds(2.5));
  CHECK(RetryAfter(2, 0.5) == absl::Seconds(10));
  CHECK(RetryAfter(7, 0.5) == absl::Minutes(5));
  CHECK(RetryAfter(1'000'000, 0.5) == absl::Minutes(5));
}

struct Fixture {
  void Publish(const std::string& target, absl::Status status = absl::OkStatus(),
               std::optional<absl::Time> by = std::nullopt) {
    PublishOutcome outcome;
    outcome.status = std::move(status);
    outcome.refetch_by = by;
    rotation.Published(target, context, outcome);
  }
  // Waits until `count` fetches have begun.
  bool Fetched(int count) {
    const absl::Time end = absl::Now() + absl::Seconds(60);
    while (fetches < count && absl::Now() < end) absl::SleepFor(absl::Milliseconds(2));
    return fetches >= count;
  }

  VolumeContext context;
  SystemClock clock;
  std::atomic<int> fetches{0}, at_once{0}, most{0};
  provider::Workers workers{2};
  Rotation rotation{clock, workers};
};

TEST_CASE("what is asked for is fetched, a few at once, and nothing else is") {
  Fixture f;
  f.rotation.Start([&](const std::string& target) {
    const int now = ++f.at_once;
    if (now > f.most) f.most = now;
    absl::SleepFor(absl::Milliseconds(5));
    --f.at_once;
    f.Publish(target);
    ++f.fetches;
    return absl::OkStatus();
  });
  for (int i = 0; i < 20; ++i) f.Publish(StrCat("/", i));
  f.rotation.Soon("/unknown", absl::ZeroDuration());
  for (int i = 0; i < 10; ++i) f.rotation.Soon(StrCat("/", i), absl::Milliseconds(1));
  CHECK(f.Fetched(10));
  f.rotation.Stop();
  CHECK(f.fetches == 10);
  CHECK(f.most <= 2);
}

TEST_CASE("a fetch that meets another call is repeated, and a lease's end is kept") {
  Fixture f;
  f.rotation.Start([&](const std::string& target) {
    if (++f.fetches < 4) return absl::AbortedError("busy");
    f.Publish(target);
    return absl::OkStatus();
  });
  f.Publish("/a", absl::OkStatus(), f.clock.Now() + absl::Milliseconds(10));
  CHECK(f.Fetched(4));
}

TEST_CASE("a change that is heard of during another call is not lost with it") {
  Fixture f;
  std::atomic<bool> busy{true}, met{false};
  f.rotation.Start([&](const std::string& target) {
    if (busy) {
      met = true;
      return absl::AbortedError("busy");
    }
    f.Publish(target);
    ++f.fetches;
    return absl::OkStatus();
  });
  f.Publish("/a");
  f.rotation.Soon("/a", absl::ZeroDuration());
  while (!met) absl::SleepFor(absl::Milliseconds(1));
  f.Publish("/a");  // the other call ends, and may have read the old content
  busy = false;
  CHECK(f.Fetched(1));
}

TEST_CASE("volumes that are gone are not fetched") {
  Fixture f;
  f.rotation.Start([&](const std::string&) {
    ++f.fetches;
    return absl::OkStatus();
  });
  f.Publish("/gone");
  f.rotation.Soon("/gone", absl::Hours(1));
  f.rotation.Unpublished("/gone", {}, absl::OkStatus());
  f.Publish("/failed", absl::UnavailableError("never mounted"));
  f.Publish("/there");
  f.rotation.Soon("/there", absl::ZeroDuration());
  CHECK(f.Fetched(1));
  f.rotation.Stop();
  CHECK(f.fetches == 1);
}

}  // namespace
}  // namespace coffer::csi
