#include "csi/kube_reporter.h"

#include <algorithm>

#include "common/strings.h"

namespace coffer::csi {
namespace {

// A Secret that someone has deleted or changed is set right after at most that.
constexpr std::chrono::minutes kSecretCheck{5};
// The same Event again only raises its count, and that not more often.
constexpr std::chrono::minutes kEventPause{2};
constexpr std::chrono::hours kEventLife{1};
constexpr std::size_t kMostEvents = 500;
// With more writes waiting the API server is away, and Events are what can be done without.
constexpr std::size_t kMostPending = 5000;

// An API server that has just started denies everything until it has read the roles: 13 seconds of
// the writer's pauses.
constexpr int kMostDenials = 7;

// What isn't worth waiting for the right to it; `denials` is counted up.
absl::Status NotAgainIfDenied(absl::Status status, int& denials) {
  if (!absl::IsPermissionDenied(status) || ++denials < kMostDenials) return status;
  return absl::FailedPreconditionError(status.message());
}

// Whether the API server has said that it did nothing.
bool WroteNothing(const absl::Status& status) {
  return absl::IsPermissionDenied(status) || absl::IsFailedPrecondition(status) ||
         absl::IsInvalidArgument(status) || absl::IsNotFound(status);
}

PodVolume FactsOf(const std::string& target, const VolumeContext& context) {
  return {.kubernetes_namespace = context.pod.kubernetes_namespace,
          .pod = context.pod.name,
          .pod_uid = context.pod.uid,
          .secret_class = context.secret_class,
          .target = target,
          .versions = {},
          .fs_group = context.fs_group};
}

}  // namespace

KubeReporter::KubeReporter(const Clock& clock, KubeClient& client, Metrics& metrics,
                           std::string node, SteadyNow now)
    : clock_(clock),
      client_(client),
      metrics_(metrics),
      node_(std::move(node)),
      now_(std::move(now)),
      writer_(metrics) {}

void KubeReporter::Published(const std::string& target, const VolumeContext& context,
                             PublishOutcome& outcome) {
  PodVolume facts = FactsOf(target, context);
  if (!outcome.status.ok()) {
    // Of a first publish that fails the kubelet tells, as FailedMount, with our words.
    if (outcome.again && !absl::IsAborted(outcome.status)) {
      Tell(facts, true, "MountRotationFailed",
           StrCat("the volume keeps its old content: ", Message(outcome.status)));
    }
    return;
  }
  VolumePtr volume;
  bool changed = outcome.rotated;
  bool secrets_due = outcome.rotated || outcome.class_changed;
  std::vector<std::string> dropped;
  {
    std::lock_guard lock(mutex_);
    VolumePtr& known = volumes_[target];
    if (known == nullptr || known->facts.pod_uid != facts.pod_uid) {
      known = std::make_shared<Volume>();
      known->facts = std::move(facts);
      changed = true;
    }
    volume = known;
    if (changed) volume->facts.versions = std::move(outcome.versions);
    ++volume->publishes;
    dropped = Note(*volume, outcome.secrets);
    for (const SecretPayload& secret : outcome.secrets) {
      secrets_due |= volume->secrets[secret.object.name] != Written::kYes;
    }
  }
  if (changed) PutStatus(volume);
  if (!outcome.warning.empty()) {
    Tell(volume->facts, true, "UnknownParameters", std::move(outcome.warning));
  }
  if (outcome.rotated) {
    Tell(volume->facts, false, "MountRotationComplete",
         StrCat("the volume of SecretProviderClass ", context.secret_class, " has new content"));
  }
  for (const std::string& name : dropped) Release(volume, name);
  if (!secrets_due) return;
  for (SecretPayload& secret : outcome.secrets) {
    PutSecret(volume, std::move(secret), outcome.secret_class.provider, outcome.rotated);
  }
}

std::vector<std::string> KubeReporter::Note(Volume& volume,
                                            const std::vector<SecretPayload>& secrets) {
  std::vector<std::string> dropped;
  for (auto& [name, written] : volume.secrets) {
    const bool named =
        std::any_of(secrets.begin(), secrets.end(), [&name](const SecretPayload& payload) {
          return payload.object.name == name;
        });
    if (named) continue;
    dropped.push_back(name);
    if (written == Written::kYes) written = Written::kPerhaps;  // named again: written again
  }
  for (const SecretPayload& secret : secrets) {
    volume.secrets.emplace(secret.object.name, volume.before);
  }
  return dropped;
}

std::vector<KubeReporter::Check> KubeReporter::DueChecks() {
  const SteadyTime now = now_();
  std::uniform_real_distribution<> part(0.5, 1);  // so that nodes don't ask at the same moment
  std::vector<Check> due;
  std::lock_guard lock(mutex_);
  for (const auto& [target, volume] : volumes_) {
    if (volume->check_due <= now) {
      due.push_back({target, volume->facts.kubernetes_namespace, volume->facts.secret_class,
                     volume->publishes});
    } else if (volume->check_due != SteadyTime::max()) {
      continue;
    }
    volume->check_due =
        now + std::chrono::duration_cast<std::chrono::milliseconds>(kSecretCheck * part(random_));
  }
  return due;
}

void KubeReporter::Checked(const Check& check, const std::string& provider,
                           std::vector<SecretPayload> secrets) {
  std::lock_guard lock(mutex_);
  const auto found = volumes_.find(check.target);
  if (found == volumes_.end() || found->second->publishes != check.publishes) return;
  const VolumePtr& volume = found->second;
  for (const std::string& name : Note(*volume, secrets)) Release(volume, name);
  for (SecretPayload& secret : secrets) {
    // A file that is gone by its rules was there when the Secret was written.
    const bool was_filled = volume->secrets[secret.object.name] == Written::kYes;
    if (!secret.status.ok() && was_filled) continue;
    PutSecret(volume, std::move(secret), provider, false);
  }
}

void KubeReporter::PutStatus(const VolumePtr& volume) {
  writer_.Put(StrCat("status of ", volume->facts.target), [this, volume](absl::Time deadline) {
    PodVolume facts;
    {
      std::lock_guard lock(mutex_);
      facts = volume->facts;
    }
    absl::Status written = WritePodStatus(client_, node_, facts, deadline);
    if (!WroteNothing(written)) volume->status = Written::kPerhaps;
    return written;
  });
}

void KubeReporter::PutSecret(const VolumePtr& volume, SecretPayload secret, std::string provider,
                             bool again) {
  // Functions are copied, documents with secrets aren't.
  const auto shared = std::make_shared<const SecretPayload>(std::move(secret));
  const std::string key = StrCat("Secret ", volume->facts.kubernetes_namespace, "/",
                                 shared->object.name, " for ", volume->facts.target);
  writer_.Put(key, [this, volume, shared, provider, again](absl::Time deadline) {
    const SteadyTime start = now_();
    const PodVolume& pod = volume->facts;  // all but its versions stays as it is
    const absl::StatusOr<bool> wrote =
        shared->status.ok() ? WriteSecret(client_, pod, *shared, deadline)
                            : absl::StatusOr<bool>(shared->status);
    {
      std::lock_guard lock(mutex_);
      Written& written = volume->secrets[shared->object.name];
      if (wrote.ok()) {
        written = Written::kYes;
      } else if (!WroteNothing(wrote.status()) && written == Written::kNever) {
        written = Written::kPerhaps;
      }
    }
    if (!wrote.ok()) {
      if (!absl::IsAborted(wrote.status())) {
        Tell(pod, true, again ? "SecretRotationFailed" : "FailedToCreateSecret",
             StrCat("Secret ", shared->object.name, " of SecretProviderClass ", pod.secret_class,
                    ": ", Message(wrote.status())));
      }
      return wrote.status();
    }
    if (*wrote) {
      metrics_.Add(Counter::kSyncSecret, {{"namespace", pod.kubernetes_namespace},
                                          {"os_type", "linux"},
                                          {"provider", provider},
                                          {"secret_provider_class", pod.secret_class}});
      metrics_.Observe(Timing::kSyncSecret, absl::FromChrono(now_() - start),
                       {{"os_type", "linux"}});
      if (again) {
        Tell(pod, false, "SecretRotationComplete",
             StrCat("Secret ", shared->object.name, " has new content"));
      }
    }
    return absl::OkStatus();
  });
}

void KubeReporter::Release(const VolumePtr& volume, const std::string& secret) {
  // The same key as for writing it: what still waits to be written never is, and what is being written
  // is done when this begins.
  writer_.Put(StrCat("Secret ", volume->facts.kubernetes_namespace, "/", secret, " for ",
                     volume->facts.target),
              [this, volume, secret, denials = 0](absl::Time deadline) mutable {
                bool perhaps = false;
                {
                  std::lock_guard lock(mutex_);
                  const auto known = volume->secrets.find(secret);
                  perhaps = known != volume->secrets.end() && known->second != Written::kNever;
                }
                const absl::Status released =
                    perhaps ? NotAgainIfDenied(
                                  ReleaseSecret(client_, volume->facts, secret, deadline), denials)
                            : absl::OkStatus();
                std::lock_guard lock(mutex_);
                if (released.ok() || (WroteNothing(released) && !absl::IsPermissionDenied(released))) {
                  volume->secrets.erase(secret);
                }
                return released;
              });
}

void KubeReporter::TakenOver(const std::string& target, const VolumeContext& context,
                             const std::vector<provider::ObjectVersion>& versions, absl::Time) {
  const auto volume = std::make_shared<Volume>();
  volume->facts = FactsOf(target, context);
  volume->facts.versions = versions;
  volume->status = volume->before = Written::kPerhaps;
  {
    std::lock_guard lock(mutex_);
    volumes_[target] = volume;
  }
  PutStatus(volume);
}

void KubeReporter::Unpublished(const std::string& target, const volume::PodFacts&,
                               const absl::Status& status) {
  if (!status.ok()) return;
  VolumePtr volume;
  std::vector<std::string> secrets;
  {
    std::lock_guard lock(mutex_);
    const auto found = volumes_.find(target);
    if (found == volumes_.end()) return;
    volume = std::move(found->second);
    volumes_.erase(found);
    for (const auto& [name, written] : volume->secrets) secrets.push_back(name);
  }
  writer_.Put(StrCat("status of ", target), [this, volume, denials = 0](absl::Time deadline) mutable {
    if (volume->status == Written::kNever) return absl::OkStatus();
    return NotAgainIfDenied(DeletePodStatus(client_, volume->facts, deadline), denials);
  });
  for (const std::string& name : secrets) Release(volume, name);
}

void KubeReporter::Tell(const PodVolume& pod, bool warning, std::string reason, std::string message,
                        std::function<void()> ended) {
  if (pod.pod_uid.empty()) {  // nothing that an Event could be on
    if (ended) ended();
    return;
  }
  if (!ended && writer_.pending() > kMostPending) return;
  const SteadyTime now = now_();
  const absl::Time time = clock_.Now();
  const std::string key = StrCat(pod.pod_uid, " ", reason, " ", message);
  PodEvent event;
  {
    std::lock_guard lock(mutex_);
    std::erase_if(events_, [now](const auto& e) { return now - e.second.written > kEventLife; });
    if (events_.size() >= kMostEvents) {
      events_.erase(std::min_element(events_.begin(), events_.end(), [](const auto& a, const auto& b) {
        return a.second.written < b.second.written;
      }));
    }
    const auto [entry, added] = events_.try_emplace(key);
    PodEvent& known = entry->second.event;
    if (added) {
      known = {.name = StrCat(pod.pod.substr(0, 200), ".",
                              absl::Hex(absl::ToUnixNanos(time), absl::kZeroPad16)),
               .kubernetes_namespace = pod.kubernetes_namespace,
               .pod = pod.pod,
               .pod_uid = pod.pod_uid,
               .warning = warning,
               .reason = std::move(reason),
               .message = std::move(message),
               .first = time,
               .last = time,
               .count = 1};
    } else {
      ++known.count;
      known.last = time;
      if (!ended && now - entry->second.written < kEventPause) return;
    }
    entry->second.written = now;
    event = known;
  }
  writer_.Put(
      StrCat("Event ", event.kubernetes_namespace, "/", event.name),
      [this, event, denials = 0](absl::Time deadline) mutable {
        return NotAgainIfDenied(WriteEvent(client_, node_, event, deadline), denials);
      },
      std::move(ended));
}

void KubeReporter::CanaryOpened(const volume::OpenEvent& event) {
  const volume::VolumeInfo& info = *event.volume;
  const volume::Opener& opener = event.opener;
  std::string who;
  if (event.time == absl::InfinitePast()) who = "; the node plugin's logs say by whom";
  if (!opener.command.empty()) StrAppend(&who, " by ", opener.command);
  if (opener.uid != volume::Opener::kUnknownId) StrAppend(&who, " as uid ", opener.uid);
  if (!opener.container.empty()) StrAppend(&who, " in container ", opener.container.substr(0, 12));
  Tell({.kubernetes_namespace = info.pod.kubernetes_namespace,
        .pod = info.pod.name,
        .pod_uid = info.pod.uid,
        .secret_class = info.pod.secret_class,
        .target = info.target,
        .versions = {}},
       true, "SecretCanaryOpened",
       StrCat("the canary file ", event.file, " of SecretProviderClass ", info.pod.secret_class,
              " was opened", who),
       event.delivered);
}

void KubeReporter::TellOwnPod(std::string_view name_space, std::string_view name,
                              std::string_view uid, std::string reason, const absl::Status& why) {
  const PodVolume own{.kubernetes_namespace = std::string(name_space),
                      .pod = std::string(name),
                      .pod_uid = std::string(uid),
                      .secret_class = {},
                      .target = {},
                      .versions = {}};
  Tell(own, true, std::move(reason), std::string(Message(why)));
}

void KubeReporter::Serves() {
  writer_.Put("startup taint", [this](absl::Time deadline) {
    return RemoveStartupTaint(client_, node_, deadline);
  });
}

void KubeReporter::CleanUp() {
  writer_.Put("statuses left behind", [this](absl::Time deadline) {
    return DeleteLeftPodStatuses(client_, node_, deadline);
  });
}

}  // namespace coffer::csi
