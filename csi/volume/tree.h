// Tree: what one volume's file system holds at the moment: the root folder with its links, the
// snapshot that "..data" leads to, and those that the kernel still has references to. Not locked.
//
// The plugin changes the root by system calls on a mount of its own, so that the kernel tells those
// who watch. A change is admitted only as the next step of a swap that the plugin has announced:
//
//   swap    := mkdir "..2026_…"  symlink "..data_tmp"  rename "..data_tmp" over "..data"
//              symlink{new top-level names}  unlink{names that are gone}
//   given up:= unlink "..data_tmp"
//   removal := unlink and rmdir in an old snapshot  rmdir "..2025_…"
//   gone    := unlink of a file that is gone  unlink{its top-level name}
//
// So it needs no trust in who asks: any process could only do what is about to be done anyway.
// A step that is asked for again, as when its answer was lost with a plugin that died, succeeds
// again.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "csi/volume/snapshot.h"

namespace coffer::volume {

class Tree {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::uint64_t kRoot = 1;
  static constexpr std::string_view kData = "..data";
  static constexpr std::string_view kNewData = "..data_tmp";

  struct Attributes {
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
    std::int64_t time_nanos = 0;  // of all times: a snapshot doesn't change
    std::uint32_t mode = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
  };

  explicit Tree(std::unique_ptr<Snapshot> first);
  // As another process left it, maybe in the middle of a swap. Old snapshots count as retired at
  // `now`. At least one of `all` has been current.
  Tree(std::vector<std::unique_ptr<Snapshot>> all, Time now);

  // Old snapshots that the kernel has no references to any more, to be wiped by the caller. Whether
  // there may be some since the last question.
  std::vector<std::unique_ptr<Snapshot>> TakeForgotten();
  bool NoticeForgotten() { return std::exchange(forgotten_, false); }
  // Whether a request is being answered, for who takes over on a kernel that can't ask again.
  void MarkAnswering(bool answering);
  // The images go to the next process, as they are.
  void Spare();

  const Snapshot& current() const { return *current_; }
  std::uint64_t next_inode() const { return next_inode_; }
  std::uint64_t file_count() const { return current_ == nullptr ? 0 : current_->file_count(); }
  std::uint64_t content_size() const { return current_ == nullptr ? 0 : current_->content_size(); }
  std::size_t snapshot_count() const { return held_.size(); }  // all that still have bytes

  // None: there is no such inode any more, or no such name.
  std::optional<Attributes> Stat(std::uint64_t inode) const;
  std::optional<std::uint64_t> Lookup(std::uint64_t folder, std::string_view name) const;
  // A link's target, a file's bytes; none for other inodes. Valid until the tree is changed.
  std::optional<std::string> Target(std::uint64_t inode) const;
  std::optional<std::string_view> Content(std::uint64_t inode) const;
  // Calls `visit` with a folder's entries in the order of their positions, from the first above
  // `after` until it returns false. An entry's position is its inode, but "..data" and "..data_tmp"
  // have fixed ones, 3 and 4: so who lists the root during a swap sees every name once.
  using Visitor =
      std::function<bool(std::uint64_t position, std::uint64_t inode, std::string_view name)>;
  void List(std::uint64_t folder, std::uint64_t after, const Visitor& visit) const;

  // A file with a guard, valid until the tree is changed; none for other inodes.
  struct Guarded {
    Snapshot* snapshot = nullptr;
    std::uint32_t index = 0;
    Guard* guard = nullptr;
    std::uint64_t size() const { return snapshot->node(index).size; }
  };
  std::optional<Guarded> FindGuarded(std::uint64_t inode);
  // Calls `visit` with the guards of a path in all snapshots; only where the bytes are the same.
  using GuardVisitor = std::function<void(Snapshot&, std::uint32_t, Guard&)>;
  void ForVersions(const std::string& path, const GuardVisitor& visit);
  void ForCopies(const Guarded& file, const GuardVisitor& visit);
  // Paths of canaries, in any snapshot, whose first open is owed to somebody.
  std::set<std::string> Owed() const;
  // Wipes the file and its copies.
  void Vanish(const Guarded& file);
  // The same with all files whose time is over; when that of the next one is, Time::max() if never.
  Time VanishOver(Time now);
  // Files that are gone and that the kernel may know still: their inodes, and paths from the root.
  struct Gone {
    std::uint64_t inode;
    std::string path;
  };
  std::vector<Gone> KnownGone() const;
  // The inodes of those that are there for one reader alone.
  std::vector<std::uint64_t> KnownRead() const;

