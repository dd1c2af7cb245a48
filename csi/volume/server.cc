// VolumeServer: a few threads wait for all volumes' /dev/fuse descriptors at once, and one removes
// old snapshots. No volume costs a thread or a buffer.
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <fstream>

#include "absl/time/clock.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "csi/volume/served_volume.h"
#include "csi/volume/tmpfs_volumes.h"
#include "csi/volume/volume.h"
#include "csi/volume/volume_facts.h"

namespace coffer::volume {
namespace {

std::string WithoutSlash(std::string_view target) {
  while (target.size() > 1 && target.back() == '/') target.remove_suffix(1);
  return std::string(target);
}

// Where a mount's inode numbers start: elsewhere each time, so that a program which remembers a
// file's number across a new mount at the same place sees another file.
std::uint64_t FirstInode(absl::Time now) {
  return 16 + static_cast<std::uint64_t>(absl::ToUnixMicros(now)) % (1 << 30);
}

// Whether the processor time of this process's container is limited (cgroups of version 2).
bool HasQuota() {
  std::string quota;
  return std::ifstream("/sys/fs/cgroup/cpu.max") >> quota && quota != "max";
}

}  // namespace

VolumeServer::VolumeServer(const Clock& clock, int threads, std::string root, KeeperClient* keeper,
                           OpenListener* listener, Abilities abilities)
    : clock_(clock),
      root_(std::move(root)),
      keeper_(keeper),
      listener_(listener),
      abilities_(std::move(abilities)),
      tmpfs_(std::make_unique<TmpfsVolumes>(root_, abilities_.noswap)),
      openers_(std::make_unique<Openers>()),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      may_stay_awake_(abilities_.resend && threads > 1 && std::thread::hardware_concurrency() > 1 &&
                      !HasQuota()) {
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kStopKey}};  // level: it wakes every thread
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, stop_.get(), &event);
  for (int i = 0; i < std::clamp(threads, 1, 64); ++i) {
    threads_.emplace_back([this] { AnswerLoop(); });
  }
  threads_.emplace_back([this] { RemovalLoop(); });
}

VolumeServer::~VolumeServer() { Stop(); }

void VolumeServer::HandOver(absl::Duration patience) {
  if (keeper_ == nullptr) return;
  const absl::Time end = absl::Now() + patience;
  while (!keeper_->connected()) {
    if (absl::Now() > end) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  Stop();
}

void VolumeServer::Stop() {
  if (left_.exchange(true)) return;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [key, volume] : by_key_) volume->Hurry();
  }
  { std::unique_lock changes_end(changes_); }
  // First the thread that may wait for answers, then those that give them.
  {
    std::lock_guard lock(removal_mutex_);
    stopping_ = true;
  }
  removal_wake_.notify_all();
  threads_.back().join();
  threads_.pop_back();
  eventfd_write(stop_.get(), 1);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  if (keeper_ == nullptr) return;
  for (const auto& [key, volume] : by_key_) volume->Spare();
  keeper_->Leave();  // last: the next plugin starts at that
  std::lock_guard lock(mutex_);
  by_target_.clear();
  by_key_.clear();
}

void VolumeServer::RemovalLoop() {
  std::unique_lock lock(removal_mutex_);
  while (!stopping_) {
    if (removals_.empty()) {
      removal_wake_.wait(lock);
    } else if (const auto due = removals_.begin()->first.first;
               due > std::chrono::steady_clock::now()) {
      removal_wake_.wait_until(lock, due);
    } else {
      const auto removal = removals_.extract(removals_.begin());
      due_.erase(removal.key().second);
      lock.unlock();
      removal.mapped()();
      lock.lock();
    }
  }
}

absl::Status VolumeServer::Stays() const {
  if (!left_) return absl::OkStatus();
  return absl::UnavailableError("this plugin is stopping: the next one serves the volumes");
}

absl::Status VolumeServer::Mount(const VolumeInfo& info, std::vector<SnapshotFile> files,
                                 const std::function<absl::Status()>& make_target) {
  std::shared_lock change(changes_);
  RETURN_IF_ERROR(Stays());
  RETURN_IF_ERROR(make_target());
  const std::string target = WithoutSlash(info.target);
  {
    std::lock_guard lock(mutex_);
    if (!by_target_.try_emplace(target).second) {
      return absl::AlreadyExistsError(StrCat("a volume is mounted at \"", target, "\" already"));
    }
  }
  const VolumeInfo volume = {info.volume_id, target, info.pod, info.audit};
  const absl::Status mounted = abilities_.fuse
                                   ? MountAt(volume, std::move(files))
                                   : tmpfs_->Mount(volume, std::move(files), clock_.Now());
  if (!mounted.ok() || !abilities_.fuse) {
    std::lock_guard lock(mutex_);
    by_target_.erase(target);
  }
  return mounted;
}

