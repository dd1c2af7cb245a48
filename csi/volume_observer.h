// VolumeObserver: is told what became of each call, so that the Publisher knows nothing of metrics
// and Kubernetes objects.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "csi/class_source.h"
#include "csi/secret_objects.h"
#include "csi/volume_context.h"
#include "provider/provider.h"

namespace coffer::csi {

struct PublishOutcome {
  absl::Status status;
  std::string error_type;  // the upstream driver's word for what failed: "SecretProviderClassNotFound"
  ClassObject secret_class;  // no name: it wasn't found
  bool again = false;        // the volume was published before
  bool rotated = false;      // and holds other content now
  std::vector<provider::ObjectVersion> versions;  // of what was fetched
  std::vector<SecretPayload> secrets;             // of the class's secretObjects
  absl::Duration took;
};

// Called on the threads of the calls, which wait meanwhile: takes notes and does the work elsewhere.
class VolumeObserver {
 public:
  virtual ~VolumeObserver() = default;
  virtual void Published(const std::string& target, const VolumeContext& context,
                         PublishOutcome& outcome) = 0;
  virtual void Unpublished(const std::string& target, const absl::Status& status) = 0;
};

}  // namespace coffer::csi
