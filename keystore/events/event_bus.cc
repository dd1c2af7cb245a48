#include "keystore/events/event_bus.h"

#include <deque>
#include <functional>

#include "common/glob.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/core/rfc3339.h"

namespace coffer::keystore {
namespace {

constexpr std::string_view kSubscribePath = "sys/events/subscribe/";

// Codes of RFC 6455 section 7.4.1.
const EventStream::End kEnding{1001, "the keystore is ending"};
const EventStream::End kSealed{1001, "the keystore was sealed"};
const EventStream::End kTokenGone{1008, "the token was revoked or has expired"};
const EventStream::End kDenied{1008, "the token's policies no longer allow this subscription"};
const EventStream::End kTooSlow{1013, "too slow: too many events were waiting; read anew"};

// Vault's document: https://developer.hashicorp.com/vault/docs/concepts/events#event-format
std::shared_ptr<const SecretBytes> Encode(const Event& event, absl::Time now) {
  const std::string id = RandomUuid();
  Json metadata = Json::object();
  for (const auto& [name, value] : event.metadata) metadata[Json::string_t(name)] = value;
  metadata["data_path"] = event.data_path;
  const Json document = {
      {"id", id},
      {"source", "https://vaultproject.io/"},
      {"specversion", "1.0"},
      {"type", "*"},
      {"data",
       {{"event", {{"id", id}, {"metadata", std::move(metadata)}}},
        {"event_type", event.type},
        {"plugin_info",
         {{"mount_class", "secret"},
          {"mount_accessor", event.mount_accessor},
          {"mount_path", event.mount_path},
          {"plugin", event.plugin}}}}},
      {"datacontentype", "application/cloudevents"},  // as Vault spells it
      {"time", FormatRfc3339(now)}};
  return std::make_shared<const SecretBytes>(DumpJson(document));
}

}  // namespace

class EventBus::Subscription : public EventStream {
 public:
  Subscription(std::string pattern, std::shared_ptr<const TokenEntry> token,
               std::shared_ptr<const Acl> acl, std::size_t most_waiting)
      : pattern_(std::move(pattern)),
        token_(std::move(token)),
        most_waiting_(most_waiting),
        acl_(std::move(acl)) {}

  const std::string& pattern() const { return pattern_; }
  const std::shared_ptr<const TokenEntry>& token() const { return token_; }

  std::shared_ptr<const SecretBytes> Next() override {
    std::lock_guard lock(mutex_);
    if (waiting_.empty()) return nullptr;
    std::shared_ptr<const SecretBytes> next = std::move(waiting_.front());
    waiting_.pop_front();
    return next;
  }

  std::optional<End> end() const override {
    std::lock_guard lock(mutex_);
    return end_;
  }

  void SetWake(std::function<void()> wake) override {
    std::lock_guard lock(mutex_);
    wake_ = std::move(wake);
    if (wake_ && (!waiting_.empty() || end_)) wake_();
  }

  bool Wants(const Event& event) const {
    if (!GlobMatches(pattern_, event.type)) return false;
    std::lock_guard lock(mutex_);
    return !end_ && acl_->MaySubscribe(event.data_path, event.type);
  }

  void Add(const std::shared_ptr<const SecretBytes>& message) {
    std::lock_guard lock(mutex_);
    if (end_) return;
    if (waiting_.size() == most_waiting_) return EndLocked(kTooSlow);
    waiting_.push_back(message);
    if (waiting_.size() == 1 && wake_) wake_();
  }

  void Stop(const End& end) {
    std::lock_guard lock(mutex_);
    if (!end_) EndLocked(end);
  }

  void SetAcl(std::shared_ptr<const Acl> acl) {
    std::lock_guard lock(mutex_);
    acl_ = std::move(acl);
  }

 private:
  void EndLocked(const End& end) {
    end_ = end;
    waiting_.clear();
    if (wake_) wake_();
  }

