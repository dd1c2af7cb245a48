// Volume: one FUSE mount at a pod's target path that serves an immutable snapshot of files out of
// locked memory, laid out as the kubelet does: "..data" is a link to "..2026_11_24_20_31_00.123456789"
// and each top-level name is a link through "..data"; a swap renames a new "..data" over the old.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/secret_bytes.h"

namespace coffer::volume {

struct SnapshotFile {
  std::string path;  // relative, "/" parts; each part 1..255 bytes, not "." or "..", not starting ".."
  SecretBytes content;
  std::uint32_t mode = 0644;  // permission bits
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

struct VolumeInfo {
  std::string volume_id;
  std::string target;  // absolute path of the mount point
};

// All volumes of this process, served by a few threads. Safe on any thread.
class VolumeServer {
 public:
  // `threads`: 1..64 that answer the kernel.
  explicit VolumeServer(const Clock& clock, int threads = 2);
  ~VolumeServer();  // unmounts nothing: a plugin that stops leaves its mounts to the next one

  // Mounts at `target`, an existing empty directory. InvalidArgument: a file's path is wrong;
  // AlreadyExists: this server has a volume there; anything else: what mount(2) said. Nothing is
  // mounted unless OK.
  absl::Status Mount(const VolumeInfo& info, std::vector<SnapshotFile> files);
  // Replaces the contents atomically; no change and no event where they are the same already. Old
  // bytes are wiped when the last open handle on them closes. NotFound: no such volume.
  absl::Status Swap(std::string_view target, std::vector<SnapshotFile> files);
  // Detaches the mount, wipes the contents. OK where there is none.
  absl::Status Unmount(std::string_view target);
  bool Serves(std::string_view target) const;
  std::vector<VolumeInfo> List() const;
};

// Coffer's mounts below `root` (the kubelet's folder) in this mount namespace, dead or alive, from
// /proc/self/mountinfo: FUSE file systems of subtype "coffer" whose source is "coffer:<volume id>".
absl::StatusOr<std::vector<VolumeInfo>> FindMounts(std::string_view root);
// Detaches a mount that nobody serves, without waiting for it (MNT_DETACH).
absl::Status DetachMount(std::string_view target);

}  // namespace coffer::volume
