// The mount calls of a volume, each on an exact folder that a descriptor names: fsopen(2) and
// friends, since no path can be swapped under them and a mount is read-only before anyone sees it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace coffer::volume {

// The folder, or the root of the mount on it, opened O_PATH: the kernel asks nobody for it, so a
// dead mount is no obstacle. InvalidArgument: not absolute, not below `root`, a link on the way
// from there; NotFound.
absl::StatusOr<UniqueFd> OpenTarget(std::string_view root, std::string_view target);

struct DetachedMount {
  UniqueFd mount;            // fsmount(2): in no namespace yet
  std::uint64_t device = 0;  // st_dev of everything in the file system
};

// What SELinux (its file system at `selinux`) lets containers read, of whatever categories; "": there
// is no SELinux. A FUSE file system or a tmpfs has a label of its own otherwise, which they can't.
std::string ContainerLabel(const char* selinux = "/sys/fs/selinux");

// A FUSE file system of type fuse.coffer that asks on `fuse` (/dev/fuse), as a read-only mount.
// PermissionDenied: no CAP_SYS_ADMIN; Unimplemented: the kernel is older than 5.12.
absl::StatusOr<DetachedMount> MakeMount(int fuse, std::string_view volume_id);

// A writable tmpfs for a volume. `noswap`: InvalidArgument where the kernel is older than 6.4.
absl::StatusOr<DetachedMount> MakeTmpfs(std::string_view volume_id, bool noswap);

// The same file system for a pod.
absl::StatusOr<DetachedMount> ReadOnlyCopy(const DetachedMount& mount);

// Puts the mount onto `target`, in this and all peer namespaces.
absl::Status Attach(const DetachedMount& mount, int target);

// A writable mount, in no namespace, of the file system at `target`; its root. FailedPrecondition:
// it isn't the one with `device`.
absl::StatusOr<UniqueFd> OpenWritable(int target, std::uint64_t device);

// st_dev, without asking the file system's server.
absl::StatusOr<std::uint64_t> DeviceOf(int fd);

// Whether `target` is the root of a mount of Coffer's, dead or alive.
absl::StatusOr<bool> IsMount(int target);

// Detaches the mount whose root `target` is.
absl::Status Detach(int target);

}  // namespace coffer::volume
