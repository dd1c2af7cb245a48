#include "csi/publisher.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <set>
#include <thread>

#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "csi/target_path.h"

namespace coffer::csi {
namespace {

// How long the dead mounts of a predecessor may take to tell that they are dead.
constexpr std::chrono::seconds kDeadCheck{5};

// Whether nobody answers for the mount: the kernel says ENOTCONN at once. A server that hangs
// blocks.
bool IsDead(const std::string& target) {
  struct stat facts = {};
  return stat(target.c_str(), &facts) != 0 && errno == ENOTCONN;
}

}  // namespace

Publisher::Publisher(const Clock& clock, ClassSource& classes, provider::Provider& provider,
                     volume::VolumeServer& volumes, TokenRevoker& revoker, std::string root)
    : clock_(clock),
      classes_(classes),
      provider_(provider),
      volumes_(volumes),
      revoker_(revoker),
      root_(std::move(root)) {}

absl::StatusOr<Publisher::Entry*> Publisher::Enter(const std::string& volume_id,
                                                   const std::string& target) {
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[target];
  if (entry.busy) {
    return absl::AbortedError(
        StrCat("volume ", volume_id, ": another call for ", target, " is under way; try again"));
  }
  entry.busy = true;
  if (entry.volume_id.empty()) entry.volume_id = volume_id;
  return &entry;
}

Publisher::Hold::~Hold() {
  std::lock_guard lock(publisher_.mutex_);
  entry_->busy = false;
  if (!drop_) return;
  publisher_.revoker_.Revoke(std::move(entry_->session));
  publisher_.entries_.erase(target_);
}

absl::Status Publisher::Publish(const std::string& volume_id, const std::string& target,
                                const VolumeContext& context, absl::Time deadline) {
  RETURN_IF_ERROR(CheckTarget(root_, target));
  ASSIGN_OR_RETURN(Entry* const entry, Enter(volume_id, target));
  Hold hold(*this, target, entry);
  const bool served = volumes_.Serves(target);
  if (served && hold->volume_id != volume_id) {
    return absl::AlreadyExistsError(
        StrCat("target path ", target, " holds volume ", hold->volume_id, " already"));
  }
  hold->volume_id = volume_id;
  if (!served) hold.Drop();  // unless all goes well

  ASSIGN_OR_RETURN(const provider::SecretProviderClass secret_class,
                   classes_.Get(context.pod.kubernetes_namespace, context.secret_class, deadline));
  if (secret_class.provider != "vault" && secret_class.provider != "coffer") {
    return absl::FailedPreconditionError(StrCat(
        "SecretProviderClass ", secret_class.kubernetes_namespace, "/", secret_class.name,
        ": spec.provider: \"", secret_class.provider, "\" isn't served here: use vault or coffer"));
  }
  ASSIGN_OR_RETURN(provider::FetchResult fetched,
                   provider_.Fetch(secret_class, context.pod, *hold->session, deadline));
  std::vector<volume::SnapshotFile> files;
  files.reserve(fetched.files.size());
  for (provider::File& file : fetched.files) {
    files.push_back({.path = std::move(file.path),
                     .content = std::move(file.content),
                     .mode = file.mode,
                     .uid = file.owner.value_or(0),
                     .gid = file.group.value_or(0)});
  }
  RETURN_IF_ERROR(Serve(volume_id, target, std::move(files)));
  hold.Keep();
  return absl::OkStatus();
}

absl::Status Publisher::Serve(const std::string& volume_id, const std::string& target,
                              std::vector<volume::SnapshotFile> files) {
  if (volumes_.Serves(target)) return volumes_.Swap(target, std::move(files));
  ASSIGN_OR_RETURN(const bool made, MakeTarget(root_, target));
  const absl::Status mounted = volumes_.Mount({volume_id, target}, std::move(files));
  if (!mounted.ok() && made) {
    const absl::Status removed = RemoveTarget(root_, target);
    if (!removed.ok()) log::Warning("folder left behind", {{"error", removed}});
  }
  return mounted;
}

absl::Status Publisher::Unpublish(const std::string& volume_id, const std::string& target) {
  RETURN_IF_ERROR(CheckTarget(root_, target));
  ASSIGN_OR_RETURN(Entry* const entry, Enter(volume_id, target));
  Hold hold(*this, target, entry);
  if (!volumes_.Serves(target)) hold.Drop();
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
  // A thread of its own asks, in case a mount has a server that hangs; then it is left alone.
  struct Shared {
    std::mutex mutex;
    std::condition_variable found;
    std::set<std::string> dead;
    bool done = false;
  };
  auto shared = std::make_shared<Shared>();
  std::thread([shared, all = *mounts] {
    for (const volume::VolumeInfo& info : all) {
      const bool dead = IsDead(info.target);
      std::lock_guard lock(shared->mutex);
      if (dead) shared->dead.insert(info.target);
    }
    std::lock_guard lock(shared->mutex);
    shared->done = true;
    shared->found.notify_all();
  }).detach();
  std::unique_lock lock(shared->mutex);
  shared->found.wait_for(lock, kDeadCheck, [&] { return shared->done; });
  for (const std::string& target : shared->dead) {
    const absl::Status detached = volume::DetachMount(target);
    if (detached.ok()) {
      log::Info("dead mount detached", {{"target", target}});
    } else {
      log::Warning("dead mount not detached", {{"target", target}, {"error", detached}});
    }
  }
}

void Publisher::ForgetTokens() {
  std::lock_guard lock(mutex_);
  for (auto& [target, entry] : entries_) {
    if (!entry.busy) revoker_.Revoke(std::exchange(entry.session, provider::NewSession()));
  }
}

absl::Status Publisher::Ready() const {
  const UniqueFd fuse(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse) return absl::UnavailableError(StrCat("/dev/fuse can't be opened: ", strerror(errno)));
  return absl::OkStatus();
}

}  // namespace coffer::csi
