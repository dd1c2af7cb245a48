#include "csi/volume/tmpfs_volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "absl/time/clock.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "csi/volume/mount.h"
#include "csi/volume/served_volume.h"
#include "csi/volume/tree.h"
#include "csi/volume/volume_facts.h"

namespace coffer::volume {
namespace {

namespace fs = std::filesystem;

absl::Status Failed(std::string_view step, std::string_view name) {
  return absl::ErrnoToStatus(errno, ToAbsl(StrCat("a tmpfs volume: ", step, " ", name)));
}

std::string PathOf(int folder) { return StrCat("/proc/self/fd/", folder); }

std::string CurrentOf(int root) {
  char name[256] = {};
  const ssize_t size = readlinkat(root, std::string(Tree::kData).c_str(), name, sizeof name - 1);
  return size <= 0 ? "" : std::string(name, static_cast<std::size_t>(size));
}

// All bytes, whatever a write takes at once.
absl::Status WriteAll(int file, std::string_view bytes, const std::string& name) {
  while (!bytes.empty()) {
    const ssize_t written = write(file, bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) return Failed("writing", name);
    if (written > 0) bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return absl::OkStatus();
}

// The snapshot's folder with all that is in it. Parents come before their children.
absl::Status WriteFolder(int root, const Snapshot& snapshot) {
  const std::string top(snapshot.folder_name());
  if (mkdirat(root, top.c_str(), 0755) != 0 || fchmodat(root, top.c_str(), 0755, 0) != 0) {
    return Failed("making", top);
  }
  for (std::uint32_t i = Snapshot::kDataLink + 1; i < snapshot.node_count(); ++i) {
    const Node& node = snapshot.node(i);
    const std::string name = StrCat(top, "/", snapshot.Path(i));
    if (S_ISDIR(node.mode)) {
      if (mkdirat(root, name.c_str(), 0755) != 0 || fchmodat(root, name.c_str(), 0755, 0) != 0) {
        return Failed("making", name);
      }
      continue;
    }
    const UniqueFd file(openat(root, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return Failed("making", name);
    RETURN_IF_ERROR(WriteAll(file.get(), snapshot.Content(i), name));
    if (fchown(file.get(), node.uid, node.gid) != 0 ||
        fchmod(file.get(), node.mode & 07777) != 0) {
      return Failed("giving its owner and mode to", name);
    }
  }
  return absl::OkStatus();
}

// Whether the folder on the tmpfs holds what the snapshot does.
bool Holds(int root, const std::string& folder, const Snapshot& snapshot) {
  std::error_code error;
  std::size_t there = 0;
  for (fs::recursive_directory_iterator at(StrCat(PathOf(root), "/", folder), error), end;
       !error && at != end; at.increment(error)) {
    ++there;
  }
  if (error || there != snapshot.node_count() - Snapshot::kDataLink - 1) return false;
  SecretBytes bytes;
  for (std::uint32_t i = Snapshot::kDataLink + 1; i < snapshot.node_count(); ++i) {
    const Node& node = snapshot.node(i);
    const std::string name = StrCat(folder, "/", snapshot.Path(i));
    struct stat facts {};
    if (fstatat(root, name.c_str(), &facts, AT_SYMLINK_NOFOLLOW) != 0) return false;
    if (S_ISDIR(node.mode)) {
      if (!S_ISDIR(facts.st_mode)) return false;
      continue;
    }
    if (facts.st_mode != node.mode || facts.st_uid != node.uid || facts.st_gid != node.gid ||
        facts.st_size != static_cast<off_t>(node.size)) {
      return false;
    }
    const UniqueFd file(openat(root, name.c_str(), O_RDONLY | O_CLOEXEC));
    bytes.Resize(node.size);
    if (pread(file.get(), bytes.data(), node.size, 0) != facts.st_size ||
        !ConstantTimeEquals(bytes.view(), snapshot.Content(i))) {
      return false;
    }
  }
  return true;
}

absl::StatusOr<std::set<std::string>> TopNames(int root, const std::string& folder) {
  std::set<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(StrCat(PathOf(root), "/", folder), error), end;
       !error && at != end; at.increment(error)) {
    names.insert(at->path().filename());
  }
  if (error) return absl::InternalError(StrCat("listing ", folder, ": ", error.message()));
  return names;
}

absl::Status Switch(int root, const std::string& folder) {
  const std::string new_data(Tree::kNewData), data(Tree::kData);
  unlinkat(root, new_data.c_str(), 0);
  const bool made = symlinkat(folder.c_str(), root, new_data.c_str()) == 0;
  // The last thing that a killed plugin's thread did may have been to rename our link.
  if (!made || (renameat(root, new_data.c_str(), root, data.c_str()) != 0 &&
                CurrentOf(root) != folder)) {
    return Failed("making the link", data);
  }
  return absl::OkStatus();
}

// Makes the links that are missing, then removes those that are too many: the kubelet's order.
// Whether there were any.
absl::StatusOr<bool> FinishLinks(int root) {
  ASSIGN_OR_RETURN(const std::set<std::string> there, TopNames(root, "."));
  ASSIGN_OR_RETURN(const std::set<std::string> wanted, TopNames(root, CurrentOf(root)));
  bool changed = false;
  for (const std::string& name : wanted) {
    if (there.contains(name)) continue;
    if (symlinkat(StrCat(Tree::kData, "/", name).c_str(), root, name.c_str()) != 0) {
      return Failed("making the link", name);
    }
    changed = true;
  }
  for (const std::string& name : there) {
    if (name.starts_with("..") || wanted.contains(name)) continue;
    if (unlinkat(root, name.c_str(), 0) != 0) return Failed("removing the link", name);
    changed = true;
  }
  return changed;
}

void Overwrite(int file) {
  struct stat facts {};
  if (fstat(file, &facts) != 0) return;
  const std::string zeros(static_cast<std::size_t>(facts.st_size), '\0');
  (void)WriteAll(file, zeros, "");
}

// Of a file without a name. False: somebody has it open, so that the kernel grants no lease. Where
// it grants none at all, the file isn't wiped.
bool Wipe(int file) {
  fcntl(file, F_SETSIG, SIGURG);  // in place of SIGIO, which would end us if somebody opens it now
  if (fcntl(file, F_SETLEASE, F_WRLCK) != 0) return errno != EAGAIN;
  Overwrite(file);
  return true;
}

// Removes a folder or link, and wipes the files in it but those that somebody has open, which are
// put into `open`; null: those, too.
void Remove(int root, const std::string& name, std::vector<UniqueFd>* open) {
  const std::string path = StrCat(PathOf(root), "/", name);
  std::error_code error;
  for (fs::recursive_directory_iterator at(path, error), end; !error && at != end;
       at.increment(error)) {
    UniqueFd file(::open(at->path().c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!file) continue;
    unlink(at->path().c_str());
    if (open == nullptr) {
      Overwrite(file.get());
    } else if (!Wipe(file.get())) {
      open->push_back(std::move(file));
    }
  }
  fs::remove_all(path, error);
  if (error) {
    log::Warning("an old snapshot of a tmpfs volume stays", {{"cause", error.message()}});
  }
}

std::uint64_t Number(absl::Time now) { return static_cast<std::uint64_t>(absl::ToUnixNanos(now)); }

}  // namespace

bool TmpfsVolumes::IsThere(const Mounted& mounted) const {
  const absl::StatusOr<UniqueFd> target = OpenTarget(root_, mounted.info.target);
  return target.ok() && DeviceOf(target->get()).value_or(0) == mounted.device;
}

std::shared_ptr<TmpfsVolumes::Mounted> TmpfsVolumes::Find(std::string_view target) const {
  std::lock_guard lock(mutex_);
  const auto at = by_target_.find(target);
  return at == by_target_.end() ? nullptr : at->second;
}

bool TmpfsVolumes::Serves(std::string_view target) const {
  const std::shared_ptr<Mounted> mounted = Find(target);
  return mounted != nullptr && IsThere(*mounted);
}

void TmpfsVolumes::List(std::vector<VolumeInfo>* volumes) const {
  std::lock_guard lock(mutex_);
  for (const auto& [target, mounted] : by_target_) volumes->push_back(mounted->info);
}

// A swap that was left off before the switch begins anew with the next one.
void TmpfsVolumes::TakeUp(Mounted& mounted, Tree::Time now) {
  const int root = mounted.folder.get();
  const std::string current = CurrentOf(root);
  for (const std::string& name : TopNames(root, ".").value_or(std::set<std::string>())) {
    if (name.starts_with("..2") && name != current) mounted.retired.try_emplace(name, now);
  }
  if (const absl::StatusOr<bool> finished = FinishLinks(root); !finished.ok()) {
    log::Warning("a swap that was left off can't be ended",
                 {{"target", mounted.info.target}, {"cause", finished.status()}});
  }
}

absl::StatusOr<std::size_t> TmpfsVolumes::Recover() {
  ASSIGN_OR_RETURN(const std::vector<VolumeInfo> all, FindMounts(root_, MountKind::kTmpfs));
  const Tree::Time now = std::chrono::steady_clock::now();
  std::size_t found = 0;
  for (const VolumeInfo& info : all) {
    auto mounted = std::make_shared<Mounted>();
    mounted->info = info;
    const absl::StatusOr<UniqueFd> target = OpenTarget(root_, info.target);
    if (!target.ok()) continue;
    mounted->device = DeviceOf(target->get()).value_or(0);
    absl::StatusOr<UniqueFd> folder = OpenWritable(target->get(), mounted->device);
    if (!folder.ok()) {
      log::Warning("a tmpfs volume can't be taken up",
                   {{"target", info.target}, {"cause", folder.status()}});
      continue;
    }
    mounted->folder = *std::move(folder);
    TakeUp(*mounted, now);
    std::lock_guard lock(mutex_);
    if (by_target_.try_emplace(info.target, std::move(mounted)).second) ++found;
  }
  return found;
}

absl::Status TmpfsVolumes::Mount(const VolumeInfo& info, std::vector<SnapshotFile> files,
                                 absl::Time now) {
  if (info.audit || NeedOpens(files)) {
    return absl::FailedPreconditionError(
        "audit and rules of files need FUSE, which this node doesn't have");
  }
  if (Serves(info.target)) {
    return absl::AlreadyExistsError(StrCat("a volume is mounted at \"", info.target, "\" already"));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Snapshot> snapshot,
                   Snapshot::Build(files, Number(now), now));
  ASSIGN_OR_RETURN(UniqueFd target, OpenTarget(root_, info.target));
  ASSIGN_OR_RETURN(const bool ours, IsMount(target.get()));
  if (ours) {
    RETURN_IF_ERROR(Detach(target.get()));
    ASSIGN_OR_RETURN(target, OpenTarget(root_, info.target));
  }
  auto mounted = std::make_shared<Mounted>();
  mounted->info = info;
  ASSIGN_OR_RETURN(DetachedMount made, MakeTmpfs(info.volume_id, noswap_));
  mounted->device = made.device;
  RETURN_IF_ERROR(WriteFolder(made.mount.get(), *snapshot));
  RETURN_IF_ERROR(Switch(made.mount.get(), std::string(snapshot->folder_name())));
  RETURN_IF_ERROR(FinishLinks(made.mount.get()).status());
  // What the pod sees is made before the file system is in any namespace, read-only.
  ASSIGN_OR_RETURN(const DetachedMount shown, ReadOnlyCopy(made));
  RETURN_IF_ERROR(Attach(shown, target.get()));
  mounted->folder = std::move(made.mount);
  std::lock_guard lock(mutex_);
  by_target_[info.target] = std::move(mounted);
  return absl::OkStatus();
}

absl::StatusOr<bool> TmpfsVolumes::Swap(std::string_view target, std::vector<SnapshotFile> files,
                                        absl::Time now) {
  const std::shared_ptr<Mounted> mounted = Find(target);
  if (mounted == nullptr) {
    return absl::NotFoundError(StrCat("no volume is mounted at \"", target, "\""));
  }
  if (NeedOpens(files)) {
    return absl::FailedPreconditionError("rules of files need FUSE, which this node doesn't have");
  }
  std::lock_guard lock(mounted->mutex);
  if (Find(target) != mounted) return absl::NotFoundError("the volume is unmounted");
  const int root = mounted->folder.get();
  const std::string current = CurrentOf(root);
  ASSIGN_OR_RETURN(const std::unique_ptr<Snapshot> next,
                   Snapshot::Build(files, Number(now), now));
  const std::string folder(next->folder_name());
  // Links that an earlier swap couldn't make are missing still.
  if (folder == current || Holds(root, current, *next)) return FinishLinks(root);
  absl::Status done = WriteFolder(root, *next);
  if (done.ok()) done = Switch(root, folder);
  if (!done.ok()) {
    Remove(root, folder, &mounted->open);
    return done;
  }
  mounted->retired[current] = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(FinishLinks(root).status());
  return true;
}

absl::StatusOr<std::vector<SnapshotFile>> TmpfsVolumes::Files(std::string_view target) const {
  const std::shared_ptr<Mounted> mounted = Find(target);
  if (mounted == nullptr) {
    return absl::NotFoundError(StrCat("no volume is mounted at \"", target, "\""));
  }
  std::lock_guard lock(mounted->mutex);
  const int root = mounted->folder.get();
  const fs::path current = StrCat(PathOf(root), "/", CurrentOf(root));
  std::vector<SnapshotFile> files;
  std::error_code error;
  for (fs::recursive_directory_iterator at(current, error), end; !error && at != end;
       at.increment(error)) {
    const UniqueFd file(open(at->path().c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    struct stat facts {};
    if (!file || fstat(file.get(), &facts) != 0) return Failed("reading", at->path().string());
    if (!S_ISREG(facts.st_mode)) continue;
    SecretBytes content;
    content.Resize(static_cast<std::size_t>(facts.st_size));
    if (pread(file.get(), content.data(), content.size(), 0) != facts.st_size) {
      return Failed("reading", at->path().string());
    }
    files.push_back({.path = at->path().lexically_relative(current),
                     .content = std::move(content),
                     .mode = facts.st_mode & 07777,
                     .uid = facts.st_uid,
                     .gid = facts.st_gid});
  }
  if (error) return absl::InternalError(StrCat("listing ", current.string(), ": ", error.message()));
  return files;
}

Tree::Time TmpfsVolumes::RemoveOld() {
  std::vector<std::shared_ptr<Mounted>> all;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [target, mounted] : by_target_) all.push_back(mounted);
  }
  Tree::Time next = Tree::Time::max();
  for (const std::shared_ptr<Mounted>& mounted : all) {
    std::lock_guard lock(mounted->mutex);
    const Tree::Time now = std::chrono::steady_clock::now();
    // Of a plugin that was killed, a thread on its way out of the kernel may have ended a switch
    // after this one has taken the volume up.
    if (mounted->retired.erase(CurrentOf(mounted->folder.get())) > 0) TakeUp(*mounted, now);
    std::erase_if(mounted->open, [](const UniqueFd& file) { return Wipe(file.get()); });
    std::erase_if(mounted->retired, [&](const auto& old) {
      const Tree::Time due = old.second + Volume::kGrace;
      if (due > now) {
        next = std::min(next, due);
        return false;
      }
      Remove(mounted->folder.get(), old.first, &mounted->open);
      return true;
    });
    if (!mounted->open.empty()) next = std::min(next, now + Volume::kDoubt);
  }
  return next;
}

absl::Status TmpfsVolumes::Unmount(std::string_view target) {
  const std::shared_ptr<Mounted> mounted = Find(target);
  if (mounted == nullptr) return absl::OkStatus();
  std::lock_guard change(mounted->mutex);
  if (IsThere(*mounted)) {
    ASSIGN_OR_RETURN(const UniqueFd folder, OpenTarget(root_, mounted->info.target));
    RETURN_IF_ERROR(Detach(folder.get()));
  }
  for (const UniqueFd& file : mounted->open) Overwrite(file.get());
  ASSIGN_OR_RETURN(const std::set<std::string> all, TopNames(mounted->folder.get(), "."));
  for (const std::string& name : all) Remove(mounted->folder.get(), name, nullptr);
  std::lock_guard lock(mutex_);
  const auto at = by_target_.find(target);
  if (at != by_target_.end() && at->second == mounted) by_target_.erase(at);
  return absl::OkStatus();
}

}  // namespace coffer::volume
