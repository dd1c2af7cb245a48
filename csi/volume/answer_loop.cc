// The threads of a VolumeServer that answer the kernel.
#include <sys/epoll.h>

#include "common/log.h"
#include "csi/volume/served_volume.h"
#include "csi/volume/volume.h"

namespace coffer::volume {
namespace {

// One volume's requests that a thread answers before it looks at the others.
constexpr int kTurn = 64;

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
          Drop(volume);
          break;
      }
    }
  }
}

}  // namespace coffer::volume
