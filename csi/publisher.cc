#include "csi/publisher.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <thread>

#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "csi/target_path.h"

namespace coffer::csi {
namespace {

// How long the dead mounts of a predecessor may take to tell that they are dead.
constexpr std::chrono::seconds kDeadCheck{5};
// After that long one of them is believed to hang, and those after it are asked beside it.
constexpr std::chrono::milliseconds kHangs{100};

// Changes when a class does: a class from a folder has no version.
std::size_t FingerprintOf(const ClassObject& secret_class) {
  std::string text = StrCat(secret_class.provider, "\n", secret_class.resource_version);
  for (const auto& [name, value] : secret_class.parameters) {
    StrAppend(&text, "\n", name, "=", value);
  }
  return std::hash<std::string>()(text);
}

bool IsOurs(const ClassObject& secret_class) {
  return secret_class.provider == "vault" || secret_class.provider == "coffer";
}

// What the next Refetch needs of what the kubelet said.
VolumeContext WorthKeeping(const VolumeContext& context, bool ours) {
  VolumeContext kept = context.Copy();
  if (ours) {  // the rest is for other vendors
    kept.attributes.clear();
    kept.secrets = SecretBytes();
  }
  return kept;
}

volume::PodFacts FactsOf(const VolumeContext& context) {
  return {.kubernetes_namespace = context.pod.kubernetes_namespace,
          .name = context.pod.name,
          .uid = context.pod.uid,
          .secret_class = context.secret_class};
}

bool SameTokens(const VolumeContext& a, const VolumeContext& b) {
  return std::equal(a.pod.tokens.begin(), a.pod.tokens.end(), b.pod.tokens.begin(),
                    b.pod.tokens.end(), [](const auto& x, const auto& y) {
                      return x.first == y.first && x.second.Equals(y.second.view());
                    });
}

bool SameVersion(const provider::ObjectVersion& a, const provider::ObjectVersion& b) {
  return a.id == b.id && a.version == b.version;
}

// So that another is asked for in their place.
void DropExpiredTokens(absl::Time now, VolumeContext* context) {
  for (const auto& [audience, expiration] : context->expirations) {
    absl::Time ends;
    if (absl::ParseTime(absl::RFC3339_full, ToAbsl(expiration), &ends, nullptr) && ends <= now) {
      context->pod.tokens.erase(audience);
    }
  }
}

// Whether nobody answers for the mount: the kernel says ENOTCONN at once where it has to ask, which
// it hasn't for a stat. A server that hangs blocks.
bool IsDead(const std::string& target) {
  struct statx facts = {};
  return statx(AT_FDCWD, target.c_str(), AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &facts) != 0 &&
         errno == ENOTCONN;
}

volume::FileRules RulesOf(provider::File& file) {
  provider::AccessRules& access = file.access;
  return {.version = std::move(file.version),
          .allow_uids = std::move(access.allow_uids),
          .allow_executables = std::move(access.allow_executables),
          .read_once = access.read_once,
          .available_for = access.available_for,
          .canary = access.canary};
}

}  // namespace

Publisher::Publisher(const Clock& clock, ClassSource& classes, provider::Provider& provider,
                     volume::VolumeServer& volumes, TokenRevoker& revoker, std::string root,
                     Options options)
    : clock_(clock),
      classes_(classes),
      provider_(provider),
      volumes_(volumes),
      revoker_(revoker),
      root_(std::move(root)),
      options_(std::move(options)) {}

absl::StatusOr<Publisher::Entry*> Publisher::Enter(const std::string& volume_id,
                                                   const std::string& target, Caller caller) {
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[target];
  const bool again = entry.refetching && entry.state.volume_id == volume_id;
  if (again && caller == Caller::kKubelet) return nullptr;
  if (entry.busy) {
    return absl::AbortedError(
        StrCat("volume ", volume_id, ": another call for ", target, " is under way; try again"));
  }
  entry.busy = true;
  if (entry.state.volume_id.empty()) entry.state.volume_id = volume_id;
  return &entry;
}

Publisher::Hold::~Hold() {
  std::lock_guard lock(publisher_.mutex_);
  entry_->busy = entry_->refetching = false;
  if (!drop_) return;
  publisher_.revoker_.Revoke(std::move(entry_->state.session), entry_->document);
  publisher_.entries_.erase(target_);
}

template <class Call>
absl::Status Publisher::Observed(const std::string& target, const VolumeContext& context,
                                 const Call& call) {
  const absl::Time start = clock_.Now();
  PublishOutcome outcome;
  outcome.status = call(&outcome);
  if (outcome.early) return outcome.status;
  outcome.took = clock_.Now() - start;
  for (VolumeObserver* observer : options_.observers) {
    observer->Published(target, context, outcome);
  }
  return outcome.status;
}

absl::Status Publisher::Publish(const std::string& volume_id, const std::string& target,
                                VolumeContext& context, absl::Time deadline, Caller caller) {
  return Observed(target, context, [&](PublishOutcome* outcome) {
    return PublishAs(volume_id, target, context, deadline, caller, outcome);
  });
}

absl::Status Publisher::PublishAs(const std::string& volume_id, const std::string& target,
                                  VolumeContext& context, absl::Time deadline, Caller caller,
                                  PublishOutcome* outcome) {
  outcome->error_type = "UnexpectedTargetPath";
  RETURN_IF_ERROR(CheckTarget(root_, target));
  outcome->error_type = "FailedToMount";
  ASSIGN_OR_RETURN(Entry* const entry, Enter(volume_id, target, caller));
  outcome->early = entry == nullptr;
  if (outcome->early) return absl::OkStatus();
  Hold hold(*this, target, entry);
  const bool served = volumes_.Serves(target);
  RETURN_IF_ERROR(volumes_.Stays());
  if (served && hold->volume_id != volume_id) {
    return absl::AlreadyExistsError(
        StrCat("target path ", target, " holds volume ", hold->volume_id, " already"));
  }
  hold->volume_id = volume_id;
  if (served && caller == Caller::kPerson && !context.fs_group) {
    context.fs_group = hold->context.fs_group;
  }
  outcome->again = served;
  if (!served) hold.Drop();  // unless all goes well

  outcome->error_type = "SecretProviderClassNotFound";
  ASSIGN_OR_RETURN(outcome->secret_class,
                   classes_.Get(context.pod.kubernetes_namespace, context.secret_class, deadline));
  outcome->error_type = "InvalidClass";
  ASSIGN_OR_RETURN(outcome->rotation, RotationOf(outcome->secret_class, options_.rotation));
  const bool same_tokens = SameTokens(hold->context, context);
  hold->context = WorthKeeping(context, IsOurs(outcome->secret_class));
  if (served && caller == Caller::kKubelet && !IsDue(entry->state, *outcome)) {
    outcome->early = true;
    if (!same_tokens) Keep(target, *entry);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(Fill(target, context, *entry, deadline, outcome));
  hold.Keep();
  return absl::OkStatus();
}

bool Publisher::IsDue(const VolumeState& state, const PublishOutcome& outcome) const {
  if (!outcome.rotation.on) return false;
  if (FingerprintOf(outcome.secret_class) != state.fingerprint) return true;
  const absl::Duration age = clock_.Now() - state.fetched;
  return age >= outcome.rotation.interval || age < absl::ZeroDuration();  // the clock was set back
}

absl::Status Publisher::Refetch(const std::string& target, absl::Time deadline) {
  Entry* entry = nullptr;
  {
    std::lock_guard lock(mutex_);
    const auto found = entries_.find(target);
    if (found == entries_.end()) return absl::OkStatus();
    entry = &found->second;
    if (entry->busy) return absl::AbortedError("another call for the volume is under way");
    entry->busy = entry->refetching = true;
  }
  Hold hold(*this, target, entry);
  // One that somebody has unmounted is for the kubelet to publish.
  if (!volumes_.Serves(target) || hold->context.secret_class.empty()) return absl::OkStatus();
  VolumeContext context = hold->context.Copy();
  if (options_.tokens != nullptr) DropExpiredTokens(clock_.Now(), &context);
  return Observed(target, context, [&](PublishOutcome* outcome) -> absl::Status {
    outcome->again = true;
    outcome->error_type = "SecretProviderClassNotFound";
    ASSIGN_OR_RETURN(
        outcome->secret_class,
        classes_.Get(context.pod.kubernetes_namespace, context.secret_class, deadline));
    outcome->error_type = "InvalidClass";
    ASSIGN_OR_RETURN(outcome->rotation, RotationOf(outcome->secret_class, options_.rotation));
    outcome->early = !outcome->rotation.on;
    return outcome->early ? absl::OkStatus() : Fill(target, context, *entry, deadline, outcome);
  });
}

absl::Status Publisher::Fill(const std::string& target, VolumeContext& context, Entry& entry,
                             absl::Time deadline, PublishOutcome* outcome) {
  VolumeState& state = entry.state;
  outcome->error_type = outcome->again ? "FailedToRotate" : "ProviderError";
  absl::StatusOr<provider::FetchResult> fetched = Fetch(target, context, entry, deadline, outcome);
  if (!fetched.ok()) {
    if (outcome->again) Keep(target, entry);  // the token may be another
    return fetched.status();
  }
  outcome->secrets = FillSecretObjects(outcome->secret_class.secret_objects, fetched->files);
  outcome->refetch_by = fetched->refetch_by;
  outcome->warning = std::move(fetched->warning);
  std::vector<volume::SnapshotFile> files;
  files.reserve(fetched->files.size());
  for (provider::File& file : fetched->files) {
    if (fetched->audit) outcome->audited.push_back(file.path);
    files.push_back({.path = std::move(file.path),
                     .content = std::move(file.content),
                     .mode = file.mode,
                     .uid = file.owner.value_or(0),
                     .gid = file.group.value_or(context.fs_group.value_or(0)),
                     .rules = RulesOf(file)});
  }
  outcome->versions = std::move(fetched->versions);
  const std::vector<provider::ObjectVersion> before =
      std::exchange(state.versions, outcome->versions);
  state.fetched = clock_.Now();
  const std::size_t fingerprint = FingerprintOf(outcome->secret_class);
  outcome->class_changed = outcome->again && fingerprint != state.fingerprint;
  state.fingerprint = fingerprint;
  // Before there is a volume: a token is worth giving back also where this ends here.
  Keep(target, entry);
  outcome->error_type = "FailedToMount";
  const absl::StatusOr<bool> served = Serve({.volume_id = state.volume_id,
                               .target = target,
                               .pod = FactsOf(context),
                               .audit = fetched->audit},
                              std::move(files));
  if (!served.ok()) {
    state.versions = before;
    state.fetched = absl::InfinitePast();
    return served.status();
  }
  outcome->error_type.clear();
  // Versions alone don't tell: a class may name another key of the same secret.
  outcome->rotated =
      outcome->again && (*served || !std::equal(before.begin(), before.end(), state.versions.begin(),
                                                state.versions.end(), SameVersion));
  return absl::OkStatus();
}

void Publisher::Keep(const std::string& target, Entry& entry) {
  if (options_.handover == nullptr) return;
  entry.document = options_.handover->Put(entry.document, target, entry.state);
}

absl::StatusOr<provider::FetchResult> Publisher::Fetch(const std::string& target,
                                                       VolumeContext& context, Entry& entry,
                                                       absl::Time deadline,
                                                       PublishOutcome* outcome) {
  const ClassObject& secret_class = outcome->secret_class;
  const bool ours = IsOurs(secret_class);
  const auto named = secret_class.parameters.find("audience");
  const std::string audience = named == secret_class.parameters.end() ? "" : named->second;
  if (!ours && options_.vendors != nullptr) {
    if (options_.tokens != nullptr) options_.tokens->CompleteAll(audience, &context, deadline);
    return options_.vendors->Fetch(secret_class, context, target, entry.state.versions, deadline,
                                   &outcome->error_type);
  }
  if (!ours) {
    return absl::FailedPreconditionError(StrCat(
        "SecretProviderClass ", secret_class.kubernetes_namespace, "/", secret_class.name,
        ": spec.provider: \"", secret_class.provider, "\" isn't served here: use vault or coffer"));
  }
  if (options_.tokens != nullptr) {
    RETURN_IF_ERROR(options_.tokens->Complete(audience, &context, deadline));
  }
  return provider_.Fetch(secret_class, context.pod, *entry.state.session, deadline);
}

absl::StatusOr<bool> Publisher::Serve(const volume::VolumeInfo& info,
                                      std::vector<volume::SnapshotFile> files) {
  const std::string& target = info.target;
  if (volumes_.Serves(target)) return volumes_.Swap(target, std::move(files));
  bool made = false;
  const absl::Status mounted = volumes_.Mount(info, std::move(files), [&]() -> absl::Status {
    ASSIGN_OR_RETURN(made, MakeTarget(root_, target));
    return absl::OkStatus();
  });
  if (!mounted.ok() && made) {
    const absl::Status removed = RemoveTarget(root_, target);
    if (!removed.ok()) log::Warning("folder left behind", {{"error", removed}});
  }
  RETURN_IF_ERROR(mounted);
  return true;
}

absl::Status Publisher::Unpublish(const std::string& volume_id, const std::string& target) {
  volume::PodFacts pod;
  const absl::Status status = UnpublishAs(volume_id, target, &pod);
  for (VolumeObserver* observer : options_.observers) observer->Unpublished(target, pod, status);
  return status;
}

absl::Status Publisher::UnpublishAs(const std::string& volume_id, const std::string& target,
                                    volume::PodFacts* pod) {
  RETURN_IF_ERROR(CheckTarget(root_, target));
  // The target alone decides, as with secrets-store-csi-driver: it has the pod's uid in it, so that
  // it is no other pod's, and a pod whose unpublish is refused never ends.
  ASSIGN_OR_RETURN(Entry* const entry, Enter(volume_id, target));
  Hold hold(*this, target, entry);
  *pod = FactsOf(hold->context);
  const bool served = volumes_.Serves(target);
  RETURN_IF_ERROR(volumes_.Stays());
  if (!served) hold.Drop();
  RETURN_IF_ERROR(volumes_.Unmount(target));
  hold.Drop();
  return RemoveTarget(root_, target);
}

void Publisher::DetachDeadMounts() {
  const auto mounts = volume::FindMounts(root_);
  if (!mounts.ok()) {
    log::Warning("looking for old mounts", {{"error", mounts.status()}});
    return;
  }
  // Threads of their own ask, in case a mount has a server that hangs; then it is left alone.
  struct Shared {
    const std::vector<volume::VolumeInfo> mounts;
    std::mutex mutex;
    std::condition_variable told;
    std::vector<std::string> dead = {};
    std::size_t next = 0, done = 0;
  };
  const auto shared = std::make_shared<Shared>(*mounts);
  const auto ask = [shared] {
    std::unique_lock lock(shared->mutex);
    while (shared->next < shared->mounts.size()) {
      const std::string& target = shared->mounts[shared->next++].target;
      lock.unlock();
      const bool dead = IsDead(target);
      lock.lock();
      if (dead) shared->dead.push_back(target);
      ++shared->done;
      shared->told.notify_all();
    }
  };
  const auto end = std::chrono::steady_clock::now() + kDeadCheck;
  std::unique_lock lock(shared->mutex);
  for (bool hangs = true; shared->done < mounts->size() && std::chrono::steady_clock::now() < end;) {
    if (hangs && shared->next < mounts->size()) std::thread(ask).detach();
    const std::size_t before = shared->done;
    hangs = !shared->told.wait_for(lock, kHangs, [&] { return shared->done > before; });
  }
  for (const std::string& target : shared->dead) {
    const absl::Status detached = volume::DetachMount(target);
    if (detached.ok()) {
      log::Info("dead mount detached", {{"target", target}});
    } else {
      log::Warning("dead mount not detached", {{"target", target}, {"error", detached}});
    }
  }
}

void Publisher::TakeOver() {
  if (options_.handover == nullptr) return;
  std::map<std::string, std::string> served;  // volume ids by target
  for (const volume::VolumeInfo& info : volumes_.List()) served[info.target] = info.volume_id;
  std::size_t count = 0, gone = 0;
  // All sessions are there before the first is revoked: those of one pod share their token.
  std::vector<Handover::Taken> taken = options_.handover->Take(provider_);
  for (auto& [id, document] : taken) {
    const auto volume = served.find(document.target);
    const bool lives = volume != served.end() && volume->second == document.state.volume_id;
    std::unique_lock lock(mutex_);
    if (!lives || entries_.contains(document.target)) {
      lock.unlock();
      ++gone;
      revoker_.Revoke(std::move(document.state.session), id);
      continue;
    }
    ++count;
    Entry& entry = entries_[document.target];
    entry.state = std::move(document.state);
    entry.document = id;
    lock.unlock();
    for (VolumeObserver* observer : options_.observers) {
      observer->TakenOver(document.target, entry.state.context, entry.state.versions,
                          entry.state.fetched);
    }
  }
  if (!taken.empty()) {
    log::Info("tokens taken over from the keeper",
              {{"of volumes", count}, {"to be given back", gone}});
  }
}

void Publisher::ForgetTokens() {
  std::lock_guard lock(mutex_);
  for (auto& [target, entry] : entries_) {
    if (entry.busy) continue;
    revoker_.Revoke(std::exchange(entry.state.session, provider::NewSession()),
                    std::exchange(entry.document, 0));
  }
}

absl::Status Publisher::Ready() const {
  RETURN_IF_ERROR(classes_.Ready());
  return volumes_.Ready();
}

}  // namespace coffer::csi
