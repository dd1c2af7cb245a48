#include "keystore/barrier/barrier.h"

#include <random>
#include <thread>

#include "keystore/barrier/keyring.h"
#include "keystore/barrier/parsed_cache.h"
#include "keystore/storage/fault_store.h"
#include "keystore/storage/memory_store.h"

namespace coffer::keystore {
namespace {

struct Opened {
  explicit Opened(std::uint64_t rotate_after = Barrier::kRotateAfter)
      : barrier(store, clock, rotate_after) {
    Reset();
  }
  // A keyring of its own, stored as the seal does.
  void Reset() {
    const auto keyring = Keyring::Create(clock.Now());
    auto txn = *store.Begin();
    txn->Put(kKeyringRecord, keyring->record());
    REQUIRE(CommitAndWait(store, std::move(txn)).ok());
    barrier.Unseal(keyring);
  }
  std::unique_ptr<BarrierTxn> Begin() {
    auto txn = barrier.Begin();
    REQUIRE(txn.ok());
    return *std::move(txn);
  }
  absl::Status Change(std::function<void(Txn)> change) {
    auto txn = Begin();
    change(txn->root());
    return CommitAndWait(barrier, std::move(txn));
  }
  absl::Status Put(std::string_view path, std::string_view value) {
    return Change([&](Txn txn) { REQUIRE(txn.Put(path, value).ok()); });
  }
  std::string Get(std::string_view path) { return GetIn(*Begin(), path); }
  static std::string GetIn(BarrierTxn& txn, std::string_view path) {
    auto value = txn.root().Get(path);
    REQUIRE(value.ok());
    return *value ? std::string((*value)->view()) : "(none)";
  }
  std::string List(std::string_view directory) { return ListIn(*Begin(), directory); }
  static std::string ListIn(BarrierTxn& txn, std::string_view directory) {
    auto names = txn.root().List(directory);
    REQUIRE(names.ok());
    std::string text;
    for (const std::string& name : *names) StrAppend(&text, text.empty() ? "" : " ", name);
    return text;
  }
  // All that the store holds, one after another.
  std::string Dump() {
    auto txn = *store.Begin();
    const auto entries = txn->Scan("");
    std::string dump;
    for (const auto& [key, value] : *entries) StrAppend(&dump, key, value);
    return dump;
  }
  std::size_t Entries() {
    auto txn = *store.Begin();
    std::size_t count = 0;
    const auto entries = txn->Scan("");
    for (const auto& [key, value] : *entries) count += key.size() == 32 ? 1 : 0;
    return count;
  }

