// OpenListener: is told of each open of volumes that deliver them.
#pragma once

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
  absl::Time time = absl::InfinitePast();
  // 0: opened; EACCES: the rules don't let it in; ENOENT: the file is gone.
  int error = 0;
  std::string refusal = {};  // why not
  bool canary = false;       // the first open of a canary
};

// Called on the threads that answer the kernel. Must not wait for anything.
class OpenListener {
 public:
  virtual ~OpenListener() = default;
  // Before the kernel has its answer: what must be known even if this process is killed then. An
  // open that such a process didn't answer is asked for again, and told by the next one, too; as a
  // canary's first one unless this had returned.
  virtual void Opening(const OpenEvent&) {}
  // When it has it: what whoever opens needn't wait for.
  virtual void Opened(const OpenEvent& event) = 0;
};

}  // namespace coffer::volume
