// Which files become of a secret: keys, formats, templates, patterns, absent ones, owners.
#include <map>
#include <mutex>

#include "common/http_client_test_server.h"
#include "provider/extract.h"
#include "provider/format.h"
#include "provider/parameters.h"
#include "provider/path_pattern.h"
#include "provider/provider.h"
#include "provider/template.h"

namespace coffer::provider {
namespace {

using Files = std::map<std::string, std::string>;

// A keystore that answers what stands in `answers`, "METHOD path" first, and 404 for the rest.
struct Keystore {
  std::mutex mutex;
  std::map<std::string, Json> answers;
  std::vector<std::string> calls;
  TestHttpServer server{[this](const TestHttpRequest& request) {
    std::lock_guard lock(mutex);
    const std::string call = StrCat(request.method(), " ", request.target());
    if (call == "POST /v1/auth/kubernetes/login") {
      const Json auth = {{"client_token", "hvs.t"}, {"lease_duration", 3600}};
      return TestHttpAnswer(200, DumpJson({{"auth", auth}}).view());
    }
    calls.push_back(call);
    const auto found = answers.find(call);
    if (found == answers.end()) return TestHttpAnswer(404, R"({"errors":[]})");
    return TestHttpAnswer(200, DumpJson({{"data", found->second}}).view());
  }};

  void Kv2(std::string_view path, Json secret, int version = 1) {
    answers[StrCat("GET /v1/secret/data/", path)] = {
        {"data", std::move(secret)},
        {"metadata", {{"version", version}, {"created_time", "2026-01-01T00:00:00Z"}}}};
  }
  void List(std::string_view path, Json keys) {
    answers[StrCat("LIST /v1/", path)] = {{"keys", std::move(keys)}};
  }
};

struct Fixture {
  Fixture() {
    keystore.Kv2("web", {{"user", "ann"}, {"password", "it's"}, {"n", 5}, {"db", {{"port", 1}}}});
    keystore.Kv2("hex", {{"a", "6869"}, {"b", "7a"}});
    keystore.Kv2("app/one", {{"k", "1"}, {"l", "11"}});
    keystore.Kv2("app/two", {{"k", "2"}});
    keystore.Kv2("app/deep/three", {{"k", "3"}});
    keystore.List("secret/metadata/app/", {"deep/", "gone", "one", "two"});
    keystore.List("secret/metadata/app/deep/", {"three"});
    keystore.answers["GET /v1/kv/data/x"] = {{"k", "v1"}};  // kv version 1, a folder called data
    keystore.List("kv/data/", {"x"});
  }

  absl::StatusOr<FetchResult> Fetch(std::string_view objects) {
    const SecretProviderClass secret_class{
        .name = "webapp",
        .kubernetes_namespace = "default",
        .provider = "vault",
        .parameters = {{"vaultAddress", keystore.server.address()},
                       {"roleName", "r"},
                       {"objects", std::string(objects)}}};
    Pod pod{.name = "web", .kubernetes_namespace = "default", .service_account = "vault"};
    pod.tokens.emplace("", SecretBytes::CopyOf("jwt"));
    return provider.Fetch(secret_class, pod, *session, clock.Now() + absl::Seconds(30));
  }

