#include "csi/volume/served_volume.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "common/log.h"
#include "common/status_macros.h"
#include "csi/volume/volume_facts.h"

namespace coffer::volume {
namespace {

// "Done" or what failed.
absl::Status Step(int result, std::string_view step, std::string_view name) {
  if (result == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno,
                             ToAbsl(StrCat("swapping a volume's content: ", step, " ", name)));
}

}  // namespace

absl::Status AskAgain(int fuse) {
  const Resend resend;
  if (write(fuse, resend.bytes, sizeof resend.bytes) >= 0) return absl::OkStatus();
  if (errno == EINVAL) return absl::UnimplementedError("handing volumes over needs Linux 6.9");
  return absl::ErrnoToStatus(errno, "the kernel doesn't ask again");
}

Volume::Volume(VolumeInfo info, std::string root, std::uint64_t key, UniqueFd fuse,
               std::uint64_t device, Tree tree, KeeperClient* keeper,
               std::optional<OpenWatch> watch, const Abilities& abilities)
    : info_(std::make_shared<const VolumeInfo>(std::move(info))),
      root_(std::move(root)),
      key_(key),
      fuse_(std::move(fuse)),
      device_(device),
      keeper_(keeper),
      resend_(abilities.resend),
      memory_(abilities.memory),
      watch_(std::move(watch)),
      tree_(std::move(tree)),
      owed_(watch_ ? tree_.Owed() : std::set<std::string>()) {}

void Volume::GiveToKeeper() {
  if (keeper_ == nullptr) return;
  const Snapshot& first = tree_.current();
  keeper_->Put(info_->target, WriteFacts({device_, watch_.has_value(), *info_}), fuse_.get(),
               first.first_inode(), first.fd());
}

void Volume::AskAgain() {
  std::unique_lock lock(answering_);
  (void)volume::AskAgain(fuse_.get());  // or it can't
}

absl::Status Volume::Mounted() const {
  ASSIGN_OR_RETURN(const UniqueFd target, OpenTarget(root_, info_->target));
  ASSIGN_OR_RETURN(const std::uint64_t found, DeviceOf(target.get()));
  return found == device_ ? absl::OkStatus() : absl::NotFoundError("it isn't mounted any more");
}

void Volume::Spare() {
  std::lock_guard lock(mutex_);
  tree_.Spare();
}

// Where the kernel can't ask again, the images say from before a request is read until it is
// answered that one may be lost with this process.
class Volume::Turn {
 public:
  explicit Turn(Volume& volume) : volume_(volume) { Count(+1); }
  ~Turn() { Count(-1); }
  Turn(const Turn&) = delete;

 private:
  void Count(int change) {
    if (volume_.resend_) return;
    std::lock_guard lock(volume_.mutex_);
    volume_.turns_ += change;
    volume_.tree_.MarkAnswering(volume_.turns_ > 0);
  }

