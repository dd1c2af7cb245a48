// Volume: one FUSE mount at a pod's target path that serves an immutable snapshot of files out of
// locked memory, laid out as the kubelet does: "..data" is a link to
// "..2026_11_24_20_31_00.1234567", each top-level name is a link through "..data"; a swap renames a
// new "..data" over the old.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/secret_bytes.h"
#include "common/unique_fd.h"
#include "csi/volume/abilities.h"
#include "csi/volume/file_rules.h"

namespace coffer::volume {

struct SnapshotFile {
  std::string path;  // relative, "/" parts; each part 1..255 bytes, no NUL, not "." or "..", not
                     // starting ".."
  SecretBytes content;
  std::uint32_t mode = 0644;  // permission bits
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  FileRules rules = {};
};

// Whose volume it is: told of opens, means nothing here.
struct PodFacts {
  std::string kubernetes_namespace = {};
  std::string name = {};
  std::string uid = {};
  std::string secret_class = {};
};

struct VolumeInfo {
  std::string volume_id;
  std::string target;  // absolute path of the mount point
  PodFacts pod = {};
  bool audit = false;  // every open is told to the OpenListener
};

// How to wait for the plugin that serves to go, which may be for ever.
struct StandBy {
  int stop_fd = -1;  // readable: the wait ends with Cancelled
  std::function<void()> begins = [] {};
  // It is this plugin's turn: called before anything is served.
  std::function<void()> ends = [] {};
};

class KeeperClient;
class OpenListener;
class Openers;
struct DialogBuffers;
class TmpfsVolumes;
class Tree;
class Volume;

// All volumes of this process, served by a few threads. Safe on any thread.
//
// A volume's file system is writable, its mount at the target is not: so the kernel refuses every
// change with EROFS before it gets here. A swap makes its changes through a mount of its own that
// is in no namespace, and what it does not expect is refused too.
class VolumeServer {
 public:
  // `threads`: 1..64 that answer the kernel. `root`: targets lie below this folder; the way to it
  // may lead through symbolic links, the way from it to a target may not.
  // `keeper`: null, or who holds the volumes while no plugin runs; kept by the caller.
  // `listener`: null, or who is told of opens; kept by the caller.
  // `abilities`: what to do without; FindAbilities() where volumes must be had in any case.
  explicit VolumeServer(const Clock& clock, int threads = 2, std::string root = "/",
                        KeeperClient* keeper = nullptr, OpenListener* listener = nullptr,
                        Abilities abilities = {});
  ~VolumeServer();  // unmounts nothing: a plugin that stops leaves its mounts to the next one

  const Abilities& abilities() const { return abilities_; }
  // Unavailable: no volume can be mounted, and why.
  absl::Status Ready() const;

  // Takes up the tmpfs volumes below the root that a plugin before this one has left, whatever new
  // ones are made of. Called before anything is served; how many.
  absl::StatusOr<std::size_t> Recover();

  // Takes over the volumes that the keeper holds for the plugin before this one, and ends the swaps
  // that it left off; readers have waited in the meantime. Those that can't be served any more are
  // detached. Called before anything else; waits for as long as another plugin serves. The number
  // of volumes; errors of KeeperClient::Take.
  absl::StatusOr<std::size_t> Adopt(absl::Duration patience);
  absl::StatusOr<std::size_t> Adopt(absl::Duration patience, const StandBy& stand_by);

  // Leaves all volumes to the next plugin: from here on they aren't answered for, not changed
  // (Unavailable) and not listed. Without a keeper that holds them nothing of this is done, after
  // `patience` for one that is just restarting.
  void HandOver(absl::Duration patience);
  // Unavailable: it has, or is about to. What isn't served then is the next plugin's.
  absl::Status Stays() const;

  // Mounts at `target`, an existing directory; a dead mount of Coffer's there is detached first.
  // InvalidArgument: a file's path, or the target, is wrong; AlreadyExists: this server has a
  // volume there; NotFound: no such directory; anything else: what the kernel said. Nothing is
  // mounted unless OK.
  // `make_target`: called first, and only where this server may mount: not after it has handed over.
  // With `info.audit`, or rules of a file that need it, the kernel asks for each open; otherwise it
  // is told not to, which is ten times as fast. That stays so for as long as the mount does.
  absl::Status Mount(
      const VolumeInfo& info, std::vector<SnapshotFile> files,
      const std::function<absl::Status()>& make_target = [] { return absl::OkStatus(); });
  // Replaces the contents atomically; false, no change and no event where they are the same already. A
  // second later the old snapshot's folder is removed; its bytes are wiped when the last open
  // handle on them closes. A file that is gone (read once, or its time is over) comes back when its
  // bytes are others. NotFound: no such volume; FailedPrecondition: something else is mounted over
  // it, or files have rules and opens aren't delivered.
  absl::StatusOr<bool> Swap(std::string_view target, std::vector<SnapshotFile> files);
  // Detaches the mount, drops cached pages, wipes the contents: also under open handles, which get
  // errors from then on. OK where there is none.
  absl::Status Unmount(std::string_view target);
  // Copies of the files that the volume holds now, without those that are gone and without rules.
  // NotFound: no such volume.
  absl::StatusOr<std::vector<SnapshotFile>> Files(std::string_view target);
  // False too for a volume that someone else has unmounted or aborted.
  bool Serves(std::string_view target) const;
  std::vector<VolumeInfo> List() const;

