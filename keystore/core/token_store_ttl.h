// How long a token lives: Vault's rules for what is asked, what the mount gives, and the limits.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coffer::keystore {

// Durations of zero mean: not set.
struct TtlTerms {
  absl::Duration ttl;               // what is asked for
  absl::Duration default_ttl;       // where nothing is asked for; ComputeTtl needs it
  absl::Duration max_ttl;           // from `start`; a period is only cut to it; ComputeTtl needs it
  absl::Duration explicit_max_ttl;  // from `start`, with a period too
  absl::Duration period;            // takes the place of `ttl`
  absl::Time start;                 // when the token was made
};

struct Ttl {
  absl::Duration ttl;
  std::vector<std::string> warnings;  // where it is less than was asked for
};

// Internal, as in Vault: the token is past its maximum already.
absl::StatusOr<Ttl> ComputeTtl(const TtlTerms& terms, absl::Time now);

}  // namespace coffer::keystore
