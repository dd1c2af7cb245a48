// AuditBuffer: lines on their way to the audit log, in memory that outlives the plugin where a keeper
// holds it: what one that is killed has not written, the next one does.
//
//   memory := version:u64 range:u64 bytes     range = begin<<32|end of the lines among the bytes
//
// in the machine's byte order. A line is there once the range says so, by one store.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "csi/volume/secret_mapping.h"

namespace coffer::csi {

class AuditBuffer {
 public:
  static constexpr std::size_t kBytes = 4 << 20;  // some 10,000 lines; those that are used are in memory

  static absl::StatusOr<AuditBuffer> Make();
  // Memory that another process has made, and may write from.
  static absl::StatusOr<AuditBuffer> Open(UniqueFd memory);

  // False: there is no room. Never at the same time as Written.
  bool Append(std::string_view line);
  // The lines that wait, oldest first; they stay where they are until Written.
  std::string_view waiting() const;
  // That many bytes of them needn't wait any longer.
  void Written(std::size_t size);

  int fd() const { return memory_.fd(); }

 private:
  struct Range {
    std::uint32_t begin, end;
  };
  explicit AuditBuffer(volume::SecretMapping memory) : memory_(std::move(memory)) {
    memory_.Spare();  // lines are no secret
  }

  std::uint64_t& word(std::size_t index) const;
  char* bytes() const;
  Range range() const;
  void Set(Range range);

  volume::SecretMapping memory_;
};

}  // namespace coffer::csi
