#include "csi/volume/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "common/status_macros.h"
#include "csi/volume/volume.h"

namespace coffer::volume {
namespace {

constexpr std::string_view kType = "fuse.coffer";
constexpr std::string_view kTmpfs = "tmpfs";
constexpr std::string_view kSourcePrefix = "coffer:";

absl::Status ErrnoStatus(int error, std::string_view what) {
  const std::string message = StrCat(what, ": ", std::string_view(strerrordesc_np(error)));
  if (error == ENOSYS) {
    return absl::UnimplementedError(StrCat(message, "; volumes need Linux 5.12 or later"));
  }
  if (error == EPERM) {
    return absl::PermissionDeniedError(StrCat(message, "; the plugin needs CAP_SYS_ADMIN"));
  }
  return absl::ErrnoToStatus(error, ToAbsl(message));
}

// What the kernel has to say about a file system that it refused, "" if nothing.
std::string KernelLog(int context) {
  char text[256];
  const ssize_t size = read(context, text, sizeof text);
  return size <= 0
             ? ""
             : StrCat(" (", Trim(std::string_view(text, static_cast<std::size_t>(size))), ")");
}

bool Below(std::string_view root, std::string_view path) {
  while (!root.empty() && root.back() == '/') root.remove_suffix(1);
  return path.size() > root.size() + 1 && path.substr(0, root.size()) == root &&
         path[root.size()] == '/';
}

// Undoes the octal escapes of proc_pid_mountinfo(5): "\040" is a blank.
std::string Unescape(std::string_view text) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) &&
        octal(text[i + 3])) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

struct MountLine {
  std::string id;
  MountKind kind;
  VolumeInfo info;
};

// Roots of Coffer's file systems, without the subPath mounts of single files.
absl::StatusOr<std::vector<MountLine>> OurMounts() {
  std::ifstream file("/proc/self/mountinfo");
  if (!file) return ErrnoStatus(errno, "can't open /proc/self/mountinfo");
  std::vector<MountLine> found;
  for (std::string line; std::getline(file, line);) {
    // id parent major:minor root target options {optional} - type source options
    const std::vector<std::string_view> fields = Split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (fields.size() < 7 || fields.end() - dash < 3 || fields[3] != "/") continue;
    const bool tmpfs = dash[1] == kTmpfs;
    if (!tmpfs && dash[1] != kType) continue;
    const std::string source = Unescape(dash[2]);
    if (source.compare(0, kSourcePrefix.size(), kSourcePrefix) != 0) continue;
    found.push_back(
        {std::string(fields[0]),
         tmpfs ? MountKind::kTmpfs : MountKind::kFuse,
         {source.substr(kSourcePrefix.size()), Unescape(fields[4])}});
  }
  return found;
}

}  // namespace

absl::StatusOr<UniqueFd> OpenTarget(std::string_view root, std::string_view target) {
  if (!Below(root, target)) {
    return absl::InvalidArgumentError(
        StrCat("the target path \"", target, "\" is not below \"", root, "\""));
  }
  while (root.size() > 1 && root.back() == '/') root.remove_suffix(1);
  const UniqueFd base(open(std::string(root).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!base) return ErrnoStatus(errno, StrCat("can't open the root folder \"", root, "\""));

  std::string_view rest = target.substr(root == "/" ? 0 : root.size());
  rest.remove_prefix(std::min(rest.find_first_not_of('/'), rest.size()));
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const long fd = syscall(SYS_openat2, base.get(), std::string(rest).c_str(), &how, sizeof how);
  if (fd >= 0) return UniqueFd(static_cast<int>(fd));
  switch (errno) {
    case ELOOP:
      return absl::InvalidArgumentError(
          StrCat("the target path \"", target, "\" leads through a symbolic link"));
    case EXDEV:
      return absl::InvalidArgumentError(
          StrCat("the target path \"", target, "\" leads out of \"", root, "\""));
    case ENOTDIR:
      return absl::InvalidArgumentError(StrCat("the target path \"", target, "\" is not a folder"));
    default:
      return ErrnoStatus(errno, StrCat("can't open the target path \"", target, "\""));
  }
}

namespace {

using Options = std::vector<std::pair<const char*, std::string>>;  // "": a flag

// What the kernel calls the type, what people do.
absl::StatusOr<DetachedMount> Make(const char* type, std::string_view called,
                                   const Options& options, unsigned attributes) {
  const UniqueFd context(fsopen(type, FSOPEN_CLOEXEC));
  if (!context) return ErrnoStatus(errno, StrCat("can't make a ", called, " file system"));
  for (const auto& [name, value] : options) {
    const int done = value.empty()
                         ? fsconfig(context.get(), FSCONFIG_SET_FLAG, name, nullptr, 0)
                         : fsconfig(context.get(), FSCONFIG_SET_STRING, name, value.c_str(), 0);
    if (done != 0) {
      return ErrnoStatus(errno, StrCat("can't set the ", called, " option ", name,
                                       KernelLog(context.get())));
    }
  }
  if (const std::string label = ContainerLabel(); !label.empty()) {
    // Refused by policies that know no containers: then nobody needs it.
    fsconfig(context.get(), FSCONFIG_SET_STRING, "context", label.c_str(), 0);
  }
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    const int error = errno;
    return ErrnoStatus(
        error, StrCat("can't make a ", called, " file system", KernelLog(context.get())));
  }
  DetachedMount made;
  made.mount = UniqueFd(fsmount(context.get(), FSMOUNT_CLOEXEC, attributes));
  if (!made.mount) return ErrnoStatus(errno, StrCat("can't mount a ", called, " file system"));
  ASSIGN_OR_RETURN(made.device, DeviceOf(made.mount.get()));
  return made;
}

constexpr unsigned kHarmless = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

}  // namespace