  Keystore keystore;
  ManualClock clock;
  Workers workers{4, absl::Milliseconds(50)};
  Provider provider{clock, workers, Provider::Options()};
  SessionPtr session = NewSession();
};

Files FilesOf(const FetchResult& result) {
  Files files;
  for (const File& file : result.files) files[file.path] = std::string(file.content.view());
  return files;
}

TEST_CASE("objects make the files that they describe") {
  struct Case {
    std::string_view holds;
    std::string_view objects;
    Files files;
  };
  const std::vector<Case> cases = {
      {"a whole secret, a file a key",
       "- {objectName: o, secretPath: secret/data/web, keys: '*'}",
       {{"user", "ann"}, {"password", "it's"}, {"n", "5"}, {"db", R"({"port":1})"}}},
      {"keys by pattern and by name",
       "- {objectName: o, secretPath: secret/data/web, keys: ['pass*', user]}",
       {{"user", "ann"}, {"password", "it's"}}},
      {"keys in a folder",
       "- {objectName: o, secretPath: secret/data/web, keys: 'user, n', path: a/b}",
       {{"a/b/user", "ann"}, {"a/b/n", "5"}}},
      {"keys decoded", "- {objectName: o, secretPath: secret/data/hex, keys: '?', encoding: hex}",
       {{"a", "hi"}, {"b", "z"}}},
      {"one key in a folder",
       "- {objectName: o, secretPath: secret/data/web, secretKey: user, path: a/b.txt}",
       {{"a/b.txt", "ann"}}},
      {"json", "- {objectName: o, secretPath: secret/data/hex, format: json}",
       {{"o", R"({"a":"6869","b":"7a"})"}}},
      {"env of some keys",
       "- {objectName: .env, secretPath: secret/data/web, format: env, keys: 'user,password'}",
       {{".env", "password=\"it's\"\nuser=ann\n"}}},
      {"a template",
       "- objectName: url\n  secretPath: secret/data/web\n"
       "  template: 'db://{{ .user }}:{{.password}}@h:{{ .db.port }}/{{ \"{{\" }}'",
       {{"url", "db://ann:it's@h:1/{{"}}},
      {"a pattern, and what is deleted is left out",
       "- {objectName: o, secretPath: secret/data/app/*, secretKey: k}",
       {{"one", "1"}, {"two", "2"}}},
      {"a pattern within",
       "- {objectName: o, secretPath: secret/data/app/d*/three, secretKey: k, path: f}",
       {{"f/deep/three", "3"}}},
      {"everything below, a folder a secret",
       "- {objectName: o, secretPath: secret/data/app/**, keys: '*'}",
       {{"one/k", "1"}, {"one/l", "11"}, {"two/k", "2"}, {"deep/three/k", "3"}}},
      {"a pattern whose secrets lack the key sometimes",
       "- {objectName: o, secretPath: secret/data/app/*, secretKey: l}", {{"one", "11"}}},
      {"kv version 1 with a folder called data",
       "- {objectName: o, secretPath: kv/data/*, secretKey: k}", {{"x", "v1"}}},
      {"an absent secret that is optional",
       "- {objectName: o, secretPath: secret/data/no, secretKey: k, optional: true}\n"
       "- {objectName: p, secretPath: secret/data/no/*, keys: '*', optional: true}", {}},
      {"an absent key that is optional",
       "- {objectName: o, secretPath: secret/data/web, secretKey: no, optional: true}", {}},
      {"a default for an absent secret, and for an absent key",
       "- {objectName: o, secretPath: secret/data/no, format: env, default: 'a=1'}\n"
       "- {objectName: p, secretPath: secret/data/web, secretKey: no, default: '', path: f/p}",
       {{"o", "a=1"}, {"f/p", ""}}},
      {"a default that isn't needed",
       "- {objectName: o, secretPath: secret/data/web, secretKey: user, default: x}",
       {{"o", "ann"}}},
  };
  for (const Case& c : cases) {
    Fixture f;
    const auto result = f.Fetch(c.objects);
    INFO(c.holds << "\n" << result.status());
    REQUIRE(result.ok());
    CHECK(FilesOf(*result) == c.files);
  }
}

TEST_CASE("what can't be made is refused, by object and cause") {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"- {objectName: o, secretPath: secret/data/web, template: '{{ .no }}'}",
       "object \"o\": GET secret/data/web at"},
      {"- {objectName: o, secretPath: secret/data/web, template: '{{ .no }}'}",
       "key \"no\" does not exist in the secret"},
      {"- {objectName: o, secretPath: secret/data/web, keys: [user, no]}", "key \"no\" does not"},
      {"- {objectName: o, secretPath: secret/data/web, keys: 'no*'}", "no key of the secret"},
      {"- {objectName: o, secretPath: secret/data/no/*, keys: '*'}", "matches secret/data/no/*"},
      {"- {objectName: o, secretPath: secret/data/web, keys: '*'}\n"
       "- {objectName: user, secretPath: secret/data/web, secretKey: n}",
       "object \"user\": the file user is made by object \"o\" already"},
      {"- {objectName: o, secretPath: secret/data/web, keys: '*'}\n"
       "- {objectName: user/x, secretPath: secret/data/web, secretKey: user}",
       "object \"user/x\": the file user/x can't be made: user is the file of object \"o\""},
  };
  for (const auto& [objects, error] : cases) {
    Fixture f;
    const auto result = f.Fetch(objects);
    CHECK_FALSE(result.ok());
    CHECK_THAT(std::string(Message(result.status())), Catch::Contains(std::string(error)));
    CHECK_THAT(std::string(Message(result.status())), !Catch::Contains("it's"));
  }
}

