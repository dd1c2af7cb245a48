// The threads of a VolumeServer that answer the kernel.
#include <sys/epoll.h>

#include "common/log.h"
#include "csi/volume/served_volume.h"
#include "csi/volume/volume.h"

namespace coffer::volume {
namespace {

// One volume's requests that a thread answers before it looks at the others.
constexpr int kTurn = 64;
// A thread whose volume has opens that are close doesn't sleep for that long after one of them, and for
// no longer than that in all, before it looks at the others.
constexpr std::chrono::microseconds kAwake{50};
constexpr std::chrono::milliseconds kAwakeTurn{5};

}  // namespace

void VolumeServer::AnswerLoop() {
  DialogBuffers buffers;
  epoll_event events[16];
  for (;;) {
    const int count = epoll_wait(epoll_.get(), events, std::size(events), -1);
    for (int i = 0; i < count; ++i) {
      const std::uint64_t key = events[i].data.u64;
      if (key == kStopKey) return;
      const std::shared_ptr<Volume> volume = FindAsked(key);
      if (volume == nullptr) continue;
      const Volume::Progress progress = volume->AnswerRequests(buffers, kTurn);
      if (progress == Volume::Progress::kIdle) AnswerAwake(volume, buffers);
      if (volume->TakeVanished()) RemoveAt(std::chrono::steady_clock::now(), volume);
      switch (progress) {
        case Volume::Progress::kIdle:
          break;
        case Volume::Progress::kBusy: {
          epoll_event again{.events = EPOLLIN | EPOLLET, .data = {.u64 = key}};
          epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, volume->fuse(), &again);
          break;
        }
        case Volume::Progress::kGone:
          if (volume->closed()) break;
          log::Info("a volume was unmounted by someone else",
                    {{"volume", volume->info().volume_id}, {"target", volume->info().target}});
          DropSoon(volume);
          break;
      }
    }
  }
}

// To be woken takes several times as long as to answer an open. So while opens come one upon the
// other, one thread waits for them awake; the others sleep, and the volume's requests wake none of
// them meanwhile.
void VolumeServer::AnswerAwake(const std::shared_ptr<Volume>& volume, DialogBuffers& buffers) {
  if (!may_stay_awake_ || !volume->OpensAreClose() || awake_.exchange(true)) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, volume->fuse(), nullptr);
  const std::chrono::steady_clock::time_point end = std::chrono::steady_clock::now() + kAwakeTurn;
  std::chrono::steady_clock::time_point now;
  do {
    if (volume->AnswerRequests(buffers, kTurn) == Volume::Progress::kGone) break;
    now = std::chrono::steady_clock::now();
  } while (now < end && now - volume->last_open() < kAwake);
  awake_ = false;
  // There is an event at once if something can be read, or it is gone.
  (void)Listen(volume->fuse(), volume->key());
  // Who drops the volume takes it off when it isn't to be found any more.
  if (FindAsked(volume->key()) == nullptr) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, volume->fuse(), nullptr);
  }
}

}  // namespace coffer::volume
