#include "keystore/secrets/cubbyhole.h"

#include "keystore/system/testing.h"

namespace coffer::keystore {
namespace {

TEST_CASE("each token has a cubbyhole of its own, which goes with it") {
  Cubbyhole cubbyhole;
  TestKeystore f;
  f.core.Register("cubbyhole", cubbyhole);
  const auto make = [&](std::int64_t uses, std::string type = "service") {
    auto txn = f.barrier.Begin().value();
    Txn root = txn->root();
    auto made = f.tokens.Create(
        root, {.ttl = absl::Hours(1), .num_uses = uses, .type = std::move(type)}, MountEntry{});
    REQUIRE(CommitAndWait(f.barrier, std::move(txn)).ok());
    return std::string(made->id.view());
  };
  const auto kept = [&](const std::string& token) {
    auto txn = f.barrier.Begin().value();
    Txn root = txn->root();
    return TokenStore::Cubbyhole(root, TokenHash(token)).List("").value().size();
  };
  const auto expire = [&] {
    auto txn = f.barrier.Begin().value();
    Txn root = txn->root();
    REQUIRE(f.tokens.RevokeExpired(root, 100).ok());
    REQUIRE(CommitAndWait(f.barrier, std::move(txn)).ok());
  };
  const std::string mine = make(0), yours = make(0), limited = make(2);
  REQUIRE(f.Write("cubbyhole/a/b", {{"k", "v"}}, mine).ok());
  CHECK(f.Read("cubbyhole/a/b", mine)->data == Json{{"k", "v"}});
  CHECK(f.Read("cubbyhole/a/b", mine)->lease_duration == absl::ZeroDuration());
  CHECK(f.List("cubbyhole/", mine)->data == Json{{"keys", {"a/"}}});
  CHECK(absl::IsNotFound(f.Read("cubbyhole/a/b", yours).status()));
  CHECK(absl::IsNotFound(f.List("cubbyhole/", yours).status()));
  CHECK(absl::IsNotFound(f.Read("cubbyhole/a/b").status()));

  const std::string batch = make(0, "batch");
  for (const auto& status : {f.Read("cubbyhole/a/b", batch).status(),
                             f.Write("cubbyhole/a/b", {{"k", "v"}}, batch).status(),
                             f.List("cubbyhole/", batch).status()}) {
    CHECK(status == absl::InvalidArgumentError(
                        "cubbyhole operations are only supported by \"service\" type tokens"));
  }

  // The last use still finds it.
  REQUIRE(f.Write("cubbyhole/once", {{"k", "v"}}, limited).ok());
  CHECK(f.Read("cubbyhole/once", limited)->data == Json{{"k", "v"}});
  CHECK(absl::IsPermissionDenied(f.Read("cubbyhole/once", limited).status()));
  f.clock.Advance(absl::Seconds(1));
  expire();
  CHECK(kept(limited) == 0);

  CHECK(kept(mine) == 1);
  f.clock.Advance(absl::Hours(1));
  expire();
  CHECK(kept(mine) == 0);
}

}  // namespace
}  // namespace coffer::keystore
