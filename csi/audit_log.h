// AuditLog: one JSON object a line for each open of an audited file, appended to a file that root
// alone reads. A line is in an AuditBuffer before the open is answered, and a thread writes it from
// there: who opens a file never waits for a disk, and where a keeper holds the buffer no line is lost
// with a plugin that is killed. What doesn't fit, or can't be written, is counted, and the next line
// that can be written says so.
//
//   open := {"time","event":"open","result":"ok"|"refused"|"gone"["reason"],"canary"?,
//            "namespace","pod","pod_uid","class","volume","file","version",
//            "container"?,"pid"?,"uid"?,"gid"?,"command"?,"executable"?}
//   lost := {"time","event":"lost","lines","reason"}
//   start, stop := {"time","event"}     of a plugin that serves
//
// times are UTC with microseconds (RFC 3339); what isn't known isn't there. Lines that a killed plugin
// was writing may be there twice. One that stops writes its last lines itself.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/secret_bytes.h"
#include "common/unique_fd.h"
#include "csi/audit_buffer.h"
#include "csi/volume/keeper_client.h"
#include "csi/volume/open_listener.h"

namespace coffer::csi {

// Appends the event's line.
void AppendAuditLine(const volume::OpenEvent& event, SecretBytes* out);

// Safe on any thread.
class AuditLog {
 public:
  // So long the lines of a plugin before this one are its own to write, unless it was killed.
  static constexpr std::chrono::seconds kLastLines{20};

  // Makes the file where it isn't there. An error says which file and why.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const Clock& clock, std::string path);
  ~AuditLog();  // stops

  // This plugin is to serve. `keeper`: null, or who holds lines that aren't written, as those of
  // plugins before this one, which are written by and by; kept by the caller. Called once.
  void Start(volume::KeeperClient* keeper);
  // Before the open is answered: from here on it is in the log, whatever happens.
  void Add(const volume::OpenEvent& event);
  // When it is: has what was added written.
  void WriteSoon();
  // Makes the file anew at once where it was moved. That happens by itself, too, with the next
  // line; until it can be made the moved one is written to.
  void Reopen();
  // Writes what waits, and the last line; what is added later isn't written by this plugin.
  void Stop();
  // Lines that were lost since the start.
  std::uint64_t lost() const;

 private:
  // Of a plugin before this one.
  struct Left {
    volume::KeeperClient::Kept kept;
    AuditBuffer lines;
    std::chrono::steady_clock::time_point due;
  };

  AuditLog(const Clock& clock, std::string path, UniqueFd file, AuditBuffer buffer);

  void WriteLoop();
  void WriteLines(std::string_view lines, AuditBuffer* from);
  void WriteLeft();
  void AddEvent(std::string_view event);
  void Put(std::string_view line);
  // 0, or why they weren't written.
  int Append(std::string_view lines);
  // Of lines that were written in part: unless another plugin has written to the file, too.
  void TakeBack(off_t size, std::size_t done);
  void FollowPath();
  void Lose(std::uint64_t lines, std::string reason);
  void TellLost();

  const Clock& clock_;
  const std::string path_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  AuditBuffer buffer_;
  volume::KeeperClient* keeper_ = nullptr;
  std::string name_;  // the keeper's, of the buffer
  std::list<Left> left_;
  std::uint64_t lost_ = 0;    // in all
  std::uint64_t untold_ = 0;  // that no line tells of yet
  std::string reason_;        // of those
  bool started_ = false, idle_ = false, reopen_ = false, stopping_ = false;

  // The thread's alone.
  UniqueFd file_;
  bool strayed_ = false;  // it isn't at the path any longer
  bool torn_ = true;      // the file may end within a line, as of a plugin that was killed
  bool failing_ = false;  // the log was told

  std::thread thread_;
};

}  // namespace coffer::csi