  const std::string pattern_;
  const std::shared_ptr<const TokenEntry> token_;  // as it was when it subscribed
  const std::size_t most_waiting_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Acl> acl_;
  std::deque<std::shared_ptr<const SecretBytes>> waiting_;
  std::optional<End> end_;
  std::function<void()> wake_;
};

EventBus::EventBus(Barrier& barrier, TokenStore& tokens, PolicyStore& policies,
                   absl::Duration check_interval, std::size_t most_waiting)
    : barrier_(barrier),
      tokens_(tokens),
      policies_(policies),
      check_interval_(check_interval),
      most_waiting_(most_waiting) {
  barrier_.OnSeal([this] { EndAll(kSealed); });
}

EventBus::~EventBus() {
  EndAll(kEnding);
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  if (checker_.joinable()) checker_.join();
}

void EventBus::Publish(Event event) {
  std::shared_ptr<const SecretBytes> message;  // made when the first one wants it
  for (const auto& subscription : Subscriptions()) {
    if (!subscription->Wants(event)) continue;
    if (message == nullptr) message = Encode(event, barrier_.clock().Now());
    subscription->Add(message);
  }
}

void EventBus::PublishOnCommit(Txn& txn, Event event) {
  if (subscriber_count() == 0) return;  // who comes later sees what comes later
  txn.OnCommit([this, event = std::move(event)] { Publish(event); });
}

std::vector<Route> EventBus::Routes() {
  return {{"events/subscribe/{event_type*}",
           "Sends events over a WebSocket, as JSON, from now on.",
           {{"event_type", FieldType::kString, "Type of the events, with * for any text"},
            {"json", FieldType::kBoolean, "Must be true: events are sent as JSON alone"},
            {"filter", FieldType::kString, "Not supported"},
            {"namespaces", FieldType::kList, "Not supported: there is one namespace"}},
           {{Operation::kRead,
             [this](const Request& request, Txn& txn) { return Subscribe(request, txn); }}}}};
}

absl::StatusOr<Response> EventBus::Subscribe(const Request& request, Txn& txn) {
  const std::string_view pattern = request.text("event_type");
  if (pattern.empty()) {
    return absl::InvalidArgumentError("missing event type: name one, or * for all");
  }
  if (!request.boolean("json")) {
    return absl::InvalidArgumentError("events are sent as JSON alone: ask with ?json=true");
  }
  if (!request.text("filter").empty()) {
    return absl::InvalidArgumentError(
        "filter isn't supported: choose with the event type and with policies");
  }
  if (request.caller->num_uses != 0) {
    return absl::InvalidArgumentError("a token with a limited number of uses can't subscribe");
  }
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(std::shared_ptr<const Acl> acl,
                   policies_.AclFor(root, request.caller->policies));
  auto subscription = std::make_shared<Subscription>(std::string(pattern), request.caller,
                                                     std::move(acl), most_waiting_);
  std::lock_guard lock(mutex_);
  std::erase_if(subscriptions_, [](const auto& other) { return other.expired(); });
  subscriptions_.push_back(subscription);
  if (!checker_.joinable()) checker_ = std::thread([this] { CheckForever(); });
  Response response;
  response.events = std::move(subscription);
  return response;
}

std::size_t EventBus::subscriber_count() const {
  std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(
      std::count_if(subscriptions_.begin(), subscriptions_.end(),
                    [](const auto& subscription) { return !subscription.expired(); }));
}

std::vector<std::shared_ptr<EventBus::Subscription>> EventBus::Subscriptions() {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Subscription>> live;
  std::erase_if(subscriptions_, [&live](const std::weak_ptr<Subscription>& weak) {
    std::shared_ptr<Subscription> subscription = weak.lock();
    if (subscription == nullptr) return true;
    live.push_back(std::move(subscription));
    return false;
  });
  return live;
}

void EventBus::EndAll(const EventStream::End& end) {
  for (const auto& subscription : Subscriptions()) subscription->Stop(end);
}

void EventBus::CheckForever() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    changed_.wait_for(lock, absl::ToChronoNanoseconds(check_interval_),
                      [this] { return ending_; });
    if (ending_) return;
    lock.unlock();
    if (const auto subscriptions = Subscriptions(); !subscriptions.empty()) {
      CheckAll(subscriptions);
    }
    lock.lock();
  }
}

void EventBus::CheckAll(const std::vector<std::shared_ptr<Subscription>>& subscriptions) {
  auto txn = barrier_.Begin();
  if (!txn.ok()) return EndAll(kSealed);
  Txn root = (*txn)->root();
  for (const auto& subscription : subscriptions) {
    const auto token = tokens_.LookupAgain(root, subscription->token());
    if (!token.ok()) continue;  // storage is in trouble: asked again in a second
    if (*token == nullptr) {
      subscription->Stop(kTokenGone);
      continue;
    }
    auto acl = policies_.AclFor(root, (*token)->policies);
    if (!acl.ok()) continue;
    const std::string path = StrCat(kSubscribePath, subscription->pattern());
    if ((*acl)->Allows(Operation::kRead, path, {{"json", "true"}})) {
      subscription->SetAcl(*std::move(acl));
    } else {
      subscription->Stop(kDenied);
    }
  }
}

}  // namespace coffer::keystore
