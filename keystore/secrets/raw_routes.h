// One route for objects that are kept as they are given: what kv version 1 and the cubbyhole share.
#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "keystore/core/backend.h"

namespace coffer::keystore {

// `view`: where the objects of a request stand. With `leases` an answer shows for how long the object
// may be used: its "ttl" (or "lease") member, or the mount's default lease TTL.
// `changed` hears of each "write" and "delete" within its transaction.
std::vector<Route> RawRoutes(
    std::function<absl::StatusOr<Txn>(const Request&, Txn&)> view, std::optional<LeaseTtls> leases,
    std::function<void(const Request&, Txn&, std::string_view operation)> changed = nullptr);

}  // namespace coffer::keystore
