#include "csi/volume/snapshot.h"

#include <sys/stat.h>

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

// The tree under construction: nodes, their names, and which files each node stands for.
struct Plan {
  struct Range {
    std::size_t first, last,
        prefix;  // files [first, last); `prefix` bytes of their paths lead here
  };

  std::vector<Node> nodes;
  std::vector<Range> ranges;
  std::string names;

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
                                                          absl::Time time) {
  std::sort(files.begin(), files.end(), PathLess);
  for (const SnapshotFile& file : files) RETURN_IF_ERROR(CheckPath(file.path));

  // Numbers are never used twice in a volume, which makes the name unique, too.
  const std::string folder_name = StrCat(
      "..", absl::FormatTime("%Y_%m_%d_%H_%M_%S", time, absl::UTCTimeZone()), ".", first_inode);
  Plan plan;
  plan.Add(folder_name, S_IFDIR | 0755, kFolder, {0, files.size(), 0});
  plan.Add("..data", S_IFLNK | 0777, kFolder, {});
  for (std::uint32_t i = 0; i < plan.nodes.size(); ++i) {
    if (S_ISDIR(plan.nodes[i].mode)) RETURN_IF_ERROR(plan.Expand(i, files));
  }

  Header header{.format = kFormat,
                .first_inode = first_inode,
                .time_nanos = absl::ToUnixNanos(time),
                .names_offset = sizeof(Header) + plan.nodes.size() * sizeof(Node),
                .node_count = static_cast<std::uint32_t>(plan.nodes.size()),
                .file_count = static_cast<std::uint32_t>(files.size())};
  std::uint64_t end = header.names_offset + plan.names.size();
  plan.nodes[kDataLink].offset = header.names_offset;  // the link's target is the folder's name
  plan.nodes[kDataLink].size = folder_name.size();
  for (Node& node : plan.nodes) {
    if (!S_ISREG(node.mode)) continue;
    node.offset = end;
    end += node.size;
    header.content_size += node.size;
  }

  ASSIGN_OR_RETURN(SecretMapping image, SecretMapping::Make(end));
  std::uint8_t* bytes = image.span().data();
  std::memcpy(bytes, &header, sizeof header);
  std::memcpy(bytes + sizeof header, plan.nodes.data(), plan.nodes.size() * sizeof(Node));
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
      header->names_offset != sizeof(Header) + header->node_count * sizeof(Node)) {
    image.Spare();
    return absl::FailedPreconditionError(
        "a volume's content was handed over in a format that this build can't read");
  }
  return std::unique_ptr<Snapshot>(new Snapshot(std::move(image)));
}

Snapshot::Snapshot(SecretMapping image)
    : image_(std::move(image)),
      nodes_(reinterpret_cast<Node*>(image_.span().data() + sizeof(Header))) {}

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

bool Snapshot::Holds(const std::vector<SnapshotFile>& files) const {
  if (files.size() != file_count()) return false;
  // Each file is one of ours and there are as many: the same set, unless one is listed twice, and
  // then the second one's node is the first one's.
  std::set<std::uint32_t> seen;
  for (const SnapshotFile& file : files) {
    std::optional<std::uint32_t> at = kFolder;
    for (const std::string_view part : Split(file.path, '/')) {
      at = S_ISDIR(nodes_[*at].mode) ? Child(*at, part) : std::nullopt;
      if (!at) return false;
    }
    const Node& node = nodes_[*at];
    if (node.mode != (S_IFREG | (file.mode & 07777)) || node.uid != file.uid ||
        node.gid != file.gid || !ConstantTimeEquals(Content(*at), file.content.view()) ||
        !seen.insert(*at).second) {
      return false;
    }
  }
  return true;
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

}  // namespace coffer::volume
