#include "keystore/storage/conflict_log.h"

#include <catch2/catch.hpp>

namespace coffer::keystore {
namespace {

Changes Read(std::uint64_t snapshot, std::string_view key) {
  Changes changes;
  changes.snapshot = snapshot;
  changes.reads.Add(key);
  return changes;
}

Changes Scan(std::uint64_t snapshot, std::string begin, std::string end) {
  Changes changes;
  changes.snapshot = snapshot;
  changes.ranges.push_back({std::move(begin), std::move(end)});
  return changes;
}

TEST_CASE("what was read conflicts with what was written after the snapshot, and with nothing else") {
  ConflictLog log;
  CHECK_FALSE(log.Conflicts(Read(0, "a")));
  log.Add(1, "a");
  log.Add(2, "b");
  log.Add(2, "c");
  struct Case {
    Changes changes;
    bool conflicts;
  };
  for (const Case& c : std::initializer_list<Case>{{Read(0, "a"), true},
                                                   {Read(1, "a"), false},
                                                   {Read(1, "b"), true},
                                                   {Read(2, "c"), false},
                                                   {Read(0, "d"), false},
                                                   {Scan(1, "b", "c"), true},
                                                   {Scan(1, "c", ""), true},
                                                   {Scan(1, "a", "b"), false},
                                                   {Scan(0, "a", "b"), true},
                                                   {Scan(0, "d", ""), false}}) {
    CHECK(log.Conflicts(c.changes) == c.conflicts);
  }
  log.Clear();
  CHECK_FALSE(log.Conflicts(Read(0, "a")));
}

TEST_CASE("at least the last keys are known exactly; who began before them conflicts") {
  constexpr std::uint64_t kCapacity = 4, kCommits = 50;
  ConflictLog log(kCapacity);
  for (std::uint64_t id = 1; id <= kCommits; ++id) {
    log.Add(id, std::to_string(id));
    if (id <= 2 * kCapacity) continue;
    for (std::uint64_t back = 0; back < kCapacity; ++back) {
      CHECK_FALSE(log.Conflicts(Read(id - back, std::to_string(id - back))));
      CHECK_FALSE(log.Conflicts(Read(id - back, "unwritten")));
      CHECK(log.Conflicts(Read(id - back - 1, std::to_string(id - back))));
    }
    CHECK(log.Conflicts(Read(0, "unwritten")));
  }
}

}  // namespace
}  // namespace coffer::keystore
