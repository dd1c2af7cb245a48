#include "keystore/auth/token_backend.h"

#include "keystore/system/testing.h"

namespace coffer::keystore {
namespace {

struct Fixture : TestKeystore {
  Fixture() {
    core.Register("token", backend);
    for (const char* name : {"a", "b"}) {
      REQUIRE(Write(StrCat("sys/policies/acl/", name),
                    {{"policy", "path \"x\" { capabilities = [\"read\"] }"}}).ok());
    }
    // Makes tokens, but has no sudo.
    REQUIRE(Write("sys/policies/acl/maker",
                  {{"policy",
                    "path \"auth/token/*\" { capabilities = [\"create\", \"read\", \"update\", "
                    "\"list\"] }"}})
                .ok());
    REQUIRE(Write("sys/policies/acl/admin",
                  {{"policy", "path \"auth/*\" { capabilities = [\"create\", \"read\", \"update\", "
                              "\"delete\", \"list\", \"sudo\"] }"}})
                .ok());
  }

  // A token made by `parent`.
  std::string Make(Json data, std::string_view parent = "root", std::string_view path = "create") {
    const auto made = Write(StrCat("auth/token/", path), std::move(data), parent);
    CAPTURE(made.status().ToString());
    REQUIRE(made.ok());
    return std::string(made->auth->client_token.view());
  }
  Json Lookup(std::string_view token) {
    const auto found = Write("auth/token/lookup", {{"token", token}});
    return found.ok() ? found->data : Json(nullptr);
  }
  bool Lives(std::string_view token) { return Lookup(token).is_object(); }
  std::string AccessorOf(std::string_view token) {
    return std::string(
        std::string_view(Lookup(token).at("accessor").get_ref<const Json::string_t&>()));
  }

