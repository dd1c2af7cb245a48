// Lease: what the keystore gave for a time: credentials that end, certificates, static passwords
// that change at a known moment.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "common/json.h"

namespace coffer::provider {

struct Lease {
  Json response;           // used until `act_at`; null: asked for at every fetch
  std::string id;          // "" = none at the keystore: nothing to renew, and no token's end ends it
  bool renewable = false;  // by sys/leases/renew
  absl::Duration lasts;    // as it was first granted
  absl::Time taken_at;     // when it was read or last renewed
  absl::Time act_at;       // from here on it is renewed or, where it can't be, read anew
  absl::Time expires_at;

  // Also where the clock was set back since it was taken: nobody knows how much of it is left.
  bool due(absl::Time now) const { return now >= act_at || now < taken_at; }
};

// The lease that an answer at `now` came with:
//   lease_id, lease_duration, renewable          dynamic secrets: to act on after two thirds
//   data.certificate and data.expiration         certificates made by this very request (`made`), as
//                                                PKI gives them without a lease: the same
//   data.ttl with rotation_period or _schedule   static roles: to be read when the keystore has
//                                                changed the password
// Asking for the first two again would make new ones, so they are kept.
std::optional<Lease> LeaseOf(const Json& response, bool made, absl::Time now);

// Takes the answer of sys/leases/renew at `now`. False: the keystore lengthens it no more than by
// a tenth of its time, so it is to be read anew.
bool TakeRenewal(const Json& answer, absl::Time now, Lease* lease);

// The number of seconds in a member, 0 where there is none.
absl::Duration SecondsOf(const Json& object, std::string_view name);

}  // namespace coffer::provider
