#include "csi/volume/snapshot.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <chrono>
#include <cstring>

#include "common/status_macros.h"

namespace coffer::volume {
namespace {

constexpr std::size_t kLongestName = 255;
constexpr std::uint32_t kMostNodes = 1 << 24;

absl::Status CheckPath(std::string_view path) {
  for (const std::string_view part : Split(path, '/')) {
    if (part.empty() || part == "." || part.substr(0, 2) == ".." || part.size() > kLongestName ||
        part.find('\0') != std::string_view::npos) {
      return absl::InvalidArgumentError(StrCat(
          "\"", path, "\" can't be a file of a volume: each part between slashes must be 1 to ",
          kLongestName, " bytes, not \".\", and not start with \"..\""));
    }
  }
  return absl::OkStatus();
}

// Order by parts: "/" before every other byte, so that a folder's files lie side by side.
bool PathLess(const SnapshotFile& a, const SnapshotFile& b) {
  return std::lexicographical_compare(
      a.path.begin(), a.path.end(), b.path.begin(), b.path.end(), [](char x, char y) {
        const auto rank = [](char c) { return c == '/' ? 0 : static_cast<unsigned char>(c); };
        return rank(x) < rank(y);
      });
}

std::int64_t SteadyNanos() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

std::uint32_t FlagsOf(const FileRules& rules) {
  return (rules.read_once ? Guard::kReadOnce : 0) | (rules.canary ? Guard::kCanary : 0);
}

// At least one, so that no time at all isn't without end.
std::int64_t NanosOf(const FileRules& rules) {
  return rules.timed() ? std::max<std::int64_t>(1, absl::ToInt64Nanoseconds(rules.available_for))
                       : 0;
}

void Digest(std::string_view bytes, std::uint8_t (&digest)[32]) {
  unsigned int size = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr);
}

// The tree under construction: nodes, their names, and which files each node stands for.
struct Plan {
  struct Range {
    std::size_t first, last,
        prefix;  // files [first, last); `prefix` bytes of their paths lead here
  };

  std::vector<Node> nodes;
  std::vector<Guard> guards;
  std::vector<Range> ranges;
  std::string names;
  bool guarded = false;

  void Add(std::string_view name, std::uint32_t mode, std::uint32_t parent, Range range) {
    Node node;
    node.mode = mode;
    node.parent = parent;
    node.name_offset = static_cast<std::uint32_t>(names.size());
    node.name_size = static_cast<std::uint32_t>(name.size());
    names += name;
    nodes.push_back(node);
    ranges.push_back(range);
  }

  Guard GuardOf(const SnapshotFile& file) {
    Guard guard;
    const std::string rules = RulesText(file.rules);
    guard.rules_offset = static_cast<std::uint32_t>(names.size());
    guard.rules_size = static_cast<std::uint32_t>(rules.size());
    names += rules;
    guard.flags = FlagsOf(file.rules);
    guard.available_nanos = NanosOf(file.rules);
    if (guard.available_nanos != 0) guard.end_nanos = SteadyNanos() + guard.available_nanos;
    if (guard.vanishes()) Digest(file.content.view(), guard.digest);
    return guard;
  }