TEST_CASE("a key that would leave the volume makes no file") {
  for (const char* key : {"../x", "/etc/x", "a/../b", "..data", ""}) {
    Fixture f;
    f.keystore.Kv2("evil", {{key, "x"}});
    const auto result = f.Fetch("- {objectName: o, secretPath: secret/data/evil, keys: '*'}");
    CHECK(absl::IsFailedPrecondition(result.status()));
    CHECK_THAT(std::string(Message(result.status())), Catch::Contains("can't be a file's name"));
  }
}

TEST_CASE("a pattern's version changes with any of its files, an absent object has none") {
  Fixture f;
  const std::string_view objects =
      "- {objectName: o, secretPath: secret/data/app/**, keys: '*'}\n"
      "- {objectName: p, secretPath: secret/data/web, keys: '*', path: w}\n"
      "- {objectName: q, secretPath: secret/data/no, keys: '*', optional: true}\n";
  const auto first = f.Fetch(objects);
  REQUIRE(first.ok());
  REQUIRE(first->versions.size() == 2);
  CHECK(first->versions[1].version == "1-2026-01-01T00:00:00Z");
  CHECK(f.Fetch(objects)->versions[0].version == first->versions[0].version);
  f.keystore.Kv2("app/deep/three", {{"k", "4"}});
  CHECK(f.Fetch(objects)->versions[0].version != first->versions[0].version);
}

TEST_CASE("mode, owner and group are the object's, else the class's, else none") {
  const auto parsed = ParseParameters(
      {.name = "c",
       .kubernetes_namespace = "n",
       .provider = "vault",
       .parameters = {{"roleName", "r"},
                      {"filePermission", "0440"},
                      {"owner", "1000"},
                      {"objects", "- {objectName: a, secretPath: a}\n"
                                  "- {objectName: b, secretPath: b, owner: 0, group: 7, "
                                  "filePermission: 0400}"}}},
      Defaults());
  REQUIRE(parsed.ok());
  CHECK(parsed->objects[0].facts.mode == 0440);
  CHECK(parsed->objects[0].facts.owner == 1000u);
  CHECK(parsed->objects[0].facts.group == std::nullopt);
  CHECK(parsed->objects[1].facts.mode == 0400);
  CHECK(parsed->objects[1].facts.owner == 0u);
  CHECK(parsed->objects[1].facts.group == 7u);
  Fixture f;
  const auto result =
      f.Fetch("- {objectName: o, secretPath: secret/data/web, keys: '*', owner: 5, group: 6}");
  REQUIRE(result.ok());
  for (const File& file : result->files) {
    CHECK(file.owner == 5u);
    CHECK(file.group == 6u);
  }
}

TEST_CASE("fields that are wrong, or that exclude each other, are named") {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"keys: '*', secretKey: a", "objects[0].keys: and secretKey exclude"},
      {"keys: []", "objects[0].keys: must name keys"},
      {"keys: {a: b}", "objects[0].keys: must name keys"},
      {"format: toml", "objects[0].format: must be env, json, yaml, properties, pem or pkcs12"},
      {"format: env, template: x", "objects[0].template: and format exclude"},
      {"format: env, secretKey: a", "objects[0].secretKey: is for a file of one key"},
      {"format: env, encoding: hex", "objects[0].encoding: is for files of one key"},
      {"template: '{{ .a'", "objects[0].template: line 1: {{ without its }}"},
      {"template: '{{ a }}'", "objects[0].template: line 1: between {{ and }}"},
      {"template: '{{ .a | upper }}'", "objects[0].template: line 1: between {{ and }}"},
      {"owner: root", "objects[0].owner: must be a number"},
      {"group: 4294967295", "objects[0].group: must be a number"},
      {"group: -1", "objects[0].group: must be a number"},
      {"optional: maybe", "objects[0].optional: must be true or false"},
      {"optional: true, default: x", "objects[0].default: and optional exclude"},
      {"keys: '*', default: x", "objects[0].default: is for one file"},
      {"path: ../x", "objects[0].path: has an empty"},
      {"path: /x", "objects[0].path: has an empty"},
      {"path: a/..b", "objects[0].path: must not have a part"},
      {"secretPath: '*/x'", "objects[0].secretPath: must start with the mount"},
      {"secretPath: 'a/**/x'", "objects[0].secretPath: may have ** as its last part alone"},
      {"secretPath: 'a/*', method: PUT", "objects[0].method: must be GET"},
  };
  for (const auto& [fields, error] : cases) {
    const bool path = fields.find("secretPath") != fields.npos;
    const auto parsed = ParseParameters(
        {.name = "c",
         .kubernetes_namespace = "n",
         .provider = "vault",
         .parameters = {{"roleName", "r"},
                        {"objects", StrCat("- {objectName: a, ", path ? "" : "secretPath: a, ",
                                           fields, "}")}}},
        Defaults());
    INFO(fields);
    REQUIRE(absl::IsInvalidArgument(parsed.status()));
    CHECK_THAT(std::string(Message(parsed.status())), Catch::Contains(std::string(error)));
  }
}

