#include "keystore/core/policy.h"

namespace coffer::keystore {
namespace {

std::string Error(std::string_view text) {
  const auto policy = Policy::Parse("p", text);
  if (policy.ok()) return "taken";
  CHECK(policy.status().code() == absl::StatusCode::kInvalidArgument);
  std::string_view message = Message(policy.status());
  constexpr std::string_view kStart = "failed to parse policy \"p\": ";
  CHECK(message.starts_with(kStart));
  message.remove_prefix(std::min(kStart.size(), message.size()));
  return std::string(message);
}

// "path:capabilities" of each rule, "*" after a prefix.
std::string Rules(std::string_view text) {
  const auto policy = Policy::Parse("p", text);
  if (!policy.ok()) return std::string(Message(policy.status()));
  std::string all;
  for (const PathRule& rule : (*policy)->rules()) {
    StrAppend(&all, all.empty() ? "" : " ", rule.path,
              rule.match == PathRule::Match::kPrefix ? "*" : "",
              rule.match == PathRule::Match::kSegments ? "(+)" : "", ":");
    std::string_view comma;
    for (const std::string& name : CapabilityNames(rule.permissions.capabilities)) {
      StrAppend(&all, comma, name);
      comma = ",";
    }
  }
  return all;
}

TEST_CASE("policies are read from HCL and JSON") {
  const struct {
    std::string_view text;
    std::string_view rules;
  } cases[] = {
      {"", ""},
      {"name = \"old\"", ""},
      {"path \"secret/data/webapp/config\" {\n  capabilities = [\"read\"]\n}\n",
       "secret/data/webapp/config:read"},
      {"path \"/a\" { capabilities = [\"list\", \"create\"] }", "a:create,list"},
      {"path \"a/*\" { capabilities = [\"update\"] }", "a/*:update"},
      {"path \"*\" { capabilities = [\"sudo\"] }", "*:sudo"},
      {"path \"a/+/b\" { capabilities = [\"patch\"] }", "a/+/b(+):patch"},
      {"path \"+\" { capabilities = [\"read\"] }", "+(+):read"},
      {"path \"+/a*\" { capabilities = [\"read\"] }", "+/a*(+):read"},
      {"path \"a+b\" { capabilities = [\"read\"] }", "a+b:read"},
      {"path \"a/*/b\" { capabilities = [\"read\"] }", "a/*/b:read"},
      {"path \"a\" {}", "a:deny"},
      {"path \"a\" { capabilities = [] }", "a:deny"},
      {"path \"a\" { capabilities = [\"read\", \"deny\"] }", "a:deny"},
      {"path \"a\" { policy = \"read\" }", "a:list,read"},
      {"path \"a\" { policy = \"write\" }", "a:create,delete,list,read,update"},
      {"path \"a\" { policy = \"sudo\" }", "a:create,delete,list,read,sudo,update"},
      {"path \"a\" { policy = \"deny\" }", "a:deny"},
      {"path \"a\" { policy = \"read\"\n capabilities = [\"patch\"] }", "a:list,patch,read"},
      {"path \"a\" { comment = \"why\"\n capabilities = [\"subscribe\", \"recover\"] }",
       "a:recover,subscribe"},
      {"path \"a\" { capabilities = [\"read\"] }\npath \"b\" { capabilities = [\"list\"] }",
       "a:read b:list"},
      {R"({"path": {"a/*": {"capabilities": ["read"]}, "b": {"policy": "deny"}}})",
       "a/*:read b:deny"},
      {R"({"path": [{"a": {"capabilities": ["read"]}}, {"b": {"capabilities": ["list"]}}]})",
       "a:read b:list"},
      {R"({"name": "x", "path": {"a": [{"capabilities": ["read"]}]}})", "a:read"},
      {"{}", ""},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(Rules(c.text) == c.rules);
  }
}

TEST_CASE("a wrong policy is refused with line and cause") {
  const struct {
    std::string_view text;
    std::string_view error;
  } cases[] = {
      {"path \"a\" {\n  capabilities = [\"read\",\n  \"wirte\"]\n}",
       "line 3, column 3: there is no capability \"wirte\"; they are create, read, update, patch, "
       "delete, list, sudo, subscribe, recover, deny"},
      {"path \"a\" { capabilities = [\"Read\"] }",
       "line 1, column 28: there is no capability \"Read\"; they are create, read, update, patch, "
       "delete, list, sudo, subscribe, recover, deny"},
      {"path \"a\" {\n  capabilites = [\"read\"]\n}",
       "line 2, column 3: there is no setting \"capabilites\" in a path block"},
      {"path \"a\" { capabilities = \"read\" }",
       "line 1, column 27: \"capabilities\" must be a list of strings, not a string"},
      {"path \"a\" { capabilities = [1] }",
       "line 1, column 28: \"capabilities\" must be a list of strings, not of a number"},
      {"path \"a\" { capabilities = []\n capabilities = [\"read\"] }",
       "line 2, column 2: \"capabilities\" is there twice"},
      {"path \"a\" { policy = \"all\" }",
       "line 1, column 21: \"policy\" must be read, write, sudo or deny"},
      {"path \"a\" { policy = 1 }", "line 1, column 21: \"policy\" must be a string, not a number"},
      {"path \"a\" { control_group {} }",
       "line 1, column 12: \"control_group\" isn't supported by this keystore"},
      {"path \"a\" { mfa_methods = [] }",
       "line 1, column 12: \"mfa_methods\" isn't supported by this keystore"},
      {"paths \"a\" {}",
       "line 1, column 1: there is no setting \"paths\" in a policy; expected path \"…\" { … }"},
      {"path { capabilities = [\"read\"] }",
       "line 1, column 1: \"path\" needs a label: path \"…\" { … }"},
      {"path \"a\" \"b\" {}", "line 1, column 10: \"path\" takes one label"},
      {"path \"a\" {", "line 1, column 11: expected a name or '}', found the end of the text"},
      {"path \"a/+*\" {}", "line 1, column 6: path \"a/+*\": \"+*\" isn't allowed: use + or *"},
      {"path \"secret/{{identity.entity.name}}/*\" {}",
       "line 1, column 6: path \"secret/{{identity.entity.name}}/*\": templated paths "
       "({{identity…}}) aren't supported: name the path, or use + for a segment"},
      {"path \"a\" { allowed_parameters = [\"x\"] }",
       "line 1, column 34: \"allowed_parameters\" must be a list of objects, not of a string"},
      {"path \"a\" { denied_parameters = { x = 1 } }",
       "line 1, column 34: \"denied_parameters\" maps names to lists of values: \"x\" = [ … ]"},
      {"path \"a\" { required_parameters = { } }",
       "line 1, column 34: \"required_parameters\" must be a list of strings, not an object"},
      {"path \"a\" { min_wrapping_ttl = \"soon\" }",
       "line 1, column 31: \"min_wrapping_ttl\": not a duration: give seconds, or units as in "
       "\"1h30m\" (ns, us, ms, s, m, h, d; at most 292 years)"},
      {"path \"a\" { max_wrapping_ttl = -1 }",
       "line 1, column 31: \"max_wrapping_ttl\" can't be negative"},
      {"path \"a\" { max_wrapping_ttl = true }",
       "line 1, column 31: \"max_wrapping_ttl\" must be a duration (\"1h30m\" or seconds), not a "
       "boolean"},
      {"path \"a\" { min_wrapping_ttl = 60\n max_wrapping_ttl = \"30s\" }",
       "line 1, column 6: max_wrapping_ttl is less than min_wrapping_ttl"},
      {R"({"path": {"a": {"capabilities": ["read"], "x": 1}}})",
       "line 1, column 43: there is no setting \"x\" in a path block"},
      {R"({"path": ["a"]})",
       "line 1, column 11: \"path\" must be a list of objects, not of a string"},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(Error(c.text) == c.error);
  }
}

TEST_CASE("limits of a path are read") {
  const auto policy = Policy::Parse("p", R"(path "a" {
    capabilities        = ["create"]
    allowed_parameters  = { "Name" = ["x*", 5, true], "*" = [] }
    denied_parameters   = { "bad" = [] }
    required_parameters = ["Name"]
    min_wrapping_ttl    = "1m"
    max_wrapping_ttl    = 3600
  })");
  REQUIRE(policy.ok());
  const Permissions& permissions = (*policy)->rules().at(0).permissions;
  CHECK(permissions.allowed == Parameters{{"*", {}}, {"name", {"x*", 5, true}}});
  CHECK(permissions.denied == Parameters{{"bad", {}}});
  CHECK(permissions.required == std::vector<std::string>{"name"});
  CHECK(permissions.min_wrapping_ttl == absl::Minutes(1));
  CHECK(permissions.max_wrapping_ttl == absl::Hours(1));
}

TEST_CASE("the default policy lets a token look after itself and nothing else") {
  const auto policy = Policy::Parse("default", DefaultPolicyText());
  REQUIRE(policy.ok());
  const Acl acl({*policy}, false);
  const struct {
    Operation operation;
    std::string_view path;
    bool allowed;
  } cases[] = {
      {Operation::kRead, "auth/token/lookup-self", true},
      {Operation::kUpdate, "auth/token/renew-self", true},
      {Operation::kUpdate, "auth/token/revoke-self", true},
      {Operation::kUpdate, "sys/capabilities-self", true},
      {Operation::kRead, "sys/internal/ui/resultant-acl", true},
      {Operation::kUpdate, "sys/renew", true},
      {Operation::kUpdate, "sys/leases/renew", true},
      {Operation::kUpdate, "sys/leases/lookup", true},
      {Operation::kCreate, "cubbyhole/a/b", true},
      {Operation::kRead, "cubbyhole/a", true},
      {Operation::kDelete, "cubbyhole/a", true},
      {Operation::kList, "cubbyhole/", true},
      {Operation::kUpdate, "sys/wrapping/wrap", true},
      {Operation::kUpdate, "sys/wrapping/lookup", true},
      {Operation::kUpdate, "sys/wrapping/unwrap", true},
      {Operation::kUpdate, "auth/token/lookup", false},
      {Operation::kUpdate, "auth/token/create", false},
      {Operation::kUpdate, "sys/leases/revoke", false},
      {Operation::kRead, "secret/data/a", false},
      {Operation::kRead, "sys/mounts", false},
      {Operation::kUpdate, "sys/policies/acl/default", false},
  };
  for (const auto& c : cases) {
    INFO(c.path);
    CHECK(acl.Allows(c.operation, c.path, Json::object()) == c.allowed);
  }
}

}  // namespace
}  // namespace coffer::keystore