absl::Status VolumeServer::MountAt(const VolumeInfo& info, std::vector<SnapshotFile> files) {
  const absl::Time now = clock_.Now();
  const bool opens = info.audit || NeedOpens(files);
  ASSIGN_OR_RETURN(std::unique_ptr<Snapshot> first,
                   Snapshot::Build(files, FirstInode(now), now, opens, abilities_.memory));
  files.clear();
  ASSIGN_OR_RETURN(UniqueFd target, OpenTarget(root_, info.target));
  ASSIGN_OR_RETURN(const bool dead, IsMount(target.get()));
  if (dead) {
    log::Info("detaching a dead mount", {{"volume", info.volume_id}, {"target", info.target}});
    RETURN_IF_ERROR(Detach(target.get()));
    ASSIGN_OR_RETURN(target, OpenTarget(root_, info.target));
  }

  UniqueFd fuse(open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fuse) {
    return absl::UnavailableError(
        StrCat("can't open /dev/fuse: the plugin's container needs the device: ",
               std::string_view(strerrordesc_np(errno))));
  }
  ASSIGN_OR_RETURN(const DetachedMount mount, MakeMount(fuse.get(), info.volume_id));
  const std::shared_ptr<Volume> volume =
      Register(info, next_key_++, std::move(fuse), mount.device, Tree(std::move(first)), opens);
  volume->GiveToKeeper();
  // The kernel's INIT, which it asked as the file system was made: before that is answered nobody
  // can have the mount's ids mapped, as the runtime of a pod with a user namespace does.
  DialogBuffers buffers;
  volume->AnswerRequests(buffers, 1);
  // Answered before it can be seen.
  absl::Status attached = Listen(volume->fuse(), volume->key());
  if (attached.ok()) attached = Attach(mount, target.get());
  if (!attached.ok()) {
    Drop(volume);
    return attached;
  }
  {
    std::lock_guard lock(mutex_);
    by_target_[info.target] = volume;
  }
  RemoveAt(volume->RemoveVanished(), volume);
  return absl::OkStatus();
}

std::shared_ptr<Volume> VolumeServer::Register(const VolumeInfo& info, std::uint64_t key,
                                               UniqueFd fuse, std::uint64_t device, Tree tree,
                                               bool opens) {
  std::optional<OpenWatch> watch;
  if (opens) watch.emplace(OpenWatch{clock_, *openers_, listener_});
  auto volume = std::make_shared<Volume>(info, root_, key, std::move(fuse), device, std::move(tree),
                                         keeper_, std::move(watch), abilities_);
  std::lock_guard lock(mutex_);
  return by_key_[key] = std::move(volume);
}

absl::Status VolumeServer::Listen(int fuse, std::uint64_t key) const {
  epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = key}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fuse, &event) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "can't wait for a volume's requests");
}

void VolumeServer::At(SteadyTime due, std::uint64_t key, std::function<void()> remove) {
  if (due == SteadyTime::max()) return;
  std::lock_guard lock(removal_mutex_);
  const auto [planned, first] = due_.try_emplace(key, due);
  if (!first) {
    if (planned->second <= due) return;
    removals_.erase({planned->second, key});
    planned->second = due;
  }
  const auto at = removals_.emplace(std::pair(due, key), std::move(remove)).first;
  if (at == removals_.begin()) removal_wake_.notify_one();
}

std::size_t VolumeServer::planned_removals() {
  std::lock_guard lock(removal_mutex_);
  return removals_.size();
}

void VolumeServer::RemoveAt(SteadyTime due, const std::shared_ptr<Volume>& volume) {
  At(due, volume->key(), [this, weak = std::weak_ptr(volume)] {
    const std::shared_ptr<Volume> there = weak.lock();
    if (there == nullptr) return;
    const SteadyTime again = there->RemoveOld();
    RemoveAt(std::min(again, there->RemoveVanished()), there);
  });
}

void VolumeServer::RemoveOldTmpfs(SteadyTime due) {
  At(due, kTmpfsKey, [this] { RemoveOldTmpfs(tmpfs_->RemoveOld()); });
}

