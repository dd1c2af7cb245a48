// AuditLog: one JSON object a line for each open of an audited file, appended to a file that root
// alone reads. Who opens a file never waits for it: lines go through a bounded queue to a thread that
// writes; what doesn't fit, or can't be written, is counted, and the next line that can be written
// says so.
//
//   open := {"time","event":"open","result":"ok"|"refused"|"gone"["reason"],"canary"?,
//            "namespace","pod","pod_uid","class","volume","file","version",
//            "container"?,"pid"?,"uid"?,"gid"?,"command"?,"executable"?}
//   lost := {"time","event":"lost","lines","reason"}
//
// times are UTC with microseconds (RFC 3339); what isn't known isn't there.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/secret_bytes.h"
#include "common/unique_fd.h"
#include "csi/volume/open_listener.h"

namespace coffer::csi {

// Appends the event's line.
void AppendAuditLine(const volume::OpenEvent& event, SecretBytes* out);

// Safe on any thread.
class AuditLog {
 public:
  static constexpr std::size_t kMostWaiting = 16384;

  // Makes the file where it isn't there. An error says which file and why.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const Clock& clock, std::string path);
  // Writes what waits.
  ~AuditLog();

  void Write(volume::OpenEvent event);
  // Opens the file again, as after a rename. That happens by itself, too, when the path no longer
  // leads to the open file.
  void Reopen();
  // Lines that were lost since the start.
  std::uint64_t lost() const;

 private:
  AuditLog(const Clock& clock, std::string path, UniqueFd file);

  void WriteLoop();
  void WriteLines(const std::vector<volume::OpenEvent>& events);
  // 0, or why they weren't written.
  int Append(const SecretBytes& lines);
  // Of lines that were written in part: unless another plugin has written to the file, too.
  void TakeBack(off_t size, std::size_t done);
  void FollowPath();
  void Lose(std::uint64_t lines, std::string reason);
  void TellLost();

  const Clock& clock_;
  const std::string path_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<volume::OpenEvent> waiting_;
  std::uint64_t lost_ = 0;    // in all
  std::uint64_t untold_ = 0;  // that no line tells of yet
  std::string reason_;        // of those
  bool reopen_ = false, stopping_ = false;

  // The thread's alone.
  UniqueFd file_;
  bool torn_ = false;     // the file may end within a line
  bool failing_ = false;  // the log was told

  std::thread thread_;
};

}  // namespace coffer::csi
