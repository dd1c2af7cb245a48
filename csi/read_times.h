// ReadTimes: when each file of audited volumes was last opened on this node, by class and file, over
// restarts where there is a folder to keep it in: so secrets that nobody reads any longer can be
// found. Times are no secret; what is in the files isn't known here.
//
// The file, <folder>/read-times, is replaced as a whole:
//
//   file := "coffer read times 1" LF line*
//   line := namespace HT class HT file HT first published HT last published HT last opened LF
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

struct ReadTime {
  std::string kubernetes_namespace;
  std::string secret_class;
  std::string file;  // its path in the volume
  absl::Time published = absl::InfinitePast();       // when it was first published here
  absl::Time last_published = absl::InfinitePast();  // to the hour
  absl::Time last_read = absl::InfinitePast();       // InfinitePast: never, as far as is known
};

// Safe on any thread.
class ReadTimes {
 public:
  // At most so many are kept, those that were published last, and none that wasn't for so long.
  static constexpr std::size_t kMostFiles = 20'000;
  static constexpr absl::Duration kLife = absl::Hours(30 * 24);

  // `folder`: "" keeps nothing over a restart.
  ReadTimes(const Clock& clock, std::string folder);
  ~ReadTimes();  // saves

  // Of an audited volume, at each publish.
  void Published(std::string_view kubernetes_namespace, std::string_view secret_class,
                 const std::vector<std::string>& files);
  void Opened(std::string_view kubernetes_namespace, std::string_view secret_class,
              std::string_view file, absl::Time time);

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
  };
  using Key = std::tuple<std::string, std::string, std::string>;
  struct Less {
    using is_transparent = void;
    bool operator()(const auto& a, const auto& b) const { return a < b; }
  };

  void SaveLoop();
  void DropOldest();

  const Clock& clock_;
  const std::string folder_;

  std::mutex save_mutex_;  // before mutex_
  mutable std::mutex mutex_;
  std::map<Key, Times, Less> times_;
  bool changed_ = false;
  UniqueFd stop_;  // eventfd
  std::thread thread_;
};

}  // namespace coffer::csi
