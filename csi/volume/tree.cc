#include "csi/volume/tree.h"

#include <sys/stat.h>

namespace coffer::volume {
namespace {

constexpr std::uint64_t kDataPosition = 3;
constexpr std::uint64_t kNewDataPosition = 4;

}  // namespace

Tree::Tree(std::unique_ptr<Snapshot> first)
    : current_(first.get()),
      next_inode_(first->first_inode() + first->node_count()),
      changed_nanos_(first->time_nanos()) {
  held_.push_back({std::move(first), {}});
  current_->marks() = {.turn = 1, .next_inode = next_inode_, .listed = 1};
  const Node& folder = current_->node(Snapshot::kFolder);
  links_.emplace().reserve(folder.child_count);
  for (std::uint32_t i = 0; i < folder.child_count; ++i) AddLink(folder.first_child + i);
}

Tree::Tree(std::vector<std::unique_ptr<Snapshot>> all, Time now)
    : current_(all.front().get()), next_inode_(0) {
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a->first_inode() < b->first_inode(); });
  for (std::unique_ptr<Snapshot>& snapshot : all) {
    const Marks& marks = snapshot->marks();
    if (marks.turn > current_->marks().turn) current_ = snapshot.get();
    next_inode_ = std::max({next_inode_, marks.next_inode,
                            snapshot->first_inode() + snapshot->node_count()});
    const Node& folder = snapshot->node(Snapshot::kFolder);
    for (std::uint32_t i = folder.first_child; i < folder.first_child + folder.child_count; ++i) {
      next_inode_ = std::max(next_inode_, snapshot->node(i).link_inode + 1);
    }
    held_.push_back({std::move(snapshot), now, /*inherited=*/true});
  }
  for (const Held& held : held_) held.snapshot->FinishVanishing();
  changed_nanos_ = current_->time_nanos();
  Snapshot* const last = held_.back().snapshot.get();
  if (last->marks().turn == 0 && last->marks().given_up == 0) {
    Announce(last, last->CounterpartsIn(*current_));
  }
}

std::vector<Tree::Link>& Tree::Links() const {
  if (links_) return *links_;
  std::vector<Link>& links = links_.emplace();
  for (const Held& held : held_) {
    const Snapshot& snapshot = *held.snapshot;
    const Node& folder = snapshot.node(Snapshot::kFolder);
    links.reserve(links.size() + folder.child_count);
    for (std::uint32_t i = folder.first_child; i < folder.first_child + folder.child_count; ++i) {
      const std::uint64_t inode = snapshot.node(i).link_inode;
      if (inode != 0) links.push_back({inode, std::string(snapshot.Name(i))});
    }
  }
  const auto before = [](const Link& a, const Link& b) { return a.inode < b.inode; };
  if (!std::is_sorted(links.begin(), links.end(), before)) {
    std::sort(links.begin(), links.end(), before);
  }
  links.erase(std::unique(links.begin(), links.end(),
                          [](const Link& a, const Link& b) { return a.inode == b.inode; }),
              links.end());
  return links;
}

void Tree::MarkAnswering(bool answering) {
  for (Held& held : held_) held.marks().answering = answering;
}

void Tree::Spare() {
  for (Held& held : held_) held.snapshot->Spare();
}

void Tree::AddLink(std::uint32_t node) {
  Links();  // without this one
  current_->node(node).link_inode = next_inode_;
  links_->push_back({next_inode_++, std::string(current_->Name(node))});
  current_->marks().next_inode = next_inode_;
}

Tree::Held* Tree::Find(std::uint64_t inode) {
  for (Held& held : held_) {
    if (held.snapshot->Has(inode)) return &held;
  }
  return nullptr;
}

const Tree::Link* Tree::FindLink(std::uint64_t inode) const {
  const std::vector<Link>& links = Links();
  const auto at =
      std::lower_bound(links.begin(), links.end(), inode,
                       [](const Link& link, std::uint64_t i) { return link.inode < i; });
  return at != links.end() && at->inode == inode ? &*at : nullptr;
}

Tree::Held& Tree::HeldOf(const Snapshot* snapshot) { return *Find(snapshot->first_inode()); }

