// EventSubscriber: hears from the keystore, over one WebSocket and with the node's own identity, which
// secrets have changed, and has the volumes that hold them read anew at once, with their pods' tokens.
// Events carry paths and versions, no secrets. Only the keystore that the plugin's flags name is asked:
// a class that names another address must not get to see the node's own token.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "csi/volume_observer.h"
#include "provider/parameters.h"
#include "provider/workers.h"

namespace coffer::csi {

class EventSubscriber : public VolumeObserver {
 public:
  struct Options {
    provider::Defaults keystore;
    std::string role;  // its policies: read on sys/events/subscribe/*, subscribe on the secrets
    // Read anew for each login: the kubelet replaces it.
    std::string token_file = "/var/run/secrets/kubernetes.io/serviceaccount/token";
  };
  // Publishes the volume at `target` again. Aborted: another call works on it.
  using Republish = std::function<absl::Status(const std::string& target, VolumeContext& context)>;

  // `workers` runs what republishes; both are kept by the caller.
  EventSubscriber(const Clock& clock, provider::Workers& workers, Options options);
  ~EventSubscriber();  // as Stop

  // Subscribes, again and again where that ends, with growing pauses.
  void Start(Republish republish);
  // Waits for what republishes.
  void Stop();

  void Published(const std::string& target, const VolumeContext& context,
                 PublishOutcome& outcome) override;
  void Unpublished(const std::string& target, const absl::Status& status) override;

  bool subscribed() const { return subscribed_; }
  std::uint64_t events() const { return events_; }

 private:
  struct Volume {
    VolumeContext context;
    std::vector<std::string> paths;  // of the class's objects, patterns too
    bool pending = false;            // a republish waits for its turn
  };
  class Connection;

  void Run();
  absl::Status SubscribeOnce();
  void Subscribed();
  void OnEvent(std::string_view message);
  // Of volumes for which `wanted` holds; each after a random time up to `spread`.
  void RepublishWhere(const std::function<bool(const Volume&)>& wanted, absl::Duration spread);
  void RepublishNow(const std::string& target);

  const Clock& clock_;
  provider::Workers& workers_;
  const Options options_;
  provider::Login login_;
  Republish republish_;
  std::atomic<bool> subscribed_{false};
  std::atomic<std::uint64_t> events_{0};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Volume> volumes_;  // by target
  Connection* connection_ = nullptr;       // while there is one
  int under_way_ = 0;                      // republishes that were submitted
  bool stopping_ = false;
  bool was_subscribed_ = false;
  std::thread thread_;
};

// What an event is about: the path that a class would name, "" where it is not about a secret.
std::string EventPath(std::string_view message);

}  // namespace coffer::csi
