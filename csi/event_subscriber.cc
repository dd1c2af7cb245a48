#include "csi/event_subscriber.h"

#include <algorithm>

#include "common/json_members.h"
#include "common/log.h"
#include "common/random.h"
#include "common/secret_file.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "csi/event_connection.h"
#include "provider/keystore_client.h"
#include "provider/path_pattern.h"

namespace coffer::csi {
namespace {

constexpr std::string_view kTypes = "kv*";
constexpr absl::Duration kFirstPause = absl::Seconds(1);
constexpr absl::Duration kLongestPause = absl::Minutes(1);
// Where the keystore has no events, or the role no right to them: someone must change that.
constexpr absl::Duration kRefusedPause = absl::Minutes(5);
constexpr absl::Duration kLogin = absl::Seconds(20);
// Nodes that hear the same event don't ask at the same moment.
constexpr absl::Duration kSpread = absl::Milliseconds(20);
// After a gap in the events every volume is read anew: a keystore that was away is asked 5 times a
// second by a node, not by all of them at once, as long as that is done within two minutes.
constexpr absl::Duration kGapOfOne = absl::Milliseconds(200);
constexpr absl::Duration kLeastGapSpread = absl::Seconds(5);
constexpr absl::Duration kMostGapSpread = absl::Minutes(2);

absl::Duration RandomUpTo(absl::Duration most) {
  std::uint16_t random = 0;
  FillRandom({reinterpret_cast<std::uint8_t*>(&random), sizeof(random)});
  return most * (random / 65536.0);
}

}  // namespace

// The connection with what it takes to log in.
class EventSubscriber::Connection : public EventConnection {};

std::string EventPath(std::string_view message) {
  const absl::StatusOr<Json> event = ParseJson(message);
  if (!event.ok()) return "";
  const Json& data = At(*event, "data");
  const std::string_view type = TextAt(data, "event_type");
  const Json& metadata = At(At(data, "event"), "metadata");
  std::string path(TextAt(metadata, "data_path"));
  if (path.empty()) path = TextAt(metadata, "path");  // Vault's deletes have this alone
  // Whatever happens to metadata, and delete/, undelete/ and destroy/, concern the data.
  if (type.starts_with("kv-v2/")) {
    const std::string_view mount = TextAt(At(data, "plugin_info"), "mount_path");
    const std::size_t start = path.starts_with(mount) ? mount.size() : path.find('/') + 1;
    const std::size_t end = path.find('/', start);
    if (end == path.npos) return "";
    path.replace(start, end - start, "data");
  }
  return path;
}

absl::Duration SpreadAfterGap(std::size_t volumes) {
  return std::clamp(kGapOfOne * volumes, kLeastGapSpread, kMostGapSpread);
}

EventSubscriber::EventSubscriber(const Clock& clock, Rotation& rotation, Options options)
    : clock_(clock), rotation_(rotation), options_(std::move(options)) {
  login_ = {.address = options_.keystore.address,
            .vault_namespace = options_.keystore.vault_namespace,
            .auth_mount = options_.keystore.auth_mount,
            .role = options_.role,
            .audience = "",
            .tls = options_.keystore.tls};
  while (login_.address.ends_with('/')) login_.address.pop_back();
}

EventSubscriber::~EventSubscriber() { Stop(); }

void EventSubscriber::Start() { thread_ = std::thread([this] { Run(); }); }

void EventSubscriber::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    if (connection_ != nullptr) connection_->Stop();
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void EventSubscriber::Run() {
  absl::Duration pause = kFirstPause;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    const absl::Status ended = SubscribeOnce();
    const bool had = subscribed_.exchange(false);
    lock.lock();
    if (stopping_) return;
    const bool refused = absl::IsUnimplemented(ended) || absl::IsPermissionDenied(ended) ||
                         absl::IsNotFound(ended) || absl::IsInvalidArgument(ended);
    pause = had ? kFirstPause : refused ? kRefusedPause : std::min(pause * 2, kLongestPause);
    log::Warning("no events from the keystore; volumes are read anew when the kubelet asks",
                 {{"address", login_.address}, {"error", ended}});
    changed_.wait_for(lock, absl::ToChronoNanoseconds(pause / 2 + RandomUpTo(pause)),
                      [this] { return stopping_; });
  }
}

