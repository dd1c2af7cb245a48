// OpenListener: is told of each open of volumes that deliver them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "csi/volume/opener.h"
#include "csi/volume/volume.h"

namespace coffer::volume {

struct OpenEvent {
  std::shared_ptr<const VolumeInfo> volume;
  std::string file;     // its path in the volume
  std::string version;  // FileRules::version
  Opener opener;
  absl::Time time = absl::InfinitePast();  // InfinitePast: under a plugin before this one
  // 0: opened; EACCES: the rules don't let it in; ENOENT: the file is gone.
  int error = 0;
  std::string refusal = {};  // why not
  bool canary = false;       // the first open of a canary
  // Then: to be called once everybody knows who is to, or never can. On any thread, also when the
  // volume is gone. Where that doesn't come, the plugin that takes the volume over is told by
  // StillOwed.
  std::function<void()> delivered = {};
};

// Called on the threads that answer the kernel, but for StillOwed. Must not wait for anything.
class OpenListener {
 public:
  virtual ~OpenListener() = default;
  // Before the kernel has its answer: what must be known even if this process is killed then. An
  // open that such a process didn't answer is asked for again, and told by the next one, too; as a
  // canary's first one unless this had returned.
  virtual void Opening(const OpenEvent&) {}
  // When it has it: what whoever opens needn't wait for.
  virtual void Opened(const OpenEvent& event) = 0;
  // Of a volume that was taken over: a canary's first open that a plugin before this one was told
  // of, and of which it wasn't said that it is delivered. Volume, file, `canary` and `delivered`
  // are known, no more.
  virtual void StillOwed(const OpenEvent&) {}
};

}  // namespace coffer::volume