absl::StatusOr<bool> VolumeServer::SwapTmpfs(const std::string& target,
                                             std::vector<SnapshotFile> files) {
  const absl::StatusOr<bool> changed = tmpfs_->Swap(target, std::move(files), clock_.Now());
  if (changed.value_or(true)) RemoveOldTmpfs(std::chrono::steady_clock::now() + Volume::kGrace);
  return changed;
}

absl::Status VolumeServer::Ready() const {
  if (!abilities_.fuse) return absl::OkStatus();
  const UniqueFd fuse(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (fuse) return absl::OkStatus();
  return absl::UnavailableError(
      StrCat("/dev/fuse can't be opened: ", std::string_view(strerrordesc_np(errno))));
}

absl::StatusOr<std::size_t> VolumeServer::Recover() {
  const absl::StatusOr<std::size_t> found = tmpfs_->Recover();
  RemoveOldTmpfs(std::chrono::steady_clock::now() + Volume::kGrace);
  return found;
}

void VolumeServer::RemoveSoon(const std::shared_ptr<Volume>& volume) {
  const SteadyTime over = volume->RemoveVanished();
  RemoveAt(std::min(over, std::chrono::steady_clock::now() + Volume::kGrace), volume);
}

absl::StatusOr<bool> VolumeServer::Swap(std::string_view target,
                                        std::vector<SnapshotFile> files) {
  std::shared_lock change(changes_);
  RETURN_IF_ERROR(Stays());
  const std::string plain = WithoutSlash(target);
  if (tmpfs_->Serves(plain)) return SwapTmpfs(plain, std::move(files));
  const std::shared_ptr<Volume> volume = Find(target);
  if (volume == nullptr) {
    return absl::NotFoundError(StrCat("no volume is mounted at \"", target, "\""));
  }
  const absl::StatusOr<bool> changed = volume->Swap(std::move(files), clock_.Now());
  // One that failed halfway leaves something, too.
  if (changed.value_or(true)) RemoveSoon(volume);
  return changed;
}

absl::StatusOr<std::vector<SnapshotFile>> VolumeServer::Files(std::string_view target) {
  std::shared_lock change(changes_);
  RETURN_IF_ERROR(Stays());
  const std::shared_ptr<Volume> volume = Find(target);
  return volume == nullptr ? tmpfs_->Files(WithoutSlash(target)) : volume->Files();
}

absl::Status VolumeServer::Unmount(std::string_view target) {
  std::shared_lock change(changes_);
  RETURN_IF_ERROR(Stays());
  const std::shared_ptr<Volume> volume = Find(target);
  if (volume == nullptr) return tmpfs_->Unmount(WithoutSlash(target));
  RETURN_IF_ERROR(volume->Close());
  Drop(volume);
  return absl::OkStatus();
}

void VolumeServer::Drop(const std::shared_ptr<Volume>& volume) {
  // One thread does it all: a second one's word to the keeper could hit the next volume there. Not
  // under the lock, which whoever answers needs.
  if (!volume->FirstDrop()) return;
  if (keeper_ != nullptr) keeper_->Drop(volume->info().target);
  {
    std::lock_guard lock(mutex_);
    by_key_.erase(volume->key());
    const auto at = by_target_.find(volume->info().target);
    if (at != by_target_.end() && at->second == volume) by_target_.erase(at);
  }
  // Not left to the last close: someone else may hold the descriptor.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, volume->fuse(), nullptr);
}

void VolumeServer::DropSoon(const std::shared_ptr<Volume>& volume) {
  // In the place of what else is planned for it.
  At(SteadyTime::min(), volume->key(), [this, volume] { Drop(volume); });
}

std::shared_ptr<Volume> VolumeServer::Find(std::string_view target) const {
  std::lock_guard lock(mutex_);
  const auto at = by_target_.find(WithoutSlash(target));
  return at == by_target_.end() ? nullptr : at->second;
}

bool VolumeServer::Serves(std::string_view target) const {
  return Find(target) != nullptr || tmpfs_->Serves(WithoutSlash(target));
}

std::vector<VolumeInfo> VolumeServer::List() const {
  std::lock_guard lock(mutex_);
  std::vector<VolumeInfo> volumes;
  for (const auto& [target, volume] : by_target_) {
    if (volume != nullptr) volumes.push_back(volume->info());
  }
  tmpfs_->List(&volumes);
  return volumes;
}

}  // namespace coffer::volume
