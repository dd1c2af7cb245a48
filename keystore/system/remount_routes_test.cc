#include "keystore/system/remount_routes.h"

#include <catch2/catch.hpp>
#include <memory>

#include "common/strings.h"
#include "keystore/system/testing_door.h"

namespace coffer::keystore {
namespace {

struct Fixture : DoorKeystore {
  absl::StatusOr<Response> Move(std::string_view from, std::string_view to,
                                std::string_view token = "root") {
    return Write("sys/remount", {{"from", from}, {"to", to}}, token);
  }
  // One that is done but for its commit.
  std::unique_ptr<BarrierTxn> BeginMove(std::string_view from, std::string_view to) {
    const std::vector<Route> routes = RemountRoutes(mounts, tokens);
    Request request;
    request.fields = {{"from", from}, {"to", to}};
    auto txn = barrier.Begin();
    Txn root = (*txn)->root();
    REQUIRE(routes[0].operations[0].handler(request, root).ok());
    return *std::move(txn);
  }
};

bool IsNoRoute(const absl::StatusOr<Response>& response) {
  return absl::IsNotFound(response.status()) &&
         MessageOf(response).find("route entry not found") != std::string::npos;
}

std::string IdOf(const absl::StatusOr<Response>& moved) {
  CAPTURE(moved.status().ToString());
  REQUIRE(moved.ok());
  return TextOf(moved->data.at("migration_id"));
}

TEST_CASE("a moved mount is what it was, at its new path alone") {
  const struct {
    std::string_view from, to;
    std::string_view old_path, new_path;  // as sys/ shows them
  } cases[] = {{"own", "team/a", "mounts/own", "mounts/team/a"},
               {"own/", "/our/", "mounts/own", "mounts/our"},
               {"own", "sysx", "mounts/own", "mounts/sysx"},
               {"/auth/door", "auth/back/1/", "auth/door", "auth/back/1"}};
  for (const auto& c : cases) {
    INFO(c.from << " to " << c.to);
    Fixture keystore;
    for (const auto& [path, type] : {std::pair("mounts/own", "kv-v2"), {"auth/door", "door"}}) {
      REQUIRE(keystore
                  .Write(StrCat("sys/", path), {{"type", type},
                                                {"description", "Ours"},
                                                {"local", true},
                                                {"config", {{"max_lease_ttl", "2h"}}}})
                  .ok());
    }
    const Json mount = keystore.Read(StrCat("sys/", c.old_path))->data;
    const Json tuning = keystore.Read(StrCat("sys/", c.old_path, "/tune"))->data;
    REQUIRE(keystore.Write("own/kept", {{"value", "x"}}).ok());
    REQUIRE(keystore.Write("auth/door/kept", {{"value", "x"}}).ok());

    const auto moved = keystore.Move(c.from, c.to);
    const std::string id = IdOf(moved);
    CHECK(moved->flattened);
    const auto status = keystore.Read(StrCat("sys/remount/status/", id));
    REQUIRE(status.ok());
    const auto stored = [](std::string_view path) {
      return StrCat(path.substr(path.starts_with("mounts/") ? sizeof("mounts/") - 1 : 0), "/");
    };
    CHECK(status->data == Json({{"migration_id", id},
                                {"migration_info",
                                 {{"source_mount", stored(c.old_path)},
                                  {"target_mount", stored(c.new_path)},
                                  {"status", "success"}}}}));
    CHECK_FALSE(status->flattened);
    CHECK(keystore.Read(StrCat("sys/", c.new_path))->data == mount);
    CHECK(keystore.Read(StrCat("sys/", c.new_path, "/tune"))->data == tuning);
    CHECK(keystore.Read(StrCat(stored(c.new_path), "kept"))->data.at("value") == "x");
    CHECK_FALSE(keystore.Read(StrCat("sys/", c.old_path)).ok());
    CHECK(IsNoRoute(keystore.Read(StrCat(stored(c.old_path), "kept"))));
  }
}

TEST_CASE("what can't be moved is refused in Vault's words, and stays where it is") {
  Fixture keystore;
  keystore.Enable("own", "kv", "2");
  keystore.Enable("team/a", "kv", "2");
  keystore.Enable("auth/door", "door");
  keystore.Enable("auth/back/1", "door");
  const Json mounts = keystore.Read("sys/mounts")->data, methods = keystore.Read("sys/auth")->data;
  const struct {
    std::string_view from, to;
    std::string_view error;
  } cases[] = {
      {"", "x", "both 'from' and 'to' path must be specified as a string"},
      {"own", "", "both 'from' and 'to' path must be specified as a string"},
      {"none", "x", "no matching mount at \"none/\""},
      {"own/kept", "x", "no matching mount at \"own/kept/\""},
      {"team", "x", "no matching mount at \"team/\""},
      {"auth/none", "auth/x", "no matching mount at \"auth/none/\""},
      {"door", "x", "no matching mount at \"door/\""},
      {"own", "own", "path already in use at \"own/\""},
      {"own", "own/x", "path already in use at \"own/\""},
      {"own", "team", "path already in use at \"team/a/\""},
      {"own", "team/a", "path already in use at \"team/a/\""},
      {"own", "team/a/b", "path already in use at \"team/a/\""},
      {"team/a", "team", "path already in use at \"team/a/\""},
      {"auth/door", "auth/door", "path already in use at \"auth/door/\""},
      {"auth/door", "auth/back", "path already in use at \"auth/back/1/\""},
      {"auth/door", "auth", "path already in use at \"auth/back/1/\""},
      {"sys", "x", "cannot remount \"sys/\""},
      {"cubbyhole/", "x", "cannot remount \"cubbyhole/\""},
      {"identity", "x", "cannot remount \"identity/\""},
      {"audit", "x", "cannot remount \"audit/\""},
      {"auth/token", "auth/x", "cannot remount \"auth/token/\""},
      {"own", "sys", "cannot remount to destination sys/"},
      {"own", "cubbyhole/x", "cannot remount to destination cubbyhole/x/"},
      {"own", "identity", "cannot remount to destination identity/"},
      {"own", "auth/x", "cannot remount to destination auth/x/"},
      {"auth/door", "auth/token/x", "cannot remount to destination \"auth/token/x/\""},
      {"auth/door", "x", "cannot remount auth mount to non-auth mount \"x/\""},
      {"own ", "x", "'from' path cannot contain trailing whitespace"},
      {"own", " x", "'to' path cannot contain trailing whitespace"},
      {"own", "/", "invalid destination mount: the path of the mount is missing"},
      {"own", "a//b", "invalid destination mount: a mount can't have the path \"a//b\""},
      {"own", "a//", "invalid destination mount: a mount can't have the path \"a/\""},
      {"own", "a/../b", "invalid destination mount: a mount can't have the path \"a/../b\""},
      {"own", "a*", "invalid destination mount: a mount can't have the path \"a*\""},
  };
  for (const auto& c : cases) {
    INFO(c.from << " to " << c.to);
    const auto moved = keystore.Move(c.from, c.to);
    CHECK(absl::IsInvalidArgument(moved.status()));
    CHECK_THAT(MessageOf(moved), Catch::StartsWith(std::string(c.error)));
  }
  CHECK(keystore.Read("sys/mounts")->data == mounts);
  CHECK(keystore.Read("sys/auth")->data == methods);
}

TEST_CASE("a move needs update and sudo, its status read") {
  const struct {
    std::string_view capabilities;
    bool moves, reads;
  } cases[] = {{R"("update")", false, false},
               {R"("create", "sudo")", false, false},
               {R"("update", "sudo")", true, false},
               {R"("read")", false, true}};
  for (const auto& c : cases) {
    INFO(c.capabilities);
    Fixture keystore;
    keystore.Enable("own", "kv", "2");
    keystore.Enable("auth/door", "door");
    REQUIRE(keystore
                .Write("sys/policies/acl/mover",
                       {{"policy", StrCat("path \"sys/remount*\" { capabilities = [",
                                          c.capabilities, "] }")}})
                .ok());
    const Auth auth = keystore.LogIn("door", {{"policies", {"mover"}}});
    const std::string_view token = auth.client_token.view();
    const auto moved = keystore.Move("own", "x", token);
    CHECK(moved.ok() == c.moves);
    if (!c.moves) CHECK(absl::IsPermissionDenied(moved.status()));
    CHECK(keystore.Read("x/kept").ok() == c.moves);
    const auto status = keystore.Read("sys/remount/status/none", token);
    CHECK(absl::IsNotFound(status.status()) == c.reads);
    CHECK(absl::IsPermissionDenied(status.status()) != c.reads);
  }
}

TEST_CASE("the tokens of a moved auth method end, batch tokens and those of others don't") {
  Fixture keystore;
  keystore.Enable("auth/door", "door");
  keystore.Enable("auth/door2", "door");
  const Auth one = keystore.LogIn("door"), batch = keystore.LogIn("door", {{"type", "batch"}});
  const Auth other = keystore.LogIn("door2");
  REQUIRE(keystore.Move("auth/door", "auth/back").ok());
  CHECK_FALSE(keystore.Lives(one));
  CHECK(keystore.Lives(batch));  // nothing of it is stored: it ends with its TTL
  CHECK(keystore.Lives(other));
  const Auth later = keystore.LogIn("back");
  CHECK(keystore.Lives(later));

  // And back: what was revoked at the old path is done with.
  REQUIRE(keystore.Move("auth/back", "auth/door").ok());
  CHECK_FALSE(keystore.Lives(later));
  CHECK(keystore.Lives(keystore.LogIn("door")));
}

TEST_CASE("answers of a moved mount that are wrapped end as tokens do, as in Vault") {
  Fixture keystore;
  keystore.Enable("own", "kv", "2");
  Request request;
  request.path = "own/kept";
  request.token = SecretBytes::CopyOf(keystore.root_token);
  request.wrap_ttl = absl::Hours(1);
  const auto wrapped = keystore.core.HandleAndWait(request);
  REQUIRE(wrapped.ok());
  REQUIRE(keystore.Move("own", "x").ok());
  CHECK_FALSE(
      keystore.Write("sys/wrapping/unwrap", Json::object(), wrapped->wrapped->token.view()).ok());
}

TEST_CASE("over a crash after a move its tokens end too, since that is noted with it") {
  Fixture keystore;
  keystore.Enable("auth/door", "door");
  const Auth auth = keystore.LogIn("door");
  REQUIRE(CommitAndWait(keystore.barrier, keystore.BeginMove("auth/door", "auth/back")).ok());
  // The crash comes here.
  CHECK(keystore.Read("auth/back/kept").ok());
  CHECK(keystore.Lives(auth));
  // Else what is there next would lose its tokens.
  CHECK(MessageOf(keystore.Write("sys/auth/door", {{"type", "door"}})) ==
        "tokens of what was mounted at auth/door/ are being revoked: try again");
  const auto early = keystore.Move("auth/back", "auth/door");
  CHECK(absl::IsUnavailable(early.status()));
  keystore.core.StartExpiry();
  for (int i = 0; i < 500 && keystore.Lives(auth); ++i) absl::SleepFor(absl::Milliseconds(10));
  CHECK_FALSE(keystore.Lives(auth));
}

TEST_CASE("what is under way at the old path while a mount moves is done before it or not at all") {
  Fixture keystore;
  keystore.Enable("own", "kv", "2");
  keystore.Enable("auth/door", "door");
  REQUIRE(keystore.Write("own/kept", {{"value", "before"}}).ok());
  bool moved = false;
  keystore.door.meanwhile = [&] { moved = keystore.Move("own", "x").ok(); };
  CHECK(IsNoRoute(keystore.Write("own/kept", {{"value", "late"}})));
  CHECK(moved);
  CHECK(keystore.Read("x/kept")->data.at("value") == "before");

  // Another engine that has come to the old path takes it.
  keystore.door.meanwhile = [&] {
    REQUIRE(keystore.Move("x", "own").ok());
    keystore.Enable("x", "kv", "2");
  };
  REQUIRE(keystore.Write("x/kept", {{"value", "new"}}).ok());
  CHECK(keystore.Read("x/kept")->data.at("value") == "new");
  CHECK(keystore.Read("own/kept")->data.at("value") == "before");

  // A login leaves no token behind that the move doesn't revoke.
  keystore.door.meanwhile = [&] { moved = keystore.Move("auth/door", "auth/back").ok(); };
  CHECK(CodeOf(keystore.Write("auth/door/login", Json::object(), "")) ==
        absl::StatusCode::kPermissionDenied);
  CHECK(keystore.Read("auth/back/kept").ok());
  CHECK(keystore.Tokens() == 1);  // root's
  CHECK(keystore.Lives(keystore.LogIn("back")));
}

TEST_CASE("two moves of one mount at once: one is done, the other finds nothing") {
  Fixture keystore;
  keystore.Enable("own", "kv", "2");
  std::unique_ptr<BarrierTxn> late = keystore.BeginMove("own", "late");
  REQUIRE(keystore.Move("own", "first").ok());
  CHECK(absl::IsAborted(CommitAndWait(keystore.barrier, std::move(late))));
  CHECK(keystore.Read("first/kept").ok());
  CHECK(IsNoRoute(keystore.Read("late/kept")));
  CHECK(MessageOf(keystore.Move("own", "late")) == "no matching mount at \"own/\"");
}

TEST_CASE("the latest 256 moves are known, others are 404") {
  Fixture keystore;
  keystore.Enable("a", "kv", "2");
  const std::string first = IdOf(keystore.Move("a", "b"));
  const std::string second = IdOf(keystore.Move("b", "a"));
  for (int i = 0; i < 127; ++i) {
    REQUIRE(keystore.Move("a", "b").ok());
    REQUIRE(keystore.Move("b", "a").ok());
  }
  const auto known = [&](std::string_view id) {
    const auto status = keystore.Read(StrCat("sys/remount/status/", id));
    if (!status.ok()) CHECK(status.status() == absl::NotFoundError(""));
    return status.ok();
  };
  CHECK(known(first));
  REQUIRE(keystore.Move("a", "b").ok());
  CHECK_FALSE(known(first));
  CHECK(known(second));
  for (const char* id : {"none", "a/b"}) CHECK_FALSE(known(id));
}

}  // namespace
}  // namespace coffer::keystore
