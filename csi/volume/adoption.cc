// How a VolumeServer takes volumes over from the keeper. The kernel is had to ask again for all of
// them first. A volume whose readers wait is read at that, by this one thread: several would wait
// for each other, since the kernel lets one at a time map memory, and the others have the answers
// to give. Every other one is read when it is asked for, by the thread that got the first request,
// or when its turn comes.
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status_macros.h"
#include "csi/volume/served_volume.h"
#include "csi/volume/volume.h"
#include "csi/volume/volume_facts.h"

namespace coffer::volume {
namespace {

// For each volume: what readers who wait for it have of the processor before the rest is seen to.
constexpr std::chrono::microseconds kReadersFirst(15);
// Volumes that are listened for at once, so that not each one wakes a thread.
constexpr std::size_t kBatch = 32;

// Whether somebody waits for an answer.
bool IsAsked(int fuse) {
  pollfd wait{fuse, POLLIN, 0};
  return poll(&wait, 1, 0) > 0;
}

}  // namespace

// What a keeper holds of one volume.
struct VolumeServer::Handover {
  explicit Handover(KeeperClient::Kept all) : target(all.target), kept(std::move(all)) {}

  const std::string target;
  std::uint64_t key = 0;
  std::mutex mutex;  // until the volume is there nobody answers
  KeeperClient::Kept kept;
  absl::Status awaited;
  bool over = false;
  std::shared_ptr<Volume> volume;
};

// A dying thread may have taken a request from the kernel after the kernel was told to ask again.
void VolumeServer::AskAllAgain() {
  std::vector<std::shared_ptr<Handover>> arriving;
  std::vector<std::shared_ptr<Volume>> volumes;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [key, handover] : arriving_) arriving.push_back(handover);
    for (const auto& [key, volume] : by_key_) volumes.push_back(volume);
  }
  for (const std::shared_ptr<Handover>& handover : arriving) {
    std::lock_guard lock(handover->mutex);
    if (!handover->over) (void)AskAgain(handover->kept.fuse.get());  // or it can't
    if (handover->volume != nullptr) volumes.push_back(handover->volume);
  }
  for (const std::shared_ptr<Volume>& volume : volumes) volume->AskAgain();
}

void VolumeServer::Expect(const std::vector<std::shared_ptr<Handover>>& arrivals) {
  std::lock_guard lock(mutex_);
  for (const std::shared_ptr<Handover>& handover : arrivals) {
    handover->key = next_key_++;
    arriving_.emplace_hint(arriving_.end(), handover->key, handover);
  }
}

void VolumeServer::Await(std::span<const std::shared_ptr<Handover>> some) {
  for (const std::shared_ptr<Handover>& handover : some) {
    bool asked = false;
    {
      std::lock_guard lock(handover->mutex);
      const int fuse = handover->kept.fuse.get();
      if (abilities_.resend) handover->awaited = AskAgain(fuse);
      asked = handover->awaited.ok() && IsAsked(fuse);
    }
    if (asked) AdoptOrDetach(*handover);
  }
  for (const std::shared_ptr<Handover>& handover : some) {
    std::lock_guard lock(handover->mutex);
    if (!handover->awaited.ok() || (handover->over && handover->volume == nullptr)) continue;
    const int fuse = handover->over ? handover->volume->fuse() : handover->kept.fuse.get();
    handover->awaited = Listen(fuse, handover->key);
    if (handover->awaited.ok() || !handover->over) continue;
    Drop(std::exchange(handover->volume, nullptr));
    GiveUp(handover->target, handover->awaited);
  }
}

absl::StatusOr<std::shared_ptr<Volume>> VolumeServer::AdoptOne(Handover& handover) {
  KeeperClient::Kept& kept = handover.kept;
  RETURN_IF_ERROR(handover.awaited);
  ASSIGN_OR_RETURN(VolumeFacts facts, ReadFacts(kept.facts));
  std::vector<std::unique_ptr<Snapshot>> snapshots;
  bool served = false, answering = false;
  for (auto& [number, image] : kept.images) {
    ASSIGN_OR_RETURN(snapshots.emplace_back(), Snapshot::Open(std::move(image)));
    answering = answering || snapshots.back()->marks().answering != 0;
    snapshots.back()->marks().answering = 0;
    served = served || snapshots.back()->marks().turn > 0;
  }
  if (!served) return absl::FailedPreconditionError("the keeper has no content for it");
  if (!abilities_.resend && answering) {
    return absl::UnimplementedError(
        "the plugin before this one was killed in the middle of an answer, and this kernel can't ask "
        "again (Linux 6.9)");
  }
  facts.info.target = handover.target;
  return Register(facts.info, handover.key, std::move(kept.fuse), facts.device,
                  Tree(std::move(snapshots), std::chrono::steady_clock::now()), facts.opens);
}

