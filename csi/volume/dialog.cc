#include "csi/volume/dialog.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cstring>

namespace coffer::volume {
namespace {

// Nothing changes but through the kernel, which keeps its caches right: let it cache for a year.
constexpr std::uint64_t kCacheSeconds = 365 * 86400;
constexpr std::uint32_t kOpcodes = 64;
constexpr std::uint32_t kLongestName = 255;  // bytes

// Newer than Debian 12's header.
constexpr std::int32_t kNotifyResend = 7;  // 7.40
constexpr std::uint32_t kTmpfile = 51;  // 7.37
// In the second half of the flags.
constexpr std::uint32_t kDirectIoAllowMmap = 1 << 4;  // 7.39, Linux 6.6
constexpr std::uint32_t kAllowIdmap = 1 << 8;  // 7.41, Linux 6.12: for pods with user namespaces

struct Request {
  const fuse_in_header& header;
  std::span<const std::uint8_t> body;
  Delivery* delivery;  // null: opens aren't delivered

  template <class T>
  const T& as() const {  // sizes are checked against the table
    return *reinterpret_cast<const T*>(body.data());
  }
  // The `index`th of the strings, each with a NUL, that follow `skip` bytes. "" where there is
  // none.
  std::string_view text(std::size_t skip, int index = 0) const {
    std::string_view rest(reinterpret_cast<const char*>(body.data()), body.size());
    rest.remove_prefix(std::min(skip, rest.size()));
    for (;; --index) {
      const std::size_t end = rest.find('\0');
      if (end == std::string_view::npos) return {};
      if (index == 0) return rest.substr(0, end);
      rest.remove_prefix(end + 1);
    }
  }
};

std::string_view BytesOf(const auto& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

fuse_attr AttrOf(const Tree::Attributes& attributes) {
  fuse_attr attr{};
  attr.ino = attributes.inode;
  attr.size = attributes.size;
  attr.blocks = (attributes.size + 511) / 512;
  attr.atime = attr.mtime = attr.ctime =
      static_cast<std::uint64_t>(attributes.time_nanos / 1'000'000'000);
  attr.atimensec = attr.mtimensec = attr.ctimensec =
      static_cast<std::uint32_t>(attributes.time_nanos % 1'000'000'000);
  attr.mode = attributes.mode;
  attr.nlink = 1;  // of a folder: "not counted"
  attr.uid = attributes.uid;
  attr.gid = attributes.gid;
  attr.blksize = 4096;
  return attr;
}

// With inode 0: there is no such name, and that may be cached.
fuse_entry_out EntryOf(const std::optional<Tree::Attributes>& attributes) {
  fuse_entry_out entry{};
  entry.entry_valid = entry.attr_valid = kCacheSeconds;
  if (!attributes) return entry;
  entry.nodeid = attributes->inode;
  entry.attr = AttrOf(*attributes);
  return entry;
}

// Handlers append the body of the answer and return 0 or the errno to answer with.

int Init(Tree&, const Request& request, SecretBytes& answer) {
  const auto& in = request.as<fuse_init_in>();
  fuse_init_out out{};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = FUSE_KERNEL_MINOR_VERSION;
  out.max_readahead = in.max_readahead;
  out.flags = in.flags & (FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_DO_READDIRPLUS |
                          FUSE_READDIRPLUS_AUTO | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT |
                          FUSE_CACHE_SYMLINKS | FUSE_EXPLICIT_INVAL_DATA);
  const std::size_t flags2_end = offsetof(fuse_init_in, flags2) + sizeof in.flags2;
  if ((in.flags & FUSE_INIT_EXT) != 0 && request.body.size() >= flags2_end) {
    out.flags |= FUSE_INIT_EXT;
    out.flags2 = in.flags2 & (kDirectIoAllowMmap | kAllowIdmap);
    // With ids mapped by the mount the kernel doesn't say who opens; then /proc must.
    if (request.delivery != nullptr && !Openers::SeesPods()) out.flags2 &= ~kAllowIdmap;
  }
  out.max_background = 16;
  out.congestion_threshold = 12;
  out.max_write = 4096;  // the least; keeps the buffer for requests small
  out.time_gran = 1;
  answer.Append(BytesOf(out));
  return 0;
}

int AnswerEntry(Tree& tree, std::uint64_t folder, std::string_view name, SecretBytes& answer) {
  const auto inode = tree.Lookup(folder, name);
  if (inode) tree.AddLookup(*inode);
  answer.Append(BytesOf(EntryOf(inode ? tree.Stat(*inode) : std::nullopt)));
  return 0;
}

int Lookup(Tree& tree, const Request& request, SecretBytes& answer) {
  const std::string_view name = request.text(0);
  if (name.size() > kLongestName) return ENAMETOOLONG;  // the kernel checks for 1,024
  return AnswerEntry(tree, request.header.nodeid, name, answer);
}

int Getattr(Tree& tree, const Request& request, SecretBytes& answer) {
  const auto attributes = tree.Stat(request.header.nodeid);
  if (!attributes) return ENOENT;
  fuse_attr_out out{};
  out.attr_valid = kCacheSeconds;
  out.attr = AttrOf(*attributes);
  answer.Append(BytesOf(out));
  return 0;
}

int Readlink(Tree& tree, const Request& request, SecretBytes& answer) {
  const auto target = tree.Target(request.header.nodeid);
  if (!target) return ENOENT;
  answer.Append(std::string_view(*target));
  return 0;
}

int Open(Tree& tree, const Request& request, SecretBytes& answer) {
  if (request.delivery == nullptr) return ENOSYS;
  Delivery& delivery = *request.delivery;
  const Gate::Passage& passage =
      delivery.passage.emplace(delivery.gate.Open(tree, request.header.nodeid, delivery.opener,
                                                  std::chrono::steady_clock::now()));
  fuse_open_out out{};
  out.fh = passage.handle;
  out.open_flags =
      FOPEN_NOFLUSH | (passage.every_read ? FOPEN_DIRECT_IO : FOPEN_KEEP_CACHE);
  answer.Append(BytesOf(out));
  return passage.error;
}

int Release(Tree& tree, const Request& request, SecretBytes&) {
  if (request.delivery == nullptr) return ENOSYS;
  request.delivery->vanished = request.delivery->gate.Close(
      tree, request.header.nodeid, request.as<fuse_release_in>().fh);
  return 0;
}

int Read(Tree& tree, const Request& request, SecretBytes& answer) {
  const auto& in = request.as<fuse_read_in>();
  const std::uint64_t inode = request.header.nodeid;
  const auto content = tree.Content(inode);
  Gate* const gate = request.delivery == nullptr ? nullptr : &request.delivery->gate;
  if (!content || (gate != nullptr && !gate->MayRead(tree, inode, in.fh))) return ENOENT;
  const std::string_view piece =
      content->substr(std::min<std::uint64_t>(in.offset, content->size()), in.size);
  answer.Append(piece);
  if (gate != nullptr) {
    request.delivery->vanished =
        gate->HasRead(tree, inode, in.fh, in.offset, in.offset + piece.size());
  }
  return 0;
}

// Entries of a folder, with attributes (and then a reference each) when `plus`. "." is at position
// 1 and ".." at 2.
int AnswerFolder(Tree& tree, const Request& request, SecretBytes& answer, bool plus) {
  const auto& in = request.as<fuse_read_in>();
  const std::size_t end = answer.size() + in.size;
  const std::uint64_t folder = request.header.nodeid;
  const auto add = [&](std::uint64_t position, std::uint64_t inode, std::string_view name) {
    const bool dots = position <= 2;
    const std::size_t head = plus ? sizeof(fuse_entry_out) : 0;
    const std::size_t size = head + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name.size());
    if (answer.size() + size > end) return false;
    const auto attributes = tree.Stat(inode);
    if (plus) answer.Append(BytesOf(EntryOf(dots ? std::nullopt : attributes)));
    if (plus && !dots) tree.AddLookup(inode);
    // All of the head but the flexible name, which has the alignment's zeros after it.
    const std::size_t start = answer.size();
    answer.Resize(start + size - head);
    std::uint8_t* at = answer.data() + start;
    const std::uint32_t numbers[] = {static_cast<std::uint32_t>(name.size()),
                                     attributes ? (attributes->mode & S_IFMT) >> 12 : 0};
    std::memcpy(at, &inode, 8);
    std::memcpy(at + 8, &position, 8);
    std::memcpy(at + 16, numbers, 8);
    std::memcpy(at + FUSE_NAME_OFFSET, name.data(), name.size());
    return true;
  };
  if (in.offset < 1 && !add(1, folder, ".")) return 0;
  if (in.offset < 2 && !add(2, Tree::kRoot, "..")) return 0;
  tree.List(folder, in.offset, add);
  return 0;
}

int Readdir(Tree& tree, const Request& request, SecretBytes& answer) {
  return AnswerFolder(tree, request, answer, false);
}

int Readdirplus(Tree& tree, const Request& request, SecretBytes& answer) {
  return AnswerFolder(tree, request, answer, true);
}

int Statfs(Tree& tree, const Request&, SecretBytes& answer) {
  fuse_statfs_out out{};
  out.st.bsize = out.st.frsize = 4096;
  out.st.blocks = (tree.content_size() + 4095) / 4096;
  out.st.files = tree.file_count();
  out.st.namelen = kLongestName;
  answer.Append(BytesOf(out));
  return 0;
}

int Forget(Tree& tree, const Request& request, SecretBytes&) {
  tree.Forget(request.header.nodeid, request.as<fuse_forget_in>().nlookup);
  return 0;
}

int BatchForget(Tree& tree, const Request& request, SecretBytes&) {
  const auto& in = request.as<fuse_batch_forget_in>();
  const auto* one = reinterpret_cast<const fuse_forget_one*>(&in + 1);
  const std::size_t there = (request.body.size() - sizeof in) / sizeof *one;
  for (std::size_t i = 0; i < std::min<std::size_t>(in.count, there); ++i) {
    tree.Forget(one[i].nodeid, one[i].nlookup);
  }
  return 0;
}

int Interrupt(Tree&, const Request&, SecretBytes&) { return 0; }  // answers are never waited for

// The steps of a swap; all else that would change something is Refuse.

int Mkdir(Tree& tree, const Request& request, SecretBytes& answer) {
  const std::string_view name = request.text(sizeof(fuse_mkdir_in));
  if (!tree.MakeFolder(request.header.nodeid, name)) return EROFS;
  return AnswerEntry(tree, request.header.nodeid, name, answer);
}

int Symlink(Tree& tree, const Request& request, SecretBytes& answer) {
  const std::string_view name = request.text(0);
  if (!tree.MakeLink(request.header.nodeid, name, request.text(0, 1))) return EROFS;
  return AnswerEntry(tree, request.header.nodeid, name, answer);
}

int Rename(Tree& tree, const Request& request, SecretBytes&) {
  const auto& in = request.as<fuse_rename_in>();
  return tree.Rename(request.header.nodeid, request.text(sizeof in), in.newdir,
                     request.text(sizeof in, 1), std::chrono::steady_clock::now())
             ? 0
             : EROFS;
}

int Remove(Tree& tree, const Request& request, SecretBytes&) {
  return tree.Remove(request.header.nodeid, request.text(0)) ? 0 : EROFS;
}

int Refuse(Tree&, const Request&, SecretBytes&) { return EROFS; }

struct Operation {
  std::uint32_t opcode;
  int (*handle)(Tree&, const Request&, SecretBytes&);
  std::size_t body_size = 0;  // at least
  bool answered = true;
};

// What isn't here is answered ENOSYS, which the kernel remembers: it then checks access and seeks
// without asking, and has no xattrs, locks or ioctls to ask for. With opens it's the same where they
// aren't to be delivered.
constexpr Operation kOperations[] = {
    {FUSE_INIT, Init, offsetof(fuse_init_in, flags) + 4},
    {FUSE_LOOKUP, Lookup},
    {FUSE_GETATTR, Getattr},
    {FUSE_READLINK, Readlink},
    {FUSE_OPEN, Open, sizeof(fuse_open_in)},
    {FUSE_READ, Read, sizeof(fuse_read_in)},
    {FUSE_RELEASE, Release, sizeof(fuse_release_in)},
    {FUSE_READDIR, Readdir, sizeof(fuse_read_in)},
    {FUSE_READDIRPLUS, Readdirplus, sizeof(fuse_read_in)},
    {FUSE_STATFS, Statfs},
    {FUSE_FORGET, Forget, sizeof(fuse_forget_in), false},
    {FUSE_BATCH_FORGET, BatchForget, sizeof(fuse_batch_forget_in), false},
    {FUSE_INTERRUPT, Interrupt, 0, false},
    {FUSE_MKDIR, Mkdir, sizeof(fuse_mkdir_in)},
    {FUSE_SYMLINK, Symlink},
    {FUSE_RENAME, Rename, sizeof(fuse_rename_in)},
    {FUSE_UNLINK, Remove},
    {FUSE_RMDIR, Remove},
    {FUSE_SETATTR, Refuse},
    {FUSE_MKNOD, Refuse},
    {FUSE_LINK, Refuse},
    {FUSE_WRITE, Refuse},
    {FUSE_SETXATTR, Refuse},
    {FUSE_REMOVEXATTR, Refuse},
    {FUSE_CREATE, Refuse},
    {FUSE_FALLOCATE, Refuse},
    {FUSE_RENAME2, Refuse},
    {FUSE_COPY_FILE_RANGE, Refuse},
    {kTmpfile, Refuse},
};

constexpr auto kByOpcode = [] {
  std::array<const Operation*, kOpcodes> table{};
  for (const Operation& operation : kOperations) table[operation.opcode] = &operation;
  return table;
}();

}  // namespace

std::optional<Asker> WhoOpens(std::span<const std::uint8_t> request) {
  if (request.size() < sizeof(fuse_in_header)) return std::nullopt;
  const auto& header = *reinterpret_cast<const fuse_in_header*>(request.data());
  if (header.opcode != FUSE_OPEN) return std::nullopt;
  return Asker{header.pid, header.uid, header.gid};
}

void Answer(Tree& tree, std::span<const std::uint8_t> bytes, SecretBytes& answer,
            Delivery* delivery) {
  answer.Clear();
  if (bytes.size() < sizeof(fuse_in_header)) return;
  const Request request{*reinterpret_cast<const fuse_in_header*>(bytes.data()),
                        bytes.subspan(sizeof(fuse_in_header)), delivery};
  const std::uint32_t opcode = request.header.opcode;
  const Operation* operation = opcode < kOpcodes ? kByOpcode[opcode] : nullptr;

  fuse_out_header out{};
  answer.Append(BytesOf(out));
  int error = ENOSYS;
  if (operation != nullptr) {
    error = request.body.size() < operation->body_size ? EINVAL
                                                       : operation->handle(tree, request, answer);
    if (!operation->answered) return answer.Clear();
  }
  if (error != 0) answer.Resize(sizeof out);
  out.len = static_cast<std::uint32_t>(answer.size());
  out.error = -error;
  out.unique = request.header.unique;
  std::memcpy(answer.data(), &out, sizeof out);
}

PageDrop::PageDrop(std::uint64_t inode, std::int64_t offset) {
  fuse_out_header header{};
  header.len = sizeof bytes;
  header.error = FUSE_NOTIFY_INVAL_INODE;
  fuse_notify_inval_inode_out out{};  // to the end
  out.ino = inode;
  out.off = offset;
  static_assert(sizeof header + sizeof out == sizeof bytes);
  std::memcpy(bytes, &header, sizeof header);
  std::memcpy(bytes + sizeof header, &out, sizeof out);
}

SecretBytes EntryDrop(std::string_view name) {
  fuse_out_header header{};
  fuse_notify_inval_entry_out out{};
  out.parent = Tree::kRoot;
  out.namelen = static_cast<std::uint32_t>(name.size());
  header.len = static_cast<std::uint32_t>(sizeof header + sizeof out + name.size() + 1);
  header.error = FUSE_NOTIFY_INVAL_ENTRY;
  SecretBytes bytes;
  bytes.Append(BytesOf(header));
  bytes.Append(BytesOf(out));
  bytes.Append(name);
  bytes.Append(std::string_view("", 1));
  return bytes;
}

Resend::Resend() {
  fuse_out_header header{};
  header.len = sizeof bytes;
  header.error = kNotifyResend;
  static_assert(sizeof header == sizeof bytes);
  std::memcpy(bytes, &header, sizeof header);
}

}  // namespace coffer::volume
