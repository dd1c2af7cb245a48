#include "keystore/system/mount_routes.h"

#include <catch2/catch.hpp>

#include "common/strings.h"
#include "keystore/system/testing_door.h"

namespace coffer::keystore {
namespace {

using Fixture = DoorKeystore;

TEST_CASE("a disabled auth method's tokens end with it, children too, and no others") {
  Fixture keystore;
  keystore.Enable("auth/door", "door");
  keystore.Enable("auth/door2", "door");
  const Auth one = keystore.LogIn("door"), batch = keystore.LogIn("door", {{"type", "batch"}});
  const Auth other = keystore.LogIn("door2");
  const std::string child = keystore.Child(one), stranger = keystore.Child(other);
  std::vector<Auth> many;  // more than go into one transaction
  for (int i = 0; i < 600; ++i) many.push_back(keystore.LogIn("door"));

  const auto disabled = keystore.Delete("sys/auth/door");
  REQUIRE(disabled.ok());
  CHECK(disabled->http_status == 0);
  CHECK_FALSE(keystore.Lives(one));
  CHECK_FALSE(keystore.Lives(child));
  int living = 0;
  for (const Auth& auth : many) living += keystore.Lives(auth);
  CHECK(living == 0);
  CHECK(keystore.Lives(other));
  CHECK(keystore.Lives(stranger));
  CHECK(keystore.Lives(keystore.root_token));
  CHECK(keystore.Lives(batch));  // nothing of it is stored: it ends with its TTL

  // What is enabled there next begins anew.
  keystore.Enable("auth/door", "door");
  CHECK(keystore.Lives(keystore.LogIn("door")));
  CHECK_FALSE(keystore.Lives(one));
}

TEST_CASE("a login under way while its method is disabled finds none") {
  Fixture keystore;
  keystore.Enable("auth/door", "door");
  keystore.door.meanwhile = [&] { CHECK(keystore.Delete("sys/auth/door").ok()); };
  // As everything that isn't there without a token.
  CHECK(CodeOf(keystore.Write("auth/door/login", Json::object(), "")) ==
        absl::StatusCode::kPermissionDenied);
  CHECK(keystore.Tokens() == 1);  // root's
}

TEST_CASE("a revocation that a crash broke off goes on once the keystore is open") {
  Fixture keystore;
  keystore.Enable("auth/door", "door");
  const Auth auth = keystore.LogIn("door");
  {
    // What Disable commits; the crash comes after it.
    auto txn = keystore.barrier.Begin();
    Txn root = (*txn)->root();
    REQUIRE(keystore.tokens.RevokeBelow(root, "auth/door/").ok());
    REQUIRE(CommitAndWait(keystore.barrier, *std::move(txn)).ok());
  }
  CHECK(keystore.Lives(auth));
  const auto early = keystore.Write("sys/auth/door/below", {{"type", "door"}});
  CHECK(CodeOf(early) != absl::StatusCode::kOk);
  keystore.core.StartExpiry();
  for (int i = 0; i < 500 && keystore.Lives(auth); ++i) absl::SleepFor(absl::Milliseconds(10));
  CHECK_FALSE(keystore.Lives(auth));
}

TEST_CASE("nothing is enabled where tokens are still being revoked") {
  Fixture keystore;
  auto txn = keystore.barrier.Begin();
  Txn root = (*txn)->root();
  REQUIRE(keystore.tokens.RevokeBelow(root, "auth/door/").ok());
  REQUIRE(CommitAndWait(keystore.barrier, *std::move(txn)).ok());
  CHECK(MessageOf(keystore.Write("sys/auth/door", {{"type", "door"}})) ==
        "tokens of what was mounted at auth/door/ are being revoked: try again");
  CHECK(keystore.Write("sys/auth/door2", {{"type", "door"}}).ok());
  CHECK(keystore.Delete("sys/auth/door2").ok());  // does all that is noted
  CHECK(keystore.Write("sys/auth/door", {{"type", "door"}}).ok());
}

TEST_CASE("revoke-prefix and revoke-force revoke what a path made") {
  struct Case {
    std::string_view path;
    Json data;
    int http_status;
    bool door, door2;  // whether their tokens live on
  };
  const Case cases[] = {
      {"sys/leases/revoke-prefix/auth/door", Json::object(), 0, false, true},
      {"sys/leases/revoke-prefix/auth/door/login", Json::object(), 0, false, true},
      {"sys/leases/revoke-prefix/auth/door/log", Json::object(), 0, true, true},
      {"sys/leases/revoke-force/auth/door2", Json::object(), 0, true, false},
      {"sys/leases/revoke-prefix/auth", Json::object(), 0, false, false},
      {"sys/leases/revoke-prefix/secret", Json::object(), 0, true, true},
      {"sys/leases/revoke-prefix/auth/door", {{"sync", false}}, 202, true, true},
      {"sys/revoke-prefix/auth/door", Json::object(), 0, false, true},
      {"sys/revoke-force/auth/door", Json::object(), 0, false, true},
  };
  for (const Case& c : cases) {
    INFO(c.path);
    Fixture keystore;
    keystore.Enable("auth/door", "door");
    keystore.Enable("auth/door2", "door");
    const Auth door = keystore.LogIn("door"), door2 = keystore.LogIn("door2");
    const std::string child = keystore.Child(door);
    const auto revoked = keystore.Write(c.path, c.data);
    REQUIRE(revoked.ok());
    CHECK(revoked->http_status == c.http_status);
    CHECK(keystore.Lives(door) == c.door);
    CHECK(keystore.Lives(child) == c.door);
    CHECK(keystore.Lives(door2) == c.door2);
    CHECK(keystore.Lives(keystore.root_token));
    CHECK(keystore.Write("auth/door/login", Json::object(), "").ok());
  }
  Fixture keystore;
  CHECK(MessageOf(keystore.Write("sys/leases/revoke-prefix/", Json::object())) ==
        "cannot write to a path ending in '/'");
}

TEST_CASE("revoke-prefix needs sudo") {
  Fixture keystore;
  keystore.Enable("auth/door", "door");
  for (const bool sudo : {false, true}) {
    const std::string capabilities = sudo ? "[\"update\", \"sudo\"]" : "[\"update\"]";
    REQUIRE(keystore.Write("sys/policies/acl/revoker",
                           {{"policy", StrCat("path \"sys/leases/*\" { capabilities = ",
                                              capabilities, " }")}}).ok());
    const Auth auth = keystore.LogIn("door", {{"policies", {"revoker"}}});
    const auto revoked = keystore.Write("sys/leases/revoke-prefix/auth/door", Json::object(),
                                        auth.client_token.view());
    CHECK(revoked.ok() == sudo);
    CHECK(keystore.Lives(auth) == !sudo);
  }
}

TEST_CASE("a mount's token_type is the last word, its default fills in") {
  // By what the role says: "", default, service, batch, default-service, default-batch.
  constexpr std::string_view kAsked[] = {"",      "default",         "service",
                                         "batch", "default-service", "default-batch"};
  const struct {
    std::string_view tuned;
    std::string_view types;  // s or b, one for each of kAsked
  } cases[] = {{"", "sssbsb"},
               {"default-service", "sssbsb"},
               {"default-batch", "bbsbsb"},
               {"service", "ssssss"},
               {"batch", "bbbbbb"}};
  Fixture keystore;
  keystore.Enable("auth/door", "door");
  for (const auto& c : cases) {
    REQUIRE(keystore.Write("sys/auth/door/tune", {{"token_type", c.tuned}}).ok());
    for (std::size_t i = 0; i < std::size(kAsked); ++i) {
      INFO("mount: " << c.tuned << ", role: " << kAsked[i]);
      const Auth auth = keystore.LogIn("door", {{"type", kAsked[i]}});
      CHECK(auth.entry->type == (c.types[i] == 's' ? "service" : "batch"));
      CHECK(auth.client_token.view().starts_with(c.types[i] == 's' ? "hvs." : "hvb."));
    }
  }
  // What a batch token can't have is refused, not dropped.
  CHECK(MessageOf(keystore.Write("auth/door/login", {{"num_uses", 1}}, "")) ==
        "batch tokens cannot have \"num_uses\" set");
  REQUIRE(keystore.Write("sys/auth/night",
                         {{"type", "door"}, {"config", {{"token_type", "batch"}}}}).ok());
  CHECK(keystore.LogIn("night").entry->batch());
}

TEST_CASE("ui/mounts shows everyone what is listed for all, and a token what it reaches") {
  Fixture keystore;
  keystore.Enable("auth/door", "door");
  keystore.Enable("auth/back", "door");
  keystore.Enable("shown", "kv", "2");
  keystore.Enable("own", "kv", "2");
  keystore.Enable("other", "kv", "1");
  for (const char* path : {"auth/door", "mounts/shown"}) {
    REQUIRE(keystore.Write(StrCat("sys/", path, "/tune"),
                           {{"listing_visibility", "unauth"}, {"description", "Come in"}}).ok());
  }
  REQUIRE(keystore.Write("sys/mounts/other/tune", {{"listing_visibility", "hidden"}}).ok());
  REQUIRE(keystore.Write("sys/policies/acl/reader",
                         {{"policy", "path \"own/*\" { capabilities = [\"read\"] }"}}).ok());
  const Auth auth = keystore.LogIn("door", {{"policies", {"reader"}}});
  const auto names = [&](std::string_view token, const char* group) {
    std::vector<std::string> found;
    const auto read = keystore.Read("sys/internal/ui/mounts", token);
    REQUIRE(read.ok());
    for (const auto& [name, mount] : read->data.at(group).items()) {
      found.emplace_back(std::string_view(name));
    }
    return found;
  };
  using Names = std::vector<std::string>;
  CHECK(names("", "auth") == Names{"door/"});
  CHECK(names("", "secret") == Names{"shown/"});
  // The default policy reaches its own cubbyhole, and sys/ and auth/token/ in part.
  CHECK(names(auth.client_token.view(), "auth") == Names{"door/", "token/"});
  CHECK(names(auth.client_token.view(), "secret") == Names{"cubbyhole/", "own/", "shown/", "sys/"});
  CHECK(names("root", "secret") == Names{"cubbyhole/", "other/", "own/", "shown/", "sys/"});

  const auto open = keystore.Read("sys/internal/ui/mounts", "");
  CHECK(open->data.at("secret").at("shown/") ==
        Json({{"type", "kv"}, {"description", "Come in"}, {"options", {{"version", "2"}}}}));
  CHECK(keystore.Read("sys/internal/ui/mounts")->data.at("secret").at("shown/").contains("uuid"));
  CHECK(CodeOf(keystore.Read("sys/internal/ui/mounts", "hvs.wrong")) ==
        absl::StatusCode::kPermissionDenied);

  // One mount is shown to tokens that reach it alone.
  for (const auto& [token, path, shown] :
       {std::tuple<std::string_view, std::string_view, bool>{"root", "own/a/b", true},
        {"root", "nowhere", false},
        {auth.client_token.view(), "own/", true},
        {auth.client_token.view(), "other/", false},
        {auth.client_token.view(), "shown/", false},
        {"", "shown/", false}}) {
    INFO(path);
    const auto read = keystore.Read(StrCat("sys/internal/ui/mounts/", path), token);
    CHECK(read.ok() == shown);
    if (shown) CHECK(read->data.at("path") == "own/");
    if (!shown) CHECK(CodeOf(read) == absl::StatusCode::kPermissionDenied);
  }
}

TEST_CASE("tokens live as long as their mount is tuned to, and no longer") {
  Fixture keystore;
  keystore.Enable("auth/door", "door");
  const struct {
    Json tuned;
    Json asked;
    std::int64_t seconds;
    bool capped;
  } cases[] = {
      {Json::object(), Json::object(), 768 * 3600, false},
      {{{"default_lease_ttl", "10m"}, {"max_lease_ttl", "1h"}}, Json::object(), 600, false},
      {Json::object(), {{"ttl", "30m"}}, 1800, false},
      {Json::object(), {{"ttl", "2h"}}, 3600, true},
      {{{"default_lease_ttl", 0}}, Json::object(), 3600, true},
      {{{"max_lease_ttl", 7200}}, {{"ttl", "2h"}}, 7200, false},
      {{{"max_lease_ttl", "2000h"}, {"default_lease_ttl", "1000h"}}, Json::object(), 3'600'000,
       false},
      {{{"max_lease_ttl", "system"}, {"default_lease_ttl", "system"}}, Json::object(), 768 * 3600,
       false},
  };
  for (const auto& c : cases) {
    INFO(c.tuned.dump() << " " << c.asked.dump());
    REQUIRE(keystore.Write("sys/auth/door/tune", c.tuned).ok());
    const auto made = keystore.Write("auth/door/login", c.asked, "");
    REQUIRE(made.ok());
    CHECK(absl::ToInt64Seconds(made->auth->entry->creation_ttl) == c.seconds);
    CHECK(made->warnings.size() == (c.capped ? 1 : 0));
    CHECK(keystore.Lives(*made->auth));
  }
  keystore.clock.Advance(absl::Minutes(11));
  CHECK(keystore.Lives(keystore.LogIn("door")));
}

TEST_CASE("what a mount can't be tuned to is refused and changes nothing") {
  Fixture keystore;
  keystore.Enable("auth/door", "door");
  keystore.Enable("own", "kv", "2");
  const Json door = keystore.Read("sys/auth/door/tune")->data;
  const Json own = keystore.Read("sys/mounts/own/tune")->data;
  const struct {
    std::string_view path;
    Json data;
    std::string_view error;
  } cases[] = {
      {"auth/door", {{"default_lease_ttl", "769h"}}, "longer than the max_lease_ttl"},
      {"auth/door",
       {{"default_lease_ttl", "2h"}, {"max_lease_ttl", "1h"}},
       "longer than the max_lease_ttl"},
      {"auth/door", {{"default_lease_ttl", "soon"}}, "default_lease_ttl"},
      {"auth/door", {{"token_type", "b"}}, "invalid value for 'token_type'"},
      {"auth/door", {{"description", "x"}, {"token_type", "b"}}, "invalid value for 'token_type'"},
      {"auth/token", {{"token_type", "batch"}}, "cannot be set for 'token'"},
      {"mounts/own", {{"token_type", "batch"}}, "can only be modified on auth mounts"},
      {"mounts/own", {{"listing_visibility", "all"}}, "invalid listing_visibility"},
      {"mounts/own", {{"options", {{"version", "1"}}}}, "holds kv version 2 secrets"},
      {"mounts/own", {{"options", {{"version", Json::array()}}}}, "must be a string"},
      {"mounts/own", {{"force_no_cache", "x"}}, "force_no_cache"},
      {"mounts/own", {{"audit_non_hmac_request_keys", 1}}, "audit_non_hmac_request_keys"},
      {"mounts/cubbyhole", {{"max_lease_ttl", "1h"}}, "cannot tune \"cubbyhole/\""},
      {"mounts/sys", {{"description", "x"}}, "cannot tune \"sys/\""},
      {"mounts/none", {{"description", "x"}}, "No secret engine mount at none/"},
      {"auth/none", {{"description", "x"}}, "No auth engine at none/"},
  };
  for (const auto& c : cases) {
    INFO(c.path << " " << c.data.dump());
    const auto tuned = keystore.Write(StrCat("sys/", c.path, "/tune"), c.data);
    CHECK(CodeOf(tuned) == absl::StatusCode::kInvalidArgument);
    CHECK_THAT(MessageOf(tuned), Catch::Contains(std::string(c.error)));
  }
  CHECK(keystore.Read("sys/auth/door/tune")->data == door);
  CHECK(keystore.Read("sys/mounts/own/tune")->data == own);
  CHECK(own == Json({{"default_lease_ttl", 768 * 3600},
                     {"max_lease_ttl", 768 * 3600},
                     {"force_no_cache", false},
                     {"description", ""},
                     {"options", {{"version", "2"}}}}));
  REQUIRE(keystore.Write("sys/mounts/own/tune", {{"description", "Ours"}, {"max_lease_ttl", "2h"},
                                                 {"audit_non_hmac_request_keys", {"a"}}}).ok());
  const Json tuned = keystore.Read("sys/mounts/own/tune")->data;
  CHECK(tuned.at("description") == "Ours");
  CHECK(tuned.at("max_lease_ttl") == 7200);
  CHECK(tuned.at("audit_non_hmac_request_keys") == Json::array({"a"}));
}

TEST_CASE("what Go clients send for settings that they don't change changes nothing") {
  Fixture keystore;
  REQUIRE(keystore
              .Write("sys/mounts/own", {{"type", "kv-v2"},
                                        {"config",
                                         {{"max_lease_ttl", "2h"},
                                          {"default_lease_ttl", "1h"},
                                          {"audit_non_hmac_request_keys", "a,b"},
                                          {"listing_visibility", "hidden"}}}})
              .ok());
  REQUIRE(keystore
              .Write("sys/mounts/own/tune", {{"description", "Ours"},
                                             {"default_lease_ttl", ""},
                                             {"max_lease_ttl", ""},
                                             {"force_no_cache", false},
                                             {"options", nullptr}})
              .ok());
  const auto tuning = keystore.Read("sys/mounts/own/tune");
  CHECK(tuning->flattened);
  CHECK(tuning->data == Json({{"default_lease_ttl", 3600},
                              {"max_lease_ttl", 7200},
                              {"force_no_cache", false},
                              {"audit_non_hmac_request_keys", {"a", "b"}},
                              {"listing_visibility", "hidden"},
                              {"description", "Ours"},
                              {"options", {{"version", "2"}}}}));
  REQUIRE(keystore
              .Write("sys/mounts/own/tune",
                     {{"audit_non_hmac_request_keys", ""}, {"listing_visibility", ""}})
              .ok());
  const Json untuned = keystore.Read("sys/mounts/own/tune")->data;
  CHECK_FALSE(untuned.contains("audit_non_hmac_request_keys"));
  CHECK_FALSE(untuned.contains("listing_visibility"));
}

TEST_CASE("nothing is mounted where it can't be reached, is reserved or would hide another") {
  Fixture keystore;
  keystore.Enable("team/a", "kv", "2");
  keystore.Enable("auth/door", "door");
  const struct {
    std::string_view path;
    std::string_view error;  // "": it is mounted
  } cases[] = {
      {"mounts/team/a", "path is already in use at team/a/"},
      {"mounts/team", "path is already in use at team/a/"},
      {"mounts/team/a/b", "path is already in use at team/a/"},
      {"mounts/cubbyhole", "path is already in use at cubbyhole/"},
      {"mounts/sys", "the path \"sys/\" is reserved"},
      {"mounts/sys/x", "the path \"sys/x/\" is reserved"},
      {"mounts/auth", "the path \"auth/\" is reserved"},
      {"mounts/auth/x", "the path \"auth/x/\" is reserved"},
      {"auth/token", "path is already in use at token/"},
      {"auth/door/x", "path is already in use at door/"},
      {"mounts/a//b", "a mount can't have the path"},
      {"mounts/a/../b", "a mount can't have the path"},
      {"mounts/..", "a mount can't have the path"},
      {"mounts/a b", "a mount can't have the path"},
      {"mounts/a*", "a mount can't have the path"},
      {"mounts/+", "a mount can't have the path"},
      {"mounts/{a}", "a mount can't have the path"},
      {"mounts/a\\b", "a mount can't have the path"},
      {"mounts/team/ab", ""},
      {"mounts/door", ""},
      {"auth/sys", ""},
      {"mounts/wörter", ""},
  };
  for (const auto& c : cases) {
    INFO(c.path);
    const bool auth = c.path.starts_with("auth/");
    const auto enabled =
        keystore.Write(StrCat("sys/", c.path), {{"type", auth ? "door" : "kv-v2"}});
    if (c.error.empty()) {
      CHECK(enabled.ok());
    } else {
      CHECK(CodeOf(enabled) == absl::StatusCode::kInvalidArgument);
      CHECK_THAT(MessageOf(enabled), Catch::Contains(std::string(c.error)));
    }
  }
}

TEST_CASE("enable takes kv's names, and says which types there are") {
  Fixture keystore;
  const struct {
    std::string_view path;
    Json data;
    std::string_view version;  // "": there is no such type
  } cases[] = {{"mounts/a", {{"type", "kv"}}, "none"},
               {"mounts/b", {{"type", "kv-v1"}}, "1"},
               {"mounts/c", {{"type", "kv-v2"}}, "2"},
               {"mounts/d", {{"type", "kv"}, {"options", {{"version", 2}}}}, "2"},
               {"mounts/e", {{"type", "generic"}}, "1"},
               {"mounts/f", {{"type", "kv"}, {"options", {{"version", "3"}}}}, ""},
               {"mounts/g", {{"type", "pki"}}, ""},
               {"mounts/h", {{"type", "system"}}, ""},
               {"mounts/i", Json::object(), ""},
               {"mounts/l", {{"type", "door"}}, ""},
               {"auth/m", {{"type", "kv"}}, ""},
               {"auth/j", {{"type", "ldap"}}, ""},
               {"auth/k", {{"type", "token"}}, ""}};
  for (const auto& c : cases) {
    INFO(c.path);
    const auto enabled = keystore.Write(StrCat("sys/", c.path), c.data);
    CHECK(enabled.ok() == !c.version.empty());
    if (!enabled.ok()) {
      CHECK(CodeOf(enabled) == absl::StatusCode::kInvalidArgument);
      CHECK_THAT(MessageOf(enabled),
                 Catch::Contains(c.data.empty() ? "\"type\" is missing" : "it has "));
      continue;
    }
    const Json mount = keystore.Read(StrCat("sys/", c.path))->data;
    CHECK(mount.at("type") == "kv");
    CHECK_THAT(TextOf(mount.at("accessor")), Catch::StartsWith("kv_"));
    const Json options = c.version == "none" ? Json::object() : Json({{"version", c.version}});
    CHECK(mount.at("options") == options);
  }
}

TEST_CASE("mounts are listed beside \"data\" too, secrets engines and auth methods apart") {
  Fixture keystore;
  REQUIRE(keystore.Write("sys/mounts/own", {{"type", "kv-v2"},
                                            {"description", "Ours"},
                                            {"config", {{"max_lease_ttl", "1h"}}},
                                            {"local", true},
                                            {"seal_wrap", true}}).ok());
  keystore.Enable("auth/door", "door");
  const auto mounts = keystore.Read("sys/mounts"), methods = keystore.Read("sys/auth");
  REQUIRE(mounts.ok());
  REQUIRE(methods.ok());
  CHECK(mounts->flattened);
  CHECK(methods->flattened);
  CHECK(mounts->data.size() == 3);
  CHECK(methods->data.size() == 2);
  Json own = mounts->data.at("own/");
  const auto read = keystore.Read("sys/mounts/own");
  CHECK(read->flattened);
  CHECK(own == read->data);
  own.erase("accessor");
  CHECK(TextOf(own.at("uuid")).size() == 36);
  own.erase("uuid");
  CHECK(own == Json({{"type", "kv"},
                     {"description", "Ours"},
                     {"config", {{"default_lease_ttl", 0}, {"max_lease_ttl", 3600},
                                 {"force_no_cache", false}}},
                     {"options", {{"version", "2"}}},
                     {"local", true},
                     {"seal_wrap", true},
                     {"external_entropy_access", false},
                     {"plugin_version", ""},
                     {"running_plugin_version", ""},
                     {"running_sha256", ""},
                     {"deprecation_status", "supported"}}));
  const Json& door = methods->data.at("door/");
  CHECK(door.at("config").at("token_type") == "default-service");
  CHECK_THAT(TextOf(door.at("accessor")), Catch::StartsWith("auth_door_"));
}

TEST_CASE("a disabled mount's contents are gone, and what is mounted there next is empty") {
  Fixture keystore;
  keystore.Enable("own", "kv", "2");
  REQUIRE(keystore.Write("own/kept", {{"value", "x"}}).ok());
  CHECK(keystore.Read("own/kept")->data.at("value") == "x");
  // What isn't there is disabled.
  for (int i = 0; i < 2; ++i) CHECK(keystore.Delete("sys/mounts/own").ok());
  CHECK(CodeOf(keystore.Read("own/kept")) == absl::StatusCode::kNotFound);
  CHECK(CodeOf(keystore.Read("sys/mounts/own")) == absl::StatusCode::kInvalidArgument);
  keystore.Enable("own", "kv", "2");
  CHECK(keystore.Read("own/kept")->data.at("value").is_null());
  for (const char* path : {"sys/mounts/sys", "sys/mounts/cubbyhole", "sys/auth/token"}) {
    INFO(path);
    CHECK_THAT(MessageOf(keystore.Delete(path)), Catch::Contains("can't be disabled"));
  }
}

}  // namespace
}  // namespace coffer::keystore
