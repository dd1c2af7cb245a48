#include "keystore/core/backend.h"

#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr char kNeedsWorker[] = "coffer/needs-worker";

}  // namespace

absl::StatusOr<TtlTerms> Backend::RenewalTerms(const TokenEntry& token, Txn&) {
  return TtlTerms{
      .ttl = token.given(), .explicit_max_ttl = token.explicit_max_ttl, .period = token.period};
}

absl::Status NotRenewed(std::string_view why) {
  return absl::InternalError(StrCat("1 error occurred:\n\t* failed to renew entry: ", why, "\n\n"));
}

absl::Status NeedsWorker() {
  absl::Status status = absl::InternalError("this handler waits: run it on a worker");
  status.SetPayload(kNeedsWorker, {});
  return status;
}

bool IsNeedsWorker(const absl::Status& status) {
  return status.GetPayload(kNeedsWorker).has_value();
}

}  // namespace coffer::keystore