TEST_CASE("formats keep what their readers would change") {
  const Json secret = {{"a b", "x y"},  {"n", 5},           {"q", "a'b\"$`\\"},
                       {"multi", "1\n2"}, {"uni", "\u00e9\U0001F600"}, {"lead", " s=#"}};
  const auto env = FormatSecret(secret, Format::kEnv);
  REQUIRE(env.ok());
  CHECK(env->view() ==
        "a_b='x y'\nlead=' s=#'\nmulti='1\n2'\nn=5\nq=\"a'b\\\"\\$\\`\\\\\"\n"
        "uni='\u00e9\U0001F600'\n");
  CHECK(FormatSecret(secret, Format::kProperties)->view() ==
        "a\\ b=x y\nlead=\\ s=#\nmulti=1\\n2\nn=5\nq=a'b\"$`\\\\\nuni=\\u00e9\\ud83d\\ude00\n");
  CHECK(FormatSecret({{"k: ", {{"x", 1}}}, {"m", "1\n2"}}, Format::kYaml)->view() ==
        "\"k: \": {\"x\":1}\n\"m\": \"1\\n2\"\n");
  CHECK(FormatSecret(Json::object(), Format::kYaml)->view() == "{}\n");
  CHECK(FormatSecret(Json::object(), Format::kEnv)->view().empty());
  CHECK(absl::IsFailedPrecondition(
      FormatSecret({{"a-b", 1}, {"a.b", 2}}, Format::kEnv).status()));
  CHECK(absl::IsFailedPrecondition(
      FormatSecret({{"a", std::string_view("\0", 1)}}, Format::kEnv).status()));
}

TEST_CASE("a pattern is no way to read for ever, nor to list elsewhere") {
  int lists = 0;
  const ListNames endless = [&lists](const std::string&) -> absl::StatusOr<std::vector<std::string>> {
    ++lists;
    return std::vector<std::string>{"x", "a/", "b/"};
  };
  CHECK(absl::IsResourceExhausted(ExpandPath("secret/data/**", endless).status()));
  CHECK(lists <= 1001);
  const auto strange = ExpandPath("kv/*", [](const std::string&) {
    return absl::StatusOr<std::vector<std::string>>({"..", "a/b", "ok", ".", "", "/"});
  });
  REQUIRE(strange.ok());
  REQUIRE(strange->size() == 1);
  CHECK(strange->front().path == "kv/ok");
}

TEST_CASE("a path is known to be one that a pattern means") {
  struct Case {
    std::string_view pattern, path;
    bool matches;
  };
  for (const Case& c : std::vector<Case>{{"secret/data/a", "secret/data/a", true},
                                         {"secret/data/a", "secret/data/a/b", false},
                                         {"secret/data/a/b", "secret/data/a", false},
                                         {"secret/data/*", "secret/data/a", true},
                                         {"secret/data/*", "secret/data/a/b", false},
                                         {"secret/data/*/b", "secret/data/a/b", true},
                                         {"secret/data/**", "secret/data/a/b", true},
                                         {"secret/data/**", "secret/data", false}}) {
    INFO(c.pattern << " " << c.path);
    CHECK(PathMatches(c.pattern, c.path) == c.matches);
  }
}

TEST_CASE("globs match as shells have it") {
  struct Case {
    std::string_view pattern, text;
    bool matches;
  };
  for (const Case& c : std::vector<Case>{{"*", "", true},
                                         {"a*", "abc", true},
                                         {"*c", "abc", true},
                                         {"a*c*e", "abcde", true},
                                         {"a?c", "abc", true},
                                         {"a?c", "ac", false},
                                         {"", "a", false},
                                         {"*ab", "aab", true},
                                         {"a*b", "acc", false},
                                         {"**", "x", true}}) {
    INFO(c.pattern << " " << c.text);
    CHECK(GlobMatches(c.pattern, c.text) == c.matches);
  }
}

}  // namespace
}  // namespace coffer::provider
