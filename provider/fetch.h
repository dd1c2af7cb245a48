// Fetch: one fetch's login and reads.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "provider/keystore_client.h"
#include "provider/provider.h"
#include "provider/reading.h"
#include "provider/session.h"
#include "provider/workers.h"

namespace coffer::provider {

class Fetch {
 public:
  // All are kept by the caller; the session knows its login and its transport.
  Fetch(const Clock& clock, Workers& workers, const Pod& pod, Session& session,
        absl::Time deadline);

  // Logs in, unless the pod's token still serves, and sends every request that the objects need,
  // all at the same time. What the keystore refuses is in the plan's requests. Where it refuses a
  // token that was kept, which may be gone (revoked, used up, a keystore restored) or made before
  // the role's policies changed, a new login has its try: it replaces the old one if it may more.
  absl::StatusOr<Plan> Read(const std::vector<Object>& objects);

  // After a fetch all of whose objects were read: leases of requests that no object needs any
  // longer are dropped.
  void Settle(const Plan& plan);

 private:
  absl::StatusOr<TokenPtr> LogIn() const;
  absl::StatusOr<Plan> ReadWith(const std::vector<Object>& objects, const TokenPtr& token);
  void Renounce(const TokenPtr& token) const;
  absl::StatusOr<std::vector<std::string>> List(const TokenPtr& token,
                                                const std::string& path) const;
  // Fills in the response; what there is to remember of a lease, or unset.
  std::optional<Lease> ReadOne(const TokenPtr& token, Request& request) const;
  // Whether a lease could be renewed: false, read anew.
  absl::StatusOr<bool> Renew(const TokenPtr& token, Lease* lease) const;

  const Clock& clock_;
  Workers& workers_;
  const Pod& pod_;
  Session& session_;
  const absl::Time deadline_;
  const KeystoreClient client_;
};

}  // namespace coffer::provider