std::shared_ptr<Volume> VolumeServer::AdoptOrDetach(Handover& handover) {
  std::lock_guard handover_lock(handover.mutex);
  if (std::exchange(handover.over, true)) return handover.volume;
  const absl::StatusOr<std::shared_ptr<Volume>> volume = AdoptOne(handover);
  {
    std::lock_guard lock(mutex_);
    arriving_.erase(handover.key);
    if (volume.ok()) by_target_[handover.target] = handover.volume = *volume;
  }
  if (volume.ok()) return *volume;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, handover.kept.fuse.get(), nullptr);
  handover.kept.fuse.reset();
  keeper_->Drop(handover.target);
  GiveUp(handover.target, volume.status());
  return nullptr;
}

void VolumeServer::GiveUp(const std::string& target, const absl::Status& cause) {
  log::Warning("a volume can't be taken over; the next publish makes it anew",
               {{"target", target}, {"cause", cause}});
  if (absl::IsNotFound(cause) || absl::IsInvalidArgument(cause)) return;
  if (const absl::Status detached = DetachMount(target); !detached.ok()) {
    log::Warning("a dead mount is left", {{"target", target}, {"cause", detached}});
  }
}

std::shared_ptr<Volume> VolumeServer::FindAsked(std::uint64_t key) {
  std::shared_ptr<Handover> arrival;
  {
    std::lock_guard lock(mutex_);
    if (const auto at = by_key_.find(key); at != by_key_.end()) return at->second;
    const auto at = arriving_.find(key);
    if (at == arriving_.end()) return nullptr;
    arrival = at->second;
  }
  return AdoptOrDetach(*arrival);
}

absl::StatusOr<std::size_t> VolumeServer::Adopt(absl::Duration patience) {
  return Adopt(patience, StandBy());
}

absl::StatusOr<std::size_t> VolumeServer::Adopt(absl::Duration patience,
                                                const StandBy& stand_by) {
  if (keeper_ == nullptr) return std::size_t{0};
  keeper_->OnGone([this] { AskAllAgain(); });
  keeper_->OnLate([this](KeeperClient::Kept kept) {
    return AdoptLate(std::make_shared<Handover>(std::move(kept)));
  });
  absl::StatusOr<std::vector<KeeperClient::Kept>> taken = keeper_->Take(patience, stand_by);
  if (!absl::IsCancelled(taken.status())) stand_by.ends();
  ASSIGN_OR_RETURN(std::vector<KeeperClient::Kept> all, std::move(taken));
  std::vector<std::shared_ptr<Handover>> arrivals;
  for (KeeperClient::Kept& kept : all) {
    arrivals.push_back(std::make_shared<Handover>(std::move(kept)));
  }
  Expect(arrivals);
  const std::span<const std::shared_ptr<Handover>> in_order(arrivals);
  for (std::size_t i = 0; i < in_order.size(); i += kBatch) {
    Await(in_order.subspan(i, std::min(kBatch, in_order.size() - i)));
  }
  std::this_thread::sleep_for(arrivals.size() * kReadersFirst);
  std::vector<std::shared_ptr<Volume>> adopted;
  for (const std::shared_ptr<Handover>& handover : arrivals) {
    if (auto volume = AdoptOrDetach(*handover)) adopted.push_back(std::move(volume));
  }
  std::erase_if(adopted, [this](const auto& volume) { return !GoOn(volume); });
  return adopted.size();
}

bool VolumeServer::GoOn(const std::shared_ptr<Volume>& volume) {
  volume->TellOwed();
  if (const absl::Status mounted = volume->Mounted(); !mounted.ok()) {
    Drop(volume);
    GiveUp(volume->info().target, mounted);
    return false;
  }
  if (const absl::Status resumed = volume->Resume(); !resumed.ok()) {
    log::Warning("a swap that was left off can't be ended",
                 {{"volume", volume->info().volume_id}, {"cause", resumed}});
  }
  RemoveSoon(volume);
  return true;
}

// Its place is taken at once; the rest may wait for the kernel, which this thread must not.
bool VolumeServer::AdoptLate(const std::shared_ptr<Handover>& handover) {
  {
    std::lock_guard lock(mutex_);
    if (left_ || !by_target_.try_emplace(handover->target).second) return false;
  }
  log::Info("a keeper that came late holds a volume", {{"target", handover->target}});
  At(std::chrono::steady_clock::now(), next_key_++, [this, handover] {
    Expect({handover});
    Await({&handover, 1});
    const std::shared_ptr<Volume> volume = AdoptOrDetach(*handover);
    if (volume != nullptr) {
      GoOn(volume);
      return;
    }
    std::lock_guard lock(mutex_);
    by_target_.erase(handover->target);
  });
  return true;
}

}  // namespace coffer::volume
