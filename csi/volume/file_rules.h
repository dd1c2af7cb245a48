// FileRules: who may open a file beyond what its mode says, how often, for how long, and what is
// told of it.
//
// In a snapshot's image the parts that have no fixed size are one text:
//
//   rules := version NUL uids NUL executables
//   uids  := "" | number ("," number)*            executables := "" | path (NUL path)*
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace coffer::volume {

struct FileRules {
  std::string version = {};  // of what the file holds, as the keystore counts; told, not checked
  // Of the pod; empty: everyone whom the mode lets in.
  std::vector<std::uint32_t> allow_uids = {};
  // Absolute paths in the container's image; empty: every program.
  std::vector<std::string> allow_executables = {};
  // After one reader was given all of it and has closed it, the file is gone.
  bool read_once = false;
  // So long after it was published the file is gone.
  absl::Duration available_for = absl::InfiniteDuration();
  // Nobody is supposed to open it: the first one who does is told of.
  bool canary = false;

  // Whether they can be kept only where opens are delivered.
  bool guarded() const {
    return !allow_uids.empty() || !allow_executables.empty() || read_once || canary || timed();
  }
  bool timed() const { return available_for != absl::InfiniteDuration(); }
};

std::string RulesText(const FileRules& rules);

// The same, read in place: valid as long as the text is.
struct RulesView {
  explicit RulesView(std::string_view text);

  bool AllowsUid(std::uint32_t uid) const;

  std::string_view version;
  std::string_view uids;         // "": everyone
  std::string_view executables;  // "": every program
};

}  // namespace coffer::volume