  TokenBackend backend{core, mounts, tokens, policies, clock};
};

TEST_CASE("a lookup shows what Vault shows") {
  Fixture f;
  const std::string token = f.Make({{"policies", "b,a"},
                                    {"ttl", "1h"},
                                    {"explicit_max_ttl", "2h"},
                                    {"display_name", "for me!"},
                                    {"meta", {{"user", "x"}, {"n", 3}}},
                                    {"num_uses", 5}});
  Json data = f.Lookup(token);
  REQUIRE(data.at("accessor").get_ref<const Json::string_t&>().size() == 24);
  data.erase("accessor");
  CHECK(data == Json({{"creation_time", 1748950851},
                      {"creation_ttl", 3600},
                      {"display_name", "token-for-me"},
                      {"entity_id", ""},
                      {"expire_time", "2025-06-03T12:40:51Z"},
                      {"explicit_max_ttl", 7200},
                      {"id", token},
                      {"issue_time", "2025-06-03T11:40:51Z"},
                      {"meta", {{"n", "3"}, {"user", "x"}}},
                      {"num_uses", 5},
                      {"orphan", false},
                      {"path", "auth/token/create"},
                      {"policies", {"a", "b", "default"}},
                      {"renewable", true},
                      {"ttl", 3600},
                      {"type", "service"}}));

  Json root = f.Read("auth/token/lookup-self")->data;
  root.erase("accessor");
  CHECK(root == Json({{"creation_time", 1748950851},
                      {"creation_ttl", 0},
                      {"display_name", "root"},
                      {"entity_id", ""},
                      {"expire_time", nullptr},
                      {"explicit_max_ttl", 0},
                      {"id", f.root_token},
                      {"meta", nullptr},
                      {"num_uses", 0},
                      {"orphan", true},
                      {"path", "auth/token/root"},
                      {"policies", {"root"}},
                      {"ttl", 0},
                      {"type", "service"}}));

  const Json unending = f.Lookup(f.Make(Json::object()));
  CHECK(unending.at("expire_time").is_null());
  CHECK(unending.at("issue_time") == "2025-06-03T11:40:51Z");
  CHECK(unending.at("renewable") == false);
}

TEST_CASE("a token is looked up by itself, by its caller and by its accessor") {
  Fixture f;
  const std::string token = f.Make({{"policies", "maker"}});
  const std::string accessor = f.AccessorOf(token);
  CHECK(f.Read("auth/token/lookup-self", token)->data.at("id") == token);
  CHECK(f.Read("auth/token/lookup", token)->data.at("id") == token);
  CHECK(f.Write("auth/token/lookup", Json::object(), token)->data.at("id") == token);
  const auto found = f.Write("auth/token/lookup-accessor", {{"accessor", accessor}});
  CHECK(found->data.at("id") == "");
  CHECK(found->data.at("policies") == Json::array({"default", "maker"}));

  struct Case {
    std::string_view path;
    Json data;
    absl::Status status;
  };
  const Case cases[] = {
      {"lookup", {{"token", "hvs.none"}}, absl::PermissionDeniedError("bad token")},
      {"lookup-accessor", {{"accessor", "none"}}, absl::InvalidArgumentError("invalid accessor")},
      {"lookup-accessor", Json::object(), absl::InvalidArgumentError("missing accessor")},
      {"renew", {{"token", "hvs.none"}}, absl::InvalidArgumentError("token not found")},
      {"renew", Json::object(), absl::InvalidArgumentError("missing token ID")},
      {"renew-accessor", {{"accessor", "none"}}, absl::InvalidArgumentError("invalid accessor")},
      {"renew-self", Json::object(), absl::InvalidArgumentError("lease is not renewable")},
      {"revoke", Json::object(), absl::InvalidArgumentError("missing token ID")},
      {"revoke-orphan", {{"token", "hvs.none"}},
       absl::InvalidArgumentError("token to revoke not found")},
      {"revoke-accessor", Json::object(), absl::InvalidArgumentError("missing accessor")},
      {"create/none", Json::object(), absl::InvalidArgumentError("unknown role none")},
  };
  for (const Case& c : cases) {
    CAPTURE(c.path);
    CHECK(f.Write(StrCat("auth/token/", c.path), c.data).status() == c.status);
  }
  CHECK(f.Write("auth/token/revoke", {{"token", "hvs.none"}}).ok());
  CHECK(f.Write("auth/token/revoke-accessor", {{"accessor", "none"}})->warnings ==
        std::vector<std::string>{"No token found with this accessor"});
}

TEST_CASE("a token can't be given more than its maker may give") {
  Fixture f;
  const std::string maker = f.Make({{"policies", "maker,a"}});
  const std::string bare = f.Make({{"policies", "maker"}, {"no_default_policy", true}});
  const std::string admin = f.Make({{"policies", "admin"}});
  const std::string limited = f.Make({{"policies", "maker"}, {"num_uses", 3}});
  const std::string root_for_a_while = f.Make({{"policies", "root"}, {"ttl", "1h"}});
  struct Case {
    std::string_view name;
    const std::string& by;
    Json data;
    std::string_view error;  // or
    Json policies = nullptr;
  };
  const Case cases[] = {
      {"all of its own", maker, Json::object(), "", {"a", "default", "maker"}},
      {"some of its own, and default", maker, {{"policies", {"A"}}}, "", {"a", "default"}},
      {"without default", maker, {{"policies", "a"}, {"no_default_policy", true}}, "", {"a"}},
      {"default only where it has it", bare, {{"policies", "maker"}}, "", {"maker"}},
      {"not others", maker, {{"policies", "a,b"}}, "child policies must be subset of parent"},
      {"not root", maker, {{"policies", "root"}}, "child policies must be subset of parent"},
      {"with sudo, any", admin, {{"policies", "b"}}, "", {"b", "default"}},
      {"with sudo, not root", admin, {{"policies", "root"}},
       "root tokens may not be created without parent token being root"},
      {"with sudo, none of the keystore's own", admin, {{"policies", "a,Response-Wrapping"}},
       "cannot assign policy \"response-wrapping\""},
      {"no orphan", maker, {{"no_parent", true}},
       "root or sudo privileges required to create orphan token"},
      {"no period", maker, {{"period", "1h"}},
       "root or sudo privileges required to create periodic token"},
      {"no id", maker, {{"id", "x"}}, "root or sudo privileges required to specify token id"},
      {"no child of a limited token", limited, Json::object(),
       "restricted use token cannot generate child tokens"},
      {"no batch token with a use limit", maker, {{"type", "batch"}, {"num_uses", 1}},
       "batch tokens cannot have \"num_uses\" set"},
      {"no periodic batch token", admin, {{"type", "batch"}, {"period", "1h"}},
       "batch tokens cannot have \"period\" set"},
      {"no batch token with a limit of its own", maker,
       {{"type", "batch"}, {"explicit_max_ttl", "1h"}},
       "batch tokens cannot have \"explicit_max_ttl\" set"},
      {"no batch token of one's own making", admin, {{"type", "batch"}, {"id", "mine"}},
       "batch tokens cannot have \"id\" set"},
      {"no batch root token", f.root_token, {{"type", "batch"}}, "batch tokens cannot be root tokens"},
      {"no other type", maker, {{"type", "x"}}, "invalid 'token_type' value"},
      {"no negative use", maker, {{"num_uses", -1}}, "number of uses cannot be negative"},
      {"no alias", maker, {{"entity_alias", "x"}},
       "'entity_alias' is only allowed in combination with token role"},
      {"no id like one of ours", admin, {{"id", "hvs.x"}},
       "custom token ID cannot have the 'hvs.' prefix"},
      {"no id with a dot", admin, {{"id", "x.y"}},
       "custom token ID cannot have a '.' in the value"},
      {"no root without end by one with an end", root_for_a_while, Json::object(),
       "expiring root tokens cannot create non-expiring root tokens"},
      {"no structured metadata", maker, {{"meta", {{"a", Json::array()}}}},
       "Error decoding request: each value of 'meta' must be a string"},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    const auto made = f.Write("auth/token/create", c.data, c.by);
    if (!c.error.empty()) {
      CHECK(made.status() == absl::InvalidArgumentError(std::string(c.error)));
      continue;
    }
    REQUIRE(made.ok());
    CHECK(Json(made->auth->entry->policies) == c.policies);
  }
}

TEST_CASE("a batch token works as its policies say, and can't be renewed, revoked or multiplied") {
  Fixture f;
  const std::string maker = f.Make({{"policies", "maker,a"}});
  const std::string batch = f.Make({{"type", "batch"}, {"ttl", "1h"}}, maker);
  CHECK(batch.starts_with("hvb."));
  const Json shown = f.Lookup(batch);
  CHECK(shown.at("type") == "batch");
  CHECK(shown.at("accessor") == "");
  CHECK(shown.at("renewable") == false);
  CHECK(shown.at("orphan") == false);
  CHECK(shown.at("ttl") == 3600);
  CHECK(shown.at("policies") == Json{"a", "default", "maker"});
  CHECK(f.Read("auth/token/lookup-self", batch)->data == shown);
  // Nothing of it is stored.
  CHECK(f.List("auth/token/accessors")->data.at("keys").size() == 2);

  struct Case {
    std::string_view path;
    Json data;
    const std::string& by;
    std::string_view error;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"renew", {{"token", batch}}, f.root_token, "batch tokens cannot be renewed"},
           {"renew-self", Json::object(), batch, "batch tokens cannot be renewed"},
           {"revoke", {{"token", batch}}, f.root_token, "batch tokens cannot be revoked"},
           {"revoke-self", Json::object(), batch, "batch tokens cannot be revoked"},
           {"revoke-orphan", {{"token", batch}}, f.root_token, "batch tokens cannot be revoked"},
           {"create", Json::object(), batch, "batch tokens cannot create more tokens"}}) {
    INFO(c.path);
    CHECK(f.Write(StrCat("auth/token/", c.path), c.data, c.by).status() ==
          absl::InvalidArgumentError(std::string(c.error)));
  }

