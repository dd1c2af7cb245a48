// Volume: one mounted file system: its tree, its /dev/fuse descriptor, and the swaps, which go by
// the kernel so that watchers see them. Any number of threads answer requests; changes come one by
// one.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/unique_fd.h"
#include "csi/volume/dialog.h"
#include "csi/volume/keeper_client.h"
#include "csi/volume/mount.h"
#include "csi/volume/open_listener.h"
#include "csi/volume/tree.h"
#include "csi/volume/volume.h"

namespace coffer::volume {

// Who looks at the opens of volumes that deliver them.
struct OpenWatch {
  const Clock& clock;
  Openers& openers;
  OpenListener* listener;  // or null
};

// Has the kernel ask again what was read and not answered. Unimplemented: it can't.
absl::Status AskAgain(int fuse);

class Volume : public std::enable_shared_from_this<Volume> {
 public:
  // A reader that is on its way through "..data" while it is swapped finds the old snapshot's
  // folder for that long.
  static constexpr std::chrono::milliseconds kGrace{1000};
  // Swaps that come faster than the grace lets old snapshots go are held up.
  static constexpr std::size_t kMostOld = 256;
  // So often the kernel is asked which inodes it knows.
  static constexpr std::chrono::milliseconds kDoubt{5000};
  // Delivered opens that come faster are close.
  static constexpr std::chrono::microseconds kClose{100};

  // `keeper`: null, or who is told of everything that the next plugin needs.
  // `watch`: none where opens aren't delivered.
  Volume(VolumeInfo info, std::string root, std::uint64_t key, UniqueFd fuse, std::uint64_t device,
         Tree tree, KeeperClient* keeper, std::optional<OpenWatch> watch, const Abilities& abilities);

  const VolumeInfo& info() const { return *info_; }
  std::uint64_t key() const { return key_; }
  int fuse() const { return fuse_.get(); }
  bool closed() const { return closed_; }

  // Answers what the kernel has asked, at most `limit` requests. kIdle: nothing is left; kBusy:
  // there may be more; kGone: unmounted everywhere, or aborted.
  enum class Progress { kIdle, kBusy, kGone };
  Progress AnswerRequests(DialogBuffers& buffers, int limit);
  // When the last open that was delivered had its answer; whether the one before it was just before.
  Tree::Time last_open() const { return last_open_; }
  bool OpensAreClose() const { return opens_are_close_; }

  // Not on a thread that answers requests: they wait for the kernel, which waits for answers.
  // True if there was a change.
  absl::StatusOr<bool> Swap(std::vector<SnapshotFile> files, absl::Time now);
  // As of VolumeServer.
  absl::StatusOr<std::vector<SnapshotFile>> Files();
  // Gives a volume that is new, with its first snapshot, to the keeper.
  void GiveToKeeper();
  // Has the kernel ask again what the plugin before this one left unanswered; nothing that is being
  // answered here is asked twice.
  void AskAgain();
  // NotFound: no longer, or something else is.
  absl::Status Mounted() const;
  // Tells the listener what the plugin before this one owed. Called once at most.
  void TellOwed();
  // Does the rest of a swap that the plugin before this one began.
  absl::Status Resume();
  // The volume is about to be handed over: what waits for time to pass ends.
  void Hurry() { leaving_ = true; }
  // The next plugin serves the volume: the contents aren't wiped.
  void Spare();
  // Removes the folders of old snapshots whose grace is over, and wipes those that are forgotten.
  // When it is to be called again, Time::max(): when there is something new.
  Tree::Time RemoveOld();
  // The same with the files whose time is over, and removes those that are gone.
  Tree::Time RemoveVanished();
  // Whether a file is gone or read, or a snapshot forgotten by the kernel, since the last call:
  // RemoveOld and RemoveVanished have something to do.
  bool TakeVanished() { return vanished_.exchange(false); }
  // Whether this is the first call: who drops the volume tells the keeper.
  bool FirstDrop() { return !dropped_.exchange(true); }
  // Detaches the mount, if it is still there, and forgets everything.
  absl::Status Close();

 private:
  class Turn;
  absl::StatusOr<UniqueFd> Writable() const;
  bool TooManyOld();
  // Does what is left of a swap that was begun: whether there was one.
  absl::StatusOr<bool> Finish();
  absl::Status SwapBySteps(int root, const std::string& folder);
  absl::Status FinishLinks(int root, const std::vector<std::string>& missing,
                           const std::vector<std::string>& stale);
  void Wipe(std::vector<std::unique_ptr<Snapshot>> gone) const;
  void DropPages(const std::vector<std::uint64_t>& inodes) const;
  bool KernelKnows(Tree::Inodes inodes) const;

  // What the listener is told of an open, if anything.
  std::optional<OpenEvent> EventOf(Gate::Passage passage, Opener opener);
  // OpenEvent::delivered of that file.
  std::function<void()> WhenDelivered(const std::string& file);

  const std::shared_ptr<const VolumeInfo> info_;
  const std::string root_;
  const std::uint64_t key_;
  const UniqueFd fuse_;
  const std::uint64_t device_;
  KeeperClient* const keeper_;
  const bool resend_;
  const MemoryKind memory_;
  const std::optional<OpenWatch> watch_;
  std::atomic<bool> vanished_ = false;
  std::atomic<Tree::Time> last_open_{Tree::Time()};
  std::atomic<bool> opens_are_close_ = false;

  std::mutex change_mutex_;           // before mutex_
  std::atomic<bool> closed_ = false;  // set under change_mutex_

  std::atomic<bool> leaving_ = false;
  std::atomic<bool> dropped_ = false;
  // Shared by who is between a request and its answer; after change_mutex_, before mutex_.
  std::shared_mutex answering_;

  std::mutex mutex_;  // never held while waiting for the kernel
  Tree tree_;
  std::set<std::string> owed_;  // by the plugin before this one; not under mutex_
  int turns_ = 0;  // threads between a request and its answer, where the kernel can't ask again
  Gate gate_;
};

}  // namespace coffer::volume
