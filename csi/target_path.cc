#include "csi/target_path.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "common/status_macros.h"
#include "common/strings.h"
#include "common/unique_fd.h"

namespace coffer::csi {
namespace {

constexpr int kMostMounts = 16;  // one over the other at one target

std::string_view WithoutSlash(std::string_view root) {
  while (root.ends_with('/')) root.remove_suffix(1);
  return root;
}

absl::Status Failed(std::string_view what, std::string_view path, int error) {
  const std::string text = StrCat(what, " ", path, ": ", strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(text);
    case ELOOP:
    case EXDEV:
      return absl::InvalidArgumentError(StrCat(text, " (a symbolic link on the way)"));
    case ENOTDIR:
    case ENOTEMPTY:
      return absl::FailedPreconditionError(text);
    default:
      return absl::InternalError(text);
  }
}

struct Target {
  UniqueFd parent;
  std::string name;
};

absl::StatusOr<Target> OpenParent(std::string_view root, std::string_view target) {
  RETURN_IF_ERROR(CheckTarget(root, target));
  const std::string top = root == "/" ? "/" : std::string(WithoutSlash(root));
  // The kubelet's folder itself may be reached through links: the administrator put them there.
  const UniqueFd root_fd(open(top.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root_fd) return Failed("opening", top, errno);
  const std::string_view below = target.substr(WithoutSlash(root).size() + 1);
  const std::size_t slash = below.rfind('/');
  Target opened;
  opened.name = below.substr(slash == below.npos ? 0 : slash + 1);
  const std::string parent(slash == below.npos ? "." : below.substr(0, slash));
  open_how how = {};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  opened.parent.reset(
      static_cast<int>(syscall(SYS_openat2, root_fd.get(), parent.c_str(), &how, sizeof(how))));
  if (!opened.parent) return Failed("opening the folder above", target, errno);
  return opened;
}

// The mount that `name` is in, without asking the file system there, which may be dead.
absl::StatusOr<int> MountIdOf(int parent, const std::string& name, std::string_view target) {
  const UniqueFd fd(openat(parent, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return Failed("opening", target, errno);
  std::ifstream facts(StrCat("/proc/self/fdinfo/", fd.get()));
  std::string key;
  while (facts >> key) {
    int id = 0;
    if (key == "mnt_id:" && facts >> id) return id;
  }
  return absl::InternalError(StrCat("no mount id of ", target, " in /proc/self/fdinfo"));
}

// Detaches every mount at the target, whosever it is.
absl::Status DetachAll(const Target& opened, std::string_view target) {
  const std::string path(target);
  ASSIGN_OR_RETURN(const int below, MountIdOf(opened.parent.get(), ".", target));
  for (int i = 0; i < kMostMounts; ++i) {
    ASSIGN_OR_RETURN(const int here, MountIdOf(opened.parent.get(), opened.name, target));
    if (here == below) return absl::OkStatus();
    if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL) {
      return Failed("unmounting", target, errno);
    }
  }
  return absl::FailedPreconditionError(StrCat(target, " has over ", kMostMounts, " mounts on it"));
}

}  // namespace

absl::Status CheckTarget(std::string_view root, std::string_view target) {
  const auto wrong = [target](std::string_view what) {
    return absl::InvalidArgumentError(StrCat("target path \"", target, "\" ", what));
  };
  if (target.empty()) return absl::InvalidArgumentError("target path is missing");
  if (!target.starts_with('/')) return wrong("must be absolute");
  if (target.size() >= 4096) return absl::InvalidArgumentError("target path is too long");
  if (target.find('\0') != target.npos) {
    return absl::InvalidArgumentError("target path has a NUL in it");
  }
  for (const std::string_view part : Split(target.substr(1), '/')) {
    if (part.empty() || part == "." || part == "..") {
      return wrong("must not have an empty, \".\" or \"..\" part");
    }
    if (part.size() > 255) return absl::InvalidArgumentError("target path is too long");
  }
  const std::string_view top = WithoutSlash(root);
  if (!target.starts_with(top) || target.size() <= top.size() + 1 || target[top.size()] != '/') {
    return wrong(StrCat("must be below the kubelet's folder ", root, " (--kubelet-root)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> MakeTarget(std::string_view root, std::string_view target) {
  ASSIGN_OR_RETURN(const Target opened, OpenParent(root, target));
  if (mkdirat(opened.parent.get(), opened.name.c_str(), 0750) == 0) return true;
  if (errno != EEXIST) return Failed("making", target, errno);
  RETURN_IF_ERROR(DetachAll(opened, target));
  struct stat facts = {};
  if (fstatat(opened.parent.get(), opened.name.c_str(), &facts, AT_SYMLINK_NOFOLLOW) != 0) {
    return Failed("looking at", target, errno);
  }
  if (S_ISLNK(facts.st_mode)) return Failed("using", target, ELOOP);
  if (!S_ISDIR(facts.st_mode)) return Failed("using", target, ENOTDIR);
  return false;
}

absl::Status RemoveTarget(std::string_view root, std::string_view target) {
  const absl::StatusOr<Target> opened = OpenParent(root, target);
  if (absl::IsNotFound(opened.status())) return absl::OkStatus();
  RETURN_IF_ERROR(opened.status());
  const absl::Status detached = DetachAll(*opened, target);
  if (absl::IsNotFound(detached)) return absl::OkStatus();
  RETURN_IF_ERROR(detached);
  if (unlinkat(opened->parent.get(), opened->name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    return Failed("removing", target, errno);
  }
  return absl::OkStatus();
}

}  // namespace coffer::csi
