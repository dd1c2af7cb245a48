// KubeReporter: tells the cluster what became of volumes: a SecretProviderClassPodStatus each, the
// Secrets of spec.secretObjects, Events on the pods. It only notes what is to be written; a
// KubeWriter writes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "common/clock.h"
#include "csi/kube_client.h"
#include "csi/kube_objects.h"
#include "csi/kube_writer.h"
#include "csi/metrics.h"
#include "csi/steady_time.h"
#include "csi/volume/open_listener.h"
#include "csi/volume_observer.h"

namespace coffer::csi {

class KubeReporter : public VolumeObserver {
 public:
  // All are kept by the caller.
  KubeReporter(const Clock& clock, KubeClient& client, Metrics& metrics, std::string node,
               SteadyNow now = std::chrono::steady_clock::now);

  void Published(const std::string& target, const VolumeContext& context,
                 PublishOutcome& outcome) override;
  void Unpublished(const std::string& target, const volume::PodFacts& pod,
                   const absl::Status& status) override;
  void TakenOver(const std::string& target, const VolumeContext& context,
                 const std::vector<provider::ObjectVersion>& versions,
                 absl::Time fetched) override;

  // A Warning on the pod whose canary file was opened.
  void CanaryOpened(const volume::OpenEvent& event);

  // A Warning on the plugin's own pod.
  void TellOwnPod(std::string_view name_space, std::string_view name, std::string_view uid,
                  std::string reason, const absl::Status& why);

  // Forgets the statuses that a plugin before this one left for volumes that are gone.
  void CleanUp();

  KubeWriter& writer() { return writer_; }

 private:
  // What became of an object: where an answer was lost, or another plugin was at work, nobody knows.
  enum class Written { kNever, kPerhaps, kYes };
  // What is known of one published volume; shared with the jobs that write it.
  struct Volume {
    PodVolume facts;
    Written status = Written::kNever;             // the writer's thread's alone
    Written before = Written::kNever;             // what holds of Secrets that aren't known yet
    std::map<std::string, Written> secrets;       // by name, until they are released; under mutex_
    SteadyTime secrets_due = SteadyTime::min();   // looked after again from then on
  };
  using VolumePtr = std::shared_ptr<Volume>;
  struct SentEvent {
    PodEvent event;
    SteadyTime written;
  };

  void PutStatus(const VolumePtr& volume);
  void PutSecret(const VolumePtr& volume, SecretPayload secret, std::string provider, bool again);
  void Release(const VolumePtr& volume, const std::string& secret);
  void Tell(const PodVolume& pod, bool warning, std::string reason, std::string message);

  const Clock& clock_;
  KubeClient& client_;
  Metrics& metrics_;
  const std::string node_;
  const SteadyNow now_;
  std::mutex mutex_;
  std::map<std::string, VolumePtr> volumes_;  // by target
  std::map<std::string, SentEvent> events_;   // by pod's uid, reason and message
  KubeWriter writer_;                         // last: its thread uses all of the above
};

}  // namespace coffer::csi
