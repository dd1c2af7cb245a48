// MetricsObserver: counts what became of volumes, with the upstream driver's labels.
#pragma once

#include "csi/metrics.h"
#include "csi/volume_observer.h"

namespace coffer::csi {

class MetricsObserver : public VolumeObserver {
 public:
  explicit MetricsObserver(Metrics& metrics) : metrics_(metrics) {}

  // A first publish counts as one; each later one of the same volume is a rotation reconcile.
  void Published(const std::string& target, const VolumeContext& context,
                 PublishOutcome& outcome) override;
  void Unpublished(const std::string& target, const volume::PodFacts& pod,
                   const absl::Status& status) override;

 private:
  Metrics& metrics_;
};

}  // namespace coffer::csi
