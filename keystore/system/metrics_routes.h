// The route of sys/metrics.
#pragma once

#include <string>
#include <vector>

#include "common/clock.h"
#include "keystore/core/backend.h"
#include "keystore/core/telemetry.h"

namespace coffer::keystore {

struct MetricsOptions {
  std::string prefix = "vault";  // of the names that Vault has, too
  bool prometheus = true;        // or ?format=prometheus is refused
};

// All but the options outlive the route. Its pattern is relative to "sys/".
std::vector<Route> MetricsRoutes(const Telemetry& telemetry, const Clock& clock,
                                 MetricsOptions options);

}  // namespace coffer::keystore