  SECTION("it ends with its time") {
    f.clock.Advance(absl::Hours(1) - absl::Seconds(1));
    CHECK(f.Lives(batch));
    f.clock.Advance(absl::Seconds(1));
    CHECK_FALSE(f.Lives(batch));
    CHECK(absl::IsPermissionDenied(f.Read("auth/token/lookup-self", batch).status()));
  }
  SECTION("it ends with its parent") {
    REQUIRE(f.Write("auth/token/revoke", {{"token", maker}}).ok());
    CHECK_FALSE(f.Lives(batch));
  }
  SECTION("it outlives a seal, and a rotation of the key") {
    REQUIRE(f.barrier.Rotate().ok());
    f.core.Seal();
    f.Unseal();
    CHECK(f.Lives(batch));
  }
  SECTION("another isn't made of it by changing it") {
    for (std::size_t i = 4; i < batch.size(); i += 7) {
      std::string changed = batch;
      changed[i] = changed[i] == 'A' ? 'B' : 'A';
      CHECK_FALSE(f.Lives(changed));
    }
    CHECK_FALSE(f.Lives("hvb."));
    CHECK_FALSE(f.Lives(batch.substr(0, batch.size() / 2)));
  }
}

TEST_CASE("a role says which type of token it makes") {
  Fixture f;
  struct Case {
    std::string_view by_role, asked, made;
  };
  for (const Case& c : std::initializer_list<Case>{{"service", "batch", "service"},
                                                   {"batch", "service", "batch"},
                                                   {"batch", "", "batch"},
                                                   {"default-service", "", "service"},
                                                   {"default-service", "batch", "batch"},
                                                   {"default-batch", "", "batch"},
                                                   {"default-batch", "service", "service"}}) {
    CAPTURE(c.by_role, c.asked);
    REQUIRE(f.Write("auth/token/roles/r", {{"token_type", c.by_role},
                                           {"allowed_policies", "a"},
                                           {"orphan", true},
                                           {"renewable", false}})
                .ok());
    Json data = Json::object();
    if (!c.asked.empty()) data["type"] = c.asked;
    CHECK(f.Lookup(f.Make(data, "root", "create/r")).at("type") == c.made);
  }
}