std::optional<Tree::Attributes> Tree::Stat(std::uint64_t inode) const {
  if (inode == kRoot) return Attributes{kRoot, 0, changed_nanos_, S_IFDIR | 0755};
  if (const Held* held = Find(inode)) {
    const Snapshot& snapshot = *held->snapshot;
    const Node& node = snapshot.node(static_cast<std::uint32_t>(inode - snapshot.first_inode()));
    return Attributes{inode, node.size, snapshot.time_nanos(), node.mode, node.uid, node.gid};
  }
  if (const Link* link = FindLink(inode)) {
    return Attributes{inode, kData.size() + 1 + link->name.size(), changed_nanos_, S_IFLNK | 0777};
  }
  return std::nullopt;
}

std::optional<std::uint64_t> Tree::Lookup(std::uint64_t folder, std::string_view name) const {
  if (folder == kRoot) {
    for (const Special& special : Specials()) {
      if (special.name == name) return special.inode;
    }
    // A name of the current snapshot has its link's number in its node; one that is going doesn't.
    if (current_ == nullptr) return std::nullopt;
    if (const auto child = current_->Child(Snapshot::kFolder, name)) {
      const std::uint64_t inode = current_->node(*child).link_inode;
      return inode == 0 ? std::nullopt : std::optional(inode);
    }
    if (!links_ && held_.size() == 1) return std::nullopt;  // the current one's are all there are
    for (const Link& link : Links()) {
      if (link.name == name) return link.inode;
    }
    return std::nullopt;
  }
  const Held* held = Find(folder);
  if (held == nullptr) return std::nullopt;
  const std::uint64_t first = held->snapshot->first_inode();
  const auto child = held->snapshot->Present(static_cast<std::uint32_t>(folder - first), name);
  return child ? std::optional(first + *child) : std::nullopt;
}

std::optional<std::string> Tree::Target(std::uint64_t inode) const {
  if (const Link* link = FindLink(inode)) return StrCat(kData, "/", link->name);
  // "..data" of an old snapshot, too: a reader may be halfway through it.
  const Held* held = Find(inode);
  if (held == nullptr || inode - held->snapshot->first_inode() != Snapshot::kDataLink) {
    return std::nullopt;
  }
  return std::string(held->snapshot->folder_name());
}

std::optional<std::string_view> Tree::Content(std::uint64_t inode) const {
  const Held* held = Find(inode);
  if (held == nullptr) return std::nullopt;
  const auto index = static_cast<std::uint32_t>(inode - held->snapshot->first_inode());
  if (!S_ISREG(held->snapshot->node(index).mode) || held->snapshot->gone(index)) return std::nullopt;
  return held->snapshot->Content(index);
}

std::vector<Tree::Special> Tree::Specials() const {
  std::vector<Special> specials;
  if (current_ != nullptr) {
    specials.push_back({kDataPosition, current_->first_inode() + Snapshot::kDataLink, kData});
  }
  if (new_data()) {
    specials.push_back({kNewDataPosition, next_->first_inode() + Snapshot::kDataLink, kNewData});
  }
  for (const Held& held : held_) {
    const std::uint64_t inode = held.snapshot->first_inode() + Snapshot::kFolder;
    if (held.marks().listed) specials.push_back({inode, inode, held.snapshot->folder_name()});
  }
  return specials;
}

void Tree::List(std::uint64_t folder, std::uint64_t after, const Visitor& visit) const {
  if (folder == kRoot) {
    const auto specials = Specials();
    auto special =
        std::upper_bound(specials.begin(), specials.end(), after,
                         [](std::uint64_t i, const Special& s) { return i < s.position; });
    const std::vector<Link>& links = Links();
    auto link = std::upper_bound(links.begin(), links.end(), after,
                                 [](std::uint64_t i, const Link& l) { return i < l.inode; });
    while (special != specials.end() || link != links.end()) {
      if (link == links.end() || (special != specials.end() && special->position < link->inode)) {
        if (!visit(special->position, special->inode, special->name)) return;
        ++special;
      } else {
        if (!visit(link->inode, link->inode, link->name)) return;
        ++link;
      }
    }
    return;
  }
  const Held* held = Find(folder);
  if (held == nullptr) return;
  const Snapshot& snapshot = *held->snapshot;
  const std::uint64_t first = snapshot.first_inode();
  const Node& node = snapshot.node(static_cast<std::uint32_t>(folder - first));
  const std::uint64_t children = first + node.first_child;
  for (std::uint64_t inode = std::max(children, after + 1); inode < children + node.child_count;
       ++inode) {
    const auto index = static_cast<std::uint32_t>(inode - first);
    if (!snapshot.gone(index) && !visit(inode, inode, snapshot.Name(index))) return;
  }
}

