#include <chrono>

#include "keystore/core/policy.h"

namespace coffer::keystore {
namespace {

Acl AclOf(std::vector<std::string_view> texts) {
  std::vector<std::shared_ptr<const Policy>> policies;
  for (const std::string_view text : texts) {
    auto policy = Policy::Parse("p", text);
    CAPTURE(policy.status().ToString());
    REQUIRE(policy.ok());
    policies.push_back(*std::move(policy));
  }
  return Acl(policies, false);
}

// A policy whose rules grant what tells them apart.
std::string Policies(std::initializer_list<std::pair<std::string_view, std::string_view>> rules) {
  std::string text;
  for (const auto& [path, capability] : rules) {
    StrAppend(&text, "path \"", path, "\" { capabilities = [\"", capability, "\"] }\n");
  }
  return text;
}

std::string Joined(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) StrAppend(&all, all.empty() ? "" : ",", name);
  return all;
}

TEST_CASE("the rule that decides is Vault's") {
  using Rules = std::initializer_list<std::pair<std::string_view, std::string_view>>;
  const struct {
    std::string_view name;
    Rules rules;
    std::string_view path;
    std::string_view capabilities;
  } cases[] = {
      {"no rule denies", {{"a", "read"}}, "b", "deny"},
      {"an exact path is that path", {{"a/b", "read"}}, "a/b/c", "deny"},
      {"a prefix takes what is below", {{"a/*", "read"}}, "a/b/c", "read"},
      {"a prefix takes the part before the star", {{"a/b*", "read"}}, "a/b", "read"},
      {"a prefix is no segment", {{"a/b*", "read"}}, "a/bcd/e", "read"},
      {"a prefix with / doesn't take the bare name", {{"a/*", "read"}}, "a", "deny"},
      {"* takes all", {{"*", "read"}}, "a/b", "read"},
      {"exact beats prefix", {{"a/*", "read"}, {"a/b", "list"}}, "a/b", "list"},
      {"exact beats segments", {{"a/+", "read"}, {"a/b", "list"}}, "a/b", "list"},
      {"an exact deny beats a granting prefix", {{"a/*", "read"}, {"a/b", "deny"}}, "a/b", "deny"},
      {"an exact grant beats a denying prefix", {{"a/*", "deny"}, {"a/b", "read"}}, "a/b", "read"},
      {"the longer prefix decides", {{"a/*", "read"}, {"a/b/*", "list"}}, "a/b/c", "list"},
      {"siblings in between don't hide a prefix",
       {{"a/*", "read"}, {"a/b/c*", "list"}, {"a/b/b*", "sudo"}},
       "a/b/d",
       "read"},
      {"+ takes one segment", {{"a/+/c", "read"}}, "a/b/c", "read"},
      {"+ doesn't take two", {{"a/+/c", "read"}}, "a/b/b/c", "deny"},
      {"+ doesn't take part of one", {{"a/+", "read"}}, "a/b/c", "deny"},
      {"+ takes the first segment", {{"+/b", "read"}}, "a/b", "read"},
      {"+ alone", {{"+", "read"}}, "a", "read"},
      {"+ inside a name is a plus", {{"a/b+c", "read"}}, "a/bxc", "deny"},
      {"+ and a star", {{"a/+/c*", "read"}}, "a/b/cd/e", "read"},
      {"+ and a star need the segment", {{"a/+/*", "read"}}, "a/b", "deny"},
      {"+ and a star take an empty segment", {{"a/+/*", "read"}}, "a/b/", "read"},
      {"several +", {{"+/+/c", "read"}}, "a/b/c", "read"},
      // Vault's priority matching, one line of it after the other.
      {"the later first wildcard decides", {{"a/+/c", "read"}, {"a/b/+", "list"}}, "a/b/c", "list"},
      {"a later star beats an earlier +", {{"a/+/c", "read"}, {"a/b/*", "list"}}, "a/b/c", "list"},
      {"a later + beats an earlier star", {{"a/*", "read"}, {"a/b/+", "list"}}, "a/b/c", "list"},
      {"no star beats a star at the same place", {{"a/*", "read"}, {"a/+", "list"}}, "a/b", "list"},
      {"no star beats a star after the same +",
       {{"a/+/c*", "read"}, {"a/+/cd", "list"}},
       "a/b/cd",
       "list"},
      {"fewer + decide", {{"a/+/+/d", "read"}, {"a/+/c/d", "list"}}, "a/b/c/d", "list"},
      {"the longer path decides", {{"a/+/c*", "read"}, {"a/+/cd*", "list"}}, "a/b/cde", "list"},
      {"the greater path decides",
       {{"a/+/b/+/d", "read"}, {"a/+/+/c/d", "list"}},
       "a/x/b/c/d",
       "read"},
      {"Vault's own example",
       {{"secret/*", "read"}, {"secret/+/team", "list"}, {"secret/a*", "update"}},
       "secret/app/team",
       "update"},
      {"deny at the deciding rule", {{"a/+/c", "deny"}, {"a/*", "read"}}, "a/b/c", "deny"},
      // Lists and capabilities are asked with and without the "/" at the end.
      {"a list finds the exact path without /", {{"a/b", "list"}}, "a/b/", "list"},
      {"and with /", {{"a/b/", "list"}}, "a/b/", "list"},
      {"with / is preferred", {{"a/b", "read"}, {"a/b/", "list"}}, "a/b/", "list"},
      {"a list finds + without /", {{"a/+", "list"}}, "a/b/", "list"},
      {"a prefix with / takes the list of its directory", {{"a/b/*", "list"}}, "a/b/", "list"},
      {"what matches without / comes first", {{"a/*", "read"}, {"a/b/*", "list"}}, "a/b/", "read"},
      {"without / an exact path with / doesn't match", {{"a/b/", "list"}}, "a/b", "deny"},
      {"a leading / doesn't matter", {{"a/b", "read"}}, "//a/b", "read"},
  };
  for (const auto& c : cases) {
    INFO(c.name);
    const Acl acl = AclOf({Policies(c.rules)});
    CHECK(Joined(acl.Capabilities(c.path)) == c.capabilities);
    // The order in which rules are written doesn't matter.
    std::string reversed;
    for (const auto* rule = c.rules.end(); rule != c.rules.begin();) {
      --rule;
      reversed += Policies({*rule});
    }
    CHECK(Joined(AclOf({reversed}).Capabilities(c.path)) == c.capabilities);
  }
}

TEST_CASE("each operation needs its capability") {
  const struct {
    Operation operation;
    std::string_view capability;
  } cases[] = {{Operation::kRead, "read"},     {Operation::kCreate, "create"},
               {Operation::kUpdate, "update"}, {Operation::kPatch, "patch"},
               {Operation::kDelete, "delete"}, {Operation::kList, "list"}};
  for (const auto& granted : cases) {
    const Acl acl = AclOf({Policies({{"a/*", granted.capability}})});
    for (const auto& asked : cases) {
      INFO(granted.capability << " asked for " << asked.capability);
      CHECK(acl.Allows(asked.operation, "a/b", Json::object()) ==
            (granted.capability == asked.capability));
    }
    CHECK_FALSE(acl.HasSudo("a/b"));
  }
  const Acl sudo = AclOf({Policies({{"a", "sudo"}})});
  CHECK(sudo.HasSudo("a"));
  CHECK_FALSE(sudo.HasSudo("b"));
  CHECK_FALSE(sudo.Allows(Operation::kRead, "a", Json::object()));
}

TEST_CASE("a list is the same with and without a slash at the end") {
  for (const std::string_view rule : {"secret/metadata", "secret/metadata/", "secret/metadata/*",
                                      "secret/*", "secret/+", "+/metadata/"}) {
    INFO(rule);
    const Acl acl = AclOf({Policies({{rule, "list"}})});
    CHECK(acl.Allows(Operation::kList, "secret/metadata", Json::object()));
    CHECK(acl.Allows(Operation::kList, "secret/metadata/", Json::object()));
  }
}

TEST_CASE("policies add up, and deny wins") {
  const Acl acl = AclOf({Policies({{"a", "read"}, {"b/*", "read"}, {"c/+", "read"}, {"d", "read"}}),
                         Policies({{"a", "list"}, {"b/*", "deny"}, {"c/+", "update"}}),
                         Policies({{"a", "sudo"}, {"b/*", "list"}, {"d", "deny"}})});
  CHECK(Joined(acl.Capabilities("a")) == "list,read,sudo");
  CHECK(Joined(acl.Capabilities("b/x")) == "deny");
  CHECK(Joined(acl.Capabilities("c/x")) == "read,update");
  CHECK(Joined(acl.Capabilities("d")) == "deny");
  CHECK_FALSE(acl.Allows(Operation::kRead, "d", Json::object()));
}

TEST_CASE("root may do everything; no policy, nothing") {
  const Acl root({}, true);
  CHECK(root.Allows(Operation::kDelete, "sys/anything", {{"x", 1}}));
  CHECK(root.HasSudo("sys/anything"));
  CHECK(root.GrantsBelow("secret/"));
  CHECK(Joined(root.Capabilities("x")) == "root");
  const Acl nothing({nullptr}, false);
  CHECK_FALSE(nothing.Allows(Operation::kRead, "a", Json::object()));
  CHECK_FALSE(nothing.HasSudo("a"));
  CHECK_FALSE(nothing.GrantsBelow("a/"));
  CHECK(Joined(nothing.Capabilities("a")) == "deny");
}

TEST_CASE("parameters are allowed, denied and required as in Vault") {
  const struct {
    std::string_view limits;
    Json data;
    bool allowed;
  } cases[] = {
      {"", {{"x", 1}}, true},
      {"allowed_parameters = { \"x\" = [] }", Json::object(), true},
      {"allowed_parameters = { \"x\" = [] }", {{"x", "any"}}, true},
      {"allowed_parameters = { \"x\" = [] }", {{"X", "any"}}, true},
      {"allowed_parameters = { \"x\" = [] }", {{"x", "any"}, {"y", 1}}, false},
      {"allowed_parameters = { \"x\" = [\"a\", \"b\"] }", {{"x", "b"}}, true},
      {"allowed_parameters = { \"x\" = [\"a\", \"b\"] }", {{"x", "c"}}, false},
      {"allowed_parameters = { \"x\" = [\"a*\"] }", {{"x", "abc"}}, true},
      {"allowed_parameters = { \"x\" = [\"*c\"] }", {{"x", "abc"}}, true},
      {"allowed_parameters = { \"x\" = [\"*b*\"] }", {{"x", "abc"}}, true},
      {"allowed_parameters = { \"x\" = [\"a*c\"] }", {{"x", "abc"}}, false},
      {"allowed_parameters = { \"x\" = [\"*\"] }", {{"x", "abc"}}, false},
      {"allowed_parameters = { \"x\" = [\"*\"] }", {{"x", "*"}}, true},
      {"allowed_parameters = { \"x\" = [1, true] }", {{"x", 1}}, true},
      {"allowed_parameters = { \"x\" = [1, true] }", {{"x", true}}, true},
      {"allowed_parameters = { \"x\" = [1, true] }", {{"x", 2}}, false},
      {"allowed_parameters = { \"x\" = [1] }", {{"x", "1"}}, false},
      {"allowed_parameters = { \"x\" = [\"a\"] }", {{"x", nullptr}}, false},
      {"allowed_parameters = { \"x\" = [\"a\"] }", {{"x", ""}}, false},
      {"allowed_parameters = { \"x\" = [\"a\", \"b\"] }", {{"x", {"b", "a"}}}, true},
      {"allowed_parameters = { \"x\" = [\"a\", \"b\"] }", {{"x", {"a", "c"}}}, false},
      {"allowed_parameters = { \"x\" = [[\"a\", \"c\"]] }", {{"x", {"a", "c"}}}, true},
      {"allowed_parameters = { \"x\" = [\"a\", \"b\"] }", {{"x", "a, b"}}, true},
      {"allowed_parameters = { \"x\" = [\"a\", \"b\"] }", {{"x", "a,c"}}, false},
      {"allowed_parameters = { \"*\" = [] }", {{"x", 1}, {"y", 2}}, true},
      {"allowed_parameters = { \"*\" = [], \"x\" = [\"a\"] }", {{"x", "a"}, {"y", 2}}, true},
      {"allowed_parameters = { \"*\" = [], \"x\" = [\"a\"] }", {{"x", "b"}}, false},
      {"denied_parameters = { \"x\" = [] }", {{"x", 1}}, false},
      {"denied_parameters = { \"x\" = [] }", {{"X", 1}}, false},
      {"denied_parameters = { \"x\" = [] }", {{"y", 1}}, true},
      {"denied_parameters = { \"x\" = [\"a*\"] }", {{"x", "abc"}}, false},
      {"denied_parameters = { \"x\" = [\"a*\"] }", {{"x", "bc"}}, true},
      {"denied_parameters = { \"x\" = [\"a\"] }", {{"x", {"b", "a"}}}, false},
      {"denied_parameters = { \"x\" = [\"a\"] }", {{"x", "b, a"}}, false},
      {"denied_parameters = { \"x\" = [\"a\"] }", {{"x", "b,c"}}, true},
      {"denied_parameters = { \"*\" = [] }", {{"y", 1}}, false},
      {"denied_parameters = { \"*\" = [] }", Json::object(), true},
      {"allowed_parameters = { \"x\" = [] }\n denied_parameters = { \"x\" = [] }",
       {{"x", 1}},
       false},
      {"required_parameters = [\"X\"]", {{"x", 1}}, true},
      {"required_parameters = [\"x\"]", {{"y", 1}}, false},
      {"required_parameters = [\"x\"]", Json::object(), false},
      {"required_parameters = [\"x\"]\n allowed_parameters = { \"x\" = [\"a\"] }",
       {{"x", "b"}},
       false},
  };
  for (const auto& c : cases) {
    INFO(c.limits << " asked with " << DumpJson(c.data).view());
    const Acl acl =
        AclOf({StrCat("path \"a\" { capabilities = [\"create\", \"read\", \"update\", "
                      "\"patch\", \"delete\", \"list\"]\n",
                      c.limits, " }")});
    for (const Operation operation :
         {Operation::kCreate, Operation::kUpdate, Operation::kPatch, Operation::kRead}) {
      CHECK(acl.Allows(operation, "a", c.data) == c.allowed);
    }
    CHECK(acl.Allows(Operation::kDelete, "a", c.data));
    CHECK(acl.Allows(Operation::kList, "a", c.data));
  }
}

TEST_CASE("parameters of several policies add up") {
  const auto with = [](std::string_view limits) {
    return StrCat("path \"a\" { capabilities = [\"update\"]\n", limits, " }");
  };
  const std::string x_a = with("allowed_parameters = { \"x\" = [\"a\"] }");
  const std::string x_b = with("allowed_parameters = { \"x\" = [\"b\"] }");
  const std::string x_all = with("allowed_parameters = { \"x\" = [] }");
  const std::string not_y = with("denied_parameters = { \"y\" = [] }");
  const std::string need_z = with("required_parameters = [\"z\"]");
  const std::string deny = "path \"a\" { capabilities = [\"deny\"] }";
  const auto allows = [](std::vector<std::string_view> texts, const Json& data) {
    const bool allowed = AclOf(texts).Allows(Operation::kUpdate, "a", data);
    std::reverse(texts.begin(), texts.end());
    CHECK(AclOf(texts).Allows(Operation::kUpdate, "a", data) == allowed);
    return allowed;
  };
  CHECK(allows({x_a, x_b}, {{"x", "a"}}));
  CHECK(allows({x_a, x_b}, {{"x", "b"}}));
  CHECK_FALSE(allows({x_a, x_b}, {{"x", "c"}}));
  CHECK(allows({x_a, x_all}, {{"x", "c"}}));
  CHECK_FALSE(allows({x_all, not_y}, {{"y", 1}}));
  CHECK_FALSE(allows({x_all, need_z}, {{"x", 1}}));
  CHECK_FALSE(allows({x_all, deny}, {{"x", 1}}));
}

TEST_CASE("a wrapping TTL that is asked for must be kept") {
  const struct {
    std::string_view limits;
    absl::Duration ttl;
    bool allowed;
  } cases[] = {
      {"", absl::ZeroDuration(), true},
      {"min_wrapping_ttl = \"1m\"", absl::ZeroDuration(), false},
      {"max_wrapping_ttl = \"1m\"", absl::ZeroDuration(), false},
      {"min_wrapping_ttl = \"1m\"", absl::Seconds(59), false},
      {"min_wrapping_ttl = \"1m\"", absl::Seconds(60), true},
      {"min_wrapping_ttl = \"1m\"\n max_wrapping_ttl = \"2m\"", absl::Seconds(120), true},
      {"min_wrapping_ttl = \"1m\"\n max_wrapping_ttl = \"2m\"", absl::Seconds(121), false},
  };
  for (const auto& c : cases) {
    INFO(c.limits);
    const Acl acl = AclOf({StrCat("path \"a\" { capabilities = [\"read\"]\n", c.limits, " }")});
    CHECK(acl.Allows(Operation::kRead, "a", Json::object(), c.ttl) == c.allowed);
  }
  const Acl both = AclOf({"path \"a\" { capabilities = [\"read\"]\n max_wrapping_ttl = \"5m\" }",
                          "path \"a\" { capabilities = [\"read\"]\n max_wrapping_ttl = \"1m\" }"});
  CHECK(both.Allows(Operation::kRead, "a", Json::object(), absl::Seconds(60)));
  CHECK_FALSE(both.Allows(Operation::kRead, "a", Json::object(), absl::Seconds(61)));
}

TEST_CASE("a mount is seen by who may do something in it") {
  const struct {
    std::string_view path;
    std::string_view capability;
    bool seen;
  } cases[] = {
      {"secret/data/a", "read", true},
      {"secret/*", "list", true},
      {"secret/data/*", "read", true},
      {"sec*", "read", true},
      {"*", "sudo", true},
      {"secret/+/a", "read", true},
      {"+/data/a", "read", true},
      {"+/*", "read", true},
      {"secret", "read", true},
      {"secret/", "read", true},
      {"secret/data/a", "deny", false},
      {"secret/*", "deny", false},
      {"secrets/data/a", "read", false},
      {"kv/*", "read", false},
      {"kv/+/a", "read", false},
      {"+/data/a", "deny", false},
  };
  for (const auto& c : cases) {
    INFO(c.path << " " << c.capability);
    CHECK(AclOf({Policies({{c.path, c.capability}})}).GrantsBelow("secret/") == c.seen);
  }
}

TEST_CASE("the resultant ACL is described as the web page expects it") {
  const Acl acl = AclOf({R"(
    path "a"      { capabilities = ["read", "list"] }
    path "b/*"    { capabilities = ["deny"] }
    path "c/+/d*" { capabilities = ["update"]
                    allowed_parameters = { "x" = ["1"] }
                    required_parameters = ["x"]
                    min_wrapping_ttl = 60 })"});
  CHECK(acl.Describe() == Json({{"root", false},
                                {"chroot_namespace", ""},
                                {"exact_paths", {{"a", {{"capabilities", {"list", "read"}}}}}},
                                {"glob_paths",
                                 {{"b/", {{"capabilities", Json::array({"deny"})}}},
                                  {"c/+/d*",
                                   {{"capabilities", Json::array({"update"})},
                                    {"allowed_parameters", {{"x", Json::array({"1"})}}},
                                    {"required_parameters", Json::array({"x"})},
                                    {"min_wrapping_ttl", 60}}}}}}));
  CHECK(Acl({}, true).Describe() == Json({{"root", true}, {"chroot_namespace", ""}}));
}

TEST_CASE("a check takes well under a few microseconds with a hundred rules") {
  std::string text;
  for (int i = 0; i < 50; ++i) {
    StrAppend(&text, "path \"secret/data/team", i, "/*\" { capabilities = [\"read\"] }\n");
    StrAppend(&text, "path \"secret/data/app", i, "/config\" { capabilities = [\"read\"] }\n");
  }
  for (int i = 0; i < 5; ++i) {
    StrAppend(&text, "path \"+/data/group", i, "/+\" { capabilities = [\"read\"] }\n");
  }
  const Acl acl = AclOf({text});
  const Json none = Json::object();
  constexpr int kRounds = 20'000;
  const auto start = std::chrono::steady_clock::now();
  int allowed = 0;
  for (int i = 0; i < kRounds; ++i) {
    allowed += acl.Allows(Operation::kRead, "secret/data/app7/config", none) ? 1 : 0;
    allowed += acl.Allows(Operation::kRead, "secret/data/team42/x/y", none) ? 1 : 0;
    allowed += acl.Allows(Operation::kRead, "kv/data/group3/x", none) ? 1 : 0;
    allowed += acl.Allows(Operation::kRead, "kv/data/other/x", none) ? 1 : 0;
  }
  const auto taken = std::chrono::steady_clock::now() - start;
  CHECK(allowed == 3 * kRounds);
  const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count();
  INFO("nanoseconds for one check: " << nanos / (4 * kRounds));
  CHECK(nanos / (4 * kRounds) < 20'000);  // slack for sanitizers and busy machines
}

TEST_CASE("events are seen where subscribe is granted, of the types that are named") {
  constexpr std::string_view kWrites =
      "path \"a\" { capabilities = [\"subscribe\"] subscribe_event_types = [\"*write\"] }";
  constexpr std::string_view kAll = "path \"a\" { capabilities = [\"subscribe\"] }";
  constexpr std::string_view kTypesAlone =
      "path \"a\" { capabilities = [\"read\"] subscribe_event_types = [\"*\"] }";
  CHECK(AclOf({kAll}).MaySubscribe("a", "kv-v1/delete"));
  CHECK_FALSE(AclOf({kAll}).MaySubscribe("b", "kv-v1/delete"));
  CHECK(AclOf({kWrites}).MaySubscribe("a", "kv-v1/write"));
  CHECK_FALSE(AclOf({kWrites}).MaySubscribe("a", "kv-v1/delete"));
  CHECK(AclOf({kWrites, kAll}).MaySubscribe("a", "kv-v1/delete"));
  CHECK_FALSE(AclOf({kTypesAlone}).MaySubscribe("a", "kv-v1/write"));
  CHECK_FALSE(AclOf({kAll, "path \"a\" { capabilities = [\"deny\"] }"}).MaySubscribe("a", "x"));
}

}  // namespace
}  // namespace coffer::keystore