TEST_CASE("a role asks nothing of batch tokens that would have to be kept") {
  Fixture f;
  struct Case {
    std::string_view field;
    Json value;
    std::string_view what;  // "": it is taken
  };
  for (const Case& c : std::initializer_list<Case>{
           {"orphan", true, ""},
           {"orphan", false, "non-orphan tokens"},
           {"token_period", "1h", "periodic tokens"},
           {"period", "1h", "periodic tokens"},
           {"renewable", true, "renewable tokens"},
           {"token_explicit_max_ttl", "1h", "tokens with an explicit max TTL"},
           {"token_num_uses", 3, "tokens with limited use count"}}) {
    CAPTURE(c.field);
    Json role = {{"token_type", "batch"}, {"orphan", true}, {"renewable", false}};
    role[Json::string_t(c.field)] = c.value;
    const absl::Status written = f.Write("auth/token/roles/b", role).status();
    CHECK(written ==
          (c.what.empty()
               ? absl::OkStatus()
               : absl::InvalidArgumentError(StrCat(
                     "'token_type' cannot be 'batch' when role is set to generate ", c.what))));
  }

  // A role of both types gives its terms to those that can have them.
  REQUIRE(f.Write("auth/token/roles/both", {{"token_type", "default-batch"},
                                            {"allowed_policies", "a"},
                                            {"token_period", "1h"},
                                            {"token_explicit_max_ttl", "2h"},
                                            {"token_num_uses", 3}})
              .ok());
  const Json batch = f.Lookup(f.Make({{"ttl", "3h"}}, "root", "create/both"));
  CHECK(batch.at("type") == "batch");
  CHECK(batch.at("ttl") == 3 * 3600);
  CHECK(batch.at("explicit_max_ttl") == 0);
  const Json service = f.Lookup(f.Make({{"type", "service"}}, "root", "create/both"));
  CHECK(service.at("ttl") == 3600);
  CHECK(service.at("explicit_max_ttl") == 2 * 3600);
  CHECK(service.at("num_uses") == 3);
}

TEST_CASE("what sudo may ask for is given") {
  Fixture f;
  const std::string admin = f.Make({{"policies", "admin"}});
  CHECK(f.Make({{"id", "mine"}}, admin) == "mine");
  CHECK(f.Lookup(f.Make({{"no_parent", true}}, admin)).at("orphan") == true);
  const Json periodic = f.Lookup(f.Make({{"period", "1h"}}, admin));
  CHECK(periodic.at("period") == 3600);
  CHECK(periodic.at("ttl") == 3600);
  CHECK(f.Lookup(f.Make(Json::object(), admin, "create-orphan")).at("orphan") == true);
  CHECK(f.Lookup(f.Make({{"lease", "30m"}}, admin)).at("ttl") == 1800);
}

TEST_CASE("warnings say what wasn't given as asked") {
  Fixture f;
  CHECK(f.Write("auth/token/create", {{"policies", "a,none"}, {"ttl", "1000h"}})->warnings ==
        std::vector<std::string>{"TTL of \"1000h\" exceeded the effective max_ttl of "
                                 "\"768h\"; TTL value is capped accordingly",
                                 "Policy \"none\" does not exist"});
}

