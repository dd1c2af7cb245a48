#include "provider/lease.h"

#include <algorithm>

#include "common/json_members.h"

namespace coffer::provider {
namespace {

constexpr absl::Duration kSoonest = absl::Seconds(1);
// Over a hundred years, as far as times are concerned.
constexpr double kMostSeconds = 100.0 * 366 * 24 * 3600;

absl::Time TwoThirds(absl::Time now, absl::Duration lasts) {
  return now + std::max(kSoonest, lasts * 2 / 3);
}

Lease Made(const Json& response, absl::Duration lasts, absl::Time now) {
  Lease lease;
  lease.response = response;
  lease.lasts = lasts;
  lease.taken_at = now;
  lease.act_at = TwoThirds(now, lasts);
  lease.expires_at = now + lasts;
  return lease;
}

}  // namespace

absl::Duration SecondsOf(const Json& object, std::string_view name) {
  const Json& value = At(object, name);
  if (!value.is_number()) return absl::ZeroDuration();
  return absl::Seconds(std::clamp(value.get<double>(), 0.0, kMostSeconds));
}

std::optional<Lease> LeaseOf(const Json& response, bool made, absl::Time now) {
  const std::string_view id = TextAt(response, "lease_id");
  const absl::Duration granted = SecondsOf(response, "lease_duration");
  if (!id.empty() && granted > absl::ZeroDuration()) {
    Lease lease = Made(response, granted, now);
    lease.id = id;
    lease.renewable = TrueAt(response, "renewable");
    return lease;
  }
  const Json& data = At(response, "data");
  if (!data.is_object()) return std::nullopt;
  if (made && data.contains("certificate") && data.contains("expiration")) {
    const absl::Duration left = absl::UnixEpoch() + SecondsOf(data, "expiration") - now;
    if (left > absl::ZeroDuration()) return Made(response, left, now);
  }
  const absl::Duration ttl = SecondsOf(data, "ttl");
  if (ttl > absl::ZeroDuration() &&
      (data.contains("rotation_period") || data.contains("rotation_schedule"))) {
    Lease lease = Made(Json(), ttl, now);
    lease.act_at = lease.expires_at = now + ttl + kSoonest;
    return lease;
  }
  return std::nullopt;
}

bool TakeRenewal(const Json& answer, absl::Time now, Lease* lease) {
  const absl::Duration granted = SecondsOf(answer, "lease_duration");
  if (granted < kSoonest || granted < lease->lasts / 10) return false;
  // Less than half of what it first had: its longest time is near, and the next is a new one.
  lease->renewable = granted >= lease->lasts / 2 && TrueAt(answer, "renewable");
  lease->taken_at = now;
  lease->act_at = TwoThirds(now, granted);
  lease->expires_at = now + granted;
  return true;
}

}  // namespace coffer::provider
