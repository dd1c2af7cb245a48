#include "common/status_macros.h"
#include "keystore/barrier/shamir_seal.h"
#include "keystore/core/policy.h"
#include "keystore/storage/memory_store.h"

namespace coffer::keystore {
namespace {

// Counts what is read through a real transaction.
class CountingTxn : public BarrierTxn {
 public:
  explicit CountingTxn(BarrierTxn& inner) : inner_(inner) {}
  absl::StatusOr<std::optional<SecretBytes>> Get(std::string_view path) override {
    ++gets;
    return inner_.Get(path);
  }
  absl::StatusOr<std::optional<std::string>> Tag(std::string_view path) override {
    ++tags;
    return inner_.Tag(path);
  }
  absl::Status Put(std::string_view path, std::string_view value) override {
    return inner_.Put(path, value);
  }
  absl::Status Delete(std::string_view path) override { return inner_.Delete(path); }
  absl::StatusOr<std::vector<std::string>> List(std::string_view directory) override {
    return inner_.List(directory);
  }
  absl::Status DeleteAll(std::string_view directory) override {
    return inner_.DeleteAll(directory);
  }
  absl::StatusOr<SecretBytes> SealText(std::string_view purpose, std::string_view text) override {
    return inner_.SealText(purpose, text);
  }
  absl::StatusOr<SecretBytes> OpenText(std::string_view purpose, std::string_view sealed) override {
    return inner_.OpenText(purpose, sealed);
  }
  void OnCommit(std::function<void()> action) override { inner_.OnCommit(std::move(action)); }
  bool read_only() const override { return inner_.read_only(); }

  int gets = 0;
  int tags = 0;

 private:
  BarrierTxn& inner_;
};

struct Fixture {
  Fixture() {
    const auto shares = seal.Initialize({1, 1}, [] { return absl::OkStatus(); });
    REQUIRE(shares.ok());
    REQUIRE(seal.Unseal(EncodeHex(shares->front().span()).view()).ok());
  }

  // Runs `action` in a transaction that is then committed.
  template <class Action>
  auto Do(Action action) {
    auto txn = barrier.Begin();
    REQUIRE(txn.ok());
    CountingTxn counting(**txn);
    Txn root = counting.root();
    auto result = action(root);
    gets = counting.gets;
    tags = counting.tags;
    REQUIRE(CommitAndWait(barrier, *std::move(txn)).ok());
    return result;
  }
  absl::Status Put(std::string_view name, std::string_view text) {
    return Do([&](Txn& txn) { return policies.Put(txn, name, text); });
  }
  std::shared_ptr<const Acl> AclFor(const std::vector<std::string>& names) {
    return Do([&](Txn& txn) { return policies.AclFor(txn, names).value(); });
  }
  bool MayRead(const std::vector<std::string>& names, std::string_view path) {
    return AclFor(names)->Allows(Operation::kRead, path, Json::object());
  }