TEST_CASE("a token is renewed by itself, its caller and its accessor") {
  Fixture f;
  const std::string token = f.Make({{"policies", "maker"}, {"ttl", "1h"}});
  f.clock.Advance(absl::Minutes(30));
  struct Case {
    std::string_view path;
    Json data;
    bool shown;
  };
  const Case cases[] = {{"renew", {{"token", token}, {"increment", "2h"}}, true},
                        {"renew-self", {{"increment", 7200}}, true},
                        {"renew-accessor",
                         {{"accessor", f.AccessorOf(token)}, {"increment", "7200"}},
                         false}};
  for (const Case& c : cases) {
    CAPTURE(c.path);
    const auto renewed = f.Write(StrCat("auth/token/", c.path), c.data, token);
    REQUIRE(renewed.ok());
    CHECK(renewed->auth->client_token.view() == (c.shown ? token : ""));
    CHECK(renewed->auth->entry->expire_time == f.clock.Now() + absl::Hours(2));
  }
  // As long as it was given last, where nothing is asked.
  CHECK(f.Write("auth/token/renew-self", Json::object(), token)->auth->entry->expire_time ==
        f.clock.Now() + absl::Hours(2));
  const Json data = f.Lookup(token);
  CHECK(data.at("ttl") == 7200);
  CHECK(data.at("creation_ttl") == 3600);
  CHECK(data.at("last_renewal") == "2025-06-03T12:10:51Z");
  CHECK(data.at("last_renewal_time") == 1748952651);
  f.clock.Advance(absl::Hours(2));
  CHECK_FALSE(f.Lives(token));
  CHECK(absl::IsPermissionDenied(f.Read("auth/token/lookup-self", token).status()));
}

TEST_CASE("revocation by every route takes the children too, revoke-orphan leaves them") {
  Fixture f;
  struct Case {
    std::string_view path;
    bool by_self, children_live;
  };
  const Case cases[] = {{"revoke", false, false},
                        {"revoke-self", true, false},
                        {"revoke-accessor", false, false},
                        {"revoke-orphan", false, true}};
  for (const Case& c : cases) {
    CAPTURE(c.path);
    const std::string token = f.Make({{"policies", "maker"}});
    const std::string child = f.Make(Json::object(), token);
    const Json data = c.path == "revoke-accessor" ? Json{{"accessor", f.AccessorOf(token)}}
                                                  : Json{{"token", token}};
    REQUIRE(f.Write(StrCat("auth/token/", c.path), data, c.by_self ? token : "root").ok());
    CHECK_FALSE(f.Lives(token));
    CHECK(f.Lives(child) == c.children_live);
    if (c.children_live) CHECK(f.Lookup(child).at("orphan") == true);
  }
  const std::string maker = f.Make({{"policies", "maker"}});
  CHECK(absl::IsPermissionDenied(
      f.Write("auth/token/revoke-orphan", {{"token", maker}}, maker).status()));
}

TEST_CASE("accessors are listed to who has sudo") {
  Fixture f;
  const std::string maker = f.Make({{"policies", "maker"}});
  const std::string admin = f.Make({{"policies", "admin"}});
  CHECK(f.List("auth/token/accessors", admin)->data.at("keys").size() == 3);
  CHECK(absl::IsPermissionDenied(f.List("auth/token/accessors", maker).status()));
  CHECK(f.Write("auth/token/tidy", Json::object())->http_status == 202);
}

TEST_CASE("the last use of a token still shows it, then it is gone") {
  Fixture f;
  const std::string token = f.Make({{"num_uses", 2}});
  CHECK(f.Read("auth/token/lookup-self", token)->data.at("num_uses") == 1);
  CHECK(f.Read("auth/token/lookup-self", token)->data.at("num_uses") == 0);
  CHECK(absl::IsPermissionDenied(f.Read("auth/token/lookup-self", token).status()));
}

