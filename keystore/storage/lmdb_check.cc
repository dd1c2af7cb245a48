// What is read here of LMDB's format (0.9, 64 bits, little endian; mdb.c of the LMDB sources):
//   file     = page*, of the size that the free tree's pad gives; pages 0 and 1 hold a meta each
//   page     = number:u64 pad:u16 flags:u16 lower:u16 upper:u16 offset:u16*  ... nodes up to the
//   end
//              offsets fill 16..lower; an overflow page has count:u32 in the place of lower and
//              upper
//   meta     = page-header magic:u32 version:u32 address:u64 map-size:u64 free:tree main:tree
//              last-page:u64 commit:u64           the one with the larger commit is valid
//   tree     = pad:u32 flags:u16 depth:u16 branch-pages:u64 leaf-pages:u64 overflow-pages:u64
//              entries:u64 root:u64               root all ones: empty
//   node     = low:u16 high:u16 flags:u16 key-size:u16 key data
//              branch: low, high, flags are the child's number; leaf: low and high are data's size,
//              and with flag 1 data is the u64 number of its first overflow page
#include "keystore/storage/lmdb_check.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "common/status_macros.h"
#include "common/strings.h"
#include "common/unique_fd.h"

namespace coffer::keystore {
namespace {

constexpr std::size_t kHeader = 16;
constexpr std::size_t kNodeHeader = 8;
constexpr std::size_t kMetaSize = kHeader + 136;
constexpr std::uint64_t kNoPage = ~std::uint64_t{0};
constexpr std::uint32_t kMagic = 0xBEEFC0DE;
enum : std::uint16_t { kBranch = 1, kLeaf = 2, kOverflow = 4, kMeta = 8 };

template <class T>
T Load(const std::uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

struct Tree {
  int depth;
  std::uint64_t root;
  explicit Tree(const std::uint8_t* at)
      : depth(Load<std::uint16_t>(at + 6)), root(Load<std::uint64_t>(at + 40)) {}
};

class Walk {
 public:
  Walk(const std::string& path, int fd) : path_(path), fd_(fd) {}

  absl::Status Run() {
    std::uint8_t newest[kMetaSize];
    RETURN_IF_ERROR(ReadMetas(newest));
    last_page_ = Load<std::uint64_t>(newest + kHeader + 120);
    RETURN_IF_ERROR(CheckTree(Tree(newest + kHeader + 24)));
    ordered_ = true;
    return CheckTree(Tree(newest + kHeader + 72));
  }

 private:
  absl::Status Damaged(std::uint64_t page, std::string_view what) const {
    return absl::DataLossError(StrCat("storage: ", path_, " is damaged (page ", page, ": ", what,
                                      "); restore a backup of it"));
  }

  absl::Status Read(std::uint64_t offset, std::uint8_t* bytes, std::size_t size,
                    std::uint64_t page) const {
    const ssize_t got = pread(fd_, bytes, size, static_cast<off_t>(offset));
    if (got < 0) {
      return absl::UnavailableError(
          StrCat("storage: can't read ", path_, ": ", std::strerror(errno)));
    }
    if (static_cast<std::size_t>(got) != size) return Damaged(page, "the file ends before it");
    return absl::OkStatus();
  }

  absl::Status ReadMetas(std::uint8_t* newest) {
    std::uint8_t metas[2][kMetaSize];
    for (int i = 0; i < 2; ++i) {
      RETURN_IF_ERROR(Read(i * page_size_, metas[i], kMetaSize, i));
      const std::uint8_t* meta = metas[i] + kHeader;
      if (Load<std::uint16_t>(metas[i] + 10) != kMeta || Load<std::uint32_t>(meta) != kMagic ||
          Load<std::uint32_t>(meta + 4) != 1) {
        return Damaged(i, "no LMDB header");
      }
      page_size_ = Load<std::uint32_t>(meta + 24);
      if (page_size_ < 512 || page_size_ > 65536 || (page_size_ & (page_size_ - 1)) != 0) {
        return Damaged(i, "wrong page size");
      }
    }
    const auto commit = [&](int i) { return Load<std::uint64_t>(metas[i] + kHeader + 128); };
    std::memcpy(newest, metas[commit(1) > commit(0) ? 1 : 0], kMetaSize);
    return absl::OkStatus();
  }

  absl::Status CheckTree(const Tree& tree) {
    if (tree.root == kNoPage) return absl::OkStatus();
    if (tree.depth < 1 || tree.depth > 32) return Damaged(tree.root, "wrong depth of its tree");
    return CheckPage(tree.root, tree.depth);
  }

  // A page `height` levels above nothing: 1 is a leaf. The tree's depth bounds the recursion.
  absl::Status CheckPage(std::uint64_t number, int height) {
    if (number < 2 || number > last_page_) return Damaged(number, "no such page");
    std::vector<std::uint8_t> page(page_size_);
    RETURN_IF_ERROR(Read(number * page_size_, page.data(), page_size_, number));
    const std::size_t lower = Load<std::uint16_t>(&page[12]);
    const std::size_t upper = Load<std::uint16_t>(&page[14]);
    if (Load<std::uint64_t>(&page[0]) != number) return Damaged(number, "holds another page");
    if (Load<std::uint16_t>(&page[10]) != (height > 1 ? kBranch : kLeaf)) {
      return Damaged(number, "is of another kind");
    }
    if (lower < kHeader || lower % 2 != 0 || upper < lower || upper > page_size_) {
      return Damaged(number, "wrong bounds");
    }
    const std::size_t count = (lower - kHeader) / 2;
    if (count < (height > 1 ? 2 : 1)) return Damaged(number, "has too few entries");
    std::string_view previous;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t offset = Load<std::uint16_t>(&page[kHeader + 2 * i]);
      if (offset < upper || offset + kNodeHeader > page_size_)
        return Damaged(number, "wrong offset");
      const std::uint8_t* node = &page[offset];
      const std::size_t room = page_size_ - offset - kNodeHeader;
      const std::size_t key_size = Load<std::uint16_t>(node + 6);
      if (key_size > room) return Damaged(number, "a key leaves it");
      const std::string_view key(reinterpret_cast<const char*>(node) + kNodeHeader, key_size);
      // The first key of a branch stands for all that is smaller, and is empty.
      if (ordered_ && i > (height > 1 ? 1U : 0U) && previous >= key) {
        return Damaged(number, "keys out of order");
      }
      previous = key;
      RETURN_IF_ERROR(height > 1 ? CheckPage(Child(node), height - 1)
                                 : CheckData(number, node, key_size, room - key_size));
    }
    return absl::OkStatus();
  }

  static std::uint64_t Child(const std::uint8_t* node) {
    return Load<std::uint32_t>(node) | std::uint64_t{Load<std::uint16_t>(node + 4)} << 32;
  }

  absl::Status CheckData(std::uint64_t number, const std::uint8_t* node, std::size_t key_size,
                         std::size_t room) {
    const std::size_t size = Load<std::uint32_t>(node);
    const std::uint16_t flags = Load<std::uint16_t>(node + 4);
    if (flags == 0) {
      return size <= room ? absl::OkStatus() : Damaged(number, "a value leaves it");
    }
    if (flags != 1 || room < 8) return Damaged(number, "a value of no known kind");
    const std::uint64_t first = Load<std::uint64_t>(node + kNodeHeader + key_size);
    const std::uint64_t pages = (kHeader + size + page_size_ - 1) / page_size_;
    if (first < 2 || first > last_page_ || pages > last_page_ - first + 1) {
      return Damaged(number, "a value leaves the file");
    }
    std::uint8_t header[kHeader];
    RETURN_IF_ERROR(Read(first * page_size_, header, kHeader, first));
    if (Load<std::uint64_t>(header) != first || Load<std::uint16_t>(header + 10) != kOverflow ||
        Load<std::uint32_t>(header + 12) < pages) {
      return Damaged(first, "isn't the value that it should be");
    }
    std::uint8_t last_byte;
    return Read(first * page_size_ + kHeader + size - 1, &last_byte, 1, first + pages - 1);
  }

  const std::string& path_;
  const int fd_;
  std::uint64_t page_size_ = 4096;
  std::uint64_t last_page_ = 0;
  bool ordered_ = false;  // the tree's keys are in byte order; those of the free tree are numbers
};

}  // namespace

absl::Status CheckLmdbFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat facts;
  if (!fd && errno == ENOENT) return absl::OkStatus();
  if (!fd || fstat(fd.get(), &facts) != 0) {
    return absl::UnavailableError(StrCat("storage: can't read ", path, ": ", std::strerror(errno)));
  }
  if (facts.st_size == 0) return absl::OkStatus();
  return Walk(path, fd.get()).Run();
}

}  // namespace coffer::keystore
