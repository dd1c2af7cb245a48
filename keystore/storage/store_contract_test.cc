// What every store promises, run against each of them.
#include <atomic>
#include <random>
#include <thread>

#include "keystore/storage/fault_store.h"
#include "keystore/storage/lmdb_store.h"
#include "keystore/storage/memory_store.h"
#include "keystore/storage/test_folder.h"

namespace coffer::keystore {
namespace {

// A store of each kind, with what it stands on.
struct Engine {
  explicit Engine(std::string_view kind) {
    if (kind == "lmdb") {
      store = Opened();
    } else if (kind == "memory") {
      store = std::make_unique<MemoryStore>();
    } else {
      inner = Opened();
      auto faulty = std::make_unique<FaultStore>(*inner, 7);
      faulty->Set({.commit_delays = 0.5, .max_delay = absl::Microseconds(300)});
      store = std::move(faulty);
    }
  }
  std::unique_ptr<Store> Opened() {
    auto opened = LmdbStore::Open({folder.path() + "/store"});
    REQUIRE(opened.ok());
    return *std::move(opened);
  }

  TestFolder folder;
  std::unique_ptr<Store> inner, store;
};

std::unique_ptr<StoreTxn> Begin(Store& store) {
  auto txn = store.Begin();
  REQUIRE(txn.ok());
  return *std::move(txn);
}

std::string Get(StoreTxn& txn, std::string_view key) {
  auto value = txn.Get(key);
  REQUIRE(value.ok());
  return *value ? std::string(**value) : "(none)";
}

// "a=1 b=2"
std::string Scan(StoreTxn& txn, std::string_view prefix, std::string_view after = {},
                 std::size_t limit = 0) {
  auto entries = txn.Scan(prefix, after, limit);
  REQUIRE(entries.ok());
  std::string text;
  for (const auto& [key, value] : *entries) {
    StrAppend(&text, text.empty() ? "" : " ", key, "=", value);
  }
  return text;
}

// Stores "a=1 b=2"; "a-" deletes.
void Write(StoreTxn& txn, std::string_view changes) {
  for (const std::string_view change : Split(changes, ' ')) {
    if (change.ends_with('-')) {
      txn.Delete(change.substr(0, change.size() - 1));
    } else {
      const std::size_t equals = change.find('=');
      txn.Put(change.substr(0, equals), std::string(change.substr(equals + 1)));
    }
  }
}

absl::Status CommitChanges(Store& store, std::string_view changes) {
  auto txn = Begin(store);
  Write(*txn, changes);
  return CommitAndWait(store, std::move(txn));
}

TEST_CASE("a store keeps its contract") {
  const std::string kind = GENERATE("memory", "lmdb", "faulty lmdb");
  CAPTURE(kind);
  Engine engine(kind);
  Store& store = *engine.store;
  REQUIRE(CommitChanges(store, "a/1=one a/2=two a/3=three b=bee").ok());

  SECTION("what was committed is read, what wasn't isn't") {
    auto txn = Begin(store);
    Write(*txn, "c=sea");
    CHECK(txn->has_writes());
    txn.reset();
    txn = Begin(store);
    CHECK(Get(*txn, "a/2") == "two");
    CHECK(Get(*txn, "c") == "(none)");
    CHECK_FALSE(txn->has_writes());
  }

  SECTION("a transaction sees its own writes over its snapshot") {
    auto txn = Begin(store);
    Write(*txn, "a/2=new a/0=first a/3- a/4=last b-");
    CHECK(Get(*txn, "a/2") == "new");
    CHECK(Get(*txn, "a/3") == "(none)");
    CHECK(Scan(*txn, "a/") == "a/0=first a/1=one a/2=new a/4=last");
    CHECK(Scan(*txn, "") == "a/0=first a/1=one a/2=new a/4=last");
    REQUIRE(CommitAndWait(store, std::move(txn)).ok());
    txn = Begin(store);
    CHECK(Scan(*txn, "") == "a/0=first a/1=one a/2=new a/4=last");
  }

  SECTION("a snapshot stays as it was") {
    auto before = Begin(store);
    REQUIRE(CommitChanges(store, "a/1=changed a/2- a/5=added").ok());
    REQUIRE(CommitChanges(store, "a/1=again a/2=back").ok());
    CHECK(Scan(*before, "a/") == "a/1=one a/2=two a/3=three");
    CHECK(Get(*before, "a/1") == "one");
    CHECK(Get(*before, "a/5") == "(none)");
    auto after = Begin(store);
    CHECK(Scan(*after, "a/") == "a/1=again a/2=back a/3=three a/5=added");
  }

  SECTION("lists are ordered and honour prefix, start and limit") {
    auto txn = Begin(store);
    struct Case {
      std::string_view prefix, after;
      std::size_t limit;
      std::string_view found;
    };
    for (const Case& c : std::initializer_list<Case>{{"a/", "", 0, "a/1=one a/2=two a/3=three"},
                                                     {"a/", "", 2, "a/1=one a/2=two"},
                                                     {"a/", "a/1", 0, "a/2=two a/3=three"},
                                                     {"a/", "a/1", 1, "a/2=two"},
                                                     {"a/", "a/11", 9, "a/2=two a/3=three"},
                                                     {"a/", "a/3", 0, ""},
                                                     {"a/", "b", 0, ""},
                                                     {"a/", "0", 1, "a/1=one"},
                                                     {"", "a/3", 0, "b=bee"},
                                                     {"a/2", "", 0, "a/2=two"},
                                                     {"none", "", 0, ""}}) {
      CAPTURE(c.prefix, c.after, c.limit);
      CHECK(Scan(*txn, c.prefix, c.after, c.limit) == c.found);
    }
  }

  SECTION("keys and values hold any bytes") {
    const std::string_view keys[] = {std::string_view("\0", 1), std::string_view("\0\0", 2), "\x01",
                                     "\xff", "\xff\xff"};
    auto txn = Begin(store);
    for (std::string_view key : keys) txn->Put(key, std::string(key) + std::string(3, '\0'));
    txn->Put(std::string(kMaxKeySize, 'k'), std::string(3'000'000, 'v'));
    txn->Put("empty", "");
    REQUIRE(CommitAndWait(store, std::move(txn)).ok());
    txn = Begin(store);
    for (std::string_view key : keys) {
      CHECK(Get(*txn, key) == std::string(key) + std::string(3, '\0'));
    }
    CHECK(txn->Scan("\xff")->size() == 2);
    CHECK(txn->Scan(std::string_view("\0", 1))->size() == 2);
    CHECK(Get(*txn, std::string(kMaxKeySize, 'k')) == std::string(3'000'000, 'v'));
    CHECK(Get(*txn, "empty").empty());
  }

  SECTION("a key of a wrong size is refused and nothing is stored") {
    for (const std::size_t size : {std::size_t{0}, kMaxKeySize + 1}) {
      auto txn = Begin(store);
      Write(*txn, "x=1");
      txn->Put(std::string(size, 'k'), "v");
      CHECK(absl::IsInvalidArgument(CommitAndWait(store, std::move(txn))));
      CHECK(Get(*Begin(store), "x") == "(none)");
    }
  }

  SECTION("a commit is refused exactly when what it read has changed") {
    struct Case {
      std::string_view name;
      std::function<void(StoreTxn&)> read;
      std::string_view meanwhile;
      bool aborted;
    };
    const auto get = [](std::string_view key) { return [key](StoreTxn& txn) { Get(txn, key); }; };
    const auto scan = [](std::string_view prefix, std::string_view after, std::size_t limit) {
      return [=](StoreTxn& txn) { Scan(txn, prefix, after, limit); };
    };
    const Case cases[] = {
        {"nothing was read", [](StoreTxn&) {}, "mine=theirs", false},
        {"a read key was changed", get("a/1"), "a/1=x", true},
        {"a read key was deleted", get("a/1"), "a/1-", true},
        {"a key read as absent was added", get("none"), "none=x", true},
        {"a read key was written with the same value", get("a/1"), "a/1=one", true},
        {"another key was changed", get("a/1"), "a/2=x", false},
        {"a key in a list was changed", scan("a/", "", 0), "a/2=x", true},
        {"a key was added to a list", scan("a/", "", 0), "a/25=x", true},
        {"a key was added to an empty list", scan("z/", "", 0), "z/1=x", true},
        {"a key was taken from a list", scan("a/", "", 0), "a/3-", true},
        {"a key beside a list was changed", scan("a/", "", 0), "b=x a=x", false},
        {"a key before the list's start was changed", scan("a/", "a/1", 0), "a/1=x", false},
        {"a key behind a short list was changed", scan("a/", "", 2), "a/3=x a/25=x", false},
        {"the last key of a short list was changed", scan("a/", "", 2), "a/2=x", true},
        {"a key within a short list was added", scan("a/", "", 2), "a/11=x", true},
        {"a list that ended before its limit got longer", scan("a/", "", 4), "a/4=x", true},
        {"an own write was read",
         [](StoreTxn& txn) {
           txn.Put("own", "1");
           Get(txn, "own");
         },
         "own=x", false},
    };
    for (const Case& c : cases) {
      DYNAMIC_SECTION(c.name) {
        auto txn = Begin(store);
        c.read(*txn);
        REQUIRE(CommitChanges(store, c.meanwhile).ok());
        Write(*txn, "mine=1");
        const absl::Status status = CommitAndWait(store, std::move(txn));
        CHECK(absl::IsAborted(status) == c.aborted);
        CHECK(status.ok() == !c.aborted);
        CHECK((Get(*Begin(store), "mine") == "1") == !c.aborted);
      }
    }
  }

  SECTION("a transaction that only read is always right") {
    auto txn = Begin(store);
    Get(*txn, "a/1");
    REQUIRE(CommitChanges(store, "a/1=x").ok());
    CHECK(CommitAndWait(store, std::move(txn)).ok());
  }

  SECTION("a transaction may read for longer than commits are remembered; then it runs again") {
    auto txn = Begin(store);
    Get(*txn, "a/1");
    auto filler = Begin(store);
    for (int i = 0; i < 40'000; ++i) filler->Put(StrCat("fill/", i), "");
    REQUIRE(CommitAndWait(store, std::move(filler)).ok());
    Write(*txn, "mine=1");
    CHECK(absl::IsAborted(CommitAndWait(store, std::move(txn))));
    REQUIRE(CommitChanges(store, "mine=2").ok());
  }

  SECTION("concurrent increments are all counted, and pairs stay equal") {
    constexpr int kThreads = 4;
    constexpr int kEach = 100;
    std::atomic<int> unequal = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int done = 0; done < kEach;) {
          auto txn = store.Begin();
          if (!txn.ok()) continue;
          const std::string left = std::string((*txn)->Get("left")->value_or("0"));
          const std::string right = std::string((*txn)->Get("right")->value_or("0"));
          if (left != right) ++unequal;
          const std::string next = StrCat(std::stoi(left) + 1);
          (*txn)->Put("left", next);
          (*txn)->Put("right", next);
          if (CommitAndWait(store, *std::move(txn)).ok()) ++done;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(unequal == 0);
    CHECK(Get(*Begin(store), "left") == StrCat(kThreads * kEach));
    CHECK(Get(*Begin(store), "right") == StrCat(kThreads * kEach));
  }

  SECTION("it agrees with a plain map over random changes") {
    std::mt19937 random(42);
    std::map<std::string, std::string> model;
    auto before = Begin(store);
    const auto entries = before->Scan("");
    for (const auto& [key, value] : *entries) model[std::string(key)] = value;
    for (int round = 0; round < 100; ++round) {
      auto txn = Begin(store);
      auto next = model;
      for (unsigned i = 0, count = random() % 20; i < count; ++i) {
        const std::string key = StrCat(random() % 3, "/", random() % 30);
        if (random() % 3 == 0) {
          txn->Delete(key);
          next.erase(key);
        } else {
          txn->Put(key, next[key] = std::string(random() % 5000, 'v'));
        }
      }
      if (random() % 4 != 0) {
        REQUIRE(CommitAndWait(store, std::move(txn)).ok());
        model = std::move(next);
      }
      txn = Begin(store);
      const std::string prefix = round % 2 == 0 ? "" : "1/";
      auto entries = txn->Scan(prefix);
      auto expected = model.lower_bound(prefix);
      for (const auto& [key, value] : *entries) {
        REQUIRE(expected->first == key);
        REQUIRE(expected->second == value);
        ++expected;
      }
      REQUIRE((expected == model.end() || !expected->first.starts_with(prefix)));
    }
  }
}

}  // namespace
}  // namespace coffer::keystore
