#include "keystore/barrier/tree_txn.h"

#include <random>
#include <thread>

#include "keystore/barrier/test_barrier.h"
#include "keystore/storage/fault_store.h"

namespace coffer::keystore {
namespace {

TEST_CASE(
    "what is put behind the barrier is read back, and nothing of it is readable in the store") {
  TestBarrier opened;
  REQUIRE(opened.Put("secret/web/config", "hunter2-hunter2").ok());
  CHECK(opened.Get("secret/web/config") == "hunter2-hunter2");
  CHECK(opened.Get("secret/web") == "(none)");
  CHECK(opened.Get("secret/web/other") == "(none)");
  const std::string dump = opened.Dump();
  for (const char* readable : {"hunter2", "secret", "web", "config"}) {
    CHECK(dump.find(readable) == std::string::npos);
  }
}

TEST_CASE("the same content looks different each time it is stored") {
  TestBarrier opened;
  REQUIRE(opened.Put("a", "value").ok());
  const std::string before = opened.Dump();
  REQUIRE(opened.Put("a", "value").ok());
  CHECK(opened.Dump() != before);
}

TEST_CASE("a sealed text opens for its purpose alone, also after a rotation") {
  TestBarrier opened;
  const SecretBytes sealed = *opened.Begin()->root().SealText("token", "hunter2");
  CHECK(sealed.view().find("hunter2") == std::string_view::npos);
  REQUIRE(opened.barrier.Rotate().ok());
  const auto open = [&](std::string_view purpose, std::string_view text) {
    return opened.Begin()->root().OpenText(purpose, text);
  };
  CHECK(open("token", sealed.view())->view() == "hunter2");
  CHECK(absl::IsInvalidArgument(open("other", sealed.view()).status()));
  CHECK(absl::IsInvalidArgument(open("token", "").status()));
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    std::string changed(sealed.view());
    changed[i] = static_cast<char>(changed[i] ^ 1);
    CHECK(absl::IsInvalidArgument(open("token", changed).status()));
    CHECK(absl::IsInvalidArgument(open("token", sealed.view().substr(0, i)).status()));
  }
}

TEST_CASE("a tag changes with each write and is absent with the value") {
  TestBarrier opened;
  CHECK_FALSE(opened.Begin()->root().Tag("a")->has_value());
  REQUIRE(opened.Put("a", "value").ok());
  const auto tag = *opened.Begin()->root().Tag("a");
  REQUIRE(tag.has_value());
  CHECK(opened.Begin()->root().Tag("a")->value() == *tag);
  REQUIRE(opened.Put("a", "value").ok());
  CHECK(opened.Begin()->root().Tag("a")->value() != *tag);
}

TEST_CASE("directories list what is directly in them") {
  TestBarrier opened;
  for (const char* path : {"b", "a/x", "a/y/1", "a/y/2", "a/y", "c/d/e/f"}) {
    REQUIRE(opened.Put(path, "v").ok());
  }
  struct Case {
    std::string_view directory, names;
  };
  for (const Case& c : std::initializer_list<Case>{{"", "a/ b c/"},
                                                   {"a/", "x y y/"},
                                                   {"a/y/", "1 2"},
                                                   {"c/", "d/"},
                                                   {"c/d/e/", "f"},
                                                   {"b/", ""},
                                                   {"none/", ""}}) {
    CAPTURE(c.directory);
    CHECK(opened.List(c.directory) == c.names);
  }
  SECTION("a directory ends with its last child") {
    REQUIRE(opened.Change([](Txn txn) { REQUIRE(txn.Delete("c/d/e/f").ok()); }).ok());
    CHECK(opened.List("") == "a/ b");
    REQUIRE(opened.Change([](Txn txn) { REQUIRE(txn.Delete("a/y/1").ok()); }).ok());
    CHECK(opened.List("a/") == "x y y/");
    REQUIRE(opened.Change([](Txn txn) { REQUIRE(txn.Delete("a/y/2").ok()); }).ok());
    CHECK(opened.List("a/") == "x y");
  }
  SECTION("deleting what isn't there changes nothing") {
    auto txn = opened.Begin();
    REQUIRE(txn->root().Delete("a/none").ok());
    REQUIRE(txn->root().Delete("none/none").ok());
    CHECK(txn->read_only());
  }
  SECTION("a whole directory goes with everything below it") {
    REQUIRE(opened.Change([](Txn txn) { REQUIRE(txn.DeleteAll("a/").ok()); }).ok());
    CHECK(opened.List("") == "b c/");
    CHECK(opened.Get("a/y/1") == "(none)");
    REQUIRE(opened.Change([](Txn txn) { REQUIRE(txn.Under("c/d/").DeleteAll("e/").ok()); }).ok());
    CHECK(opened.List("") == "b");
    REQUIRE(opened.Change([](Txn txn) { REQUIRE(txn.DeleteAll("").ok()); }).ok());
    CHECK(opened.List("").empty());
    CHECK(opened.Entries() == 0);
  }
  SECTION("within one transaction too") {
    auto txn = opened.Begin();
    REQUIRE(txn->root().Put("n/e/w", "v").ok());
    REQUIRE(txn->root().Delete("c/d/e/f").ok());
    CHECK(TestBarrier::ListIn(*txn, "") == "a/ b n/");
    REQUIRE(txn->root().Put("c/again", "v").ok());
    REQUIRE(txn->root().Delete("n/e/w").ok());
    CHECK(TestBarrier::ListIn(*txn, "") == "a/ b c/");
    REQUIRE(CommitAndWait(opened.barrier, std::move(txn)).ok());
    CHECK(opened.List("") == "a/ b c/");
    CHECK(opened.List("c/") == "again");
  }
}

TEST_CASE("a value that was read keeps its sealed name when it is put, within its term") {
  TestBarrier opened;
  REQUIRE(opened.Put("a/b", "1").ok());
  const auto put_again = [&] {
    const std::uint64_t before = opened.barrier.key_status()->encryptions;
    REQUIRE(opened
                .Change([](Txn txn) {
                  REQUIRE(txn.Get("a/b").ok());
                  REQUIRE(txn.Put("a/b", "2").ok());
                })
                .ok());
    CHECK(opened.List("a/") == "b");
    CHECK(opened.Get("a/b") == "2");
    return opened.barrier.key_status()->encryptions - before;
  };
  CHECK(put_again() == 1);
  REQUIRE(opened.barrier.Rotate().ok());
  CHECK(put_again() == 2);
  CHECK(put_again() == 1);
  SECTION("not once it was deleted, and its directory with it") {
    REQUIRE(opened
                .Change([](Txn txn) {
                  REQUIRE(txn.Get("a/b").ok());
                  REQUIRE(txn.Delete("a/b").ok());
                  REQUIRE(txn.Put("a/b", "3").ok());
                })
                .ok());
    CHECK(opened.List("") == "a/");
    CHECK(opened.Get("a/b") == "3");
  }
  SECTION("not once the directory was deleted") {
    REQUIRE(opened
                .Change([](Txn txn) {
                  REQUIRE(txn.Get("a/b").ok());
                  REQUIRE(txn.DeleteAll("a/").ok());
                  REQUIRE(txn.Put("a/b", "3").ok());
                })
                .ok());
    CHECK(opened.List("") == "a/");
    CHECK(opened.Get("a/b") == "3");
  }
}

TEST_CASE("a view sees and changes what is below its prefix") {
  TestBarrier opened;
  auto txn = opened.Begin();
  Txn view = txn->root().Under("mount/1/").Under("roles/");
  CHECK(view.prefix() == "mount/1/roles/");
  REQUIRE(view.PutJson("web", {{"ttl", 60}}).ok());
  CHECK(TestBarrier::GetIn(*txn, "mount/1/roles/web") == "{\"ttl\":60}");
  CHECK((**view.GetJson("web"))["ttl"] == 60);
  CHECK_FALSE(view.GetJson("none")->has_value());
  CHECK(view.Root().List("mount/1/")->front() == "roles/");
  REQUIRE(view.Put("bad", "{").ok());
  CHECK(absl::IsDataLoss(view.GetJson("bad").status()));
}

TEST_CASE("paths with empty segments are refused") {
  TestBarrier opened;
  auto txn = opened.Begin();
  for (const char* path : {"", "/", "/a", "a/", "a//b", "a/b/"}) {
    CAPTURE(path);
    CHECK(absl::IsInvalidArgument(txn->root().Get(path).status()));
    CHECK(absl::IsInvalidArgument(txn->root().Tag(path).status()));
    CHECK(absl::IsInvalidArgument(txn->root().Put(path, "v")));
    CHECK(absl::IsInvalidArgument(txn->root().Delete(path)));
  }
  for (const char* directory : {"a", "/", "a//", "/a/"}) {
    CAPTURE(directory);
    CHECK(absl::IsInvalidArgument(txn->root().List(directory).status()));
    CHECK(absl::IsInvalidArgument(txn->root().DeleteAll(directory)));
  }
  CHECK(txn->read_only());
}

TEST_CASE("an empty view answers Unavailable") {
  Txn none;
  CHECK(absl::IsUnavailable(none.Get("a").status()));
  CHECK(absl::IsUnavailable(none.Tag("a").status()));
  CHECK(absl::IsUnavailable(none.Put("a", "")));
  CHECK(absl::IsUnavailable(none.List("").status()));
  CHECK(absl::IsUnavailable(none.GetJson("a").status()));
}

TEST_CASE("every changed bit in the store is noticed") {
  TestBarrier opened;
  REQUIRE(opened.Put("dir/a", "some value").ok());
  auto txn = *opened.store.Begin();
  std::vector<std::pair<std::string, std::string>> entries;
  const auto all = txn->Scan("");
  for (const auto& [key, value] : *all) {
    if (key.size() == 32) entries.emplace_back(key, value);
  }
  txn.reset();
  REQUIRE(entries.size() == 2);
  const auto store = [&](std::string_view key, std::string value) {
    auto change = *opened.store.Begin();
    change->Put(key, std::move(value));
    REQUIRE(CommitAndWait(opened.store, std::move(change)).ok());
  };
  for (const auto& [key, value] : entries) {
    for (std::size_t bit = 0; bit < value.size() * 8; ++bit) {
      std::string changed = value;
      changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ 1 << bit % 8);
      store(key, changed);
      auto read = opened.Begin();
      const bool noticed = absl::IsDataLoss(read->root().Get("dir/a").status()) ||
                           absl::IsDataLoss(read->root().List("").status()) ||
                           absl::IsDataLoss(read->root().List("dir/").status());
      if (!noticed) FAIL("bit " << bit << " of " << value.size() * 8);
    }
    store(key, value);
  }
  SECTION("an entry in the place of another") {
    REQUIRE(opened.Put("dir/b", "another").ok());
    auto read = *opened.store.Begin();
    const auto found = read->Scan("");
    for (const auto& [key, value] : *found) {
      if (key.size() == 32 && key != entries[0].first && key != entries[1].first) {
        for (const auto& [old_key, old_value] : entries) store(old_key, std::string(value));
      }
    }
    CHECK(absl::IsDataLoss(opened.Begin()->root().Get("dir/a").status()));
    CHECK(absl::IsDataLoss(opened.Begin()->root().List("").status()));
  }
}

