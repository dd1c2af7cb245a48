// TmpfsVolumes: volumes where there is no FUSE: a tmpfs each, read-only to the pod, with the same
// layout and the same order of events. The kernel serves them, so they live on without a plugin,
// and the next one takes them up from the list of mounts. What only a server of opens can do isn't
// there: rules of files, audit.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/unique_fd.h"
#include "csi/volume/tree.h"
#include "csi/volume/volume.h"

namespace coffer::volume {

class TmpfsVolumes {
 public:
  // `root` as of VolumeServer. `noswap`: the kernel can keep a tmpfs in memory.
  TmpfsVolumes(std::string root, bool noswap) : root_(std::move(root)), noswap_(noswap) {}

  // Takes up what a plugin before this one has mounted below the root: how many.
  absl::StatusOr<std::size_t> Recover();

  // As of VolumeServer. FailedPrecondition: audit or rules, which can't be kept here.
  absl::Status Mount(const VolumeInfo& info, std::vector<SnapshotFile> files, absl::Time now);
  // True if there was a change: RemoveOld is due a grace after that, and after an error or Recover.
  absl::StatusOr<bool> Swap(std::string_view target, std::vector<SnapshotFile> files,
                            absl::Time now);
  absl::StatusOr<std::vector<SnapshotFile>> Files(std::string_view target) const;
  // Removes the folders that "..data" left a grace ago, and wipes the files in them that nobody has
  // open. When it is due again, Time::max(): as said above.
  Tree::Time RemoveOld();
  // Detaches, overwrites and removes.
  absl::Status Unmount(std::string_view target);
  bool Serves(std::string_view target) const;
  void List(std::vector<VolumeInfo>* volumes) const;

 private:
  struct Mounted {
    VolumeInfo info;
    UniqueFd folder;           // the root of a writable mount that is in no namespace
    std::uint64_t device = 0;  // of the file system
    std::mutex mutex;          // for changes
    std::map<std::string, Tree::Time> retired;  // old snapshots' folders
    std::vector<UniqueFd> open;  // files of theirs without a name that somebody reads
  };

  std::shared_ptr<Mounted> Find(std::string_view target) const;
  bool IsThere(const Mounted& mounted) const;
  static void TakeUp(Mounted& mounted, Tree::Time now);

  const std::string root_;
  const bool noswap_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Mounted>, std::less<>> by_target_;
};

}  // namespace coffer::volume