void Tree::AddLookup(std::uint64_t inode) {
  if (Held* held = Find(inode)) {
    held->snapshot->AddLookup(static_cast<std::uint32_t>(inode - held->snapshot->first_inode()));
  }
}

void Tree::Forget(std::uint64_t inode, std::uint64_t count) {
  Held* held = Find(inode);
  if (held == nullptr) return;
  held->snapshot->Forget(static_cast<std::uint32_t>(inode - held->snapshot->first_inode()), count);
  if (held->marks().removed != 0 && held->snapshot->lookups() == 0) forgotten_ = true;
}

std::vector<std::unique_ptr<Snapshot>> Tree::TakeForgotten() {
  std::vector<std::unique_ptr<Snapshot>> forgotten;
  Links();  // while all that tell of them are here
  std::erase_if(held_, [&](Held& held) {
    if (held.marks().removed == 0 || held.snapshot->lookups() != 0) return false;
    forgotten.push_back(std::move(held.snapshot));
    return true;
  });
  return forgotten;
}

std::optional<Tree::Guarded> Tree::FindGuarded(std::uint64_t inode) {
  Held* held = Find(inode);
  if (held == nullptr) return std::nullopt;
  Guarded found{held->snapshot.get(), static_cast<std::uint32_t>(inode - held->snapshot->first_inode())};
  found.guard = found.snapshot->guard(found.index);
  return found.guard == nullptr ? std::nullopt : std::optional(found);
}

void Tree::ForVersions(const std::string& path, const GuardVisitor& visit) {
  for (Held& held : held_) {
    const auto index = held.snapshot->Find(path);
    Guard* const guard = index ? held.snapshot->guard(*index) : nullptr;
    if (guard != nullptr) visit(*held.snapshot, *index, *guard);
  }
}

void Tree::ForCopies(const Guarded& file, const GuardVisitor& visit) {
  ForVersions(file.snapshot->Path(file.index),
              [&](Snapshot& snapshot, std::uint32_t index, Guard& guard) {
                const bool same = guard.vanishes() && file.guard->vanishes() &&
                                  std::equal(std::begin(guard.digest), std::end(guard.digest),
                                             std::begin(file.guard->digest));
                if (&guard == file.guard || same) visit(snapshot, index, guard);
              });
}

std::set<std::string> Tree::Owed() const {
  std::set<std::string> files;
  for (const Held& held : held_) {
    const Snapshot& snapshot = *held.snapshot;
    for (std::uint32_t i = 0; i < snapshot.node_count(); ++i) {
      const Guard* const guard = snapshot.guard(i);
      if (guard != nullptr && (guard->told & Guard::kOwed) != 0) files.insert(snapshot.Path(i));
    }
  }
  return files;
}

void Tree::Vanish(const Guarded& file) {
  ForCopies(file, [](Snapshot& snapshot, std::uint32_t index, Guard&) { snapshot.Vanish(index); });
}

Tree::Time Tree::VanishOver(Time now) {
  const std::int64_t nanos = now.time_since_epoch() / std::chrono::nanoseconds(1);
  std::int64_t next = INT64_MAX;
  for (Held& held : held_) {
    for (std::uint32_t i = 0; i < held.snapshot->node_count(); ++i) {
      const Guard* const guard = held.snapshot->guard(i);
      if (guard == nullptr || guard->gone != 0 || guard->end_nanos == 0) continue;
      if (guard->end_nanos <= nanos) {
        held.snapshot->Vanish(i);
      } else {
        next = std::min(next, guard->end_nanos);
      }
    }
  }
  return Time(std::chrono::nanoseconds(next));
}

template <class Visit>
void Tree::ForKnown(const Visit& visit) const {
  for (const Held& held : held_) {
    for (std::uint32_t i = 0; i < held.snapshot->node_count(); ++i) {
      if (held.snapshot->node(i).lookups > 0) visit(*held.snapshot, i);
    }
  }
}

