// What LmdbStore makes of a folder after kill -9, a full disk or damage.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "keystore/storage/lmdb_check.h"
#include "keystore/storage/test_lmdb.h"

namespace coffer::keystore {
namespace {

// The folder as a process that is killed now leaves it.
void CopyWhileOpen(const std::string& from, const std::string& to) {
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
  std::filesystem::remove(to + "/lock.mdb");
}

TEST_CASE("kill -9 in a storm of writes loses nothing that was acknowledged") {
  TestFolder folder;
  for (int round = 0; round < 5; ++round) {
    int acknowledged[2];
    REQUIRE(pipe2(acknowledged, O_CLOEXEC) == 0);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      auto store = LmdbStore::Open({folder.path(), 1 << 30});
      if (!store.ok()) _exit(1);
      std::vector<std::thread> threads;
      for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
          for (int i = 0;; ++i) {
            // The two halves are one transaction.
            auto txn = (*store)->Begin();
            (*txn)->Put(StrCat("left/", t), StrCat(round * 1'000'000 + i));
            (*txn)->Put(StrCat("right/", t), StrCat(round * 1'000'000 + i));
            if (!CommitAndWait(**store, *std::move(txn)).ok()) _exit(1);
            const int record[2] = {t, round * 1'000'000 + i};
            if (write(acknowledged[1], record, sizeof(record)) < 0) _exit(1);
          }
        });
      }
      pause();
    }
    close(acknowledged[1]);
    std::map<int, int> last;
    int record[2];
    for (int i = 0; i < 200 + 37 * round; ++i) {
      REQUIRE(read(acknowledged[0], record, sizeof(record)) == sizeof(record));
      last[record[0]] = record[1];
    }
    REQUIRE(kill(child, SIGKILL) == 0);
    REQUIRE(waitpid(child, nullptr, 0) == child);
    while (read(acknowledged[0], record, sizeof(record)) == sizeof(record)) {
      last[record[0]] = record[1];
    }
    close(acknowledged[0]);

    auto store = Open(folder.path());
    auto txn = *store->Begin();
    for (const auto& [thread, value] : last) {
      const std::string left(**txn->Get(StrCat("left/", thread)));
      CHECK(left == **txn->Get(StrCat("right/", thread)));
      CHECK(std::stoi(left) >= value);
    }
  }
}

