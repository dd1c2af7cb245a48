// VolumeLog: a line in the log for what happens to a volume, with its pod and class.
#pragma once

#include "csi/volume_observer.h"

namespace coffer::csi {

// What changed is told at level info, failures as warnings; that there was nothing new to read, and
// that another call is under way, at level debug.
class VolumeLog : public VolumeObserver {
 public:
  void Published(const std::string& target, const VolumeContext& context,
                 PublishOutcome& outcome) override;
  void Unpublished(const std::string& target, const volume::PodFacts& pod,
                   const absl::Status& status) override;
};

}  // namespace coffer::csi
