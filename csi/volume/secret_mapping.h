// SecretMapping: one descriptor's worth of memory for secrets. memfd_secret(2) pages, which even
// the kernel's own map of memory leaves out, or where the kernel has none a memfd on locked pages.
// Its descriptor can be given to another process, which is why this is no SecretBytes.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"

namespace coffer::volume {

enum class MemoryKind { kMemfdSecret, kLockedMemfd };

class SecretMapping {
 public:
  // `size` zero bytes. ResourceExhausted: no memory, or RLIMIT_MEMLOCK is too low.
  static absl::StatusOr<SecretMapping> Make(std::size_t size,
                                            MemoryKind best = MemoryKind::kMemfdSecret);
  SecretMapping(SecretMapping&& other) noexcept;
  SecretMapping& operator=(SecretMapping&& other) = delete;
  ~SecretMapping();  // wipes

  std::span<std::uint8_t> span() const { return bytes_; }
  MemoryKind kind() const { return kind_; }

 private:
  SecretMapping(std::span<std::uint8_t> bytes, MemoryKind kind) : bytes_(bytes), kind_(kind) {}

  std::span<std::uint8_t> bytes_;
  MemoryKind kind_;
};

}  // namespace coffer::volume
