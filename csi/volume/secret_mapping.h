// SecretMapping: one descriptor's worth of memory for secrets. memfd_secret(2) pages, which even
// the kernel's own map of memory leaves out, or where the kernel has none a memfd on locked pages.
// Its descriptor can be given to another process, which is why this is no SecretBytes.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace coffer::volume {

enum class MemoryKind { kMemfdSecret, kLockedMemfd };

class SecretMapping {
 public:
  // `size` zero bytes. ResourceExhausted: no memory, or RLIMIT_MEMLOCK is too low.
  static absl::StatusOr<SecretMapping> Make(std::size_t size,
                                            MemoryKind best = MemoryKind::kMemfdSecret);
  // Memory that another process has made and filled.
  static absl::StatusOr<SecretMapping> Open(UniqueFd fd);
  SecretMapping(SecretMapping&& other) noexcept;
  SecretMapping& operator=(SecretMapping&& other) = delete;
  ~SecretMapping();  // wipes, unless spared

  // Leaves the bytes to whoever has the descriptor.
  void Spare() { spared_ = true; }

  std::span<std::uint8_t> span() const { return bytes_; }
  MemoryKind kind() const { return kind_; }
  int fd() const { return fd_.get(); }

 private:
  SecretMapping(UniqueFd fd, std::span<std::uint8_t> bytes, MemoryKind kind)
      : fd_(std::move(fd)), bytes_(bytes), kind_(kind) {}

  UniqueFd fd_;
  std::span<std::uint8_t> bytes_;
  MemoryKind kind_;
  bool spared_ = false;
};

}  // namespace coffer::volume
