#include "keystore/secrets/kv_v2.h"

#include "keystore/system/testing.h"

namespace coffer::keystore {
namespace {

struct Fixture : TestKeystore {
  Fixture() {
    core.Register("kv/2", v2);
    Enable("secret", "kv", "2");
  }
  absl::StatusOr<Response> Put(std::string_view path, Json data, Json options = nullptr) {
    Json body = {{"data", std::move(data)}};
    if (!options.is_null()) body["options"] = std::move(options);
    return Write(StrCat("secret/data/", path), std::move(body));
  }
  absl::StatusOr<Response> PatchTo(std::string_view path, Json body) {
    return Call(Operation::kPatch, StrCat("secret/", path), std::move(body));
  }
  absl::StatusOr<Response> Get(std::string_view path, int version = 0) {
    return Call(Operation::kRead, StrCat("secret/data/", path), {{"version", version}});
  }
  Json Metadata(std::string_view path) {
    const auto read = Read(StrCat("secret/metadata/", path));
    return read.ok() ? read->data : Json(nullptr);
  }
  // Names of entries that hold versions' data.
  std::size_t VersionEntries() {
    auto txn = barrier.Begin().value();
    Txn root = txn->root();
    const auto table = mounts.Load(root).value();
    Txn mount = root.Under(MountStorage(*table->Find("secret/data/x")));
    return mount.List("version/").value().size();
  }
  std::string TokenFor(std::string_view policy) {
    REQUIRE(Write("sys/policies/acl/p", {{"policy", policy}}).ok());
    auto txn = barrier.Begin().value();
    Txn root = txn->root();
    auto made = tokens.Create(root, {.policies = {"p"}}, MountEntry{});
    REQUIRE(CommitAndWait(barrier, std::move(txn)).ok());
    return std::string(made->id.view());
  }

