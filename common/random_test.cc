#include "common/random.h"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <set>
#include <thread>

using namespace coffer;

TEST_CASE("No two draws are the same, on one thread or several, short or long") {
  std::mutex mutex;
  std::set<std::string> seen;
  std::size_t drawn = 0;
  const auto draw = [&] {
    for (int i = 0; i < 5'000; ++i) {
      const SecretBytes bytes = RandomSecret(12 + static_cast<std::size_t>(i) % 80);
      std::lock_guard lock(mutex);
      seen.emplace(bytes.view().substr(0, 12));
      ++drawn;
    }
  };
  std::thread first(draw), second(draw);
  first.join();
  second.join();
  draw();
  CHECK(seen.size() == drawn);
}

TEST_CASE("A forked child draws other bytes than its parent") {
  RandomSecret(1);  // drawn ahead before the fork
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const SecretBytes bytes = RandomSecret(32);
    _exit(write(ends[1], bytes.data(), bytes.size()) == 32 ? 0 : 1);
  }
  const SecretBytes ours = RandomSecret(32);
  SecretBytes theirs(32);
  REQUIRE(read(ends[0], theirs.data(), theirs.size()) == 32);
  waitpid(child, nullptr, 0);
  close(ends[0]);
  close(ends[1]);
  CHECK_FALSE(ours.Equals(theirs.view()));
  CHECK_FALSE(theirs.Equals(SecretBytes(32).view()));
}

TEST_CASE("Every byte takes every value about equally often") {
  std::array<int, 256> counts{};
  for (int i = 0; i < 8'000; ++i) {
    const SecretBytes bytes = RandomSecret(32);
    for (const std::uint8_t byte : bytes.span()) ++counts[byte];
  }
  // 1000 each on average; the chance of one beyond 8 standard deviations is below 1e-12.
  CHECK(*std::min_element(counts.begin(), counts.end()) > 750);
  CHECK(*std::max_element(counts.begin(), counts.end()) < 1250);
}
