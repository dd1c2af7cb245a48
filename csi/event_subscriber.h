// EventSubscriber: hears from the keystore, over one WebSocket and with the node's own identity, which
// secrets have changed, and has the volumes that hold them read anew at once (by Rotation).
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
#include "csi/rotation.h"
#include "csi/volume_observer.h"
#include "provider/parameters.h"

namespace coffer::csi {

class EventSubscriber : public VolumeObserver {
 public:
  struct Options {
    provider::Defaults keystore;
    std::string role;  // its policies: read on sys/events/subscribe/*, subscribe on the secrets
    // Read anew for each login: the kubelet replaces it.
    std::string token_file = "/var/run/secrets/kubernetes.io/serviceaccount/token";
  };

  // Both are kept by the caller.
  EventSubscriber(const Clock& clock, Rotation& rotation, Options options);
  ~EventSubscriber() override;  // as Stop

  // Subscribes, again and again where that ends, with growing pauses.
  void Start();
  void Stop();

  void Published(const std::string& target, const VolumeContext& context,
                 PublishOutcome& outcome) override;
  void Unpublished(const std::string& target, const volume::PodFacts& pod,
                   const absl::Status& status) override;

  bool subscribed() const { return subscribed_; }
  std::uint64_t events() const { return events_; }

 private:
  class Connection;
  using Paths = std::vector<std::string>;  // of a class's objects, patterns too

  void Run();
  absl::Status SubscribeOnce();
  void Subscribed();
  void OnEvent(std::string_view message);
  // Of volumes for which `wanted` holds; each after a random time up to `spread`.
  void RefetchWhere(const std::function<bool(const Paths&)>& wanted, absl::Duration spread);

  const Clock& clock_;
  Rotation& rotation_;
  const Options options_;
  provider::Login login_;
  std::atomic<bool> subscribed_{false};
  std::atomic<std::uint64_t> events_{0};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Paths> volumes_;  // by target
  Connection* connection_ = nullptr;      // while there is one
  bool stopping_ = false;
  bool was_subscribed_ = false;
  std::thread thread_;
};

// Over which time a node with so many volumes reads them anew when events may have been missed.
absl::Duration SpreadAfterGap(std::size_t volumes);

// What an event is about: the path that a class would name, "" where it is not about a secret.
std::string EventPath(std::string_view message);

}  // namespace coffer::csi