  KvV2 v2{clock};
};

const Json kVersion1 = {{"created_time", "2025-06-03T11:40:51Z"},
                        {"custom_metadata", nullptr},
                        {"deletion_time", ""},
                        {"destroyed", false},
                        {"version", 1}};

TEST_CASE("a secret that was put is read, newest or by version") {
  Fixture f;
  CHECK(absl::IsNotFound(f.Get("webapp/config").status()));
  const Json first = {{"username", "static-user"}, {"nested", {{"list", {1, 2.5, nullptr}}}}};
  CHECK(f.Put("webapp/config", first)->data == kVersion1);
  f.clock.Advance(absl::Nanoseconds(683'275'107));
  CHECK(f.Put("webapp/config", {{"a", "2"}})->data.at("created_time") ==
        "2025-06-03T11:40:51.683275107Z");
  CHECK(f.Get("webapp/config", 1)->data == Json({{"data", first}, {"metadata", kVersion1}}));
  for (const int version : {0, 2, -1}) {
    const Json data = f.Get("webapp/config", version)->data;
    CHECK(data.at("data") == Json({{"a", "2"}}));
    CHECK(data.at("metadata").at("version") == 2);
  }
  CHECK(f.Get("webapp/config", 3).status() == absl::NotFoundError(""));
  CHECK(absl::IsNotFound(f.Get("webapp").status()));
}

TEST_CASE("wrong paths are answered by warnings, in Vault's words") {
  Fixture f;
  struct Case {
    std::string_view name;
    Operation operation;
    std::string_view path, warning;
  };
  const std::string root =
      "Non-listing operations on the root of a K/V v2 mount are not supported.";
  const auto use = [](std::string_view command) {
    return StrCat(
        "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API "
        "endpoints to use. If using the Vault CLI, use 'vault kv ",
        command, "' for this operation.");
  };
  const std::string get = use("get"), put = use("put"), patch = use("patch"), del = use("delete"),
                    list = use("list");
  using enum Operation;
  const Case cases[] = {{"a read as of version 1", kRead, "secret/webapp/config", get},
                        {"a write", kUpdate, "secret/webapp/config", put},
                        {"a patch", kPatch, "secret/webapp/config", patch},
                        {"a deletion", kDelete, "secret/webapp/config", del},
                        {"a list", kList, "secret/webapp/", list},
                        {"a list of the mount", kList, "secret/", list},
                        {"the mount", kRead, "secret", get},
                        {"subkeys of nothing", kRead, "secret/subkeys", get},
                        {"data of nothing", kRead, "secret/data/", get},
                        {"data of a folder", kRead, "secret/data/webapp/", get},
                        {"deletion of a folder", kDelete, "secret/data/webapp/", del},
                        {"a list of data", kList, "secret/data/webapp/", list},
                        {"data without a path", kRead, "secret/data", root},
                        {"put there", kUpdate, "secret/data", root},
                        {"metadata without a path", kDelete, "secret/metadata", root},
                        {"delete without a path", kUpdate, "secret/delete", root},
                        {"undelete without a path", kUpdate, "secret/undelete", root},
                        {"destroy without a path", kUpdate, "secret/destroy", root}};
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const auto answer = f.Call(c.operation, c.path, {{"a", "b"}});
    REQUIRE(answer.ok());
    CHECK(answer->http_status == 404);
    CHECK(answer->data.is_null());
    CHECK(answer->warnings == std::vector<std::string>{std::string(c.warning)});
  }
  for (const std::string_view folder : {"secret/metadata/", "secret/subkeys/"}) {
    CHECK(f.Read(folder).status() == absl::NotFoundError(""));
  }
  CHECK(absl::IsNotFound(f.Call(kHelp, "secret/webapp/config").status()));
  const auto help = f.Call(kHelp, "secret");
  REQUIRE(help.ok());
  CHECK(help->data.at("help").get_ref<const Json::string_t&>().find("data/{path+}") !=
        Json::string_t::npos);
  CHECK(absl::IsPermissionDenied(
      f.Read("secret/webapp/config",
             f.TokenFor("path \"secret/data/*\" { capabilities = [\"read\"] }"))
          .status()));
  REQUIRE(f.Put("webapp/config", {{"a", "b"}}).ok());
  CHECK(f.List("secret/metadata/")->data.at("keys") == Json({"webapp/"}));
}

TEST_CASE("parameters that don't exist are told of where there is an answer, as in Vault") {
  Fixture f;
  const std::vector<std::string> told = {"Endpoint ignored these unrecognized parameters: [x y]"};
  const auto put = f.Write("secret/data/a", {{"data", {{"k", "v"}}}, {"y", 1}, {"x", 2}});
  CHECK(put->warnings == told);
  CHECK(f.Call(Operation::kRead, "secret/data/a", {{"x", "1"}, {"y", ""}})->warnings == told);
  CHECK(f.Call(Operation::kList, "secret/metadata/", {{"x", "1"}, {"y", ""}})->warnings == told);
  CHECK(f.Write("secret/metadata/a", {{"max_versions", 3}, {"x", 1}})->warnings.empty());
  CHECK(f.Call(Operation::kDelete, "secret/data/a", {{"x", "1"}})->warnings.empty());
}

TEST_CASE("cas decides whether a write is made") {
  Fixture f;
  constexpr std::string_view kMismatch = "check-and-set parameter did not match the current version";
  constexpr std::string_view kRequired = "check-and-set parameter required for this call";
  constexpr std::string_view kBad = "error parsing check-and-set parameter";
  struct Case {
    std::string_view name;
    Json options;
    std::string_view error;
  };
  const Case cases[] = {{"0 for a new secret", {{"cas", 0}}, ""},
                        {"0 no more once it is there", {{"cas", 0}}, kMismatch},
                        {"the current version", {{"cas", 1}}, ""},
                        {"as text", {{"cas", "2"}}, ""},
                        {"not an older one", {{"cas", 1}}, kMismatch},
                        {"not a negative one", {{"cas", -1}}, kMismatch},
                        {"not a word", {{"cas", "x"}}, kBad},
                        {"not a list", {{"cas", Json::array()}}, kBad},
                        {"none needed", nullptr, ""},
                        {"other options don't count", {{"x", 1}}, ""}};
  for (const Case& c : cases) {
    INFO(c.name);
    const auto put = f.Put("a", {{"k", "v"}}, c.options);
    if (c.error.empty()) {
      CHECK(put.ok());
    } else {
      CHECK(put.status() == absl::InvalidArgumentError(std::string(c.error)));
    }
  }
  CHECK(f.Metadata("a").at("current_version") == 5);
  REQUIRE(f.Write("secret/metadata/a", {{"cas_required", true}}).ok());
  CHECK(f.Put("a", {{"k", "v"}}).status() == absl::InvalidArgumentError(std::string(kRequired)));
  REQUIRE(f.Write("secret/config", {{"cas_required", true}}).ok());
  CHECK(f.Put("b", {{"k", "v"}}).status() == absl::InvalidArgumentError(std::string(kRequired)));
  CHECK(f.Put("b", {{"k", "v"}}, {{"cas", 0}}).ok());
  CHECK(f.Write("secret/metadata/b", {{"cas_required", false}})->warnings ==
        std::vector<std::string>{"\"cas_required\" set to false, but is mandated by backend "
                                 "config. This value will be ignored."});
}

TEST_CASE("what isn't a secret or a path is refused") {
  Fixture f;
  struct Case {
    std::string_view path;
    Json body;
    std::string_view message;
  };
  const Json data = {{"data", {{"a", "b"}}}};
  const Case cases[] = {
      {"data/a", Json::object(), "no data provided"},
      {"data/a", {{"data", nullptr}}, "no data provided"},
      {"data/", data, "cannot write to a path ending in '/'"},
      {"data/a/../b", data, "path cannot contain parent references"},
      {"data/a//b", data, "the path of a secret cannot have empty segments"},
      {"data/a/", data, "cannot write to a path ending in '/'"},
      {"delete/a", Json::object(), "No version number provided"},
      {"undelete/a", {{"versions", Json::array()}}, "No version number provided"},
      {"destroy/a", Json::object(), "no version number provided"},
      {"config", {{"max_versions", -1}}, "max_versions cannot be negative"},
      {"metadata/a", {{"max_versions", -1}}, "max_versions cannot be negative"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.path, c.message);
    CHECK(f.Write(StrCat("secret/", c.path), c.body).status() ==
          absl::InvalidArgumentError(std::string(c.message)));
  }
  CHECK(absl::IsInvalidArgument(f.Write("secret/data/a", {{"data", 3}}).status()));
  CHECK(absl::IsInvalidArgument(f.Write("secret/delete/a", {{"versions", "1,x"}}).status()));
  for (const std::string_view path : {"x..y", "..x", "x/..."}) {
    CAPTURE(path);
    CHECK(f.Put(path, {{"a", "b"}}).ok());
    CHECK(f.Get(path).ok());
  }
}

TEST_CASE("old versions are dropped, data and all, once there are too many") {
  struct Case {
    std::string_view name;
    int mount, secret, puts, oldest, kept;
  };
  const Case cases[] = {{"10 unless said otherwise", 0, 0, 12, 3, 10},
                        {"as many as the mount says", 2, 0, 5, 4, 2},
                        {"as many as the secret says", 0, 3, 5, 3, 3},
                        {"the larger of both", 4, 2, 9, 6, 4},
                        {"none yet", 5, 0, 4, 0, 4}};
  for (const Case& c : cases) {
    INFO(c.name);
    Fixture f;
    REQUIRE(f.Write("secret/config", {{"max_versions", c.mount}}).ok());
    REQUIRE(f.Write("secret/metadata/a", {{"max_versions", c.secret}}).ok());
    for (int i = 1; i <= c.puts; ++i) REQUIRE(f.Put("a", {{"i", i}}).ok());
    const Json metadata = f.Metadata("a");
    CHECK(metadata.at("current_version") == c.puts);
    CHECK(metadata.at("oldest_version") == c.oldest);
    CHECK(metadata.at("versions").size() == static_cast<std::size_t>(c.kept));
    CHECK(f.VersionEntries() == static_cast<std::size_t>(c.kept));
    CHECK(f.Get("a", c.puts - c.kept + 1)->data.at("data").at("i") == c.puts - c.kept + 1);
    CHECK(absl::IsNotFound(f.Get("a", c.puts - c.kept).status()) == (c.puts > c.kept));
  }
}

TEST_CASE("fewer versions are kept from the next write on") {
  Fixture f;
  for (int i = 1; i <= 6; ++i) REQUIRE(f.Put("a", {{"i", i}}).ok());
  REQUIRE(f.Write("secret/metadata/a", {{"max_versions", 2}}).ok());
  CHECK(f.Metadata("a").at("versions").size() == 6);
  REQUIRE(f.Put("a", {{"i", 7}}).ok());
  CHECK(f.Metadata("a").at("versions").size() == 2);
  CHECK(f.VersionEntries() == 2);
}

TEST_CASE("a deleted version answers 404 with its metadata and comes back") {
  Fixture f;
  REQUIRE(f.Put("a", {{"i", 1}}).ok());
  REQUIRE(f.Put("a", {{"i", 2}}).ok());
  f.clock.Advance(absl::Seconds(9));
  REQUIRE(f.Delete("secret/data/a").ok());
  const auto deleted = f.Get("a");
  REQUIRE(deleted.ok());
  CHECK(deleted->http_status == 404);
  CHECK(deleted->data == Json({{"data", nullptr},
                               {"metadata",
                                {{"created_time", "2025-06-03T11:40:51Z"},
                                 {"custom_metadata", nullptr},
                                 {"deletion_time", "2025-06-03T11:41:00Z"},
                                 {"destroyed", false},
                                 {"version", 2}}}}));
  CHECK(f.Get("a", 1)->http_status == 0);
  CHECK(f.PatchTo("data/a", {{"data", {{"j", 1}}}})->http_status == 404);
  CHECK(f.Call(Operation::kRead, "secret/subkeys/a")->http_status == 404);

  struct Case {
    std::string_view route;
    Json versions;
    int first, second;  // HTTP status of reads then
  };
  const Case cases[] = {{"undelete", {2}, 0, 0},
                        {"delete", "1,2", 404, 404},
                        {"undelete", {"1"}, 0, 404},
                        {"undelete", 2, 0, 0},
                        {"delete", {1, 7}, 404, 0},
                        {"destroy", {1}, 404, 0},
                        {"undelete", {1}, 404, 0}};
  for (const Case& c : cases) {
    CAPTURE(c.route, c.versions.dump().c_str());
    const auto done = f.Write(StrCat("secret/", c.route, "/a"), {{"versions", c.versions}});
    REQUIRE(done.ok());
    CHECK(done->data.is_null());
    CHECK(f.Get("a", 1)->http_status == c.first);
    CHECK(f.Get("a", 2)->http_status == c.second);
  }
  CHECK(f.Get("a", 1)->data.at("metadata").at("destroyed") == true);
  CHECK(f.VersionEntries() == 1);
  CHECK(f.Delete("secret/data/none").ok());
  CHECK(f.Write("secret/destroy/none", {{"versions", {1}}}).ok());
}

TEST_CASE("versions are deleted by themselves after the time that is set") {
  struct Case {
    std::string_view name;
    Json mount, secret;
    std::string_view deletion;
  };
  const Case cases[] = {{"not at all", 0, 0, ""},
                        {"the mount's time", "1m", 0, "2025-06-03T11:41:51Z"},
                        {"the secret's time", 0, 9, "2025-06-03T11:41:00Z"},
                        {"the secret's where it is shorter", "1m", 9, "2025-06-03T11:41:00Z"},
                        {"the mount's where it is shorter", 9, "1m", "2025-06-03T11:41:00Z"},
                        {"the mount can switch it off", "-1s", 9, ""}};
  for (const Case& c : cases) {
    INFO(c.name);
    Fixture f;
    REQUIRE(f.Write("secret/config", {{"delete_version_after", c.mount}}).ok());
    REQUIRE(f.Write("secret/metadata/a", {{"delete_version_after", c.secret}}).ok());
    CHECK(f.Put("a", {{"i", 1}})->data.at("deletion_time") == c.deletion);
    CHECK(f.Get("a")->http_status == 0);
    f.clock.Advance(absl::Hours(1));
    CHECK(f.Get("a")->http_status == (c.deletion.empty() ? 0 : 404));
    REQUIRE(f.Write("secret/undelete/a", {{"versions", {1}}}).ok());
    CHECK(f.Get("a")->http_status == 0);
  }
}

TEST_CASE("the mount's settings are kept") {
  Fixture f;
  CHECK(f.Read("secret/config")->data ==
        Json({{"cas_required", false}, {"delete_version_after", "0s"}, {"max_versions", 0}}));
  REQUIRE(f.Write("secret/config", {{"max_versions", 5}, {"delete_version_after", "3h25m19s"}}).ok());
  REQUIRE(f.Write("secret/config", {{"cas_required", "true"}}).ok());
  CHECK(f.Read("secret/config")->data == Json({{"cas_required", true},
                                               {"delete_version_after", "3h25m19s"},
                                               {"max_versions", 5}}));
  CHECK(absl::IsInvalidArgument(
      f.Write("secret/config", {{"delete_version_after", "soon"}}).status()));
}

TEST_CASE("a patch changes what it names") {
  Fixture f;
  CHECK(f.PatchTo("data/a", {{"data", {{"x", 1}}}}).status() == absl::NotFoundError(""));
  REQUIRE(f.Put("a", {{"keep", 1}, {"drop", 2}, {"deep", {{"keep", 1}, {"drop", 2}}}}).ok());
  CHECK(f.PatchTo("data/a", Json::object()).status() ==
        absl::InvalidArgumentError("no data provided"));
  CHECK(absl::IsInvalidArgument(
      f.PatchTo("data/a", {{"data", {{"x", 1}}}, {"options", {{"cas", 7}}}}).status()));
  const auto patched = f.PatchTo(
      "data/a", {{"data", {{"drop", nullptr}, {"new", "x"}, {"deep", {{"drop", nullptr}, {"n", 1}}}}},
                 {"options", {{"cas", 1}}}});
  REQUIRE(patched.ok());
  CHECK(patched->data.at("version") == 2);
  CHECK(f.Get("a")->data.at("data") ==
        Json({{"keep", 1}, {"new", "x"}, {"deep", {{"keep", 1}, {"n", 1}}}}));
  CHECK(f.Get("a", 1)->data.at("data").at("drop") == 2);
}

TEST_CASE("subkeys show names and no values") {
  Fixture f;
  REQUIRE(f.Put("a", {{"x", 1}, {"o", {{"p", {{"q", "v"}}}, {"e", Json::object()}}}, {"l", {1}}}).ok());
  struct Case {
    int depth;
    Json subkeys;
  };
  const Case cases[] = {
      {0, {{"x", nullptr}, {"l", nullptr}, {"o", {{"e", nullptr}, {"p", {{"q", nullptr}}}}}}},
      {1, {{"x", nullptr}, {"l", nullptr}, {"o", nullptr}}},
      {2, {{"x", nullptr}, {"l", nullptr}, {"o", {{"e", nullptr}, {"p", nullptr}}}}},
      {9, {{"x", nullptr}, {"l", nullptr}, {"o", {{"e", nullptr}, {"p", {{"q", nullptr}}}}}}}};
  for (const Case& c : cases) {
    CHECK(f.Call(Operation::kRead, "secret/subkeys/a", {{"depth", c.depth}})->data ==
          Json({{"subkeys", c.subkeys}, {"metadata", kVersion1}}));
  }
  CHECK(f.Call(Operation::kRead, "secret/subkeys/a", {{"version", 2}}).status() ==
        absl::NotFoundError(""));
  CHECK(absl::IsNotFound(f.Read("secret/subkeys/none").status()));
}

TEST_CASE("metadata is written before, with and after versions, and is shown whole") {
  Fixture f;
  CHECK(f.Write("secret/metadata/a", Json::object()).ok());
  CHECK(absl::IsNotFound(f.Read("secret/metadata/a").status()));
  REQUIRE(f.Write("secret/metadata/a", {{"max_versions", 4},
                                        {"delete_version_after", "90s"},
                                        {"custom_metadata", {{"team", "x"}, {"n", 3}, {"b", true}}}})
              .ok());
  CHECK(absl::IsNotFound(f.Get("a").status()));
  f.clock.Advance(absl::Seconds(1));
  REQUIRE(f.Put("a", {{"i", 1}}).ok());
  const Json custom = {{"b", "1"}, {"n", "3"}, {"team", "x"}};
  CHECK(f.Metadata("a") == Json({{"cas_required", false},
                                 {"created_time", "2025-06-03T11:40:51Z"},
                                 {"current_version", 1},
                                 {"custom_metadata", custom},
                                 {"delete_version_after", "1m30s"},
                                 {"max_versions", 4},
                                 {"oldest_version", 0},
                                 {"updated_time", "2025-06-03T11:40:52Z"},
                                 {"versions",
                                  {{"1",
                                    {{"created_time", "2025-06-03T11:40:52Z"},
                                     {"deletion_time", "2025-06-03T11:42:22Z"},
                                     {"destroyed", false}}}}}}));
  CHECK(f.Get("a")->data.at("metadata").at("custom_metadata") == custom);

  REQUIRE(f.PatchTo("metadata/a", {{"max_versions", 6},
                                   {"custom_metadata", {{"team", nullptr}, {"new", "y"}}}})
              .ok());
  CHECK(f.Metadata("a").at("custom_metadata") == Json({{"b", "1"}, {"n", "3"}, {"new", "y"}}));
  CHECK(f.Metadata("a").at("max_versions") == 6);
  CHECK(f.Metadata("a").at("delete_version_after") == "1m30s");
  REQUIRE(f.PatchTo("metadata/a", {{"custom_metadata", nullptr}}).ok());
  CHECK(f.Metadata("a").at("custom_metadata").is_null());
  CHECK(absl::IsNotFound(f.PatchTo("metadata/none", {{"max_versions", 1}}).status()));

  REQUIRE(f.Delete("secret/metadata/a").ok());
  CHECK(absl::IsNotFound(f.Get("a").status()));
  CHECK(f.VersionEntries() == 0);
  CHECK(f.Delete("secret/metadata/a").ok());
  CHECK(f.Put("a", {{"i", 1}})->data.at("version") == 1);
}

TEST_CASE("custom metadata has Vault's limits") {
  Fixture f;
  Json many = Json::object();
  for (int i = 0; i < 64; ++i) many[Json::string_t(StrCat(i))] = "x";
  Json too_many = many;
  too_many["one more"] = "x";
  const Json::string_t long_key(128, 'k'), long_value(512, 'v');
  struct Case {
    Json custom;
    std::string_view part;  // "": taken
  };
  const Case cases[] = {
      {many, ""},
      {too_many, "payload must contain at most 64 keys, provided 65"},
      {{{long_key, long_value}}, ""},
      {{{long_key + "k", "x"}}, "is 129 but must be 0 < len(key) <= 128"},
      {{{"k", long_value + "v"}}, "is 513 but must be 0 < len(value) <= 512"},
      {{{"", "x"}}, "is 0 but must be 0 < len(key) <= 128"},
      {{{"k", ""}}, "is 0 but must be 0 < len(value) <= 512"},
      {{{"k", "a\nb"}}, "value for key \"k\" contains unprintable characters"},
      {{{"k", "a\xc2\x85"}}, "value for key \"k\" contains unprintable characters"},
      {{{"k", "ä"}}, ""},
      {{{"k", Json::array({1})}}, "value for key \"k\" must be a string"},
      {{{"k", ""}, {"l", ""}}, "2 errors occurred:"},
  };
  for (const Case& c : cases) {
    for (const bool patch : {false, true}) {
      REQUIRE(f.Put("a", Json::object()).ok());
      REQUIRE(f.PatchTo("metadata/a", {{"custom_metadata", nullptr}}).ok());
      const Json body = {{"custom_metadata", c.custom}};
      const absl::Status status = (patch ? f.PatchTo("metadata/a", body)
                                         : f.Write("secret/metadata/a", body))
                                      .status();
      CAPTURE(c.part, status.ToString());
      CHECK(status.ok() == c.part.empty());
      CHECK(status.ToString().find(c.part) != std::string::npos);
    }
  }
}

TEST_CASE("secrets are listed by directory") {
  Fixture f;
  CHECK(f.List("secret/metadata/").status() == absl::NotFoundError(""));
  for (const char* path : {"a", "dir/b", "dir/sub/c", "dir", "z"}) {
    REQUIRE(f.Put(path, {{"k", path}}).ok());
  }
  struct Case {
    std::string_view directory;
    Json keys;  // null: 404
  };
  const Case cases[] = {{"secret/metadata/", {"a", "dir", "dir/", "z"}},
                        {"secret/metadata/dir", {"b", "sub/"}},
                        {"secret/metadata/dir/", {"b", "sub/"}},
                        {"secret/metadata/dir/sub/", {"c"}},
                        {"secret/metadata/none", nullptr},
                        {"secret/metadata/a", nullptr}};
  for (const Case& c : cases) {
    CAPTURE(c.directory);
    const auto list = f.List(c.directory);
    CHECK((list.ok() ? list->data.at("keys") : Json(nullptr)) == c.keys);
  }
  REQUIRE(f.Delete("secret/metadata/dir/sub/c").ok());
  CHECK(f.List("secret/metadata/dir/")->data.at("keys") == Json::array({"b"}));
}

TEST_CASE("create and update are told apart") {
  Fixture f;
  const std::string creator =
      f.TokenFor("path \"secret/data/*\" { capabilities = [\"create\"] }");
  CHECK(f.Write("secret/data/a", {{"data", {{"i", 1}}}}, creator).ok());
  CHECK(absl::IsPermissionDenied(
      f.Write("secret/data/a", {{"data", {{"i", 2}}}}, creator).status()));
  const std::string updater =
      f.TokenFor("path \"secret/data/*\" { capabilities = [\"update\"] }");
  CHECK(f.Write("secret/data/a", {{"data", {{"i", 2}}}}, updater).ok());
  CHECK(absl::IsPermissionDenied(
      f.Write("secret/data/b", {{"data", {{"i", 2}}}}, updater).status()));
}

TEST_CASE("mounts don't see each other, and a new mount at an old path is empty") {
  Fixture f;
  f.Enable("other", "kv", "2");
  REQUIRE(f.Put("a", {{"i", 1}}).ok());
  CHECK(absl::IsNotFound(f.Read("other/data/a").status()));
  REQUIRE(f.Delete("sys/mounts/secret").ok());
  f.Enable("secret", "kv", "2");
  CHECK(absl::IsNotFound(f.Get("a").status()));
}

TEST_CASE("secrets are read again after a seal") {
  Fixture f;
  REQUIRE(f.Put("a", {{"i", 1}}).ok());
  REQUIRE(f.Get("a").ok());
  f.core.Seal();
  CHECK(absl::IsUnavailable(f.Get("a").status()));
  f.Unseal();
  CHECK(f.Get("a")->data.at("data").at("i") == 1);
}

}  // namespace
}  // namespace coffer::keystore
