// KubeReporter: tells the cluster what became of volumes: a SecretProviderClassPodStatus each, the
// Secrets of spec.secretObjects, Events on the pods. It only notes what is to be written; a
// KubeWriter writes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

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

  // A Warning on the pod whose canary file was opened, by whom where that is known. The event's
  // `delivered` is called when the API server has it, or has refused it for good.
  void CanaryOpened(const volume::OpenEvent& event);

  // A Warning on the plugin's own pod.
  void TellOwnPod(std::string_view name_space, std::string_view name, std::string_view uid,
                  std::string reason, const absl::Status& why);

  // A volume whose Secrets weren't looked at for five minutes or so.
  struct Check {
    std::string target;
    std::string kubernetes_namespace;
    std::string secret_class;
    std::uint64_t publishes = 0;  // so far: what was read before another is old
  };
  std::vector<Check> DueChecks();
  // Has the Secrets compared with what the volume held after DueChecks, and set right.
  void Checked(const Check& check, const std::string& provider, std::vector<SecretPayload> secrets);

  // Forgets the statuses that a plugin before this one left for volumes that are gone.
  void CleanUp();

  // The node's volumes are served: takes its startup taint away, as soon as the plugin may.
  void Serves();

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
    SteadyTime check_due = SteadyTime::max();     // max: no time is set yet
    std::uint64_t publishes = 0;
  };
  using VolumePtr = std::shared_ptr<Volume>;
  struct SentEvent {
    PodEvent event;
    SteadyTime written;
  };

  // Notes which Secrets the class has now: those that it has no longer. Under mutex_.
  static std::vector<std::string> Note(Volume& volume, const std::vector<SecretPayload>& secrets);
  void PutStatus(const VolumePtr& volume);
  void PutSecret(const VolumePtr& volume, SecretPayload secret, std::string provider, bool again);
  void Release(const VolumePtr& volume, const std::string& secret);
  // `ended`: as of KubeWriter. With it the Event is one that can't be done without.
  void Tell(const PodVolume& pod, bool warning, std::string reason, std::string message,
            std::function<void()> ended = nullptr);

  const Clock& clock_;
  KubeClient& client_;
  Metrics& metrics_;
  const std::string node_;
  const SteadyNow now_;
  std::mutex mutex_;
  std::minstd_rand random_{std::random_device()()};
  std::map<std::string, VolumePtr> volumes_;  // by target
  std::map<std::string, SentEvent> events_;   // by pod's uid, reason and message
  KubeWriter writer_;                         // last: its thread uses all of the above
};

}  // namespace coffer::csi
