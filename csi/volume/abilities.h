// Abilities: what volumes can be made of on this kernel and in this container. Found out once, by
// trying; where one is missing there is a fallback:
//
//   missing                  from          instead
//   FUSE                     -             tmpfs: no rules of files, no audit
//   tmpfs "noswap"           Linux 6.4     tmpfs that may be swapped out
//   memfd_secret             Linux 5.14    sealed memfd on locked pages
//   FUSE_NOTIFY_RESEND       Linux 6.9     volumes outlive a stop of the plugin, and a kill but for
//                                          those that were answering at that moment
#pragma once

#include <string>
#include <vector>

#include "csi/volume/secret_mapping.h"

namespace coffer::volume {

struct Abilities {
  bool fuse = true;
  bool resend = true;
  bool noswap = true;
  MemoryKind memory = MemoryKind::kMemfdSecret;
  std::string fuse_refusal = {};  // why there is no FUSE

  // In a few words, for people.
  std::string Backend() const;
  std::string Memory() const;
  std::string HandOver() const;
  // One line for each fallback that is in force; `kept`: there is a keeper.
  std::vector<std::string> Fallbacks(bool kept) const;
};

Abilities FindAbilities();

}  // namespace coffer::volume
