#include "csi/volume/gate.h"

#include <errno.h>

#include "common/strings.h"

namespace coffer::volume {
namespace {

// Of one handle, that don't hang together. Who reads more of them out of order doesn't count as
// having read the file.
constexpr std::size_t kMostPieces = 64;

// Why the rules don't let the opener in; "" when they do.
std::string Refusal(const RulesView& rules, const Opener& opener) {
  if (!rules.uids.empty()) {
    if (opener.uid == Opener::kUnknownId) return "the uid isn't known: allowUIDs needs hostPID";
    if (!rules.AllowsUid(opener.uid)) return StrCat("uid ", opener.uid, " isn't in allowUIDs");
  }
  if (!rules.executables.empty()) {
    if (opener.pid == 0) return "the process isn't known: allowExecutables needs hostPID";
    if (!opener.Runs(rules.executables)) {
      return StrCat("the executable \"", opener.executable,
                    "\" isn't in allowExecutables, or not on the root mount of its container");
    }
  }
  return "";
}

}  // namespace

Gate::Passage Gate::Open(Tree& tree, std::uint64_t inode, const Opener& opener, Tree::Time now) {
  const auto found = tree.FindGuarded(inode);
  if (!found) return {.error = ENOENT};
  Guard& guard = *found->guard;
  const RulesView rules(found->snapshot->Rules(guard));
  Passage passage{.file = found->snapshot->Path(found->index),
                  .version = std::string(rules.version),
                  .every_read = (guard.flags & Guard::kReadOnce) != 0};
  // Before the rules: who isn't let in has touched it all the same.
  if ((guard.flags & Guard::kCanary) != 0 && guard.told == 0) {
    passage.canary = telling_.try_emplace(passage.file, Guard::kTold | Guard::kOwed).second;
  }
  const std::int64_t nanos = now.time_since_epoch() / std::chrono::nanoseconds(1);
  if (guard.gone != 0 || (guard.end_nanos != 0 && guard.end_nanos <= nanos)) {
    passage.error = ENOENT;
    passage.refusal = "the file is gone";
  } else if (guard.reader != 0) {
    passage.error = ENOENT;
    passage.refusal = "the file has been read";
  } else if (passage.refusal = Refusal(rules, opener); !passage.refusal.empty()) {
    passage.error = EACCES;
  } else {
    passage.handle = ++guard.handles;
    if (passage.every_read) given_[{inode, passage.handle}] = {};
  }
  return passage;
}

void Gate::Told(Tree& tree, const std::string& file) {
  const std::uint32_t told = telling_.extract(file).mapped();
  tree.ForVersions(file, [told](Snapshot&, std::uint32_t, Guard& guard) { guard.told |= told; });
}

void Gate::Delivered(Tree& tree, const std::string& file) {
  const auto telling = telling_.find(file);
  if (telling != telling_.end()) telling->second = Guard::kTold;
  tree.ForVersions(file,
                   [](Snapshot&, std::uint32_t, Guard& guard) { guard.told &= Guard::kTold; });
}

bool Gate::MayRead(Tree& tree, std::uint64_t inode, std::uint64_t handle) const {
  const auto found = tree.FindGuarded(inode);
  if (!found) return true;
  const Guard& guard = *found->guard;
  return guard.gone == 0 && (guard.reader == 0 || guard.reader == handle);
}

void Gate::Given::Add(std::uint64_t start, std::uint64_t end) {
  std::uint64_t& there = pieces[start];
  there = std::max(there, end);
  while (!pieces.empty() && pieces.begin()->first <= size) {
    size = std::max(size, pieces.begin()->second);
    pieces.erase(pieces.begin());
  }
  if (pieces.size() > kMostPieces) pieces.erase(std::prev(pieces.end()));
}

bool Gate::HasRead(Tree& tree, std::uint64_t inode, std::uint64_t handle, std::uint64_t start,
                   std::uint64_t end) {
  const auto found = tree.FindGuarded(inode);
  if (!found || (found->guard->flags & Guard::kReadOnce) == 0) return false;
  Given& given =
      given_.try_emplace({inode, handle}, Given{.size = start, .pieces = {}}).first->second;
  given.Add(start, end);
  if (given.size < found->size()) return false;
  tree.ForCopies(
      *found, [](Snapshot&, std::uint32_t, Guard& copy) { copy.reader = Guard::kReaderElsewhere; });
  found->guard->reader = handle;
  return true;
}

bool Gate::Close(Tree& tree, std::uint64_t inode, std::uint64_t handle) {
  given_.erase({inode, handle});
  const auto found = tree.FindGuarded(inode);
  if (!found || found->guard->reader == 0 || found->guard->reader != handle) return false;
  tree.Vanish(*found);
  return true;
}

}  // namespace coffer::volume
