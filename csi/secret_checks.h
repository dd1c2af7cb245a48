// SecretChecks: sets the Secrets of spec.secretObjects right that someone has deleted or changed, from
// what the volumes hold: also where nothing is rotated and the kubelet doesn't ask again. As the upstream
// driver does, every five minutes.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "csi/class_source.h"
#include "csi/kube_reporter.h"
#include "csi/volume/volume.h"

namespace coffer::csi {

class SecretChecks {
 public:
  // All are kept by the caller.
  SecretChecks(ClassSource& classes, volume::VolumeServer& volumes, KubeReporter& reporter);
  ~SecretChecks();

  // Those that are due now.
  void CheckDue();

 private:
  void Run();

  ClassSource& classes_;
  volume::VolumeServer& volumes_;
  KubeReporter& reporter_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace coffer::csi