  Volume& volume_;
};

Volume::Progress Volume::AnswerRequests(DialogBuffers& buffers, int limit) {
  for (int i = 0; i < limit; ++i) {
    std::shared_lock answering(answering_);
    const Turn turn(*this);
    const ssize_t size = read(fuse_.get(), buffers.request, sizeof buffers.request);
    if (size < 0) {
      if (errno == EAGAIN) return Progress::kIdle;
      if (errno == EINTR || errno == ENOENT) continue;  // ENOENT: whoever asked has been killed
      return Progress::kGone;
    }
    const std::span<const std::uint8_t> request(buffers.request, static_cast<std::size_t>(size));
    const auto asker = watch_ ? WhoOpens(request) : std::nullopt;
    Opener opener;
    if (asker) opener = watch_->openers.Describe(asker->thread, asker->uid, asker->gid);
    Delivery delivery{gate_, opener};
    {
      std::lock_guard lock(mutex_);
      Answer(tree_, request, buffers.answer, watch_ ? &delivery : nullptr);
      if (delivery.vanished || tree_.NoticeForgotten()) vanished_ = true;
    }
    std::optional<OpenEvent> event;
    if (delivery.passage) event = EventOf(*std::move(delivery.passage), std::move(opener));
    if (event) watch_->listener->Opening(*event);
    if (event && event->canary) {
      std::lock_guard lock(mutex_);
      gate_.Told(tree_, event->file);
    }
    // A failed write means that nobody waits any more.
    if (!buffers.answer.empty()) {
      [[maybe_unused]] const ssize_t written =
          write(fuse_.get(), buffers.answer.data(), buffers.answer.size());
      OPENSSL_cleanse(buffers.answer.data(), buffers.answer.size());
    }
    if (delivery.passage) {
      const Tree::Time now = std::chrono::steady_clock::now();
      opens_are_close_ = now - last_open_.exchange(now) < kClose;
    }
    if (event) watch_->listener->Opened(*event);
    if (asker) watch_->openers.Tidy();
  }
  return Progress::kBusy;
}

std::optional<OpenEvent> Volume::EventOf(Gate::Passage passage, Opener opener) {
  const bool quiet = !info_->audit && passage.error == 0 && !passage.canary;
  if (quiet || passage.file.empty() || watch_->listener == nullptr) return std::nullopt;
  std::function<void()> delivered;
  if (passage.canary) delivered = WhenDelivered(passage.file);
  return OpenEvent{.volume = info_,
                   .file = std::move(passage.file),
                   .version = std::move(passage.version),
                   .opener = std::move(opener),
                   .time = watch_->clock.Now(),
                   .error = passage.error,
                   .refusal = std::move(passage.refusal),
                   .canary = passage.canary,
                   .delivered = std::move(delivered)};
}

std::function<void()> Volume::WhenDelivered(const std::string& file) {
  return [weak = weak_from_this(), file] {
    const auto there = weak.lock();
    if (there == nullptr) return;
    std::lock_guard lock(there->mutex_);
    there->gate_.Delivered(there->tree_, file);
  };
}

void Volume::TellOwed() {
  for (const std::string& file : std::exchange(owed_, {})) {
    if (watch_->listener == nullptr) return;
    watch_->listener->StillOwed(
        {.volume = info_, .file = file, .canary = true, .delivered = WhenDelivered(file)});
  }
}

absl::StatusOr<UniqueFd> Volume::Writable() const {
  ASSIGN_OR_RETURN(const UniqueFd target, OpenTarget(root_, info_->target));
  return OpenWritable(target.get(), device_);
}

absl::StatusOr<bool> Volume::Swap(std::vector<SnapshotFile> files, absl::Time now) {
  std::unique_lock change_lock(change_mutex_);
  while (TooManyOld()) {
    if (leaving_) return absl::UnavailableError("the plugin is stopping");
    change_lock.unlock();
    std::this_thread::sleep_for(kGrace / 50);
    change_lock.lock();
  }
  if (closed_) return absl::NotFoundError("the volume is unmounted");
  if (!watch_ && NeedOpens(files)) {
    return absl::FailedPreconditionError(
        "the volume was mounted without asking for opens, so the rules that its files have now "
        "can't be kept: delete the pod, so that it is mounted anew");
  }
  // Of a swap whose last steps failed nobody was told yet.
  ASSIGN_OR_RETURN(const bool finished, Finish());
  // Which one that is changes under change_mutex_ alone. What may take long with many files, or
  // large ones, is done without the lock that readers wait for.
  const Snapshot& current = tree_.current();
  if (current.Holds(files)) return finished;
  ASSIGN_OR_RETURN(std::unique_ptr<Snapshot> next,
                   Snapshot::Build(files, tree_.next_inode(), now, watch_.has_value(),
                                   memory_));
  files.clear();
  ASSIGN_OR_RETURN(const UniqueFd root, Writable());
  if (keeper_ != nullptr) keeper_->Add(info_->target, next->first_inode(), next->fd());
  const std::string folder(next->folder_name());
  const Snapshot::Counterparts counterparts = next->CounterpartsIn(current);
  {
    std::lock_guard lock(mutex_);
    tree_.Expect(std::move(next), counterparts);
  }
  const absl::Status swapped = SwapBySteps(root.get(), folder);
  if (!swapped.ok()) {
    unlinkat(root.get(), std::string(Tree::kNewData).c_str(), 0);
    std::lock_guard lock(mutex_);
    tree_.Abandon(std::chrono::steady_clock::now());
    return swapped;
  }

  std::vector<std::string> missing, stale;
  {
    std::lock_guard lock(mutex_);
    missing = tree_.MissingLinks();
    stale = tree_.StaleLinks();
  }
  RETURN_IF_ERROR(FinishLinks(root.get(), missing, stale));
  return true;
}

absl::StatusOr<std::vector<SnapshotFile>> Volume::Files() {
  std::lock_guard change_lock(change_mutex_);
  if (closed_) return absl::NotFoundError("the volume is unmounted");
  std::unique_lock lock(mutex_);
  const Snapshot& snapshot = tree_.current();
  lock.unlock();
  std::vector<SnapshotFile> files;
  for (std::uint32_t i = Snapshot::kDataLink + 1; i < snapshot.node_count(); ++i) {
    const Node& node = snapshot.node(i);
    if (!S_ISREG(node.mode)) continue;
    std::unique_lock one(mutex_, std::defer_lock);  // readers wait for it
    if (const Guard* const guard = snapshot.guard(i); guard != nullptr && guard->vanishes()) {
      one.lock();
      if (guard->gone != 0) continue;
    }
    files.push_back({.path = snapshot.Path(i),
                     .content = SecretBytes::CopyOf(snapshot.Content(i)),
                     .mode = node.mode & 07777,
                     .uid = node.uid,
                     .gid = node.gid});
  }
  return files;
}

// A step that was done already is done.
absl::Status Volume::FinishLinks(int root, const std::vector<std::string>& missing,
                                 const std::vector<std::string>& stale) {
  for (const std::string& name : missing) {
    const int made = symlinkat(StrCat(Tree::kData, "/", name).c_str(), root, name.c_str());
    if (made != 0 && errno == EEXIST) continue;
    RETURN_IF_ERROR(Step(made, "making the link", name));
  }
  for (const std::string& name : stale) {
    const int removed = unlinkat(root, name.c_str(), 0);
    if (removed != 0 && errno == ENOENT) continue;
    RETURN_IF_ERROR(Step(removed, "removing the link", name));
  }
  std::lock_guard lock(mutex_);
  tree_.Finish();
  return absl::OkStatus();
}

absl::Status Volume::Resume() {
  std::lock_guard change_lock(change_mutex_);
  return Finish().status();
}

// Every step is done again, since what the kernel knows may lag behind what the tree holds by the
// one whose answer was lost.
absl::StatusOr<bool> Volume::Finish() {
  std::string folder;
  {
    std::lock_guard lock(mutex_);
    const Snapshot* unfinished = closed_ ? nullptr : tree_.unfinished();
    if (unfinished == nullptr) return false;
    if (unfinished != &tree_.current()) folder = unfinished->folder_name();
  }
  ASSIGN_OR_RETURN(const UniqueFd root, Writable());
  const std::string new_data(Tree::kNewData), data(Tree::kData);
  if (!folder.empty()) {
    if (mkdirat(root.get(), folder.c_str(), 0755) != 0 && errno != EEXIST) {
      return Step(-1, "making the folder", folder);
    }
    if (symlinkat(folder.c_str(), root.get(), new_data.c_str()) != 0 && errno != EEXIST) {
      return Step(-1, "making the link", new_data);
    }
  }
  if (renameat(root.get(), new_data.c_str(), root.get(), data.c_str()) != 0 && errno != ENOENT) {
    return Step(-1, "renaming the new link to", data);
  }
  const SecretBytes drop = EntryDrop(data);
  [[maybe_unused]] const ssize_t dropped = write(fuse_.get(), drop.data(), drop.size());
  std::vector<std::string> names, stale;
  {
    std::lock_guard lock(mutex_);
    names = tree_.TopNames();
    stale = tree_.OldNames();
  }
  RETURN_IF_ERROR(FinishLinks(root.get(), names, stale));
  return true;
}

bool Volume::TooManyOld() {
  std::lock_guard lock(mutex_);
  return tree_.waiting_removals() >= kMostOld;
}

// The kubelet's order, up to the moment at which readers see the new content.
absl::Status Volume::SwapBySteps(int root, const std::string& folder) {
  const std::string new_data(Tree::kNewData), data(Tree::kData);
  RETURN_IF_ERROR(Step(mkdirat(root, folder.c_str(), 0755), "making the folder", folder));
  RETURN_IF_ERROR(
      Step(symlinkat(folder.c_str(), root, new_data.c_str()), "making the link", new_data));
  return Step(renameat(root, new_data.c_str(), root, data.c_str()), "renaming the new link to",
              data);
}

// Not on a thread that answers, and with no lock that one waits for: the keeper may take its time.
// It is told before the memory goes, so that a kill in between leaves no wiped image with it.
void Volume::Wipe(std::vector<std::unique_ptr<Snapshot>> gone) const {
  for (std::unique_ptr<Snapshot>& snapshot : gone) {
    if (keeper_ != nullptr) keeper_->Remove(info_->target, snapshot->first_inode());
    snapshot.reset();
  }
}

Tree::Time Volume::RemoveOld() {
  std::lock_guard change_lock(change_mutex_);
  if (closed_) return Tree::Time::max();
  absl::StatusOr<UniqueFd> root = absl::NotFoundError("not opened yet");
  const auto before = std::chrono::steady_clock::now() - kGrace;
  while (!leaving_) {
    std::string folder;
    std::vector<std::pair<std::string, bool>>
        known;  // paths the kernel knows, and whether a folder
    {
      std::lock_guard lock(mutex_);
      const Snapshot* old = tree_.NextRemoval(before);
      if (old == nullptr) break;
      folder = old->folder_name();
      // From the last: children come after their folders.
      for (std::uint32_t i = old->node_count(); i-- > Snapshot::kDataLink + 1;) {
        if (old->node(i).lookups > 0) known.emplace_back(old->Path(i), S_ISDIR(old->node(i).mode));
      }
    }
    // Unlinking makes the kernel tell watchers, and drop cached pages and its references once no
    // handle is open. What it doesn't know needs no unlinking. Errors leave nothing worse than
    // that.
    if (!root.ok()) root = Writable();
    if (root.ok()) {
      for (const auto& [path, is_folder] : known) {
        unlinkat(root->get(), StrCat(folder, "/", path).c_str(), is_folder ? AT_REMOVEDIR : 0);
      }
      unlinkat(root->get(), folder.c_str(), AT_REMOVEDIR);
    } else {
      log::Warning("an old snapshot of a volume is removed unseen",
                   {{"volume", info_->volume_id}, {"cause", root.status()}});
    }
    std::vector<std::uint64_t> open;
    {
      std::lock_guard lock(mutex_);
      tree_.Removed();
      open = tree_.KnownFiles(/*with_current=*/false);
    }
    DropPages(open);
  }
  std::vector<Tree::Inodes> doubtful;
  {
    std::lock_guard lock(mutex_);
    doubtful = tree_.Doubtful();
  }
  std::erase_if(doubtful, [this](Tree::Inodes inodes) { return KernelKnows(inodes); });
  std::vector<std::unique_ptr<Snapshot>> forgotten;
  bool doubts = false;
  std::optional<Tree::Time> retired;
  {
    std::lock_guard lock(mutex_);
    for (const Tree::Inodes& inodes : doubtful) tree_.ForgetAll(inodes.first);
    forgotten = tree_.TakeForgotten();
    doubts = !tree_.Doubtful().empty();
    retired = tree_.NextRetired();
  }
  Wipe(std::move(forgotten));
  if (leaving_) return Tree::Time::max();
  Tree::Time again = Tree::Time::max();
  if (doubts) again = std::chrono::steady_clock::now() + kDoubt;
  if (retired) again = std::min(again, *retired + kGrace);
  return again;
}

// Folders come first: who is about to learn of an inode has its folder, and the folder of a removed
// snapshot is found by nobody any more.
bool Volume::KernelKnows(Tree::Inodes inodes) const {
  for (std::uint64_t i = 0; i < inodes.count; ++i) {
    const PageDrop drop(inodes.first + i, PageDrop::kNoPages);
    if (write(fuse_.get(), drop.bytes, sizeof drop.bytes) >= 0 || errno != ENOENT) return true;
  }
  return false;
}

Tree::Time Volume::RemoveVanished() {
  if (!watch_) return Tree::Time::max();
  std::lock_guard change_lock(change_mutex_);
  if (closed_) return Tree::Time::max();
  Tree::Time next;
  std::vector<Tree::Gone> gone;
  std::vector<std::uint64_t> inodes;  // who has one of these mapped shares its cached pages
  std::vector<std::string> stale;
  {
    std::lock_guard lock(mutex_);
    next = tree_.VanishOver(std::chrono::steady_clock::now());
    gone = tree_.KnownGone();
    inodes = tree_.KnownRead();
    stale = tree_.StaleLinks();
  }
  for (const Tree::Gone& file : gone) inodes.push_back(file.inode);
  DropPages(inodes);
  if (gone.empty() && stale.empty()) return next;
  // Watchers are told, and the kernel forgets the names. Without that nobody is let in, either.
  const absl::StatusOr<UniqueFd> root = Writable();
  if (!root.ok()) {
    log::Warning("files of a volume that are gone keep their names",
                 {{"volume", info_->volume_id}, {"cause", root.status()}});
    return next;
  }
  for (const Tree::Gone& file : gone) unlinkat(root->get(), file.path.c_str(), 0);
  for (const std::string& name : stale) unlinkat(root->get(), name.c_str(), 0);
  return next;
}

void Volume::DropPages(const std::vector<std::uint64_t>& inodes) const {
  for (const std::uint64_t inode : inodes) {
    const PageDrop drop(inode);
    // ENOENT: the kernel has forgotten the inode, and its pages with it.
    [[maybe_unused]] const ssize_t written = write(fuse_.get(), drop.bytes, sizeof drop.bytes);
  }
}

absl::Status Volume::Close() {
  std::lock_guard change_lock(change_mutex_);
  if (closed_) return absl::OkStatus();
  closed_ = true;  // first: the threads that answer learn of the unmount at once
  const absl::StatusOr<UniqueFd> target = OpenTarget(root_, info_->target);
  if (target.ok() && DeviceOf(target->get()).value_or(0) == device_) {
    if (absl::Status detached = Detach(target->get()); !detached.ok()) {
      closed_ = false;
      return detached;
    }
  }
  std::vector<std::uint64_t> known;
  {
    std::lock_guard lock(mutex_);
    known = tree_.KnownFiles(/*with_current=*/true);
  }
  DropPages(known);
  if (keeper_ != nullptr) keeper_->Drop(info_->target);
  std::vector<std::unique_ptr<Snapshot>> all;
  {
    std::lock_guard lock(mutex_);
    all = tree_.TakeAll();
  }
  Wipe(std::move(all));
  return absl::OkStatus();
}

}  // namespace coffer::volume