std::vector<Tree::Gone> Tree::KnownGone() const {
  std::vector<Gone> all;
  ForKnown([&](const Snapshot& snapshot, std::uint32_t index) {
    if (!snapshot.gone(index)) return;
    all.push_back({snapshot.first_inode() + index,
                   StrCat(snapshot.folder_name(), "/", snapshot.Path(index))});
  });
  return all;
}

std::vector<std::uint64_t> Tree::KnownRead() const {
  std::vector<std::uint64_t> inodes;
  ForKnown([&](const Snapshot& snapshot, std::uint32_t index) {
    const Guard* const guard = snapshot.guard(index);
    if (guard != nullptr && guard->reader != 0) inodes.push_back(snapshot.first_inode() + index);
  });
  return inodes;
}

void Tree::Expect(std::unique_ptr<Snapshot> next, const Snapshot::Counterparts& counterparts) {
  Snapshot* const announced = next.get();
  held_.push_back({std::move(next), {}});
  Announce(announced, counterparts);
}

void Tree::Announce(Snapshot* next, const Snapshot::Counterparts& counterparts) {
  next_ = next;
  next_inode_ = std::max(next_inode_, next->first_inode() + next->node_count());
  // In both: one of them stays.
  current_->marks().next_inode = next->marks().next_inode = next_inode_;
  next->marks().unfinished = 1;
  next->Inherit(*current_, counterparts);
  // Names that stay keep their links.
  const Node& folder = next->node(Snapshot::kFolder);
  for (std::uint32_t i = folder.first_child; i < folder.first_child + folder.child_count; ++i) {
    if (const auto old = counterparts[i]) {
      next->node(i).link_inode = current_->node(*old).link_inode;
    }
  }
}

void Tree::Abandon(Time now) {
  if (next_ == nullptr) return;
  HeldOf(next_).retired = now;
  next_->marks().given_up = 1;
  next_->marks().new_data = 0;
  next_ = nullptr;
}

std::vector<std::string> Tree::MissingLinks() const {
  std::vector<std::string> names;
  const Node& folder = current_->node(Snapshot::kFolder);
  for (std::uint32_t i = folder.first_child; i < folder.first_child + folder.child_count; ++i) {
    if (current_->node(i).link_inode == 0 && !current_->gone(i)) {
      names.emplace_back(current_->Name(i));
    }
  }
  return names;
}

std::vector<std::string> Tree::StaleLinks() const {
  std::vector<std::string> names;
  for (const Link& link : Links()) {
    if (!current_->Present(Snapshot::kFolder, link.name)) names.push_back(link.name);
  }
  return names;
}

const Snapshot* Tree::unfinished() const {
  if (next_ != nullptr) return next_;
  return current_->marks().unfinished != 0 ? current_ : nullptr;
}

std::vector<std::string> Tree::TopNames() const {
  std::vector<std::string> names;
  const Node& folder = current_->node(Snapshot::kFolder);
  for (std::uint32_t i = folder.first_child; i < folder.first_child + folder.child_count; ++i) {
    if (!current_->gone(i)) names.emplace_back(current_->Name(i));
  }
  return names;
}

std::vector<std::string> Tree::OldNames() const {
  std::set<std::string> names;
  for (const Held& held : held_) {
    const Snapshot& old = *held.snapshot;
    const Node& folder = old.node(Snapshot::kFolder);
    for (std::uint32_t i = folder.first_child; i < folder.first_child + folder.child_count; ++i) {
      if (!current_->Present(Snapshot::kFolder, old.Name(i))) names.emplace(old.Name(i));
    }
  }
  return {names.begin(), names.end()};
}

bool Tree::IsOld(const Held& held) const {
  return held.snapshot.get() != current_ && held.snapshot.get() != next_ &&
         held.marks().removed == 0;
}

Snapshot* Tree::NextRemoval(Time before) {
  for (Held& held : held_) {
    if (IsOld(held) && held.retired <= before) return removing_ = held.snapshot.get();
  }
  return nullptr;
}