TEST_CASE("a damaged data file is told when it is opened") {
  TestFolder folder;
  const std::string path = folder.path() + "/data.mdb";
  {
    auto store = Open(folder.path());
    for (int i = 0; i < 500; ++i) {
      auto txn = *store->Begin();
      for (int j = 0; j < 20; ++j) txn->Put(StrCat("key/", i * 100 + j), std::string(100, 'v'));
      txn->Put(StrCat("large/", i), std::string(5000, 'v'));
      REQUIRE(CommitAndWait(*store, std::move(txn)).ok());
    }
  }
  REQUIRE(CheckLmdbFile(path).ok());
  const auto size = std::filesystem::file_size(path);

  SECTION("cut short") {
    for (const auto left : {size / 2, size / 100, std::uintmax_t{5000}, std::uintmax_t{100}}) {
      std::filesystem::resize_file(path, left);
      CAPTURE(left);
      const absl::Status status = LmdbStore::Open({folder.path()}).status();
      CHECK(absl::IsDataLoss(status));
      CHECK_THAT(status.ToString(), Catch::Contains(path));
    }
  }
  SECTION("gone, with the commits before those in the logs") {
    {
      auto store = Open(folder.path());
      for (int i = 0; i < 20; ++i) REQUIRE(Put(*store, "filler", std::string(1'000'000, 'v')).ok());
    }
    std::filesystem::remove(path);
    CHECK(absl::IsDataLoss(LmdbStore::Open({folder.path()}).status()));
  }
  SECTION("another file") {
    std::ofstream(path, std::ios::trunc) << std::string(100'000, 'x');
    CHECK(absl::IsDataLoss(LmdbStore::Open({folder.path()}).status()));
  }
  SECTION("pages overwritten with zeros or rubbish") {
    // Free pages may be damaged without harm.
    int told = 0;
    for (int i = 0; i < 40; ++i) {
      const auto offset = static_cast<std::streamoff>(8192 + (size - 8192) / 4096 * i / 40 * 4096);
      std::string page(4096, '\0');
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(offset);
      file.read(page.data(), 4096);
      file.seekp(offset);
      file << std::string(4096, i % 2 == 0 ? '\0' : '\xa5') << std::flush;
      const absl::Status status = CheckLmdbFile(path);
      if (!status.ok()) {
        CHECK(absl::IsDataLoss(status));
        ++told;
      }
      file.seekp(offset);
      file << page << std::flush;
    }
    CHECK(told > 10);
    CHECK(CheckLmdbFile(path).ok());
  }
}

TEST_CASE("after a crash the logs give what LMDB doesn't have yet") {
  TestFolder folder;
  const std::string path = folder.path() + "/store";
  const std::string copy = folder.path() + "/copy";
  auto store = Open(path);
  // Large enough in all to go through both logs several times.
  std::map<std::string, std::string> model;
  for (int i = 0; i < 300; ++i) {
    const std::string key = StrCat("key/", i % 50);
    auto txn = *store->Begin();
    if (i % 7 == 3) {
      txn->Delete(key);
      model.erase(key);
    } else {
      txn->Put(key, model[key] = StrCat(i, std::string(60'000, i % 3 == 0 ? '\0' : 'v')));
    }
    REQUIRE(CommitAndWait(*store, std::move(txn)).ok());
    if (i % 20 != 0) continue;
    CopyWhileOpen(path, copy);
    for (int times = 0; times < 2; ++times) {
      auto copied = Open(copy);
      auto read = *copied->Begin();
      const auto entries = read->Scan("");
      REQUIRE(entries->size() == model.size());
      for (const auto& [found, value] : *entries) REQUIRE(model.at(std::string(found)) == value);
    }
    std::filesystem::remove_all(copy);
  }
}

TEST_CASE("a log that ends within a commit gives all before it") {
  TestFolder folder;
  const std::string path = folder.path() + "/store";
  const std::string copy = folder.path() + "/copy";
  // Half a second after the first one, commits are carried over.
  constexpr std::chrono::milliseconds kCarriedOverAfter(500);
  std::chrono::steady_clock::time_point began;
  do {
    std::filesystem::remove_all(path);
    std::filesystem::remove_all(copy);
    auto store = Open(path);
    began = std::chrono::steady_clock::now();
    for (int i = 0; i < 6; ++i) {
      REQUIRE(Put(*store, StrCat("key/", i), std::string(40, static_cast<char>('a' + i))).ok());
    }
    CopyWhileOpen(path, copy);
  } while (std::chrono::steady_clock::now() > began + kCarriedOverAfter);
  std::string log;
  {
    std::ifstream in(copy + "/commits.0", std::ios::binary);
    log.resize(1000);
    in.read(log.data(), 1000);
  }
  const std::size_t used = log.find_last_not_of('\0') + 1;
  REQUIRE(used < 1000);
  const auto with_log = [&](const std::string& bytes) {
    std::fstream out(copy + "/commits.0", std::ios::binary | std::ios::in | std::ios::out);
    out << bytes << std::flush;
  };
  const std::string data = folder.path() + "/data";
  std::filesystem::copy(copy + "/data.mdb", data);
  const auto open_copy = [&] {
    std::filesystem::copy(data, copy + "/data.mdb",
                          std::filesystem::copy_options::overwrite_existing);
    return LmdbStore::Open({copy, 1 << 30});
  };
  SECTION("cut anywhere") {
    std::size_t last = 0;
    for (std::size_t cut = 0; cut <= used; ++cut) {
      with_log(log.substr(0, cut) + std::string(log.size() - cut, '\0'));
      auto opened = open_copy();
      REQUIRE(opened.ok());
      const std::size_t count = Count(**opened);
      REQUIRE(count >= last);
      REQUIRE(count <= last + 1);
      for (std::size_t i = 0; i < count; ++i) {
        REQUIRE((*(*opened)->Begin())->Get(StrCat("key/", i))->has_value());
      }
      last = count;
    }
    CHECK(last == 6);
  }
  SECTION("with any bit changed, it is damaged or only the last commit is gone") {
    const std::size_t record = used / 6;
    int damaged = 0;
    for (std::size_t bit = 0; bit < used * 8; bit += 13) {
      std::string changed = log;
      changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ 1 << bit % 8);
      with_log(changed);
      auto opened = open_copy();
      CAPTURE(bit, used);
      if (opened.ok()) {
        REQUIRE(bit / 8 >= used - record);
        REQUIRE(Count(**opened) == 5);
      } else {
        REQUIRE(absl::IsDataLoss(opened.status()));
        ++damaged;
      }
      with_log(log);
    }
    CHECK(damaged > 50);
  }
}

TEST_CASE("commits that can't be carried over stay readable and are carried over later") {
  TestFolder folder;
  auto store = Open(folder.path());
  for (int i = 0; i < 5; ++i) REQUIRE(Put(*store, "key", "before").ok());
  store.reset();
  store = Open(folder.path());
  // The logs are laid out and can be written; the data file can't grow.
  struct rlimit was;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &was) == 0);
  const struct rlimit limited { 4 << 20, was.rlim_max };
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &limited) == 0);
  int stored = 0;
  absl::Status status;
  for (; stored < 100; ++stored) {
    status = Put(*store, StrCat("key/", stored), std::string(500'000, 'v'));
    if (!status.ok()) break;
  }
  CHECK_FALSE(status.ok());
  CHECK(stored >= 8);
  CHECK(Count(*store) == static_cast<std::size_t>(stored) + 1);
  SECTION("in this process") {
    REQUIRE(setrlimit(RLIMIT_FSIZE, &was) == 0);
    for (int i = 0; i < 20; ++i) REQUIRE(Put(*store, "more", std::string(500'000, 'v')).ok());
  }
  SECTION("or in the next") {
    store.reset();
    REQUIRE(setrlimit(RLIMIT_FSIZE, &was) == 0);
    store = Open(folder.path());
    CHECK(Count(*store) == static_cast<std::size_t>(stored) + 1);
    for (int i = 0; i < 20; ++i) REQUIRE(Put(*store, "more", std::string(500'000, 'v')).ok());
  }
  signal(SIGXFSZ, handler);
}

}  // namespace
}  // namespace coffer::keystore
