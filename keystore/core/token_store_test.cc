#include "keystore/core/token_store.h"

#include "keystore/barrier/shamir_seal.h"
#include "keystore/storage/memory_store.h"

namespace coffer::keystore {
namespace {

// Tokens behind a real barrier on memory.
struct Fixture {
  Fixture() {
    const auto shares = seal.Initialize({1, 1}, [] { return absl::OkStatus(); });
    REQUIRE(shares.ok());
    REQUIRE(seal.Unseal(EncodeHex(shares->front().span()).view()).ok());
    mount.path = "auth/token/";
    mount.type = "token";
  }

  // Runs `action` in a transaction that is then committed.
  template <class Action>
  auto Do(Action action) {
    auto txn = barrier.Begin();
    REQUIRE(txn.ok());
    Txn root = (*txn)->root();
    auto result = action(root);
    REQUIRE(CommitAndWait(barrier, *std::move(txn)).ok());
    return result;
  }
  TokenStore::Created Make(TokenSpec spec = {}) {
    return Do([&](Txn& txn) {
      auto created = tokens.Create(txn, std::move(spec), mount);
      REQUIRE(created.ok());
      return *std::move(created);
    });
  }
  TokenStore::Created MakeChild(const TokenEntry& parent, absl::Duration ttl = {}) {
    TokenSpec spec;
    spec.parent = parent.hash;
    spec.ttl = ttl;
    return Make(std::move(spec));
  }
  std::shared_ptr<const TokenEntry> Find(std::string_view token) {
    return Do([&](Txn& txn) { return tokens.Lookup(txn, token).value(); });
  }
  bool Lives(const TokenStore::Created& created) { return Find(created.id.view()) != nullptr; }
  absl::StatusOr<TokenStore::Renewed> Renew(const TokenStore::Created& made, const TtlTerms& terms,
                                            absl::Duration increment) {
    return Do([&](Txn& txn) { return tokens.Renew(txn, *made.entry, terms, mount, increment); });
  }
  void Revoke(std::string_view hash) {
    REQUIRE(Do([&](Txn& txn) { return tokens.Revoke(txn, hash); }).ok());
  }
  void Keep(const TokenStore::Created& owner, std::string_view path) {
    REQUIRE(Do([&](Txn& txn) {
              return TokenStore::Cubbyhole(txn, owner.entry->hash).Put(path, "kept");
            }).ok());
  }
  std::size_t Expire(std::size_t limit = 1000) {
    return Do([&](Txn& txn) { return tokens.RevokeExpired(txn, limit).value(); });
  }
  // What stands in the directories that belong to tokens.
  std::size_t Traces() {
    return Do([&](Txn& txn) {
      std::size_t names = 0;
      for (const char* directory : {"sys/token/id/", "sys/token/accessor/", "sys/token/child/",
                                    "sys/token/cubbyhole/", "sys/expire/"}) {
        names += txn.List(directory).value().size();
      }
      return names;
    });
  }

