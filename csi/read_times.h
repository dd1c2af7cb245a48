// ReadTimes: when each file of audited volumes was last opened on this node, by class and file, over
// restarts where there is a folder to keep it in: so secrets that nobody reads any longer can be
// found. Times are no secret; what is in the files isn't known here.
//
// The file, <folder>/read-times, is replaced as a whole:
//
//   file := "coffer read times 1" LF (line pod*)*
//   line := namespace HT class HT file HT first published HT last published HT last opened LF
//   pod  := namespace HT class HT file HT pod HT last opened by it LF
//
// times in seconds since 1970, 0 for never; HT, LF and "\" within a part as \t, \n and \\.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/unique_fd.h"

namespace coffer::csi {

using PodTimes = std::map<std::string, absl::Time, std::less<>>;

struct ReadTime {
  std::string kubernetes_namespace;
  std::string secret_class;
  std::string file;  // its path in the volume
  absl::Time published = absl::InfinitePast();       // when it was first published here
  absl::Time last_published = absl::InfinitePast();  // to the hour
  absl::Time last_read = absl::InfinitePast();       // InfinitePast: never, as far as is known
  PodTimes by_pod;                                   // when each of them last read it
};

// Safe on any thread.
class ReadTimes {
 public:
  // At most so many are kept, those that were published last, and none that wasn't for so long.
  static constexpr std::size_t kMostFiles = 20'000;
  static constexpr absl::Duration kLife = absl::Hours(30 * 24);
  // Of a file, those that opened it last.
  static constexpr std::size_t kMostPods = 128;

  // `folder`: "" keeps nothing over a restart.
  ReadTimes(const Clock& clock, std::string folder);
  ~ReadTimes();  // saves

  // Of an audited volume, at each publish.
  void Published(std::string_view kubernetes_namespace, std::string_view secret_class,
                 const std::vector<std::string>& files);
  // Of an audited volume, which may be opened before its publish is told.
  void Opened(std::string_view kubernetes_namespace, std::string_view secret_class,
              std::string_view file, std::string_view pod, absl::Time time);
  // Forgets what this pod has opened, but for when it was.
  void Gone(std::string_view kubernetes_namespace, std::string_view secret_class,
            std::string_view pod);
  // Which files this pod has opened, and when it last did.
  std::vector<std::pair<std::string, absl::Time>> OpenedBy(std::string_view kubernetes_namespace,
                                                           std::string_view secret_class,
                                                           std::string_view pod) const;

  // Files that were published at least `time` ago and not opened for `time`, the longest unread
  // first.
  std::vector<ReadTime> Unused(absl::Duration time) const;
  std::vector<ReadTime> All() const;

  // Adds what the file holds: to be called when no other plugin is at work here any longer. What
  // can't be read is begun anew; the log says so.
  void Load();
  // Writes the file if there is something new, with what another plugin has written to it since. An
  // error says which file and why.
  absl::Status Save();

 private:
  struct Times {
    absl::Time published = absl::InfinitePast();
    absl::Time last_published = absl::InfinitePast();
    absl::Time last_read = absl::InfinitePast();
    PodTimes by_pod = {};
  };
  using Key = std::tuple<std::string, std::string, std::string>;
  struct Less {
    using is_transparent = void;
    bool operator()(const auto& a, const auto& b) const { return a < b; }
  };

  void LoadFile(const std::vector<std::string_view>& parts);
  void LoadPod(const std::vector<std::string_view>& parts);
  void SaveLoop();
  void DropOldest();

  const Clock& clock_;
  const std::string folder_;

  std::mutex save_mutex_;  // before mutex_
  mutable std::mutex mutex_;
  std::map<Key, Times, Less> times_;
  absl::Time loaded_ = absl::InfinitePast();
  bool changed_ = false;
  UniqueFd stop_;  // eventfd
  std::thread thread_;
};

}  // namespace coffer::csi
