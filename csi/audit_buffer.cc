#include "csi/audit_buffer.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "common/status_macros.h"

namespace coffer::csi {
namespace {

constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kHead = 2 * sizeof(std::uint64_t);
constexpr std::uint32_t kRoom = AuditBuffer::kBytes - kHead;

}  // namespace

absl::StatusOr<AuditBuffer> AuditBuffer::Make() {
  ASSIGN_OR_RETURN(volume::SecretMapping memory, volume::SecretMapping::Make(kBytes));
  AuditBuffer buffer(std::move(memory));
  buffer.word(0) = kVersion;
  return buffer;
}

absl::StatusOr<AuditBuffer> AuditBuffer::Open(UniqueFd fd) {
  ASSIGN_OR_RETURN(volume::SecretMapping memory, volume::SecretMapping::Open(std::move(fd)));
  const bool whole = memory.span().size() == kBytes;
  AuditBuffer buffer(std::move(memory));
  if (!whole || buffer.word(0) != kVersion || buffer.range().begin > buffer.range().end ||
      buffer.range().end > kRoom) {
    return absl::InvalidArgumentError("it holds no lines of the audit log");
  }
  return buffer;
}

std::uint64_t& AuditBuffer::word(std::size_t index) const {
  return reinterpret_cast<std::uint64_t*>(memory_.span().data())[index];
}

char* AuditBuffer::bytes() const {
  return reinterpret_cast<char*>(memory_.span().data()) + kHead;
}

AuditBuffer::Range AuditBuffer::range() const {
  const std::uint64_t both = std::atomic_ref(word(1)).load(std::memory_order_acquire);
  return {static_cast<std::uint32_t>(both >> 32), static_cast<std::uint32_t>(both)};
}

void AuditBuffer::Set(Range range) {
  std::atomic_ref(word(1)).store(std::uint64_t{range.begin} << 32 | range.end,
                                 std::memory_order_release);
}

bool AuditBuffer::Append(std::string_view line) {
  const Range now = range();
  if (line.size() > kRoom - now.end) return false;
  std::copy(line.begin(), line.end(), bytes() + now.end);
  Set({now.begin, now.end + static_cast<std::uint32_t>(line.size())});
  return true;
}

std::string_view AuditBuffer::waiting() const {
  const Range now = range();
  return {bytes() + now.begin, now.end - now.begin};
}

void AuditBuffer::Written(std::size_t size) {
  Range now = range();
  now.begin += static_cast<std::uint32_t>(std::min<std::size_t>(size, now.end - now.begin));
  const std::uint32_t rest = now.end - now.begin;
  // To the front, where that overwrites nothing: few pages are used where little waits.
  if (rest <= now.begin) {
    std::copy_n(bytes() + now.begin, rest, bytes());
    now = {0, rest};
  }
  Set(now);
}

}  // namespace coffer::csi