TEST_CASE("a role is kept as it is written and shows all its fields") {
  Fixture f;
  CHECK(absl::IsNotFound(f.Read("auth/token/roles/r").status()));
  CHECK(absl::IsNotFound(f.List("auth/token/roles").status()));
  REQUIRE(f.Write("auth/token/roles/r", {{"allowed_policies", "b,a"}, {"period", "1h"}}).ok());
  const Json expected = {{"name", "r"},
                         {"allowed_policies", {"a", "b"}},
                         {"disallowed_policies", Json::array()},
                         {"allowed_policies_glob", Json::array()},
                         {"disallowed_policies_glob", Json::array()},
                         {"allowed_entity_aliases", nullptr},
                         {"orphan", false},
                         {"renewable", true},
                         {"path_suffix", ""},
                         {"period", 3600},
                         {"token_period", 3600},
                         {"explicit_max_ttl", 0},
                         {"token_explicit_max_ttl", 0},
                         {"token_no_default_policy", false},
                         {"token_type", "default-service"}};
  CHECK(f.Read("auth/token/roles/r")->data == expected);
  CHECK(f.List("auth/token/roles")->data == Json{{"keys", {"r"}}});

  const auto changed = f.Write("auth/token/roles/r", {{"token_period", "2h"},
                                                      {"period", "3h"},
                                                      {"orphan", true},
                                                      {"token_bound_cidrs", "127.0.0.1"}});
  CHECK(changed->warnings ==
        std::vector<std::string>{"Both 'token_period' and deprecated 'period' value supplied, "
                                 "ignoring the deprecated value"});
  const Json data = f.Read("auth/token/roles/r")->data;
  CHECK(data.at("token_period") == 7200);
  CHECK(data.at("period") == 0);
  CHECK(data.at("orphan") == true);
  CHECK(data.at("allowed_policies") == Json::array({"a", "b"}));
  CHECK(data.at("token_bound_cidrs") == Json::array({"127.0.0.1"}));

  struct Case {
    Json data;
    std::string_view part;
  };
  const Case cases[] = {{{{"path_suffix", "../x"}}, "parent references"},
                        {{{"path_suffix", "a b"}}, "invalid characters"},
                        {{{"token_type", "x"}}, "invalid 'token_type' value \"x\""},
                        {{{"token_bound_cidrs", "x"}}, "error parsing role fields"},
                        {{{"token_num_uses", -1}}, "cannot be negative"}};
  for (const Case& c : cases) {
    const auto refused = f.Write("auth/token/roles/r", c.data);
    CHECK(absl::IsInvalidArgument(refused.status()));
    CHECK(refused.status().ToString().find(c.part) != std::string::npos);
  }
  CHECK(f.Write("auth/token/roles/r", {{"token_explicit_max_ttl", "1000h"}})->warnings.size() == 1);
  REQUIRE(f.Delete("auth/token/roles/r").ok());
  CHECK(absl::IsNotFound(f.Read("auth/token/roles/r").status()));
}

TEST_CASE("a role says which policies its tokens have") {
  Fixture f;
  const std::string maker = f.Make({{"policies", "maker"}});
  struct Case {
    std::string_view name;
    Json role, data;
    std::string_view error;  // or
    Json policies = nullptr;
  };
  const Case cases[] = {
      {"all that it allows", {{"allowed_policies", "a,b"}}, Json::object(), "",
       {"a", "b", "default"}},
      {"some of them", {{"allowed_policies", "a,b"}}, {{"policies", "b"}}, "", {"b", "default"}},
      {"none beside them", {{"allowed_policies", "a"}}, {{"policies", "b"}},
       "token policies ([\"b\" \"default\"]) must be subset of the role's allowed policies ([\"a\" "
       "\"default\"]) or glob policies ([])"},
      {"by glob", {{"allowed_policies_glob", "team-*"}},
       {{"policies", "team-x"}, {"no_default_policy", true}}, "", {"team-x"}},
      {"no more than by glob", {{"allowed_policies_glob", "team-*"}, {"token_no_default_policy", true}},
       {{"policies", "other"}},
       "token policies ([\"other\"]) must be subset of the role's allowed policies ([]) or glob "
       "policies ([\"team-*\"])"},
      {"its maker's where it only forbids", {{"disallowed_policies", "x"}}, Json::object(), "",
       {"default", "maker"}},
      {"any that it doesn't forbid", {{"disallowed_policies", "x"}}, {{"policies", "b"}}, "",
       {"b", "default"}},
      {"none that it forbids", {{"disallowed_policies", "x"}}, {{"policies", "x"}},
       "token policy \"x\" is disallowed by this role"},
      {"none that it forbids by glob", {{"disallowed_policies_glob", "*-x"}},
       {{"policies", "a-x"}}, "token policy \"a-x\" is disallowed by this role"},
      {"no default that it forbids", {{"disallowed_policies", "default"}}, {{"policies", "b"}}, "",
       {"b"}},
      {"none of the keystore's own", {{"allowed_policies", "control-group"}}, Json::object(),
       "cannot assign policy \"control-group\""},
      {"never root", {{"allowed_policies", "root"}}, {{"policies", "root"}},
       "root tokens may not be created without parent token being root"},
      {"without rules, its maker's", {{"orphan", true}}, {{"policies", "a"}},
       "child policies must be subset of parent"},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    REQUIRE(f.Write("auth/token/roles/r", c.role).ok());
    const auto made = f.Write("auth/token/create/r", c.data, maker);
    if (c.error.empty()) {
      REQUIRE(made.ok());
      CHECK(Json(made->auth->entry->policies) == c.policies);
    } else {
      CHECK(made.status() == absl::InvalidArgumentError(std::string(c.error)));
    }
    REQUIRE(f.Delete("auth/token/roles/r").ok());
  }
}