std::string ContainerLabel(const char* selinux) {
  return access(selinux, F_OK) == 0 ? "system_u:object_r:container_file_t:s0" : "";
}

absl::StatusOr<DetachedMount> MakeMount(int fuse, std::string_view volume_id) {
  return Make("fuse", "FUSE",
              {{"source", StrCat(kSourcePrefix, volume_id)},
               {"subtype", std::string(kType.substr(kType.find('.') + 1))},
               {"fd", StrCat(fuse)},
               {"rootmode", "40755"},
               {"user_id", "0"},
               {"group_id", "0"},
               {"allow_other", ""},
               {"default_permissions", ""}},
              MOUNT_ATTR_RDONLY | kHarmless);
}

absl::StatusOr<DetachedMount> MakeTmpfs(std::string_view volume_id, bool noswap) {
  Options options = {{"source", StrCat(kSourcePrefix, volume_id)}, {"mode", "0755"}};
  if (noswap) options.emplace_back("noswap", "");
  return Make("tmpfs", kTmpfs, options, kHarmless);
}

absl::StatusOr<DetachedMount> ReadOnlyCopy(const DetachedMount& mount) {
  DetachedMount copy;
  copy.device = mount.device;
  copy.mount = UniqueFd(open_tree(mount.mount.get(), "",
                                  AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!copy.mount) return ErrnoStatus(errno, "can't make a second mount of a volume");
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (mount_setattr(copy.mount.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    return ErrnoStatus(errno, "can't make a volume's mount read-only");
  }
  return copy;
}

absl::Status Attach(const DetachedMount& mount, int target) {
  if (move_mount(mount.mount.get(), "", target, "",
                 MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return ErrnoStatus(errno, "can't put a FUSE file system onto its target");
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OpenWritable(int target, std::uint64_t device) {
  ASSIGN_OR_RETURN(const std::uint64_t found, DeviceOf(target));
  if (found != device) {
    return absl::FailedPreconditionError(
        "the volume's mount is gone, or something is mounted over it");
  }
  UniqueFd clone(open_tree(target, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!clone) return ErrnoStatus(errno, "can't make a second mount of a volume");
  mount_attr attributes{};
  attributes.attr_clr = MOUNT_ATTR_RDONLY;
  if (mount_setattr(clone.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    return ErrnoStatus(errno, "can't make a volume's second mount writable");
  }
  return clone;
}

absl::StatusOr<std::uint64_t> DeviceOf(int fd) {
  struct statx info {};
  if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &info) != 0) {
    return ErrnoStatus(errno, "can't tell the device of a mount");
  }
  return makedev(info.stx_dev_major, info.stx_dev_minor);
}

absl::Status Detach(int target) {
  if (umount2(StrCat("/proc/self/fd/", target).c_str(), MNT_DETACH) != 0) {
    return ErrnoStatus(errno, "can't detach a volume");
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> IsMount(int target) {
  struct statx info {};
  if (statx(target, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &info) != 0) {
    return ErrnoStatus(errno, "can't tell the mount of a target path");
  }
  if ((info.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0) return false;
  ASSIGN_OR_RETURN(const std::vector<MountLine> mounts, OurMounts());
  return std::any_of(mounts.begin(), mounts.end(),
                     [&](const MountLine& mount) { return mount.id == StrCat(info.stx_mnt_id); });
}

absl::StatusOr<std::vector<VolumeInfo>> FindMounts(std::string_view root, MountKind kind) {
  ASSIGN_OR_RETURN(std::vector<MountLine> mounts, OurMounts());
  // The kernel tells where the links on the way to the root lead.
  const std::unique_ptr<char, decltype(&free)> resolved(
      realpath(std::string(root).c_str(), nullptr), free);
  if (resolved == nullptr && errno == ENOENT) return std::vector<VolumeInfo>();
  if (resolved == nullptr)
    return ErrnoStatus(errno, StrCat("can't find the folder \"", root, "\""));
  const std::string_view real_root = resolved.get();
  while (!root.empty() && root.back() == '/') root.remove_suffix(1);
  std::vector<VolumeInfo> found;
  for (MountLine& mount : mounts) {
    if (!Below(real_root, mount.info.target)) continue;
    if (kind != MountKind::kAny && mount.kind != kind) continue;
    mount.info.target.replace(0, real_root == "/" ? 0 : real_root.size(), root);
    found.push_back(std::move(mount.info));
  }
  return found;
}

absl::Status DetachMount(std::string_view target) {
  // By force: who waits for an answer of a server that is gone gets ENOTCONN.
  const int flags = MNT_DETACH | MNT_FORCE | UMOUNT_NOFOLLOW;
  if (umount2(std::string(target).c_str(), flags) == 0 || errno == EINVAL || errno == ENOENT) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, StrCat("can't detach \"", target, "\""));
}

}  // namespace coffer::volume