  MemoryStore store;
  ManualClock clock;
  Barrier barrier;
};

TEST_CASE(
    "what is put behind the barrier is read back, and nothing of it is readable in the store") {
  Opened opened;
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
  Opened opened;
  REQUIRE(opened.Put("a", "value").ok());
  const std::string before = opened.Dump();
  REQUIRE(opened.Put("a", "value").ok());
  CHECK(opened.Dump() != before);
}

TEST_CASE("a tag changes with each write and is absent with the value") {
  Opened opened;
  CHECK_FALSE(opened.Begin()->root().Tag("a")->has_value());
  REQUIRE(opened.Put("a", "value").ok());
  const auto tag = *opened.Begin()->root().Tag("a");
  REQUIRE(tag.has_value());
  CHECK(opened.Begin()->root().Tag("a")->value() == *tag);
  REQUIRE(opened.Put("a", "value").ok());
  CHECK(opened.Begin()->root().Tag("a")->value() != *tag);
}

TEST_CASE("directories list what is directly in them") {
  Opened opened;
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
    CHECK_FALSE(txn->has_writes());
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
    CHECK(Opened::ListIn(*txn, "") == "a/ b n/");
    REQUIRE(txn->root().Put("c/again", "v").ok());
    REQUIRE(txn->root().Delete("n/e/w").ok());
    CHECK(Opened::ListIn(*txn, "") == "a/ b c/");
    REQUIRE(CommitAndWait(opened.barrier, std::move(txn)).ok());
    CHECK(opened.List("") == "a/ b c/");
    CHECK(opened.List("c/") == "again");
  }
}

TEST_CASE("a view sees and changes what is below its prefix") {
  Opened opened;
  auto txn = opened.Begin();
  Txn view = txn->root().Under("mount/1/").Under("roles/");
  CHECK(view.prefix() == "mount/1/roles/");
  REQUIRE(view.PutJson("web", {{"ttl", 60}}).ok());
  CHECK(Opened::GetIn(*txn, "mount/1/roles/web") == "{\"ttl\":60}");
  CHECK((**view.GetJson("web"))["ttl"] == 60);
  CHECK_FALSE(view.GetJson("none")->has_value());
  CHECK(view.Root().List("mount/1/")->front() == "roles/");
  REQUIRE(view.Put("bad", "{").ok());
  CHECK(absl::IsDataLoss(view.GetJson("bad").status()));
}

TEST_CASE("paths with empty segments are refused") {
  Opened opened;
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
  CHECK_FALSE(txn->has_writes());
}

TEST_CASE("an empty view answers Unavailable") {
  Txn none;
  CHECK(absl::IsUnavailable(none.Get("a").status()));
  CHECK(absl::IsUnavailable(none.Tag("a").status()));
  CHECK(absl::IsUnavailable(none.Put("a", "")));
  CHECK(absl::IsUnavailable(none.List("").status()));
  CHECK(absl::IsUnavailable(none.GetJson("a").status()));
}

TEST_CASE("sealed, the barrier opens nothing, and what was begun before isn't stored") {
  Opened opened;
  REQUIRE(opened.Put("a", "before").ok());
  bool told = false;
  opened.barrier.OnSeal([&] { told = true; });
  auto txn = opened.Begin();
  auto reader = opened.Begin();
  REQUIRE(txn->root().Put("a", "after").ok());
  bool ran = false;
  txn->root().OnCommit([&] { ran = true; });
  const auto keyring = opened.barrier.keyring();
  opened.barrier.Seal();
  CHECK(told);
  CHECK(opened.barrier.sealed());
  CHECK(absl::IsUnavailable(opened.barrier.Begin().status()));
  CHECK(absl::IsUnavailable(opened.barrier.Rotate()));
  CHECK(absl::IsUnavailable(opened.barrier.key_status().status()));
  CHECK(absl::IsUnavailable(CommitAndWait(opened.barrier, std::move(txn))));
  CHECK(absl::IsUnavailable(CommitAndWait(opened.barrier, std::move(reader))));
  CHECK_FALSE(ran);
  opened.barrier.Unseal(*Keyring::Open(keyring->root_key().bytes().Copy(), keyring->record()));
  CHECK(opened.Get("a") == "before");
}

TEST_CASE("a transaction of before a seal doesn't commit after the next unseal") {
  Opened opened;
  auto txn = opened.Begin();
  REQUIRE(txn->root().Put("a", "old").ok());
  const auto keyring = opened.barrier.keyring();
  opened.barrier.Seal();
  opened.barrier.Unseal(*Keyring::Open(keyring->root_key().bytes().Copy(), keyring->record()));
  CHECK(absl::IsUnavailable(CommitAndWait(opened.barrier, std::move(txn))));
}

TEST_CASE("actions run when the transaction is durable, and only then") {
  Opened opened;
  REQUIRE(opened.Put("a", "1").ok());
  int ran = 0;
  auto loser = opened.Begin();
  Opened::GetIn(*loser, "a");
  REQUIRE(opened
              .Change([&](Txn txn) {
                REQUIRE(txn.Put("a", "2").ok());
                txn.OnCommit([&] { ++ran; });
                txn.Under("x/").OnCommit([&] { ++ran; });
              })
              .ok());
  CHECK(ran == 2);
  REQUIRE(loser->root().Put("a", "3").ok());
  loser->root().OnCommit([&] { ran = 100; });
  CHECK(absl::IsAborted(CommitAndWait(opened.barrier, std::move(loser))));
  CHECK(ran == 2);
}

TEST_CASE("every changed bit in the store is noticed") {
  Opened opened;
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

TEST_CASE("rotation begins a new term and everything older stays readable") {
  Opened opened;
  REQUIRE(opened.Put("a", "term 1").ok());
  CHECK(opened.barrier.key_status()->term == 1);
  CHECK(opened.barrier.key_status()->encryptions == 2);
  auto before = opened.Begin();
  REQUIRE(before->root().Put("b", "begun in term 1").ok());
  opened.clock.Advance(absl::Hours(1));
  REQUIRE(opened.barrier.Rotate().ok());
  const KeyStatus status = *opened.barrier.key_status();
  CHECK(status.term == 2);
  CHECK(status.install_time == opened.clock.Now());
  CHECK(status.encryptions == 0);
  CHECK(CommitAndWait(opened.barrier, std::move(before)).ok());
  REQUIRE(opened.Put("c", "term 2").ok());
  CHECK(opened.Get("a") == "term 1");
  CHECK(opened.Get("b") == "begun in term 1");
  CHECK(opened.Get("c") == "term 2");

  // And after a restart.
  const auto keyring = opened.barrier.keyring();
  auto txn = *opened.store.Begin();
  const auto reopened =
      Keyring::Open(keyring->root_key().bytes().Copy(), **txn->Get(kKeyringRecord));
  REQUIRE(reopened.ok());
  txn.reset();
  opened.barrier.Seal();
  opened.barrier.Unseal(*reopened);
  CHECK(opened.Get("a") == "term 1");
  CHECK(opened.Get("c") == "term 2");
  CHECK(opened.barrier.key_status()->term == 2);
}

TEST_CASE("a new term begins by itself before a key has been used too often") {
  Opened opened(100);
  for (int i = 0; i < 400; ++i) {
    absl::Status status;
    while (absl::IsAborted(status = opened.Put(StrCat("a/", i % 10), StrCat(i)))) {
    }
    REQUIRE(status.ok());
    REQUIRE(opened.barrier.key_status()->encryptions < 110);
  }
  CHECK(opened.barrier.key_status()->term > 7);
  for (int i = 0; i < 10; ++i) CHECK(opened.Get(StrCat("a/", i)) == StrCat(390 + i));
}

TEST_CASE("a new term begins by itself under concurrent writes without losing one") {
  Opened opened(50);
  constexpr int kThreads = 4;
  constexpr int kEach = 200;
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach;) {
        auto txn = opened.barrier.Begin();
        if (!txn.ok() || !(*txn)->root().Put(StrCat(t, "/", i), "v").ok()) ++failed;
        const absl::Status status = CommitAndWait(opened.barrier, *std::move(txn));
        if (status.ok()) ++i;
        if (!status.ok() && !absl::IsAborted(status)) ++failed;
      }
    });
  }
  for (int i = 0; i < 20; ++i) CHECK(opened.barrier.Rotate().ok());
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == 0);
  const auto keyring = opened.barrier.keyring();
  CHECK(keyring->newest().term > 25);
  auto txn = *opened.store.Begin();
  CHECK(**txn->Get(kKeyringRecord) == keyring->record());
  for (int t = 0; t < kThreads; ++t) {
    CHECK(opened.Begin()->root().List(StrCat(t, "/"))->size() == kEach);
    for (int i = 0; i < kEach; ++i) CHECK(opened.Get(StrCat(t, "/", i)) == "v");
  }
}