TEST_CASE("directories stay right under concurrent first and last children") {
  TestBarrier opened;
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 500; ++i) {
        const std::string path = StrCat("d/", random() % 2, "/e/", random() % 3);
        absl::Status status;
        const bool put = random() % 2 == 0;
        do {
          auto txn = opened.barrier.Begin();
          if (!txn.ok() ||
              !(put ? (*txn)->root().Put(path, "v") : (*txn)->root().Delete(path)).ok()) {
            ++failed;
            return;
          }
          status = CommitAndWait(opened.barrier, *std::move(txn));
        } while (absl::IsAborted(status));
        if (!status.ok()) ++failed;
      }
    });
  }
  // Every list names exactly the directories that have something in them.
  for (int i = 0; i < 200; ++i) {
    auto txn = opened.Begin();
    const auto listed = txn->root().List("d/");
    for (const std::string& name : *listed) {
      const auto below = txn->root().List(StrCat("d/", name, "e/"));
      CHECK(!below->empty());
    }
    for (const int n : {0, 1}) {
      if (!txn->root().List(StrCat("d/", n, "/e/"))->empty()) {
        const auto names = *txn->root().List("d/");
        CHECK(std::count(names.begin(), names.end(), StrCat(n, "/")) == 1);
      }
    }
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == 0);
  REQUIRE(opened.Change([](Txn txn) { REQUIRE(txn.DeleteAll("d/").ok()); }).ok());
  CHECK(opened.Entries() == 0);
}

