// EventBus: tells subscribers what was changed, once that is durable. In Vault's terms:
// https://developer.hashicorp.com/vault/docs/concepts/events
//
// A subscriber sees an event when its type fits the subscription's pattern and the token's policies
// grant "subscribe" on the event's data_path, with that type among subscribe_event_types. Once a
// second each subscription is checked anew: it ends when its token was revoked or has expired, or may
// no longer read sys/events/subscribe/<pattern>, and it ends at once when the keystore is sealed.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "keystore/barrier/barrier.h"
#include "keystore/core/backend.h"
#include "keystore/core/event_stream.h"
#include "keystore/core/policy.h"
#include "keystore/core/token_store.h"

namespace coffer::keystore {

struct Event {
  std::string type;       // "kv-v2/data-write"
  std::string data_path;  // from the root, what it is about: "secret/data/webapp"
  // What else stands in the event's metadata, data_path aside; nothing secret.
  std::map<std::string, std::string> metadata;
  // Of the mount.
  std::string mount_path, mount_accessor, plugin;
};

// A number of `subscribe_limit` waits at most for one subscriber; who is slower is cut off.
class EventBus {
 public:
  // All must outlive the bus, which is made before the barrier is used.
  EventBus(Barrier& barrier, TokenStore& tokens, PolicyStore& policies,
           absl::Duration check_interval = absl::Seconds(1), std::size_t most_waiting = 1024);
  ~EventBus();

  // Safe on any thread; quick.
  void Publish(Event event);
  // As soon as the transaction is durable; not at all where it isn't committed.
  void PublishOnCommit(Txn& txn, Event event);

  // sys/events/subscribe/{event_type}; Core has checked that the caller may read there.
  std::vector<Route> Routes();

  std::size_t subscriber_count() const;

 private:
  class Subscription;

  absl::StatusOr<Response> Subscribe(const Request& request, Txn& txn);
  std::vector<std::shared_ptr<Subscription>> Subscriptions();
  void CheckForever();
  void CheckAll(const std::vector<std::shared_ptr<Subscription>>& subscriptions);
  void EndAll(const EventStream::End& end);

  Barrier& barrier_;
  TokenStore& tokens_;
  PolicyStore& policies_;
  const absl::Duration check_interval_;
  const std::size_t most_waiting_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::weak_ptr<Subscription>> subscriptions_;
  bool ending_ = false;
  std::thread checker_;  // made with the first subscription
};

}  // namespace coffer::keystore
