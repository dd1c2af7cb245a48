#include "keystore/core/token_store_ttl.h"

#include <algorithm>

#include "common/duration.h"
#include "common/strings.h"

namespace coffer::keystore {

absl::StatusOr<Ttl> ComputeTtl(const TtlTerms& terms, absl::Time now) {
  constexpr absl::Duration kNone = absl::ZeroDuration();
  absl::Duration max_ttl = terms.max_ttl;
  if (terms.explicit_max_ttl > kNone) max_ttl = std::min(max_ttl, terms.explicit_max_ttl);

  Ttl result;
  absl::Time last = terms.start + max_ttl;
  if (terms.period > kNone) {
    result.ttl = terms.period;
    if (terms.period > max_ttl) {
      result.warnings.push_back(StrCat("period of \"", FormatBriefDuration(terms.period),
                                       "\" exceeded the effective max_ttl of \"",
                                       FormatBriefDuration(max_ttl),
                                       "\"; period value is capped accordingly"));
      result.ttl = max_ttl;
    }
    last = terms.explicit_max_ttl > kNone ? terms.start + terms.explicit_max_ttl
                                          : absl::InfiniteFuture();
  } else {
    result.ttl = terms.ttl > kNone ? terms.ttl : terms.default_ttl;
  }

  // TTLs are whole seconds.
  const absl::Duration left = last == absl::InfiniteFuture()
                                  ? absl::InfiniteDuration()
                                  : absl::Trunc(last - now + absl::Milliseconds(500),
                                                absl::Seconds(1));
  if (left <= kNone) {
    return absl::InternalError("1 error occurred:\n\t* past the max TTL, cannot renew\n\n");
  }
  if (result.ttl > left) {
    result.warnings.push_back(StrCat(
        "TTL of \"", FormatBriefDuration(result.ttl), "\" exceeded the effective max_ttl of \"",
        FormatBriefDuration(left), "\"; TTL value is capped accordingly"));
    result.ttl = left;
  }
  return result;
}

}  // namespace coffer::keystore