TEST_CASE("the count of encryptions outlives a crash, never too low") {
  Opened opened;
  for (int i = 0; i < 10; ++i) REQUIRE(opened.Put("a", "v").ok());
  const auto keyring = opened.barrier.keyring();
  auto txn = *opened.store.Begin();
  const auto usage = txn->Get(UsageRecord(1));
  REQUIRE(usage->has_value());
  const auto reopened = *Keyring::Open(keyring->root_key().bytes().Copy(), keyring->record());
  REQUIRE(reopened->Resume(**usage).ok());
  CHECK(reopened->newest().encryptions >= 20);
  CHECK(reopened->newest().encryptions < 2'000'000);
  CHECK(absl::IsDataLoss(reopened->Resume("rubbish")));
}

TEST_CASE("directories stay right under concurrent first and last children") {
  Opened opened;
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
    for (unsigned i = 0, count = 1 + random() % 4; status.ok() && i < count; ++i) {
      const std::string path = StrCat(random() % 3, "/", random() % 3, "/", random() % 4);
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

TEST_CASE("parsed values are right even where transactions abort or are older") {
  Opened opened;
  ParsedCache<int> cache;
  int parses = 0;
  const auto read = [&](BarrierTxn& txn) {
    Txn root = txn.root();
    auto value = cache.Get(root, "n", [&](SecretBytes bytes) {
      ++parses;
      return absl::StatusOr<std::shared_ptr<const int>>(
          std::make_shared<int>(std::stoi(std::string(bytes.view()))));
    });
    REQUIRE(value.ok());
    return *value == nullptr ? -1 : **value;
  };
  CHECK(read(*opened.Begin()) == -1);
  REQUIRE(opened.Put("n", "1").ok());
  CHECK(read(*opened.Begin()) == 1);
  CHECK(read(*opened.Begin()) == 1);
  CHECK(parses == 1);
  auto old = opened.Begin();
  REQUIRE(opened.Put("n", "2").ok());
  CHECK(read(*opened.Begin()) == 2);
  CHECK(read(*old) == 1);
  CHECK(read(*opened.Begin()) == 2);
  auto dropped = opened.Begin();
  REQUIRE(dropped->root().Put("n", "3").ok());
  CHECK(read(*dropped) == 3);
  dropped.reset();
  CHECK(read(*opened.Begin()) == 2);
}

TEST_CASE("a read costs little") {
  Opened opened;
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