  // For tests: how much is to be removed some time, at most one for each volume.
  std::size_t planned_removals();

 private:
  using SteadyTime = std::chrono::steady_clock::time_point;
  static constexpr std::uint64_t kStopKey = 0;   // of epoll events, besides volumes'
  static constexpr std::uint64_t kTmpfsKey = 0;  // of removals

  void Stop();
  void AskAllAgain();
  void AnswerLoop();
  void AnswerAwake(const std::shared_ptr<Volume>& volume, DialogBuffers& buffers);
  void RemovalLoop();
  std::shared_ptr<Volume> Find(std::string_view target) const;
  std::shared_ptr<Volume> FindAsked(std::uint64_t key);
  absl::StatusOr<bool> SwapTmpfs(const std::string& target, std::vector<SnapshotFile> files);
  absl::Status MountAt(const VolumeInfo& info, std::vector<SnapshotFile> files);
  void Drop(const std::shared_ptr<Volume>& volume);
  std::shared_ptr<Volume> Register(const VolumeInfo& info, std::uint64_t key, UniqueFd fuse,
                                   std::uint64_t device, Tree tree, bool opens);
  absl::Status Listen(int fuse, std::uint64_t key) const;
  // Has the thread that removes call `remove` at `due`, unless what has this key is called by then:
  // it sees itself what comes after it.
  void At(SteadyTime due, std::uint64_t key, std::function<void()> remove);
  // Has old snapshots, and files whose time is over, removed at `due`, and later ones in their
  // time.
  void RemoveAt(SteadyTime due, const std::shared_ptr<Volume>& volume);
  void RemoveOldTmpfs(SteadyTime due);  // of all those
  // Drop waits for the keeper, which may stand still: so must none that answers.
  void DropSoon(const std::shared_ptr<Volume>& volume);
  // Those files now, the rest when the grace of what was just swapped is over.
  void RemoveSoon(const std::shared_ptr<Volume>& volume);
  struct Handover;  // what a keeper holds of one volume
  // Has whoever gets the first request of a volume adopt it.
  void Expect(const std::vector<std::shared_ptr<Handover>>& arrivals);
  // Has the kernel ask again, and adopts those that are asked for. After Expect.
  void Await(std::span<const std::shared_ptr<Handover>> some);
  absl::StatusOr<std::shared_ptr<Volume>> AdoptOne(Handover& handover);
  // Does it unless it is done. Null, and the log says why: it can't be served any more, and is
  // detached.
  std::shared_ptr<Volume> AdoptOrDetach(Handover& handover);
  void GiveUp(const std::string& target, const absl::Status& cause);
  // Ends what the plugin before this one has begun. False: the mount is gone, and the volume with it.
  bool GoOn(const std::shared_ptr<Volume>& volume);
  bool AdoptLate(const std::shared_ptr<Handover>& handover);

  const Clock& clock_;
  const std::string root_;
  KeeperClient* const keeper_;
  OpenListener* const listener_;
  const Abilities abilities_;
  const std::unique_ptr<TmpfsVolumes> tmpfs_;
  const std::unique_ptr<Openers> openers_;
  UniqueFd epoll_;
  UniqueFd stop_;                    // eventfd
  const bool may_stay_awake_;        // a thread that answers
  std::atomic<bool> awake_ = false;  // one does

  mutable std::mutex mutex_;  // after that of a Handover
  std::map<std::string, std::shared_ptr<Volume>, std::less<>> by_target_;  // null: being mounted
  std::map<std::uint64_t, std::shared_ptr<Volume>> by_key_;                // key: the epoll event's
  std::map<std::uint64_t, std::shared_ptr<Handover>> arriving_;            // not in by_key_ yet
  std::atomic<std::uint64_t> next_key_ = 1;

  std::atomic<bool> left_ = false;
  std::shared_mutex changes_;  // shared by those under way; before all others

  std::mutex removal_mutex_;
  std::condition_variable removal_wake_;
  std::map<std::uint64_t, SteadyTime> due_;  // by key
  std::map<std::pair<SteadyTime, std::uint64_t>, std::function<void()>> removals_;
  bool stopping_ = false;

  std::vector<std::thread> threads_;  // the last one removes
};

// Coffer's mounts below `root` (the kubelet's folder) in this mount namespace, dead or alive, from
// /proc/self/mountinfo: FUSE file systems of subtype "coffer", or tmpfs, whose source is
// "coffer:<volume id>". Touches none of them, so that a dead one can't block. A root that isn't
// there has none.
enum class MountKind { kAny, kFuse, kTmpfs };
absl::StatusOr<std::vector<VolumeInfo>> FindMounts(std::string_view root,
                                                   MountKind kind = MountKind::kAny);
// Detaches a mount that nobody serves, without waiting for it (MNT_DETACH). OK where there is none.
absl::Status DetachMount(std::string_view target);

}  // namespace coffer::volume
