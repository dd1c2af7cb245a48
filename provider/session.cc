#include "provider/session.h"

#include <algorithm>

#include "provider/provider.h"

namespace coffer::provider {

std::optional<absl::Time> Session::due() const {
  std::optional<absl::Time> due;
  const auto at = [&due](absl::Time time) { due = std::min(due.value_or(time), time); };
  for (const auto& [request, lease] : leases) {
    at(lease.act_at);
    if (!lease.id.empty() && pod_login != nullptr) at(pod_login->renew_at());
  }
  return due;
}

void SessionDeleter::operator()(Session* session) const { delete session; }
SessionPtr NewSession() { return SessionPtr(new Session); }
bool HoldsToken(const Session& session) { return session.holds_token(); }
bool HoldsLeases(const Session& session) {
  return std::any_of(session.leases.begin(), session.leases.end(),
                     [](const auto& lease) { return !lease.second.id.empty(); });
}

}  // namespace coffer::provider