  // The kernel's references.
  void AddLookup(std::uint64_t inode);
  void Forget(std::uint64_t inode, std::uint64_t count);

  // Announces a swap, takes it back. `counterparts`: of `next` in the current one.
  void Expect(std::unique_ptr<Snapshot> next, const Snapshot::Counterparts& counterparts);
  void Abandon(Time now);
  // The last step of the swap is done.
  void Finish() { current_->marks().unfinished = 0; }
  // The snapshot of a swap that another process has left off; null: none. Names of the root that it
  // may have left behind in the kernel's caches.
  const Snapshot* unfinished() const;
  std::vector<std::string> OldNames() const;
  std::vector<std::string> TopNames() const;  // of the current one
  // Names in the root that the current snapshot has and the root lacks; those it has too many.
  std::vector<std::string> MissingLinks() const;
  std::vector<std::string> StaleLinks() const;
  // An old snapshot whose removal is due: retired at `before` or earlier. Null: none.
  Snapshot* NextRemoval(Time before);
  // When that one was retired which is removed next.
  std::optional<Time> NextRetired() const;
  // Ends that removal.
  void Removed();
  // Files of old snapshots, or of all, that the kernel has references to, perhaps with cached
  // pages.
  std::vector<std::uint64_t> KnownFiles(bool with_current) const;
  // Old snapshots whose folders are still there.
  std::size_t waiting_removals() const;
  // Old snapshots of a plugin before this one whose folders are gone: what it counted may be too much,
  // since a request may be answered twice and a FORGET be lost with who has read it. Their inodes,
  // folders before what is in them.
  struct Inodes {
    std::uint64_t first, count;
  };
  std::vector<Inodes> Doubtful() const;
  // The kernel knows none of a snapshot's inodes.
  void ForgetAll(std::uint64_t first_inode);
  // Everything, to be wiped by the caller: nothing is served from here on.
  std::vector<std::unique_ptr<Snapshot>> TakeAll();

  // Steps of a swap or removal. False: not expected.
  bool MakeFolder(std::uint64_t folder, std::string_view name);
  bool MakeLink(std::uint64_t folder, std::string_view name, std::string_view target);
  bool Rename(std::uint64_t folder, std::string_view name, std::uint64_t new_folder,
              std::string_view new_name, Time now);
  bool Remove(std::uint64_t folder, std::string_view name);

 private:
  struct Held {
    std::unique_ptr<Snapshot> snapshot;
    Time retired{};  // when "..data" left it
    bool inherited = false;
    Marks& marks() const { return snapshot->marks(); }
  };
  struct Link {
    std::uint64_t inode;
    std::string name;
  };

  Held* Find(std::uint64_t inode);
  const Held* Find(std::uint64_t inode) const { return const_cast<Tree*>(this)->Find(inode); }
  const Link* FindLink(std::uint64_t inode) const;
  Held& HeldOf(const Snapshot* snapshot);
  void AddLink(std::uint32_t node);
  // Those in the root. They are listed when they are first needed: many a volume that is taken over
  // has readers who know them all.
  std::vector<Link>& Links() const;
  void Announce(Snapshot* next, const Snapshot::Counterparts& counterparts);
  bool IsOld(const Held& held) const;
  // Calls `visit` with the nodes that the kernel has references to.
  template <class Visit>
  void ForKnown(const Visit& visit) const;
  bool new_data() const { return next_ != nullptr && next_->marks().new_data != 0; }
  struct Special {
    std::uint64_t position;
    std::uint64_t inode;
    std::string_view name;
  };
  // Entries of the root but the links through "..data", by position.
  std::vector<Special> Specials() const;

  std::vector<Held> held_;   // by inodes
  mutable std::optional<std::vector<Link>> links_;  // by inode; none: as the images say
  Snapshot* current_;
  Snapshot* next_ = nullptr;  // announced
  Snapshot* removing_ = nullptr;
  std::uint64_t next_inode_;
  std::int64_t changed_nanos_;
  bool forgotten_ = false;
};

}  // namespace coffer::volume