absl::Status EventSubscriber::SubscribeOnce() {
  const absl::StatusOr<SecretBytes> read = ReadSecretFile(options_.token_file);
  if (!read.ok()) {
    return absl::FailedPreconditionError(StrCat("the node's own token: ", Message(read.status())));
  }
  const SecretBytes jwt = SecretBytes::CopyOf(Trim(read->view()));
  if (jwt.empty()) {
    return absl::FailedPreconditionError(
        StrCat("the node's own token: nothing is in ", options_.token_file));
  }
  const auto transport = MakeStreamTransport(login_.tls);
  const provider::KeystoreClient client(*transport, login_, clock_);
  ASSIGN_OR_RETURN(const Json auth, client.LogIn(jwt, clock_.Now() + kLogin));
  const SecretBytes token =
      SecretBytes::CopyOf(auth["client_token"].get_ref<const SecretString&>());
  Connection connection;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return absl::CancelledError("stopped");
    connection_ = &connection;
  }
  absl::Status ended = connection.Run(
      login_, token, kTypes, [this] { Subscribed(); },
      [this](std::string_view message) { OnEvent(message); });
  {
    std::lock_guard lock(mutex_);
    connection_ = nullptr;
  }
  if (absl::IsFailedPrecondition(ended)) {
    const absl::Status why = client
                                 .Call("GET", StrCat("sys/events/subscribe/", kTypes), "json=true",
                                       token, SecretBytes(), clock_.Now() + kLogin)
                                 .status();
    if (!why.ok()) ended = why;
  }
  // The token is of no more use; that it can't be revoked now is no reason to wait.
  client
      .Call("POST", "auth/token/revoke-self", "", token, SecretBytes(),
            clock_.Now() + absl::Seconds(1))
      .IgnoreError();
  return ended;
}

void EventSubscriber::Subscribed() {
  log::Info("events of the keystore are heard", {{"address", login_.address}});
  subscribed_ = true;
  bool gap = false;
  absl::Duration spread;
  {
    std::lock_guard lock(mutex_);
    gap = std::exchange(was_subscribed_, true);
    spread = SpreadAfterGap(volumes_.size());
  }
  if (gap) RefetchWhere([](const Paths&) { return true; }, spread);
}

void EventSubscriber::OnEvent(std::string_view message) {
  ++events_;
  const std::string path = EventPath(message);
  if (path.empty()) return;
  RefetchWhere(
      [&path](const Paths& paths) {
        return std::any_of(
            paths.begin(), paths.end(),
            [&path](const std::string& pattern) { return provider::PathMatches(pattern, path); });
      },
      kSpread);
}

void EventSubscriber::RefetchWhere(const std::function<bool(const Paths&)>& wanted,
                                   absl::Duration spread) {
  std::lock_guard lock(mutex_);
  for (const auto& [target, paths] : volumes_) {
    if (wanted(paths)) rotation_.Soon(target, spread);
  }
}

void EventSubscriber::Published(const std::string& target, const VolumeContext&,
                                PublishOutcome& outcome) {
  if (!outcome.status.ok()) return;
  const auto parameters = provider::ParseParameters(outcome.secret_class, options_.keystore);
  const bool ours = outcome.rotation.on && parameters.ok() &&
                    parameters->login.address == login_.address &&
                    parameters->login.vault_namespace == login_.vault_namespace;
  std::lock_guard lock(mutex_);
  if (!ours) {
    volumes_.erase(target);
    return;
  }
  Paths& paths = volumes_[target];
  paths.clear();
  for (const provider::Object& object : parameters->objects) {
    if (object.method == "GET") paths.push_back(object.path);
  }
}

void EventSubscriber::Unpublished(const std::string& target, const volume::PodFacts&,
                                  const absl::Status& status) {
  if (!status.ok()) return;
  std::lock_guard lock(mutex_);
  volumes_.erase(target);
}

}  // namespace coffer::csi
