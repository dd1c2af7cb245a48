// Memory for secrets: pages that are locked (as far as RLIMIT_MEMLOCK allows), left out of core
// dumps, and wiped when a block is given back.
#pragma once

#include <cstddef>
#include <string>

namespace coffer {

// A block of `size` bytes, 16-byte aligned. Never fails short of the system being out of memory,
// which ends the process; a page that can't be locked is still used. Safe on any thread.
void* AllocateSecret(std::size_t size);

// Wipes and gives back a block; `size` is what it was allocated with.
void FreeSecret(void* block, std::size_t size) noexcept;

// Bytes of secret memory that the kernel has locked, for diagnostics.
std::size_t LockedSecretBytes();

// A standard allocator over AllocateSecret.
template <class T>
struct SecretAllocator {
  using value_type = T;

  SecretAllocator() = default;
  template <class U>
  SecretAllocator(const SecretAllocator<U>&) noexcept {}  // NOLINT: rebinding is implicit

  T* allocate(std::size_t n) { return static_cast<T*>(AllocateSecret(n * sizeof(T))); }
  void deallocate(T* block, std::size_t n) noexcept { FreeSecret(block, n * sizeof(T)); }

  template <class U>
  bool operator==(const SecretAllocator<U>&) const noexcept {
    return true;
  }
};

// The string of a Json document. Elsewhere use SecretBytes: short strings live inside the object
// itself and aren't wiped.
using SecretString = std::basic_string<char, std::char_traits<char>, SecretAllocator<char>>;

}  // namespace coffer