  // Adds the children of a folder.
  absl::Status Expand(std::uint32_t folder, const std::vector<SnapshotFile>& files) {
    const Range range = ranges[folder];
    nodes[folder].first_child = static_cast<std::uint32_t>(nodes.size());
    for (std::size_t first = range.first; first < range.last;) {
      const std::string_view rest = std::string_view(files[first].path).substr(range.prefix);
      const std::string_view name = rest.substr(0, rest.find('/'));
      const bool is_file = name.size() == rest.size();
      std::size_t last = first + 1;
      while (last < range.last) {
        const std::string_view next = std::string_view(files[last].path).substr(range.prefix);
        if (next.substr(0, next.find('/')) != name) break;
        ++last;
      }
      if (is_file && last - first > 1) {
        const std::string& other = files[first + 1].path;
        return absl::InvalidArgumentError(
            other == files[first].path ? StrCat("the file \"", other, "\" is listed twice")
                                       : StrCat("\"", files[first].path, "\" is a file, so \"",
                                                other, "\" can't be in it"));
      }
      const SnapshotFile& file = files[first];
      Add(name, is_file ? S_IFREG | (file.mode & 07777) : S_IFDIR | 0755, folder,
          {first, last, range.prefix + name.size() + 1});
      if (is_file) {
        nodes.back().uid = file.uid;
        nodes.back().gid = file.gid;
        nodes.back().size = file.content.size();
        if (guarded) {
          guards.push_back(GuardOf(file));
          nodes.back().guard = static_cast<std::uint32_t>(guards.size());
        }
      }
      first = last;
    }
    nodes[folder].child_count =
        static_cast<std::uint32_t>(nodes.size()) - nodes[folder].first_child;
    if (nodes.size() > kMostNodes)
      return absl::InvalidArgumentError("too many files in one volume");
    return absl::OkStatus();
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Snapshot>> Snapshot::Build(std::vector<SnapshotFile>& files,
                                                          std::uint64_t first_inode,
                                                          absl::Time time, bool guarded,
                                                          MemoryKind memory) {
  std::sort(files.begin(), files.end(), PathLess);
  for (const SnapshotFile& file : files) RETURN_IF_ERROR(CheckPath(file.path));

  // Numbers are never used twice in a volume, which makes the name unique, too.
  const std::string folder_name = StrCat(
      "..", absl::FormatTime("%Y_%m_%d_%H_%M_%S", time, absl::UTCTimeZone()), ".", first_inode);
  Plan plan;
  plan.guarded = guarded;
  plan.Add(folder_name, S_IFDIR | 0755, kFolder, {0, files.size(), 0});
  plan.Add("..data", S_IFLNK | 0777, kFolder, {});
  for (std::uint32_t i = 0; i < plan.nodes.size(); ++i) {
    if (S_ISDIR(plan.nodes[i].mode)) RETURN_IF_ERROR(plan.Expand(i, files));
  }

  const std::size_t guards_offset = sizeof(Header) + plan.nodes.size() * sizeof(Node);
  Header header{.format = kFormat,
                .first_inode = first_inode,
                .time_nanos = absl::ToUnixNanos(time),
                .names_offset = guards_offset + plan.guards.size() * sizeof(Guard),
                .node_count = static_cast<std::uint32_t>(plan.nodes.size()),
                .file_count = static_cast<std::uint32_t>(files.size()),
                .guard_count = plan.guards.size()};
  std::uint64_t end = header.names_offset + plan.names.size();
  plan.nodes[kDataLink].offset = header.names_offset;  // the link's target is the folder's name
  plan.nodes[kDataLink].size = folder_name.size();
  for (Node& node : plan.nodes) {
    if (!S_ISREG(node.mode)) continue;
    node.offset = end;
    end += node.size;
    header.content_size += node.size;
  }

  ASSIGN_OR_RETURN(SecretMapping image, SecretMapping::Make(end, memory));
  std::uint8_t* bytes = image.span().data();
  std::memcpy(bytes, &header, sizeof header);
  std::memcpy(bytes + sizeof header, plan.nodes.data(), plan.nodes.size() * sizeof(Node));
  std::copy(plan.guards.begin(), plan.guards.end(),
            reinterpret_cast<Guard*>(bytes + guards_offset));
  std::memcpy(bytes + header.names_offset, plan.names.data(), plan.names.size());
  for (std::uint32_t i = 0; i < plan.nodes.size(); ++i) {
    const Node& node = plan.nodes[i];
    if (!S_ISREG(node.mode) || node.size == 0) continue;
    std::memcpy(bytes + node.offset, files[plan.ranges[i].first].content.data(), node.size);
  }
  return std::unique_ptr<Snapshot>(new Snapshot(std::move(image)));
}

absl::StatusOr<std::unique_ptr<Snapshot>> Snapshot::Open(UniqueFd fd) {
  ASSIGN_OR_RETURN(SecretMapping image, SecretMapping::Open(std::move(fd)));
  const std::size_t size = image.span().size();
  const auto* header = reinterpret_cast<const Header*>(image.span().data());
  if (size < sizeof(Header) || header->format != kFormat || header->names_offset > size ||
      header->node_count < 2 ||
      header->names_offset != sizeof(Header) + header->node_count * sizeof(Node) +
                                  header->guard_count * sizeof(Guard)) {
    image.Spare();
    return absl::FailedPreconditionError(
        "a volume's content was handed over in a format that this build can't read");
  }
  return std::unique_ptr<Snapshot>(new Snapshot(std::move(image)));
}

Snapshot::Snapshot(SecretMapping image)
    : image_(std::move(image)),
      nodes_(reinterpret_cast<Node*>(image_.span().data() + sizeof(Header))),
      guards_(reinterpret_cast<Guard*>(nodes_ + header().node_count)) {}

std::string_view Snapshot::Name(std::uint32_t index) const {
  const auto* names = reinterpret_cast<const char*>(image_.span().data() + header().names_offset);
  return {names + nodes_[index].name_offset, nodes_[index].name_size};
}

std::string_view Snapshot::Content(std::uint32_t index) const {
  const auto* bytes = reinterpret_cast<const char*>(image_.span().data());
  return {bytes + nodes_[index].offset, nodes_[index].size};
}

std::string Snapshot::Path(std::uint32_t index) const {
  const std::uint32_t parent = nodes_[index].parent;
  return parent == kFolder ? std::string(Name(index)) : StrCat(Path(parent), "/", Name(index));
}

std::optional<std::uint32_t> Snapshot::Child(std::uint32_t folder, std::string_view name) const {
  std::uint32_t low = nodes_[folder].first_child;
  std::uint32_t high = low + nodes_[folder].child_count;
  const std::uint32_t end = high;
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (Name(middle) < name) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == end || Name(low) != name) return std::nullopt;
  return low;
}

std::optional<std::uint32_t> Snapshot::Present(std::uint32_t folder, std::string_view name) const {
  const auto child = Child(folder, name);
  return child && gone(*child) ? std::nullopt : child;
}

std::optional<std::uint32_t> Snapshot::Find(std::string_view path) const {
  std::optional<std::uint32_t> at = kFolder;
  for (const std::string_view part : Split(path, '/')) {
    at = S_ISDIR(nodes_[*at].mode) ? Child(*at, part) : std::nullopt;
    if (!at) break;
  }
  return at;
}

std::string_view Snapshot::Rules(const Guard& guard) const {
  const auto* names = reinterpret_cast<const char*>(image_.span().data() + header().names_offset);
  return {names + guard.rules_offset, guard.rules_size};
}

bool Snapshot::HoldsGuarded(const Guard& guard, const SnapshotFile& file) const {
  return guard.flags == FlagsOf(file.rules) && guard.available_nanos == NanosOf(file.rules) &&
         Rules(guard) == RulesText(file.rules);
}

bool Snapshot::Holds(const std::vector<SnapshotFile>& files) const {
  if (files.size() != file_count()) return false;
  // Each file is one of ours and there are as many: the same set, unless one is listed twice, and
  // then the second one's node is the first one's.
  std::set<std::uint32_t> seen;
  for (const SnapshotFile& file : files) {
    const std::optional<std::uint32_t> at = Find(file.path);
    if (!at || !seen.insert(*at).second) return false;
    const Node& node = nodes_[*at];
    if (node.mode != (S_IFREG | (file.mode & 07777)) || node.uid != file.uid ||
        node.gid != file.gid) {
      return false;
    }
    const Guard* const kept = guard(*at);
    if (kept != nullptr && !HoldsGuarded(*kept, file)) return false;
    if (kept != nullptr && kept->vanishes()) {
      std::uint8_t digest[32];
      Digest(file.content.view(), digest);
      if (std::memcmp(digest, kept->digest, sizeof digest) != 0) return false;
    } else if (!ConstantTimeEquals(Content(*at), file.content.view())) {
      return false;
    }
  }
  return true;
}

bool Snapshot::Vanish(std::uint32_t index) {
  Guard& guard = guards_[nodes_[index].guard - 1];
  if (std::exchange(guard.gone, 1) != 0) return false;
  OPENSSL_cleanse(image_.span().data() + nodes_[index].offset, nodes_[index].size);
  return true;
}

void Snapshot::FinishVanishing() {
  if (header().guard_count == 0) return;
  for (std::uint32_t i = 0; i < node_count(); ++i) {
    if (gone(i)) OPENSSL_cleanse(image_.span().data() + nodes_[i].offset, nodes_[i].size);
  }
}

Snapshot::Counterparts Snapshot::CounterpartsIn(const Snapshot& old) const {
  Counterparts found(node_count());
  found[kFolder] = kFolder;
  for (std::uint32_t i = kDataLink + 1; i < node_count(); ++i) {  // folders come first
    const auto folder = found[nodes_[i].parent];
    if (folder && S_ISDIR(old.node(*folder).mode)) found[i] = old.Child(*folder, Name(i));
  }
  return found;
}

void Snapshot::Inherit(const Snapshot& old, const Counterparts& counterparts) {
  for (std::uint32_t i = 0; i < node_count(); ++i) {
    Guard* const mine = guard(i);
    const auto before = counterparts[i];
    const Guard* const theirs = mine != nullptr && before ? old.guard(*before) : nullptr;
    if (theirs == nullptr) continue;
    mine->told |= theirs->told;  // what is owed for one of them is owed for both
    mine->handles = std::max(mine->handles, theirs->handles);
    if (!mine->vanishes() || !theirs->vanishes() ||
        std::memcmp(mine->digest, theirs->digest, sizeof mine->digest) != 0) {
      continue;
    }
    if (mine->available_nanos == theirs->available_nanos) mine->end_nanos = theirs->end_nanos;
    if (theirs->reader != 0) mine->reader = Guard::kReaderElsewhere;
    if (theirs->gone != 0) Vanish(i);
  }
}

void Snapshot::AddLookup(std::uint32_t index) {
  ++nodes_[index].lookups;
  ++header().lookups;
}

void Snapshot::Forget(std::uint32_t index, std::uint64_t count) {
  const std::uint64_t known = std::min(count, nodes_[index].lookups);
  nodes_[index].lookups -= known;
  header().lookups -= known;
}

void Snapshot::ForgetAll() {
  for (std::uint32_t i = 0; i < node_count(); ++i) nodes_[i].lookups = 0;
  header().lookups = 0;
}

}  // namespace coffer::volume
