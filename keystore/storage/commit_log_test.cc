// What a crash leaves of records that were on their way to the disk together.
#include "keystore/storage/commit_log.h"

#include <catch2/catch.hpp>
#include <fstream>

#include "keystore/storage/test_folder.h"

namespace coffer::keystore {
namespace {

constexpr std::size_t kCapacity = 64 * 1024;

struct Fixture {
  Fixture() { Reopen(); }

  void Reopen() {
    log.reset();
    auto opened = CommitLog::Open(path, kCapacity, 2);
    REQUIRE(opened.ok());
    log = *std::move(opened);
  }
  // The record's start.
  std::size_t Write(std::uint64_t id, std::string_view value) {
    const std::size_t start = log->position();
    Changes::Writes writes;
    writes["key"] = std::string(value);
    REQUIRE(log->Write(id, {WriteBatch(writes).bytes()}).ok());
    return start;
  }
  void Flush() { REQUIRE(log->Flush(1, log->position()).ok()); }
  void Damage(std::size_t at) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(at));
    file.put('\xaa');
  }
  // The ids that are found again, "1 2".
  std::string Replay() {
    Reopen();
    const auto records = log->Replay(0);
    if (!records.ok()) return std::string(absl::StatusCodeToString(records.status().code()));
    std::string ids;
    for (const CommitLog::Record& record : *records) {
      ids += (ids.empty() ? "" : " ") + std::to_string(record.id);
    }
    return ids;
  }

  TestFolder folder;
  const std::string path = folder.path() + "/log";
  std::unique_ptr<CommitLog> log;
};

TEST_CASE("of records that nobody knew to be durable those up to the first torn one count") {
  Fixture f;
  f.Write(1, "one");
  f.Flush();
  const std::size_t second = f.Write(2, "two");
  const std::size_t third = f.Write(3, "three");
  f.Write(4, "four");
  SECTION("none is torn") { CHECK(f.Replay() == "1 2 3 4"); }
  SECTION("the third is") {
    f.Damage(third + 30);
    CHECK(f.Replay() == "1 2");
  }
  SECTION("the second is, and what was behind it doesn't come back later") {
    f.Damage(second + 30);
    CHECK(f.Replay() == "1");
    // As long as the torn one, so that the old third record would follow it.
    f.Write(2, "new");
    CHECK(f.Replay() == "1 2");
  }
}

TEST_CASE("a bad record that was known to be durable is damage") {
  Fixture f;
  f.Write(1, "one");
  f.Flush();
  const std::size_t second = f.Write(2, "two");
  f.Flush();
  f.Write(3, "three");
  SECTION("in the middle") {
    f.Damage(second + 30);
    CHECK(f.Replay() == "DATA_LOSS");
  }
  SECTION("at the start") {
    f.Damage(30);
    CHECK(f.Replay() == "DATA_LOSS");
  }
}

TEST_CASE("a log that begins again forgets what was in it, and what was durable of it") {
  Fixture f;
  f.Write(1, "one");
  f.Write(2, "two");
  f.Flush();
  f.log->Restart();
  f.Write(3, "three");
  const std::size_t fourth = f.Write(4, "four");
  f.Damage(fourth + 30);
  CHECK(f.Replay() == "3");
}

}  // namespace
}  // namespace coffer::keystore