TEST_CASE("a role's terms hold for its tokens, at renewal as they are then") {
  Fixture f;
  REQUIRE(f.Write("auth/token/roles/r", {{"allowed_policies", "a"},
                                         {"orphan", true},
                                         {"token_period", "1h"},
                                         {"token_num_uses", 50},
                                         {"path_suffix", "v-1"},
                                         {"token_bound_cidrs", "127.0.0.0/8"}})
              .ok());
  const std::string token = f.Make({{"num_uses", 60}}, "root", "create/r");
  const Json data = f.Lookup(token);
  CHECK(data.at("role") == "r");
  CHECK(data.at("orphan") == true);
  CHECK(data.at("period") == 3600);
  CHECK(data.at("num_uses") == 50);
  CHECK(data.at("path") == "auth/token/create/r/v-1");
  CHECK(data.at("bound_cidrs") == Json::array({"127.0.0.0/8"}));
  CHECK(f.Write("auth/token/create/r", {{"period", "30m"}})->warnings ==
        std::vector<std::string>{"Period specified both during creation call and in role; using "
                                 "the lesser value of 1800 seconds"});

  REQUIRE(f.Write("auth/token/roles/r", {{"token_period", "2h"}}).ok());
  CHECK(f.Write("auth/token/renew", {{"token", token}})->auth->entry->expire_time ==
        f.clock.Now() + absl::Hours(2));
  REQUIRE(f.Delete("auth/token/roles/r").ok());
  CHECK(
      f.Write("auth/token/renew", {{"token", token}}).status() ==
      absl::InternalError("1 error occurred:\n\t* failed to renew entry: original token role \"r\" "
                          "could not be found, not renewing\n\n"));
}

TEST_CASE("a token is renewed within what its mount allows now") {
  Fixture f;
  const std::string token = f.Make({{"ttl", "1h"}});
  const std::string periodic = f.Make({{"period", "1h"}});
  const auto renew = [&](std::string_view which) {
    return f.Write("auth/token/renew", {{"token", which}, {"increment", "3h"}});
  };
  f.clock.Advance(absl::Minutes(30));
  REQUIRE(f.Write("sys/auth/token/tune", {{"max_lease_ttl", "45m"}}).ok());
  const auto capped = renew(token);
  CHECK(capped->auth->entry->expire_time == f.clock.Now() + absl::Minutes(15));
  CHECK(capped->warnings ==
        std::vector<std::string>{"TTL of \"3h\" exceeded the effective max_ttl of \"15m\"; "
                                 "TTL value is capped accordingly"});
  const auto shortened = renew(periodic);
  CHECK(shortened->auth->entry->expire_time == f.clock.Now() + absl::Minutes(45));
  CHECK(shortened->warnings ==
        std::vector<std::string>{"period of \"1h\" exceeded the effective max_ttl of "
                                 "\"45m\"; period value is capped accordingly"});

  REQUIRE(f.Write("sys/auth/token/tune", {{"max_lease_ttl", "30m"}}).ok());
  CHECK(renew(token).status() ==
        absl::InternalError("1 error occurred:\n\t* past the max TTL, cannot renew\n\n"));
  REQUIRE(f.Write("sys/auth/token/tune", {{"max_lease_ttl", "900h"}}).ok());
  CHECK(renew(token)->auth->entry->expire_time == f.clock.Now() + absl::Hours(3));
  CHECK(renew(token)->warnings.empty());
}

}  // namespace
}  // namespace coffer::keystore
