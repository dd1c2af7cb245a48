// VolumeObserver: is told what became of each call, so that the Publisher knows nothing of metrics
// and Kubernetes objects.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "csi/class_source.h"
#include "csi/rotation_rule.h"
#include "csi/secret_objects.h"
#include "csi/volume/volume.h"
#include "csi/volume_context.h"
#include "provider/provider.h"

namespace coffer::csi {

struct PublishOutcome {
  absl::Status status;
  std::string error_type;  // the upstream driver's word for what failed: "SecretProviderClassNotFound"
  ClassObject secret_class;  // no name: it wasn't found
  bool again = false;        // the volume was published before
  bool early = false;        // and it is too early to read it anew: nothing was done
  bool rotated = false;      // and holds other content now
  bool class_changed = false;  // and was of the class as it was before
  std::vector<provider::ObjectVersion> versions;  // of what was fetched
  std::vector<SecretPayload> secrets;             // of the class's secretObjects
  std::optional<absl::Time> refetch_by;           // as FetchResult says
  RotationRule rotation;                          // of the class
  std::string warning;                            // as FetchResult says
  std::vector<std::string> audited;               // the files, where the class wants opens told
  absl::Duration took;
};

// Called on the threads of the calls, which wait meanwhile: takes notes and does the work elsewhere.
// Of a republish that came too early for its volume's rotation nothing is told.
class VolumeObserver {
 public:
  virtual ~VolumeObserver() = default;
  virtual void Published(const std::string& target, const VolumeContext& context,
                         PublishOutcome& outcome) = 0;
  // `pod` is empty where no such volume was known.
  virtual void Unpublished(const std::string& target, const volume::PodFacts& pod,
                           const absl::Status& status) = 0;
  // Of the plugin before this one, before any other call for the volume. `fetched`: when it last was.
  virtual void TakenOver(const std::string& /*target*/, const VolumeContext& /*context*/,
                         const std::vector<provider::ObjectVersion>& /*versions*/,
                         absl::Time /*fetched*/) {}
};

}  // namespace coffer::csi