std::optional<Tree::Time> Tree::NextRetired() const {
  std::optional<Time> next;
  for (const Held& held : held_) {
    if (IsOld(held)) next = std::min(next.value_or(held.retired), held.retired);
  }
  return next;
}

void Tree::Removed() {
  Held& held = HeldOf(removing_);
  held.marks().listed = 0;
  held.marks().removed = 1;
  removing_ = nullptr;
}

std::vector<std::uint64_t> Tree::KnownFiles(bool with_current) const {
  std::vector<std::uint64_t> inodes;
  ForKnown([&](const Snapshot& snapshot, std::uint32_t index) {
    if (&snapshot == current_ && !with_current) return;
    if (S_ISREG(snapshot.node(index).mode)) inodes.push_back(snapshot.first_inode() + index);
  });
  return inodes;
}

std::size_t Tree::waiting_removals() const {
  return static_cast<std::size_t>(
      std::count_if(held_.begin(), held_.end(), [this](const Held& held) { return IsOld(held); }));
}

std::vector<Tree::Inodes> Tree::Doubtful() const {
  std::vector<Inodes> all;
  for (const Held& held : held_) {
    if (!held.inherited || held.marks().removed == 0) continue;
    all.push_back({held.snapshot->first_inode(), held.snapshot->node_count()});
  }
  return all;
}

void Tree::ForgetAll(std::uint64_t first_inode) {
  if (Held* held = Find(first_inode)) held->snapshot->ForgetAll();
}

std::vector<std::unique_ptr<Snapshot>> Tree::TakeAll() {
  std::vector<std::unique_ptr<Snapshot>> all;
  for (Held& held : held_) all.push_back(std::move(held.snapshot));
  held_.clear();
  links_.emplace();
  current_ = next_ = removing_ = nullptr;
  return all;
}

bool Tree::MakeFolder(std::uint64_t folder, std::string_view name) {
  if (folder != kRoot || next_ == nullptr || name != next_->folder_name()) return false;
  next_->marks().listed = 1;
  return true;
}

bool Tree::MakeLink(std::uint64_t folder, std::string_view name, std::string_view target) {
  if (folder != kRoot || current_ == nullptr) return false;
  if (name == kNewData) {
    if (next_ == nullptr || target != next_->folder_name()) return false;
    next_->marks().new_data = 1;
    return true;
  }
  const auto child = current_->Child(Snapshot::kFolder, name);
  if (!child || target != StrCat(kData, "/", name)) return false;
  if (current_->node(*child).link_inode == 0) AddLink(*child);
  return true;
}

bool Tree::Rename(std::uint64_t folder, std::string_view name, std::uint64_t new_folder,
                  std::string_view new_name, Time now) {
  if (folder != kRoot || new_folder != kRoot || name != kNewData || new_name != kData ||
      current_ == nullptr) {
    return false;
  }
  if (!new_data()) return next_ == nullptr && current_->marks().unfinished != 0;
  HeldOf(current_).retired = now;
  next_->marks().turn = current_->marks().turn + 1;
  current_ = std::exchange(next_, nullptr);
  current_->marks().new_data = 0;
  changed_nanos_ = current_->time_nanos();
  return true;
}

bool Tree::Remove(std::uint64_t folder, std::string_view name) {
  if (folder != kRoot) {
    // The nodes stay until the kernel has forgotten them.
    if (removing_ != nullptr && removing_->Has(folder)) return true;
    const Held* held = Find(folder);
    if (held == nullptr) return false;
    const auto in = static_cast<std::uint32_t>(folder - held->snapshot->first_inode());
    const auto child = held->snapshot->Child(in, name);
    return child && held->snapshot->gone(*child);
  }
  if (removing_ != nullptr && name == removing_->folder_name()) {
    removing_->marks().listed = 0;
    return true;
  }
  if (name == kNewData && new_data()) {
    next_->marks().new_data = 0;
    return true;
  }
  if (current_ == nullptr || current_->Present(Snapshot::kFolder, name)) return false;
  for (const Held& held : held_) {
    if (const auto child = held.snapshot->Child(Snapshot::kFolder, name)) {
      held.snapshot->node(*child).link_inode = 0;
    }
  }
  std::erase_if(Links(), [name](const Link& link) { return link.name == name; });
  return name.substr(0, 2) != "..";
}

}  // namespace coffer::volume
