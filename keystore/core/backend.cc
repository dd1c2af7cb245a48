#include "keystore/core/backend.h"

namespace coffer::keystore {
namespace {

constexpr char kNeedsWorker[] = "coffer/needs-worker";

}  // namespace

absl::Status NeedsWorker() {
  absl::Status status = absl::InternalError("this handler waits: run it on a worker");
  status.SetPayload(kNeedsWorker, {});
  return status;
}

bool IsNeedsWorker(const absl::Status& status) {
  return status.GetPayload(kNeedsWorker).has_value();
}

}  // namespace coffer::keystore