  ManualClock clock;
  MemoryStore store;
  Barrier barrier{store, clock};
  ShamirSeal seal{barrier};
  PolicyStore policies;
  int gets = 0;  // of the last Do
  int tags = 0;
};

constexpr std::string_view kReadA = R"(path "a" { capabilities = ["read"] })";
constexpr std::string_view kReadB = R"(path "b" { capabilities = ["read"] })";

TEST_CASE("policies are kept by name, whatever its letters") {
  Fixture f;
  CHECK(f.Do([&](Txn& txn) { return f.policies.Initialize(txn); }).ok());
  for (const std::string_view name : {"WebApp", "team/a", "a%2Fb", "a b", "é", "..", "x/"}) {
    INFO(name);
    REQUIRE(f.Put(name, kReadA).ok());
    CHECK(f.Do([&](Txn& txn) { return f.policies.Get(txn, name).value(); }) == kReadA);
  }
  CHECK(f.Do([&](Txn& txn) { return f.policies.Get(txn, "webapp").value(); }) == kReadA);
  CHECK(f.Do([&](Txn& txn) { return f.policies.Get(txn, "other").value(); }) == std::nullopt);
  CHECK(f.Do([&](Txn& txn) { return f.policies.Get(txn, "Root").value(); }) == "");
  // "a%2fb" isn't "a/b", though it was written in upper case.
  CHECK(f.Do([&](Txn& txn) { return f.policies.Get(txn, "a/b").value(); }) == std::nullopt);
  CHECK(f.Do([&](Txn& txn) { return f.policies.List(txn).value(); }) ==
        std::vector<std::string>{"..", "a b", "a%2fb", "default", "team/a", "webapp", "x/", "é",
                                 "root"});
  CHECK(f.Do([&](Txn& txn) { return f.policies.Delete(txn, "TEAM/A"); }).ok());
  CHECK(f.Do([&](Txn& txn) { return f.policies.Get(txn, "team/a").value(); }) == std::nullopt);
}

TEST_CASE("what can't be a policy is refused and nothing is stored") {
  Fixture f;
  const std::string long_name(513, 'x');
  const struct {
    std::string_view name;
    std::string_view text;
  } cases[] = {{"", kReadA},        {"root", kReadA}, {"ROOT", kReadA},
               {long_name, kReadA}, {"a", "path"},    {"a", "path \"{{identity.entity.id}}\" {}"}};
  for (const auto& c : cases) {
    INFO(c.name << " " << c.text);
    CHECK(f.Put(c.name, c.text).code() == absl::StatusCode::kInvalidArgument);
  }
  for (const std::string_view name : {"root", "default", "Default", ""}) {
    INFO(name);
    CHECK(f.Do([&](Txn& txn) { return f.policies.Delete(txn, name); }).code() ==
          absl::StatusCode::kInvalidArgument);
  }
  CHECK(f.Do([&](Txn& txn) { return f.policies.List(txn).value(); }) ==
        std::vector<std::string>{"root"});
}

TEST_CASE("an Acl is the union of what its policies say now") {
  Fixture f;
  CHECK_FALSE(f.MayRead({"a", "b"}, "a"));
  REQUIRE(f.Put("a", kReadA).ok());
  CHECK(f.MayRead({"a", "b"}, "a"));
  CHECK(f.MayRead({"A"}, "a"));
  CHECK_FALSE(f.MayRead({"a", "b"}, "b"));
  REQUIRE(f.Put("b", kReadB).ok());
  CHECK(f.MayRead({"a", "b"}, "b"));
  REQUIRE(f.Put("a", kReadB).ok());
  CHECK_FALSE(f.MayRead({"a", "b"}, "a"));
  REQUIRE(f.Do([&](Txn& txn) { return f.policies.Delete(txn, "b"); }).ok());
  CHECK_FALSE(f.MayRead({"b"}, "b"));
  CHECK(f.MayRead({"a"}, "b"));
  CHECK_FALSE(f.MayRead({}, "b"));
}

TEST_CASE("root among the names is all that counts") {
  Fixture f;
  CHECK(f.AclFor({"default", "root"})->root());
  CHECK(f.tags == 0);
  CHECK(f.MayRead({"root"}, "anything"));
  CHECK_FALSE(f.AclFor({"rooty"})->root());
}

TEST_CASE("an Acl that is known is found by tags alone") {
  Fixture f;
  REQUIRE(f.Put("a", kReadA).ok());
  REQUIRE(f.Put("b", kReadB).ok());
  const auto acl = f.AclFor({"a", "b", "none"});
  CHECK(f.gets == 2);
  CHECK(f.AclFor({"a", "b", "none"}) == acl);
  CHECK(f.gets == 0);
  CHECK(f.tags == 3);

  // A policy that appears, changes or goes makes another.
  REQUIRE(f.Put("none", kReadB).ok());
  const auto with = f.AclFor({"a", "b", "none"});
  CHECK(with != acl);
  CHECK(f.gets == 1);
  // The same text written again is another entry.
  REQUIRE(f.Put("a", kReadA).ok());
  CHECK(f.AclFor({"a", "b", "none"}) != with);

  f.policies.OnSeal();
  f.AclFor({"a", "b", "none"});
  CHECK(f.gets == 3);
}

TEST_CASE("a transaction sees its own change of a policy, others don't before it commits") {
  Fixture f;
  REQUIRE(f.Put("a", kReadA).ok());
  CHECK(f.MayRead({"a"}, "a"));
  auto writer = f.barrier.Begin();
  auto reader = f.barrier.Begin();
  REQUIRE(writer.ok());
  REQUIRE(reader.ok());
  Txn writing = (*writer)->root();
  Txn reading = (*reader)->root();
  REQUIRE(f.policies.Put(writing, "a", kReadB).ok());
  const auto may_read_b = [&](Txn& txn) {
    return f.policies.AclFor(txn, {"a"}).value()->Allows(Operation::kRead, "b", Json::object());
  };
  CHECK(may_read_b(writing));
  CHECK_FALSE(may_read_b(reading));
  CHECK(may_read_b(writing));
  REQUIRE(CommitAndWait(f.barrier, *std::move(writer)).ok());
  CHECK(f.MayRead({"a"}, "b"));
}

}  // namespace
}  // namespace coffer::keystore
