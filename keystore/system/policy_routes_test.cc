#include "keystore/system/policy_routes.h"

#include "keystore/system/testing.h"

namespace coffer::keystore {
namespace {

constexpr std::string_view kReadSecret = R"(path "secret/data/*" { capabilities = ["read"] })";

Json DataOf(const absl::StatusOr<Response>& response) {
  CAPTURE(response.status().ToString());
  REQUIRE(response.ok());
  return response->data;
}

std::string ErrorOf(const absl::StatusOr<Response>& response) {
  REQUIRE_FALSE(response.ok());
  return std::string(Message(response.status()));
}

// A token with these policies, and its accessor.
struct Token {
  std::string id;
  std::string accessor;
};
Token MakeToken(TestKeystore& keystore, std::vector<std::string> policies) {
  auto txn = keystore.barrier.Begin();
  REQUIRE(txn.ok());
  Txn root = (*txn)->root();
  TokenSpec spec;
  spec.policies = std::move(policies);
  auto created = keystore.tokens.Create(root, std::move(spec), MountEntry{.path = "auth/token/"});
  CAPTURE(created.status().ToString());
  REQUIRE(created.ok());
  REQUIRE(CommitAndWait(keystore.barrier, *std::move(txn)).ok());
  return {std::string(created->id.view()), created->entry->accessor};
}

TEST_CASE("policies are written, read, listed and deleted under both names") {
  TestKeystore keystore;
  const struct {
    std::string_view base;
    std::string_view text_name;
    bool flattened;
  } forms[] = {{"sys/policy", "rules", true}, {"sys/policies/acl", "policy", false}};
  for (const auto& form : forms) {
    INFO(form.base);
    const std::string path = StrCat(form.base, "/WebApp");
    const auto written = keystore.Write(path, {{"policy", kReadSecret}});
    REQUIRE(written.ok());
    CHECK(written->warnings == std::vector<std::string>{"policy name was converted to webapp"});
    CHECK(
        keystore.Write(StrCat(form.base, "/webapp"), {{"policy", kReadSecret}})->warnings.empty());

    const auto read = keystore.Read(path);
    CHECK(DataOf(read) == Json({{"name", "webapp"}, {form.text_name, kReadSecret}}));
    CHECK(read->flattened == form.flattened);

    Json listed = {{"keys", {"default", "webapp", "root"}}};
    if (form.flattened) listed["policies"] = listed["keys"];
    CHECK(DataOf(keystore.List(StrCat(form.base, "/"))) == listed);
    CHECK(DataOf(keystore.List(form.base)) == listed);

    CHECK(keystore.Delete(path).ok());
    CHECK(keystore.Read(path).status() == absl::NotFoundError(""));
    CHECK(keystore.Delete(path).ok());
  }
  CHECK(DataOf(keystore.Read("sys/policy"))["keys"] == Json({"default", "root"}));
  CHECK(keystore.Read("sys/policies/acl").status().code() == absl::StatusCode::kUnimplemented);
}

TEST_CASE("policies are taken in base64, as JSON, and as rules in the old form") {
  TestKeystore keystore;
  const std::string base64(
      EncodeBase64({reinterpret_cast<const std::uint8_t*>(kReadSecret.data()), kReadSecret.size()})
          .view());
  REQUIRE(keystore.Write("sys/policies/acl/a", {{"policy", base64}}).ok());
  CHECK(DataOf(keystore.Read("sys/policies/acl/a"))["policy"] == kReadSecret);

  constexpr std::string_view kJson = R"({"path": {"a": {"capabilities": ["read"]}}})";
  REQUIRE(keystore.Write("sys/policies/acl/a", {{"policy", kJson}}).ok());
  CHECK(DataOf(keystore.Read("sys/policies/acl/a"))["policy"] == kJson);

  const auto old = keystore.Write("sys/policy/a", {{"rules", kReadSecret}});
  REQUIRE(old.ok());
  CHECK(old->warnings ==
        std::vector<std::string>{"'rules' is deprecated, please use 'policy' instead"});

  REQUIRE(keystore.Write("sys/policies/acl/team/a%b", {{"policy", kJson}}).ok());
  CHECK(DataOf(keystore.Read("sys/policies/acl/team/a%b"))["name"] == "team/a%b");
  CHECK(DataOf(keystore.List("sys/policies/acl"))["keys"] ==
        Json({"a", "default", "team/a%b", "root"}));
}

TEST_CASE("what can't be stored is refused with its cause") {
  TestKeystore keystore;
  const struct {
    std::string_view path;
    Json data;
    std::string_view error;
  } cases[] = {
      {"sys/policies/acl/a", Json::object(), "'policy' parameter not supplied or empty"},
      {"sys/policies/acl/a",
       {{"policy", "path \"x\" { capability = [] }"}},
       "failed to parse policy \"a\": line 1, column 12: there is no setting \"capability\" in a "
       "path block"},
      {"sys/policies/acl/ROOT", {{"policy", kReadSecret}}, "cannot update \"root\" policy"},
      {"sys/policies/acl/Response-Wrapping",
       {{"policy", kReadSecret}},
       "cannot update \"response-wrapping\" policy"},
      {"sys/policy/control-group",
       {{"policy", kReadSecret}},
       "cannot update \"control-group\" policy"},
  };
  for (const auto& c : cases) {
    const auto response = keystore.Write(c.path, c.data);
    CHECK(ErrorOf(response) == c.error);
    CHECK(response.status().code() == absl::StatusCode::kInvalidArgument);
  }
  CHECK(ErrorOf(keystore.Delete("sys/policies/acl/root")) == "cannot delete \"root\" policy");
  CHECK(ErrorOf(keystore.Delete("sys/policies/acl/Default")) == "cannot delete default policy");
  CHECK(ErrorOf(keystore.Delete("sys/policy/response-wrapping")) ==
        "cannot delete \"response-wrapping\" policy");
  CHECK(DataOf(keystore.List("sys/policies/acl"))["keys"] == Json({"default", "root"}));
}

TEST_CASE("a token may do what its policies say now") {
  TestKeystore keystore;
  const Token token = MakeToken(keystore, {"webapp"});
  const auto may_list = [&] { return keystore.List("sys/policies/acl", token.id).ok(); };
  CHECK_FALSE(may_list());
  const auto write = [&](std::string_view capability) {
    REQUIRE(keystore
                .Write("sys/policies/acl/webapp",
                       {{"policy", StrCat("path \"sys/policies/acl\" { capabilities = [\"",
                                          capability, "\"] }")}})
                .ok());
  };
  write("list");
  CHECK(may_list());
  write("read");
  CHECK_FALSE(may_list());
  write("list");
  CHECK(may_list());
  REQUIRE(keystore.Delete("sys/policies/acl/webapp").ok());
  CHECK_FALSE(may_list());
}

TEST_CASE("capabilities are told of a token, an accessor and the caller") {
  TestKeystore keystore;
  REQUIRE(keystore.Write("sys/policies/acl/webapp", {{"policy", kReadSecret}}).ok());
  const Token token = MakeToken(keystore, {"webapp"});

  const Json one = {{"capabilities", Json::array({"read"})},
                    {"secret/data/a", Json::array({"read"})}};
  const Json path = {{"path", "secret/data/a"}};
  const auto with = [](Json data, const char* name, std::string_view value) {
    data[name] = value;
    return data;
  };
  CHECK(DataOf(keystore.Write("sys/capabilities", with(path, "token", token.id))) == one);
  CHECK(DataOf(keystore.Write("sys/capabilities-accessor",
                              with(path, "accessor", token.accessor))) == one);
  const auto self = keystore.Write("sys/capabilities-self", path, token.id);
  CHECK(DataOf(self) == one);
  CHECK(self->flattened);

  CHECK(DataOf(keystore.Write("sys/capabilities-self",
                              {{"paths", {"secret/data/a", "cubbyhole/x", "other"}}}, token.id)) ==
        Json({{"secret/data/a", Json::array({"read"})},
              {"cubbyhole/x", {"create", "delete", "list", "read", "update"}},
              {"other", Json::array({"deny"})}}));
  CHECK(DataOf(keystore.Write("sys/capabilities-self", path))["capabilities"] ==
        Json::array({"root"}));

  const struct {
    std::string_view route;
    Json data;
    std::string_view error;
  } wrong[] = {
      {"sys/capabilities", path, "missing token"},
      {"sys/capabilities", with(path, "token", "hvs.none"), "invalid token"},
      {"sys/capabilities-accessor", path, "missing accessor"},
      {"sys/capabilities-accessor", with(path, "accessor", "none"), "invalid accessor"},
      {"sys/capabilities-self", Json::object(), "paths must be supplied"},
  };
  for (const auto& c : wrong) CHECK(ErrorOf(keystore.Write(c.route, c.data)) == c.error);
  // Others' capabilities need a policy that allows to ask.
  CHECK(
      keystore.Write("sys/capabilities", with(path, "token", token.id), token.id).status().code() ==
      absl::StatusCode::kPermissionDenied);
}

TEST_CASE("the resultant ACL is the caller's") {
  TestKeystore keystore;
  REQUIRE(keystore.Write("sys/policies/acl/webapp", {{"policy", kReadSecret}}).ok());
  const Token token = MakeToken(keystore, {"webapp"});
  const Json acl = DataOf(keystore.Read("sys/internal/ui/resultant-acl", token.id));
  CHECK(acl["root"] == false);
  CHECK(acl["glob_paths"]["secret/data/"] == Json({{"capabilities", Json::array({"read"})}}));
  CHECK(acl["exact_paths"]["auth/token/lookup-self"] ==
        Json({{"capabilities", Json::array({"read"})}}));
  CHECK(DataOf(keystore.Read("sys/internal/ui/resultant-acl"))["root"] == true);
}

TEST_CASE("policies survive sealing") {
  TestKeystore keystore;
  REQUIRE(keystore.Write("sys/policies/acl/webapp", {{"policy", kReadSecret}}).ok());
  keystore.core.Seal();
  CHECK_FALSE(keystore.Read("sys/policies/acl/webapp").ok());
  keystore.Unseal();
  CHECK(DataOf(keystore.Read("sys/policies/acl/webapp"))["policy"] == kReadSecret);
}

}  // namespace
}  // namespace coffer::keystore
