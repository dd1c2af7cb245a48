#include "csi/volume/secret_mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

namespace coffer::volume {
namespace {

// Null: errno says why.
void* Map(int fd, std::size_t size, MemoryKind kind) {
  void* pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (pages == MAP_FAILED) return nullptr;
  if (kind == MemoryKind::kMemfdSecret) return pages;  // locked, and left out of dumps
  madvise(pages, size, MADV_DONTDUMP);
  if (mlock(pages, size) != 0) {
    munmap(pages, size);
    return nullptr;
  }
  return pages;
}

// None when this kind of memory can't be had; errno says why.
UniqueFd MakeKind(std::size_t size, MemoryKind kind) {
  const bool secret = kind == MemoryKind::kMemfdSecret;
  UniqueFd fd(secret ? static_cast<int>(syscall(SYS_memfd_secret, O_CLOEXEC))
                     : memfd_create("coffer-snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd || ftruncate(fd.get(), static_cast<off_t>(size)) != 0) return UniqueFd();
  // Who gets the descriptor can rely on the size.
  if (!secret && fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return UniqueFd();
  }
  return fd;
}

}  // namespace

absl::StatusOr<SecretMapping> SecretMapping::Make(std::size_t size, MemoryKind best) {
  for (const MemoryKind kind : {best, MemoryKind::kLockedMemfd}) {
    UniqueFd fd = MakeKind(size, kind);
    if (void* pages = fd ? Map(fd.get(), size, kind) : nullptr) {
      return SecretMapping(std::move(fd), {static_cast<std::uint8_t*>(pages), size}, kind);
    }
  }
  return absl::ResourceExhaustedError(
      StrCat("can't get ", size, " bytes of locked memory (errno ", errno,
             "): raise RLIMIT_MEMLOCK or give the plugin CAP_IPC_LOCK"));
}

absl::StatusOr<SecretMapping> SecretMapping::Open(UniqueFd fd) {
  struct stat facts {};
  if (fstat(fd.get(), &facts) != 0 || facts.st_size <= 0) {
    return absl::FailedPreconditionError("a volume's content was handed over as something else");
  }
  const auto size = static_cast<std::size_t>(facts.st_size);
  const bool sealed = fcntl(fd.get(), F_GET_SEALS) >= 0;
  const MemoryKind kind = sealed ? MemoryKind::kLockedMemfd : MemoryKind::kMemfdSecret;
  void* pages = Map(fd.get(), size, kind);
  if (pages == nullptr) {
    return absl::ErrnoToStatus(errno, "can't map a volume's content that was handed over");
  }
  return SecretMapping(std::move(fd), {static_cast<std::uint8_t*>(pages), size}, kind);
}

SecretMapping::SecretMapping(SecretMapping&& other) noexcept
    : fd_(std::move(other.fd_)),
      bytes_(std::exchange(other.bytes_, {})),
      kind_(other.kind_),
      spared_(other.spared_) {}

SecretMapping::~SecretMapping() {
  if (bytes_.empty()) return;
  if (!spared_) OPENSSL_cleanse(bytes_.data(), bytes_.size());
  munmap(bytes_.data(), bytes_.size());
}

}  // namespace coffer::volume
