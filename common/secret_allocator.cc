#include "common/secret_allocator.h"

#include <string.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <mutex>

namespace coffer {
namespace {

// Blocks come in powers of two from 32 bytes to 16 KiB, carved from chunks of 64 KiB and kept on a
// free list per size; larger ones are mappings of their own. Each thread keeps a few small blocks at
// hand and exchanges them with the shared lists by the dozen, so that a document of many nodes
// takes few locks.
constexpr std::size_t kSmallestBits = 5;
constexpr std::size_t kLargestBits = 14;
constexpr std::size_t kChunkSize = 64 * 1024;
constexpr std::size_t kPageSize = 4096;
constexpr std::size_t kLargestKeptBits = 10;
constexpr std::size_t kKeptBlocks = 32;  // of a size, by a thread: 63 KiB in all

struct FreeBlock {
  FreeBlock* next;
};

struct SizeClass {
  std::mutex mutex;
  FreeBlock* free = nullptr;
  // What is left of the newest chunk; carved from its start, so that pages are touched when used.
  std::uint8_t* fresh = nullptr;
  std::uint8_t* fresh_end = nullptr;
};

std::atomic<std::size_t> locked_bytes{0};

std::array<SizeClass, kLargestBits + 1>& Classes() {
  static auto* classes = new std::array<SizeClass, kLargestBits + 1>();
  return *classes;
}

void* MapPages(std::size_t size) {
  void* pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) std::abort();
  madvise(pages, size, MADV_DONTDUMP);
  // Locks each page as it is first touched, so that a chunk costs no more memory than is used.
  if (mlock2(pages, size, MLOCK_ONFAULT) == 0) locked_bytes += size;
  return pages;
}

std::size_t RoundToPages(std::size_t size) {
  return (size + kPageSize - 1) / kPageSize * kPageSize;
}

std::size_t ClassOf(std::size_t size) {
  const std::size_t bits = std::bit_width(size == 0 ? 0 : size - 1);
  return bits < kSmallestBits ? kSmallestBits : bits;
}

FreeBlock* TakeShared(SizeClass& size_class, std::size_t bits) {
  if (size_class.free != nullptr) {
    FreeBlock* block = size_class.free;
    size_class.free = block->next;
    return block;
  }
  if (size_class.fresh == size_class.fresh_end) {
    size_class.fresh = static_cast<std::uint8_t*>(MapPages(kChunkSize));
    size_class.fresh_end = size_class.fresh + kChunkSize;
  }
  void* block = size_class.fresh;
  size_class.fresh += std::size_t{1} << bits;
  return static_cast<FreeBlock*>(block);
}

void GiveShared(SizeClass& size_class, FreeBlock* block) {
  block->next = size_class.free;
  size_class.free = block;
}

// The blocks a thread keeps at hand.
class KeptBlocks {
 public:
  ~KeptBlocks() {
    for (std::size_t bits = kSmallestBits; bits <= kLargestKeptBits; ++bits) Give(bits, 0);
    ended = true;
  }

  void* Take(std::size_t bits) {
    List& list = lists_[bits];
    if (list.free == nullptr) {
      SizeClass& size_class = Classes()[bits];
      std::lock_guard lock(size_class.mutex);
      for (; list.size < kKeptBlocks / 2; ++list.size) {
        FreeBlock* block = TakeShared(size_class, bits);
        block->next = list.free;
        list.free = block;
      }
    }
    FreeBlock* block = list.free;
    list.free = block->next;
    --list.size;
    return block;
  }

  void Keep(std::size_t bits, FreeBlock* block) {
    List& list = lists_[bits];
    block->next = list.free;
    list.free = block;
    if (++list.size > kKeptBlocks) Give(bits, kKeptBlocks / 2);
  }

  // Set once the thread's are gone: what ends after them frees to the shared lists.
  static thread_local bool ended;

 private:
  struct List {
    FreeBlock* free = nullptr;
    std::size_t size = 0;
  };

  // Gives all but `size` blocks to the shared list.
  void Give(std::size_t bits, std::size_t size) {
    List& list = lists_[bits];
    if (list.size <= size) return;
    SizeClass& size_class = Classes()[bits];
    std::lock_guard lock(size_class.mutex);
    for (; list.size > size; --list.size) {
      FreeBlock* block = list.free;
      list.free = block->next;
      GiveShared(size_class, block);
    }
  }

  std::array<List, kLargestKeptBits + 1> lists_;
};

thread_local bool KeptBlocks::ended = false;
thread_local KeptBlocks kept_blocks;

bool Keeps(std::size_t bits) { return bits <= kLargestKeptBits && !KeptBlocks::ended; }

}  // namespace

void* AllocateSecret(std::size_t size) {
  const std::size_t bits = ClassOf(size);
  if (bits > kLargestBits) return MapPages(RoundToPages(size));
  if (Keeps(bits)) return kept_blocks.Take(bits);
  SizeClass& size_class = Classes()[bits];
  std::lock_guard lock(size_class.mutex);
  return TakeShared(size_class, bits);
}

void FreeSecret(void* block, std::size_t size) noexcept {
  if (block == nullptr) return;
  explicit_bzero(block, size);
  const std::size_t bits = ClassOf(size);
  if (bits > kLargestBits) {
    const std::size_t pages = RoundToPages(size);
    if (munlock(block, pages) == 0) locked_bytes -= pages;
    munmap(block, pages);
    return;
  }
  auto* freed = static_cast<FreeBlock*>(block);
  if (Keeps(bits)) return kept_blocks.Keep(bits, freed);
  SizeClass& size_class = Classes()[bits];
  std::lock_guard lock(size_class.mutex);
  GiveShared(size_class, freed);
}

std::size_t LockedSecretBytes() { return locked_bytes; }

}  // namespace coffer
