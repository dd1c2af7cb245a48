#include "cli/kubernetes_secrets.h"

#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

TEST_CASE("labels are selected as kubectl selects them") {
  const Json labels = {{"app", "web"}, {"tier", "prod"}, {"empty", ""}};
  const std::pair<const char*, bool> cases[] = {
      {"", true},           {"app=web", true},    {"app==web", true},        {"app=blog", false},
      {"app!=blog", true},  {"app!=web", false},  {"none!=x", true},         {"none=x", false},
      {"app", true},        {"none", false},      {"!app", false},           {"!none", true},
      {"empty", true},      {"empty=", true},     {"app=web,tier=prod", true},
      {" app = web", false}, {"app=web, !old", true}, {"app=web,tier!=prod", false},
  };
  for (const auto& [text, matches] : cases) {
    INFO(text);
    const auto selector = LabelSelector::Parse(text);
    if (!selector.ok()) {
      CHECK(std::string_view(text).find(" =") != std::string_view::npos);
      continue;
    }
    CHECK(selector->Matches(labels) == matches);
  }
  CHECK(LabelSelector::Parse("!old")->Matches(Json()));
  for (const char* wrong : {"a in (b)", "a,,b", "=x", "!", "!=x"}) {
    INFO(wrong);
    CHECK(absl::IsInvalidArgument(LabelSelector::Parse(wrong).status()));
  }
}

TEST_CASE("Secrets come alone, in lists and in streams; other kinds are named") {
  const auto names = [](std::string_view text) {
    const auto secrets = ReadSecretDocuments(text);
    if (!secrets.ok()) return std::string(Message(secrets.status()));
    std::string all;
    for (const Json& secret : *secrets) StrAppend(&all, TextAt(At(secret, "metadata"), "name"), " ");
    return all;
  };
  CHECK(names(R"({"kind": "Secret", "metadata": {"name": "a"}})") == "a ");
  CHECK(names(R"({"kind": "List", "items": [{"kind": "Secret", "metadata": {"name": "a"}},
                 {"kind": "SecretList", "items": [{"metadata": {"name": "b"}}]}]})") == "a b ");
  CHECK(names("kind: Secret\nmetadata: {name: a}\n---\nkind: Secret\nmetadata: {name: b}\n") ==
        "a b ");
  CHECK(names("") == "");
  CHECK_THAT(names("kind: Pod"), Catch::Contains("\"Pod\""));
  CHECK_THAT(names(R"({"kind": "List"})"), Catch::Contains("no items"));
  CHECK_THAT(names(R"({"kind": "List", "items": [{"kind": "Pod"}]})"), Catch::Contains("\"Pod\""));
  CHECK_THAT(names("{"), !Catch::Contains("Secret"));
}

TEST_CASE("contents are texts; what is no UTF-8 stays base64 and is named") {
  std::vector<std::string> binary;
  const Json secret = {{"data", {{"a", "dGV4dA=="}, {"b", "//79"}, {"c", ""}}},
                       {"stringData", {{"a", "wins"}}}};
  const auto contents = SecretContents(secret, &binary);
  REQUIRE(contents.ok());
  CHECK(*contents == Json{{"a", "wins"}, {"b", "//79"}, {"c", ""}});
  CHECK(binary == std::vector<std::string>{"b"});
  const auto wrong = SecretContents({{"data", {{"key", "se cret"}}}}, &binary);
  REQUIRE_FALSE(wrong.ok());
  CHECK_THAT(std::string(Message(wrong.status())), Catch::StartsWith("data.key "));
  CHECK_THAT(std::string(Message(wrong.status())), !Catch::Contains("cret"));
}

}  // namespace
}  // namespace coffer::cli