TEST_CASE("it agrees with a plain map over random changes on a faulty store") {
  MemoryStore memory;
  FaultStore store(memory, 5);
  ManualClock clock;
  Barrier barrier(store, clock, 500);
  const auto keyring = Keyring::Create(clock.Now());
  auto first = *store.Begin();
  first->Put(kKeyringRecord, keyring->record());
  REQUIRE(CommitAndWait(store, std::move(first)).ok());
  barrier.Unseal(keyring);
  store.Set({.begin_fails = 0.02,
             .read_fails = 0.01,
             .read_tears = 0.01,
             .commit_fails = 0.1,
             .commit_full = 0.05,
             .commit_aborts = 0.05});

  std::mt19937 random(11);
  std::map<std::string, std::string> model;
  int stored = 0;
  for (int round = 0; round < 1500; ++round) {
    auto txn = barrier.Begin();
    if (!txn.ok()) continue;
    auto next = model;
    absl::Status status;
    const auto any_path = [&] {
      return StrCat(random() % 3, "/", random() % 3, "/", random() % 4);
    };
    for (unsigned i = 0, count = random() % 12; status.ok() && i < count; ++i) {
      status = (*txn)->root().Tag(any_path()).status();
    }
    for (unsigned i = 0, count = 1 + random() % 4; status.ok() && i < count; ++i) {
      const std::string path = any_path();
      if (random() % 2 == 0) {
        status = (*txn)->root().Put(path, next[path] = StrCat(round));
      } else {
        status = (*txn)->root().Delete(path);
        next.erase(path);
      }
    }
    if (status.ok()) status = CommitAndWait(barrier, *std::move(txn));
    if (status.ok()) {
      model = std::move(next);
      ++stored;
    } else {
      CHECK((absl::IsUnavailable(status) || absl::IsAborted(status) || absl::IsDataLoss(status) ||
             absl::IsResourceExhausted(status)));
    }
  }
  CHECK(stored > 800);
  store.Set({});
  auto txn = *barrier.Begin();
  std::size_t values = 0;
  std::set<std::string> directories;
  const auto list = [&](const std::string& directory) { return *txn->root().List(directory); };
  for (const std::string& a : list("")) {
    directories.insert(a);
    for (const std::string& b : list(a)) {
      directories.insert(a + b);
      for (const std::string& c : list(a + b)) {
        ++values;
        CHECK((*txn->root().Get(a + b + c))->view() == model.at(a + b + c));
      }
    }
  }
  CHECK(values == model.size());
  for (const auto& [path, value] : model) {
    CHECK(directories.count(path.substr(0, 4)) == 1);
    CHECK(directories.count(path.substr(0, 2)) == 1);
  }
}

TEST_CASE("a read costs little") {
  TestBarrier opened;
  for (int i = 0; i < 1000; ++i) REQUIRE(opened.Put(StrCat("mount/1/data/", i), "value").ok());
  const auto time = [&](auto work) {
    const absl::Time start = absl::Now();
    for (int i = 0; i < 20'000; ++i) work(i);
    return absl::ToDoubleNanoseconds(absl::Now() - start) / 20'000;
  };
  auto txn = opened.Begin();
  Txn view = txn->root().Under("mount/1/data/");
  const double get = time([&](int i) { REQUIRE(view.Get(StrCat(i % 1000)).ok()); });
  const double tag = time([&](int i) { REQUIRE(view.Tag(StrCat(i % 1000)).ok()); });
  const double put = time([&](int i) { REQUIRE(view.Put(StrCat(i % 1000), "new value").ok()); });
  WARN("ns: Get " << get << ", Tag " << tag << ", Put " << put);
  CHECK(get < 100'000);
}

}  // namespace
}  // namespace coffer::keystore
