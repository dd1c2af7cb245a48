// OpenReporter: tells of opens where it is wanted: in the audit log, as metrics, in the read times and
// the volume's record, and of a canary to its pod. Does nothing that waits.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "csi/audit_log.h"
#include "csi/metrics.h"
#include "csi/read_times.h"
#include "csi/volume/open_listener.h"
#include "csi/volume_observer.h"
#include "csi/volume_records.h"

namespace coffer::csi {

class OpenReporter : public volume::OpenListener, public VolumeObserver {
 public:
  // All are kept by the caller. `audit_log`: null, or where lines go. `on_canary`: null, or called
  // at a canary's first open, and sees to OpenEvent::delivered.
  OpenReporter(AuditLog* audit_log, Metrics& metrics, ReadTimes& times, VolumeRecords& records,
               std::function<void(const volume::OpenEvent&)> on_canary)
      : audit_log_(audit_log),
        metrics_(metrics),
        times_(times),
        records_(records),
        on_canary_(std::move(on_canary)) {}

  void Opening(const volume::OpenEvent& event) override;
  void Opened(const volume::OpenEvent& event) override;
  void StillOwed(const volume::OpenEvent& event) override;
  void Published(const std::string& target, const VolumeContext& context,
                 PublishOutcome& outcome) override;
  void Unpublished(const std::string& target, const volume::PodFacts& pod,
                   const absl::Status& status) override;
  void TakenOver(const std::string& target, const VolumeContext& context,
                 const std::vector<provider::ObjectVersion>& versions,
                 absl::Time fetched) override;

 private:
  // To the cluster.
  void Owe(const volume::OpenEvent& event);
  // As metrics what the plugin before this one has seen of the pod.
  void Remember(const VolumeContext& context);

  AuditLog* const audit_log_;
  Metrics& metrics_;
  ReadTimes& times_;
  VolumeRecords& records_;
  const std::function<void(const volume::OpenEvent&)> on_canary_;
  std::atomic<bool> said_ = false;  // what an audited class can't have here
};

}  // namespace coffer::csi
