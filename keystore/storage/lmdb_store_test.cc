// What LmdbStore adds to the contract: durability, one process, a full disk, group commit.
#include "keystore/storage/lmdb_store.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <fstream>
#include <future>
#include <thread>

#include "keystore/storage/commit_log.h"
#include "keystore/storage/test_lmdb.h"

namespace coffer::keystore {
namespace {

mode_t ModeOf(const std::string& path) {
  struct stat facts;
  REQUIRE(stat(path.c_str(), &facts) == 0);
  return facts.st_mode & 07777;
}

TEST_CASE("lmdb keeps what was committed when it is opened again") {
  TestFolder folder;
  const std::string path = folder.path() + "/new/store";
  {
    auto store = Open(path);
    CHECK(store->type() == "lmdb");
    REQUIRE(Put(*store, "key", "value").ok());
  }
  auto store = Open(path);
  CHECK(**(*store->Begin())->Get("key") == "value");
}

TEST_CASE("lmdb's folder and files are the owner's alone") {
  TestFolder folder;
  const std::string path = folder.path() + "/new/store";
  auto store = Open(path);
  CHECK(ModeOf(folder.path() + "/new") == 0700);
  CHECK(ModeOf(path) == 0700);
  for (const char* name : {"/data.mdb", "/lock.mdb", "/coffer.lock", "/commits.0", "/commits.1"}) {
    CHECK(ModeOf(path + name) == 0600);
  }
}

TEST_CASE("a folder that is open can't be opened again, and says by whom") {
  TestFolder folder;
  auto store = Open(folder.path());
  auto second = LmdbStore::Open({folder.path()});
  REQUIRE(absl::IsFailedPrecondition(second.status()));
  CHECK_THAT(second.status().ToString(), Catch::Contains(StrCat("process ", getpid())));
  store.reset();
  CHECK(LmdbStore::Open({folder.path()}).ok());
}

TEST_CASE("lmdb can't be opened where a file stands in the way") {
  TestFolder folder;
  std::ofstream(folder.path() + "/file") << "x";
  CHECK_FALSE(LmdbStore::Open({folder.path() + "/file"}).ok());
  CHECK_FALSE(LmdbStore::Open({folder.path() + "/file/below"}).ok());
  CHECK(absl::IsInvalidArgument(LmdbStore::Open({""}).status()));
}

TEST_CASE("a full map refuses what doesn't fit and works on") {
  TestFolder folder;
  auto store = Open(folder.path(), 1 << 20);
  std::size_t stored = 0;
  absl::Status status;
  while ((status = Put(*store, StrCat("key/", 1000 + stored), std::string(10'000, 'v'))).ok()) {
    REQUIRE(++stored < 1000);
  }
  CHECK(absl::IsResourceExhausted(status));
  CHECK_THAT(status.ToString(), Catch::Contains("map_size"));
  CHECK(stored > 50);
  CHECK(Count(*store) == stored);

  SECTION("what is there can be deleted, which makes room") {
    for (std::size_t i = 0; i < stored / 2; ++i) {
      auto txn = *store->Begin();
      txn->Delete(StrCat("key/", 1000 + i));
      REQUIRE(CommitAndWait(*store, std::move(txn)).ok());
    }
    CHECK(Put(*store, "more", std::string(10'000, 'v')).ok());
  }

  SECTION("it opens again, with a larger map it takes more") {
    store.reset();
    store = Open(folder.path(), 1 << 24);
    CHECK(Count(*store) == stored);
    CHECK(Put(*store, "more", std::string(100'000, 'v')).ok());
  }

  SECTION("one that is too large doesn't take its neighbours along") {
    std::atomic<int> fitted = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 50; ++i) {
          const bool large = t % 2 == 0;
          const std::string key = large ? "large" : StrCat("key/", 1000 + t);
          const absl::Status put = Put(*store, key, std::string(large ? 500'000 : 10'000, 'w'));
          if (large ? absl::IsResourceExhausted(put) : put.ok()) ++fitted;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(fitted == 400);
  }
}

TEST_CASE("a full disk refuses what doesn't fit and works on") {
  TestFolder folder;
  auto store = Open(folder.path());
  for (int i = 0; i < 10; ++i) REQUIRE(Put(*store, "key", "before").ok());
  // A limit on the file's size stands for the end of the disk.
  struct rlimit was;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &was) == 0);
  const struct rlimit limited {
    std::filesystem::file_size(folder.path() + "/data.mdb"), was.rlim_max
  };
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &limited) == 0);
  const absl::Status full = Put(*store, "large", std::string(1'000'000, 'v'));
  const absl::Status small = Put(*store, "key", "during");
  REQUIRE(setrlimit(RLIMIT_FSIZE, &was) == 0);
  signal(SIGXFSZ, handler);

  CHECK(absl::IsResourceExhausted(full));
  CHECK(small.ok());
  CHECK(Put(*store, "large", std::string(1'000'000, 'v')).ok());
  CHECK(**(*store->Begin())->Get("key") == "during");
  store.reset();
  CHECK(Count(*Open(folder.path())) == 2);
}

TEST_CASE("what is queued while a flush is under way is flushed together") {
  TestFolder folder;
  auto store = Open(folder.path());
  std::promise<void> first_done, go_on, all_done;
  const auto commit = [&](std::string_view key, Store::Done done) {
    auto txn = *store->Begin();
    txn->Put(key, "value");
    store->Commit(std::move(txn), std::move(done));
  };
  commit("first", [&](absl::Status) {
    first_done.set_value();
    go_on.get_future().wait();  // the committing thread is busy
  });
  first_done.get_future().wait();
  std::atomic<int> left = 100;
  for (int i = 0; i < 100; ++i) {
    commit(StrCat("key/", i), [&](const absl::Status& status) {
      if (status.ok() && --left == 0) all_done.set_value();
    });
  }
  go_on.set_value();
  all_done.get_future().wait();
  CHECK(Count(*store) == 101);

  // Each flush is a record of the log. Other threads took some while the first one was busy.
  std::filesystem::copy(folder.path() + "/commits.0", folder.path() + "/copy");
  const auto log = CommitLog::Open(folder.path() + "/copy", 0);
  REQUIRE(log.ok());
  const auto records = (*log)->Replay(0);
  REQUIRE(records.ok());
  CHECK(records->size() <= 5);
  int writes = 0;
  for (const CommitLog::Record& record : *records) {
    record.writes.ForEach([&](std::string_view, const WriteBatch::Value&) { ++writes; });
  }
  CHECK(writes == 101);
}

TEST_CASE(
    "a log that is full before its time gets larger, up to a limit, and keeps what it holds") {
  constexpr std::uintmax_t kAtFirst = std::uintmax_t{8} << 20, kAtMost = std::uintmax_t{32} << 20;
  TestFolder folder;
  const auto size = [&](const char* name) {
    return std::filesystem::file_size(folder.path() + name);
  };
  auto store = Open(folder.path());
  CHECK(size("/commits.0") == kAtFirst);
  CHECK(size("/commits.1") == kAtFirst);

  constexpr int kPuts = 160;
  for (int i = 0; i < kPuts; ++i) {
    REQUIRE(
        Put(*store, StrCat("key/", i), std::string(1 << 20, static_cast<char>('a' + i % 26))).ok());
  }
  CHECK(size("/commits.0") > kAtFirst);
  CHECK(size("/commits.1") > kAtFirst);
  CHECK(size("/commits.0") <= kAtMost);
  CHECK(size("/commits.1") <= kAtMost);
  store.reset();

  store = Open(folder.path());
  REQUIRE(Count(*store) == kPuts);
  for (const int i : {0, kPuts / 2, kPuts - 1}) {
    const auto value = (*store->Begin())->Get(StrCat("key/", i));
    CHECK(**value == std::string(1 << 20, static_cast<char>('a' + i % 26)));
  }
}

}  // namespace
}  // namespace coffer::keystore
