#include "csi/volume/secret_mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "common/unique_fd.h"

namespace coffer::volume {
namespace {

// Null when this kind of memory can't be had; errno says why.
void* MapKind(std::size_t size, MemoryKind kind) {
  const UniqueFd fd(kind == MemoryKind::kMemfdSecret
                        ? static_cast<int>(syscall(SYS_memfd_secret, O_CLOEXEC))
                        : memfd_create("coffer-snapshot", MFD_CLOEXEC));
  if (!fd || ftruncate(fd.get(), static_cast<off_t>(size)) != 0) return nullptr;
  void* pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (pages == MAP_FAILED) return nullptr;
  madvise(pages, size, MADV_DONTDUMP);
  if (kind == MemoryKind::kLockedMemfd && mlock(pages, size) != 0) {
    munmap(pages, size);
    return nullptr;
  }
  return pages;
}

}  // namespace

absl::StatusOr<SecretMapping> SecretMapping::Make(std::size_t size, MemoryKind best) {
  for (const MemoryKind kind : {best, MemoryKind::kLockedMemfd}) {
    if (void* pages = MapKind(size, kind)) {
      return SecretMapping({static_cast<std::uint8_t*>(pages), size}, kind);
    }
  }
  return absl::ResourceExhaustedError(
      StrCat("can't get ", size, " bytes of locked memory (errno ", errno,
             "): raise RLIMIT_MEMLOCK or give the plugin CAP_IPC_LOCK"));
}

SecretMapping::SecretMapping(SecretMapping&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})), kind_(other.kind_) {}

SecretMapping::~SecretMapping() {
  if (bytes_.empty()) return;
  OPENSSL_cleanse(bytes_.data(), bytes_.size());
  munmap(bytes_.data(), bytes_.size());
}

}  // namespace coffer::volume
