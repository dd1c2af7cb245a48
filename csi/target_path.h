// The folder that a volume is mounted on: <kubelet root>/pods/<uid>/volumes/kubernetes.io~csi/
// <name>/mount. The path comes from outside, so it is taken apart by openat2(2): below the root, no
// links on the way.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace coffer::csi {

// Whether `target` may be one at all: absolute, below `root`, no empty, "." or ".." part.
// InvalidArgument says what is wrong.
absl::Status CheckTarget(std::string_view root, std::string_view target);

// Makes the folder if it isn't there; its parent must be, which the kubelet makes. True: made now.
// What anyone else has mounted there (the driver that Coffer replaces) is detached.
// InvalidArgument: a link on the way; NotFound: no parent; FailedPrecondition: not a folder.
absl::StatusOr<bool> MakeTarget(std::string_view root, std::string_view target);

// Detaches all that is mounted there and removes the folder. OK where there is none.
// FailedPrecondition: files are in it.
absl::Status RemoveTarget(std::string_view root, std::string_view target);

}  // namespace coffer::csi
