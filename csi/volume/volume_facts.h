// What the keeper is told about a volume beside its descriptors, as one text:
//
//   facts := device LF ("opens" | "fast") LF ("audit" | "") LF namespace LF pod LF uid LF class LF
//            volume id
//
// An LF within a part is written as a blank; the device is a decimal number.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "csi/volume/volume.h"

namespace coffer::volume {

struct VolumeFacts {
  std::uint64_t device = 0;
  bool opens = false;  // are delivered
  VolumeInfo info;     // without the target
};

std::string WriteFacts(const VolumeFacts& facts);
// FailedPrecondition: another build's.
absl::StatusOr<VolumeFacts> ReadFacts(std::string_view text);

// Whether rules of one of the files can be kept only where opens are delivered.
bool NeedOpens(const std::vector<SnapshotFile>& files);

}  // namespace coffer::volume