  ManualClock clock;
  MemoryStore store;
  Barrier barrier{store, clock};
  ShamirSeal seal{barrier};
  TokenStore tokens{clock};
  MountEntry mount;
};

TEST_CASE("a token is found by itself, its hash and its accessor, and is stored by its hash alone") {
  Fixture f;
  const TokenStore::Created made = f.Make({.policies = {"b", "A"}, .display_name = "token"});
  CHECK(made.id.view().starts_with("hvs."));
  CHECK(made.id.size() == 28);
  CHECK(made.entry->accessor.size() == 24);
  CHECK(made.entry->policies == std::vector<std::string>{"a", "b", "default"});
  CHECK(made.entry->creation_ttl == kSystemLeaseTtl);
  CHECK(TokenHash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");

  CHECK(f.Find(made.id.view())->accessor == made.entry->accessor);
  CHECK(f.Find("hvs.AAAAAAAAAAAAAAAAAAAAAAAA") == nullptr);
  CHECK(f.Find("") == nullptr);
  f.Do([&](Txn& txn) {
    CHECK(f.tokens.LookupHash(txn, TokenHash(made.id.view())).value() != nullptr);
    CHECK(f.tokens.LookupAccessor(txn, made.entry->accessor).value()->hash == made.entry->hash);
    for (const char* wrong : {"", "nothing", "../id/", "a/b", "/"}) {
      CHECK(f.tokens.LookupAccessor(txn, wrong).value() == nullptr);
    }
    const auto stored = txn.Get("sys/token/id/" + made.entry->hash).value();
    CHECK(stored->view().find(made.id.view()) == std::string_view::npos);
    CHECK(f.tokens.Accessors(txn).value() == std::vector{made.entry->accessor});
    return 0;
  });
}

TEST_CASE("what can't be made is refused") {
  Fixture f;
  f.Make({.id = SecretBytes::CopyOf("mine")});
  MountEntry kubernetes;
  kubernetes.path = "auth/kubernetes/";
  kubernetes.type = "kubernetes";
  const MountEntry& token = f.mount;
  const auto with = [](auto change) {
    TokenSpec spec;
    change(spec);
    return spec;
  };
  struct Case {
    TokenSpec spec;
    const MountEntry& mount;
    std::string_view message;
  };
  Case cases[] = {
      {with([](TokenSpec& s) { s.id = SecretBytes::CopyOf("mine"); }), token,
       "cannot create a token with a duplicate ID"},
      {with([](TokenSpec& s) { s.type = "x"; }), token, "there are no tokens of type \"x\""},
      {with([](TokenSpec& s) { s.type = "batch", s.policies = {"root"}; }), token,
       "batch tokens cannot be root tokens"},
      {with([](TokenSpec& s) { s.type = "default-batch", s.num_uses = 1; }), token,
       "batch tokens cannot have \"num_uses\" set"},
      {with([](TokenSpec& s) { s.policies = {"root"}; }), kubernetes,
       "auth methods cannot create root tokens"},
      {with([](TokenSpec& s) { s.parent = TokenHash("gone"); }), token,
       "parent token lookup failed: no parent found"},
  };
  for (Case& c : cases) {
    const absl::Status status = f.Do([&](Txn& txn) {
      return f.tokens.Create(txn, std::move(c.spec), c.mount).status();
    });
    CHECK(status == absl::InvalidArgumentError(std::string(c.message)));
  }
}

TEST_CASE("a token is refused from the moment it expires, and swept without a trace") {
  Fixture f;
  const TokenStore::Created made = f.Make({.ttl = absl::Minutes(10)});
  f.Keep(made, "a/b");
  f.clock.Advance(absl::Minutes(10) - absl::Nanoseconds(1));
  CHECK(f.Lives(made));
  CHECK(f.Expire() == 0);
  f.clock.Advance(absl::Nanoseconds(1));
  CHECK_FALSE(f.Lives(made));
  f.Do([&](Txn& txn) {
    CHECK(f.tokens.LookupAccessor(txn, made.entry->accessor).value() == nullptr);
    return 0;
  });
  TokenStore restarted(f.clock);
  CHECK(f.Do([&](Txn& txn) { return restarted.RevokeExpired(txn, 10).value(); }) == 1);
  CHECK(f.Traces() == 0);
}

TEST_CASE("expiry sweeps what is due, at most as many as asked, and nothing else") {
  Fixture f;
  // Over seconds, tens and hours.
  const int seconds[] = {1, 1, 2, 9, 10, 11, 59, 3599, 3600, 3601, 90'000};
  for (const int ttl : seconds) f.Make({.ttl = absl::Seconds(ttl)});
  const TokenStore::Created root = f.Make({.policies = {"root"}});
  int past = 0;
  for (const int at : {0, 1, 2, 10, 60, 3600, 3601, 80'000, 90'000}) {
    f.clock.Advance(absl::Seconds(at - past));
    const auto due = std::count_if(std::begin(seconds), std::end(seconds),
                                   [&](int ttl) { return ttl > past && ttl <= at; });
    past = at;
    INFO("after " << at << " s");
    std::size_t swept = 0, step = 0;
    do {
      step = f.Expire(2);
      CHECK(step <= 2);
      swept += step;
    } while (step == 2);
    CHECK(swept == static_cast<std::size_t>(due));
  }
  CHECK(f.Lives(root));
  f.Revoke(root.entry->hash);
  CHECK(f.Traces() == 0);
}

TEST_CASE("root tokens don't expire unless they are asked to") {
  Fixture f;
  const TokenStore::Created root = f.Make({.policies = {"root"}, .bound_cidrs = {"10.0.0.0/8"}});
  CHECK_FALSE(root.entry->expires());
  CHECK_FALSE(root.entry->renewable);
  CHECK(root.entry->bound_cidrs.empty());
  CHECK(root.entry->policies == std::vector<std::string>{"root"});
  CHECK(f.Make({.policies = {"root"}, .ttl = absl::Hours(1)}).entry->creation_ttl ==
        absl::Hours(1));
  CHECK(f.Make({.policies = {"root"}, .explicit_max_ttl = absl::Hours(2)}).entry->creation_ttl ==
        absl::Hours(2));
  f.clock.Advance(absl::Hours(24 * 3650));
  CHECK(f.Lives(root));
  CHECK(f.Expire() == 2);
}

TEST_CASE("renewal moves the end, within the limits") {
  struct Case {
    std::string_view name;
    absl::Duration ttl, max_ttl, explicit_max_ttl, period, age, increment;
    absl::Duration left;  // zero: refused
    bool warned = false;
  };
  const absl::Duration none, hour = absl::Hours(1);
  const Case cases[] = {
      {"as long as its terms say", hour, none, none, none, hour / 2, none, hour},
      {"as long as asked", hour, none, none, none, hour / 2, 3 * hour, 3 * hour},
      {"also shorter", hour, none, none, none, hour / 4, hour / 4, hour / 4},
      {"to the maximum from its creation", hour, 2 * hour, none, none, hour / 2, 5 * hour,
       hour * 3 / 2, true},
      {"to the explicit maximum", hour, none, 2 * hour, none, hour / 2, 5 * hour, hour * 3 / 2,
       true},
      {"a period, whatever is asked", none, none, none, hour, hour / 2, 5 * hour, hour},
      {"a period to the explicit maximum", none, none, hour * 5 / 4, hour, hour / 2, none,
       hour * 3 / 4, true},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    Fixture f;
    const TokenStore::Created made = f.Make({.ttl = c.ttl,
                                             .max_ttl = c.max_ttl,
                                             .explicit_max_ttl = c.explicit_max_ttl,
                                             .period = c.period});
    f.clock.Advance(c.age);
    const auto renewed = f.Renew(made,
                                 {.ttl = c.ttl,
                                  .max_ttl = c.max_ttl,
                                  .explicit_max_ttl = c.explicit_max_ttl,
                                  .period = c.period},
                                 c.increment);
    REQUIRE(renewed.ok());
    CHECK(renewed->entry->expire_time == f.clock.Now() + c.left);
    CHECK(renewed->entry->last_renewal == f.clock.Now());
    CHECK(renewed->entry->creation_ttl == made.entry->creation_ttl);
    CHECK(renewed->warnings.empty() != c.warned);
    f.clock.Advance(c.left - absl::Seconds(1));
    CHECK(f.Lives(made));
    CHECK(f.Expire() == 0);
    f.clock.Advance(absl::Seconds(1));
    CHECK_FALSE(f.Lives(made));
    CHECK(f.Expire() == 1);
    CHECK(f.Traces() == 0);
  }
}

TEST_CASE("what can't be renewed is refused") {
  Fixture f;
  const TokenStore::Created root = f.Make({.policies = {"root"}});
  const TokenStore::Created fixed = f.Make({.renewable = false});
  const TokenStore::Created spent = f.Make({.ttl = absl::Hours(1)});
  const TokenStore::Created old = f.Make({.ttl = absl::Hours(2), .max_ttl = absl::Hours(2)});
  f.clock.Advance(absl::Hours(1));
  struct Case {
    const TokenStore::Created& token;
    std::string_view message;
  };
  const Case cases[] = {{root, "lease is not renewable"},
                        {fixed, "lease is not renewable"},
                        {spent, "token not found"}};
  for (const Case& c : cases) {
    const auto renewed = f.Renew(c.token, {}, absl::Hours(1));
    CHECK(renewed.status() == absl::InvalidArgumentError(std::string(c.message)));
  }
  CHECK(f.Renew(old, {.max_ttl = absl::Hours(2)}, {})->entry->expire_time ==
        old.entry->expire_time);
}

TEST_CASE("revocation takes the whole tree and nothing beside it") {
  Fixture f;
  const TokenStore::Created top = f.Make();
  const TokenStore::Created middle = f.MakeChild(*top.entry);
  const TokenStore::Created leaf = f.MakeChild(*middle.entry);
  const TokenStore::Created sibling = f.MakeChild(*top.entry);
  f.Keep(leaf, "a/b/c");
  f.Revoke(middle.entry->hash);
  CHECK(f.Lives(top));
  CHECK_FALSE(f.Lives(middle));
  CHECK_FALSE(f.Lives(leaf));
  CHECK(f.Lives(sibling));
  f.Revoke(middle.entry->hash);  // again: nothing
  f.Revoke(top.entry->hash);
  CHECK(f.Traces() == 0);
}

TEST_CASE("a tree of thousands of tokens goes in one transaction, broad or deep") {
  Fixture f;
  const TokenStore::Created top = f.Make();
  f.Do([&](Txn& txn) {
    std::string deepest = top.entry->hash;
    for (int i = 0; i < 3000; ++i) {
      TokenSpec deep, broad;
      deep.parent = deepest;
      broad.parent = top.entry->hash;
      deepest = f.tokens.Create(txn, std::move(deep), f.mount)->entry->hash;
      REQUIRE(f.tokens.Create(txn, std::move(broad), f.mount).ok());
    }
    return 0;
  });
  CHECK(f.Do([&](Txn& txn) { return f.tokens.Accessors(txn).value(); }).size() == 6001);
  f.Revoke(top.entry->hash);
  CHECK(f.Traces() == 0);
}

TEST_CASE("an expired parent takes its children with it, whenever they would expire") {
  Fixture f;
  const TokenStore::Created parent = f.Make({.ttl = absl::Minutes(1)});
  const TokenStore::Created later = f.MakeChild(*parent.entry, absl::Hours(1));
  const TokenStore::Created sooner = f.MakeChild(*later.entry, absl::Minutes(1));
  f.clock.Advance(absl::Minutes(1));
  f.Expire();
  CHECK_FALSE(f.Lives(later));
  CHECK_FALSE(f.Lives(sooner));
  CHECK(f.Traces() == 0);
}

TEST_CASE("a token revoked alone leaves orphans") {
  Fixture f;
  const TokenStore::Created top = f.Make();
  const TokenStore::Created middle = f.MakeChild(*top.entry);
  const TokenStore::Created leaf = f.MakeChild(*middle.entry);
  REQUIRE(f.Do([&](Txn& txn) { return f.tokens.RevokeOrphan(txn, middle.entry->hash); }).ok());
  CHECK_FALSE(f.Lives(middle));
  REQUIRE(f.Lives(leaf));
  CHECK(f.Find(leaf.id.view())->parent.empty());
  f.Revoke(top.entry->hash);
  CHECK(f.Lives(leaf));
  f.Revoke(leaf.entry->hash);
  CHECK(f.Traces() == 0);
}

TEST_CASE("a token with a limit is found as often as it allows") {
  Fixture f;
  const TokenStore::Created made = f.Make({.num_uses = 2});
  const TokenStore::Created free = f.Make();
  const auto use = [&] {
    return f.Do([&](Txn& txn) {
      const auto entry = f.tokens.Lookup(txn, made.id.view()).value();
      return entry != nullptr && f.tokens.Use(txn, *entry).ok();
    });
  };
  CHECK(use());
  CHECK(f.Find(made.id.view())->num_uses == 1);
  CHECK(use());
  CHECK_FALSE(use());
  f.Do([&](Txn& txn) {
    CHECK(f.tokens.LookupAccessor(txn, made.entry->accessor).value() == nullptr);
    CHECK(f.tokens.Use(txn, *free.entry).ok());
    return 0;
  });
  f.clock.Advance(absl::Seconds(1));
  CHECK(f.Expire() == 1);
  CHECK(f.Lives(free));
}

TEST_CASE("a renewal by a caller that was read before keeps the uses that were counted") {
  Fixture f;
  const TokenStore::Created made = f.Make({.num_uses = 5});
  f.Do([&](Txn& txn) {
    REQUIRE(f.tokens.Use(txn, *made.entry).ok());
    REQUIRE(f.tokens.Renew(txn, *made.entry, {}, f.mount, absl::Hours(1)).ok());
    return 0;
  });
  CHECK(f.Find(made.id.view())->num_uses == 4);
}

TEST_CASE("of transactions at the same time, those that can't both hold aren't both committed") {
  struct Case {
    std::string_view name;
    std::function<absl::Status(Fixture&, Txn&, const TokenStore::Created&)> first, second;
    bool both;
  };
  const auto child = [](Fixture& f, Txn& txn, const TokenStore::Created& parent) {
    TokenSpec spec;
    spec.parent = parent.entry->hash;
    return f.tokens.Create(txn, std::move(spec), f.mount).status();
  };
  const auto revoke = [](Fixture& f, Txn& txn, const TokenStore::Created& parent) {
    return f.tokens.Revoke(txn, parent.entry->hash);
  };
  const auto use = [](Fixture& f, Txn& txn, const TokenStore::Created& parent) {
    const auto entry = f.tokens.Lookup(txn, parent.id.view()).value();
    return f.tokens.Use(txn, *entry);
  };
  const Case cases[] = {{"two children of one parent", child, child, true},
                        {"a child after its parent's revocation", revoke, child, false},
                        {"a revocation after a child was made", child, revoke, false},
                        {"two uses of one limit", use, use, false}};
  for (const Case& c : cases) {
    INFO(c.name);
    Fixture f;
    const TokenStore::Created parent = f.Make({.num_uses = 3});
    f.MakeChild(*parent.entry);
    auto first = f.barrier.Begin().value();
    auto second = f.barrier.Begin().value();
    Txn first_txn = first->root(), second_txn = second->root();
    REQUIRE(c.first(f, first_txn, parent).ok());
    REQUIRE(c.second(f, second_txn, parent).ok());
    CHECK(CommitAndWait(f.barrier, std::move(first)).ok());
    const absl::Status committed = CommitAndWait(f.barrier, std::move(second));
    CHECK(committed.ok() == c.both);
    CHECK((committed.ok() || absl::IsAborted(committed)));
  }
}

}  // namespace
}  // namespace coffer::keystore
