// Secret memory under threads.
#include "common/secret_allocator.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

using namespace coffer;

TEST_CASE("Blocks that are in use at a time don't overlap, whichever thread gives them back") {
  struct Block {
    unsigned char* bytes;
    std::size_t size;
    unsigned char mark;
  };
  std::mutex mutex;
  std::deque<Block> in_use;
  std::atomic<int> wrong = 0;
  const auto work = [&](unsigned seed) {
    for (int i = 0; i < 20'000; ++i) {
      seed = seed * 1664525 + 1013904223;
      const std::size_t size = 1 + (seed >> 8) % (i % 100 == 0 ? 40'000 : 1'500);
      auto* bytes = static_cast<unsigned char*>(AllocateSecret(size));
      const auto mark = static_cast<unsigned char>(seed >> 24);
      std::memset(bytes, mark, size);
      Block freed{nullptr, 0, 0};
      {
        std::lock_guard lock(mutex);
        in_use.push_back({bytes, size, mark});
        if (in_use.size() > 200) {
          freed = in_use.front();
          in_use.pop_front();
        }
      }
      for (std::size_t k = 0; k < freed.size; ++k) wrong += freed.bytes[k] != freed.mark;
      FreeSecret(freed.bytes, freed.size);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  for (const Block& block : in_use) FreeSecret(block.bytes, block.size);
  CHECK(wrong == 0);
}

TEST_CASE("What a thread kept at hand is there for others once it has ended") {
  std::set<void*> blocks;
  std::thread([&] {
    std::vector<void*> taken;
    for (int i = 0; i < 12; ++i) taken.push_back(AllocateSecret(700));
    for (void* block : taken) FreeSecret(block, 700);
    blocks.insert(taken.begin(), taken.end());
  }).join();
  std::vector<void*> taken;
  std::size_t again = 0;
  for (int i = 0; i < 64; ++i) {
    taken.push_back(AllocateSecret(700));
    again += blocks.count(taken.back());
  }
  for (void* block : taken) FreeSecret(block, 700);
  CHECK(again == 12);
}

TEST_CASE("What ends after a thread's blocks may still be given back") {
  // Made before the thread's first block, so it ends after the blocks that are kept at hand.
  struct Late {
    void* block = nullptr;
    ~Late() { FreeSecret(block, 100); }
  };
  std::thread([] {
    static thread_local Late late;
    late.block = nullptr;
    late.block = AllocateSecret(100);
  }).join();
  SUCCEED();
}
