#include "csi/class_source.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <optional>

#include "absl/time/clock.h"
#include "common/eventually.h"
#include "common/http_client_test_server.h"
#include "csi/kube_client.h"

namespace coffer::csi {
namespace {

namespace fs = std::filesystem;

struct Folder {
  Folder() {
    char name[] = "/tmp/coffer-classes.XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { fs::remove_all(path); }
  // Appears whole, as an editor or a ConfigMap would have it.
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(path + "/." + name) << text;
    fs::rename(path + "/." + name, path + "/" + name);
  }
  std::string path;
};

std::string ClassText(const std::string& name, const std::string& role = "r") {
  return StrCat(
      "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata:\n  name: ",
      name, "\nspec:\n  provider: vault\n  parameters:\n    roleName: ", role, "\n");
}

TEST_CASE("classes of a folder are found, and found anew when a file changes") {
  Folder folder;
  folder.Write("a.yaml", ClassText("a") + "---\n" + ClassText("b"));
  folder.Write("c.yml", ClassText("c"));
  folder.Write("notes.txt", "not: [yaml");
  const auto source = MakeDirectoryClassSource(folder.path);
  const auto get = [&](std::string_view name, std::string_view space = "default") {
    return source->Get(space, name, absl::InfiniteFuture());
  };
  CHECK(get("a").ok());
  CHECK(get("b").ok());
  CHECK(get("c")->parameters.at("roleName") == "r");
  CHECK(absl::IsNotFound(get("a", "shop").status()));
  folder.Write("c.yml", ClassText("c", "other"));
  CHECK(get("c")->parameters.at("roleName") == "other");
  fs::remove(folder.path + "/c.yml");
  CHECK(absl::IsNotFound(get("c").status()));
  folder.Write("d.json",
               R"({"apiVersion":"secrets-store.csi.x-k8s.io/v1","kind":"SecretProviderClass",
                            "metadata":{"name":"d"},"spec":{"provider":"coffer"}})");
  CHECK(get("d")->provider == "coffer");
}

TEST_CASE("every change of a folder's classes shows at the next Get, however it is made") {
  Folder folder;
  const auto in_place = [&folder](const std::string& name, const std::string& text) {
    std::ofstream(folder.path + "/" + name) << text;
  };
  const auto source = MakeDirectoryClassSource(folder.path);
  const auto role = [&source](std::string_view name) -> std::string {
    const auto found = source->Get("default", name, absl::InfiniteFuture());
    return found.ok() ? found->parameters.at("roleName")
                      : std::string(absl::StatusCodeToString(found.status().code()));
  };
  const auto settle = [] { absl::SleepFor(absl::Milliseconds(150)); };

  SECTION("a file is written in place, in the same size, again and again") {
    for (int i = 100; i < 400; ++i) {
      in_place("a.yaml", ClassText("a", StrCat(i)));
      REQUIRE(role("a") == StrCat(i));
    }
  }
  SECTION("a file is renamed over another, again and again") {
    for (int i = 100; i < 400; ++i) {
      folder.Write("a.yaml", ClassText("a", StrCat(i)));
      REQUIRE(role("a") == StrCat(i));
    }
  }
  SECTION("what has settled is written in place, renamed away, comes back and is deleted") {
    in_place("a.yaml", ClassText("a", "1"));
    settle();
    CHECK(role("a") == "1");
    in_place("a.yaml", ClassText("a", "2"));
    CHECK(role("a") == "2");
    settle();
    CHECK(role("a") == "2");
    fs::rename(folder.path + "/a.yaml", folder.path + "/a.txt");
    CHECK(role("a") == "NOT_FOUND");
    fs::rename(folder.path + "/a.txt", folder.path + "/a.yaml");
    settle();
    CHECK(role("a") == "2");
    fs::remove(folder.path + "/a.yaml");
    CHECK(role("a") == "NOT_FOUND");
  }
  SECTION("a class moves from one file to another, both written in place") {
    in_place("a.yaml", ClassText("a", "1"));
    in_place("b.yaml", ClassText("b", "1"));
    settle();
    CHECK(role("a") == "1");
    in_place("b.yaml", ClassText("a", "2"));
    in_place("a.yaml", ClassText("c", "3"));
    CHECK(role("a") == "2");
    CHECK(role("b") == "NOT_FOUND");
    CHECK(role("c") == "3");
  }
  SECTION("one of two files that define a class gives it up") {
    in_place("a.yaml", ClassText("a", "1"));
    in_place("b.yaml", ClassText("a", "2"));
    settle();
    CHECK(role("a") == "FAILED_PRECONDITION");
    in_place("b.yaml", ClassText("b", "2"));
    CHECK(role("a") == "1");
  }
  SECTION("a ConfigMap's ..data is swapped") {
    for (const char* version : {"1", "2"}) {
      fs::create_directory(folder.path + "/.." + version);
      in_place(StrCat("..", version, "/a.yaml"), ClassText("a", version));
    }
    fs::create_symlink("..1", folder.path + "/..data");
    fs::create_symlink("..data/a.yaml", folder.path + "/a.yaml");
    settle();
    CHECK(role("a") == "1");
    fs::create_symlink("..2", folder.path + "/..data_tmp");
    fs::rename(folder.path + "/..data_tmp", folder.path + "/..data");
    CHECK(role("a") == "2");
  }
  SECTION("a file is a link to one elsewhere, which is renamed over") {
    Folder elsewhere;
    elsewhere.Write("a.yaml", ClassText("a", "1"));
    fs::create_symlink(elsewhere.path + "/a.yaml", folder.path + "/a.yaml");
    settle();
    CHECK(role("a") == "1");
    elsewhere.Write("a.yaml", ClassText("a", "2"));
    CHECK(role("a") == "2");
  }
  SECTION("another folder takes the place of the first") {
    in_place("a.yaml", ClassText("a", "1"));
    settle();
    CHECK(role("a") == "1");
    Folder other;
    other.Write("a.yaml", ClassText("a", "2"));
    fs::rename(folder.path, folder.path + ".old");
    CHECK(role("a") == "UNAVAILABLE");
    fs::rename(other.path, folder.path);
    CHECK(role("a") == "2");
    fs::remove_all(folder.path + ".old");
  }
}

TEST_CASE("a broken file hurts only who needs it, and a class in two files is refused") {
  Folder folder;
  folder.Write("a.yaml", ClassText("a"));
  folder.Write("broken.yaml", "kind: [");
  const auto source = MakeDirectoryClassSource(folder.path);
  CHECK(source->Get("default", "a", absl::InfiniteFuture()).ok());
  const auto missing = source->Get("default", "b", absl::InfiniteFuture()).status();
  CHECK(absl::IsInvalidArgument(missing));
  CHECK_THAT(std::string(Message(missing)), Catch::Contains("broken.yaml: line"));
  folder.Write("again.yaml", ClassText("a"));
  const auto twice = source->Get("default", "a", absl::InfiniteFuture()).status();
  CHECK(absl::IsFailedPrecondition(twice));
  CHECK_THAT(std::string(Message(twice)), Catch::Contains("again.yaml"));
  CHECK(absl::IsUnavailable(
      MakeDirectoryClassSource("/nowhere")->Get("a", "b", absl::InfiniteFuture()).status()));
}

// Runs against an API server that demands a bearer token over its own CA's TLS.
TEST_CASE("classes come from the API server that a kubeconfig names, with its CA and token") {
  const TestCertificate ca("");
  const TestCertificate leaf("IP:127.0.0.1", &ca);
  std::atomic<int> status{200};
  TestHttpServer server(
      [&status](const TestHttpRequest& request) {
        if (request.header("Authorization") != "Bearer sesame") {
          return TestHttpAnswer(401, R"({"kind":"Status","message":"Unauthorized"})");
        }
        if (request.target() !=
            "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/shop/secretproviderclasses/webapp") {
          return TestHttpAnswer(404, R"({"kind":"Status","message":"not found"})");
        }
        return TestHttpAnswer(status, R"({"apiVersion":"secrets-store.csi.x-k8s.io/v1",
            "kind":"SecretProviderClass","metadata":{"name":"webapp","namespace":"shop",
            "resourceVersion":"42"},"spec":{"provider":"vault","parameters":{"roleName":"r"}}})");
      },
      &leaf);
  Folder folder;
  folder.Write("token", "sesame\n");
  const std::string ca_data(EncodeBase64(SecretBytes::CopyOf(ca.certificate_pem()).span()).view());
  const auto config_with = [&](const std::string& user) {
    folder.Write("config", StrCat("apiVersion: v1\nkind: Config\ncurrent-context: c\n"
                                  "contexts: [{name: c, context: {cluster: k, user: u}}]\n"
                                  "clusters: [{name: k, cluster: {server: ",
                                  server.address(), "/, certificate-authority-data: ", ca_data,
                                  "}}]\n"
                                  "users: [{name: u, user: {",
                                  user, "}}]\n"));
    return LoadKubeConfig(folder.path + "/config");
  };
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  for (const char* user : {"token: sesame", "tokenFile: token"}) {
    INFO(user);
    auto config = config_with(user);
    REQUIRE(config.ok());
    KubeClient client(*std::move(config));
    const auto source = MakeClusterClassSource(client);
    const auto found = source->Get("shop", "webapp", deadline);
    INFO(found.status());
    REQUIRE(found.ok());
    CHECK(found->resource_version == "42");
    const auto missing = source->Get("shop", "other", deadline).status();
    CHECK(absl::IsNotFound(missing));
    CHECK_THAT(std::string(Message(missing)), Catch::Contains("SecretProviderClass shop/other"));
  }
  {  // the token file is read anew
    KubeClient client(*config_with("tokenFile: token"));
    const auto source = MakeClusterClassSource(client);
    folder.Write("token", "wrong");
    CHECK(absl::IsUnauthenticated(source->Get("shop", "webapp", deadline).status()));
    folder.Write("token", "sesame");
    CHECK(source->Get("shop", "webapp", deadline).ok());
    status = 500;  // what is known serves while the API server doesn't
    CHECK(source->Get("shop", "webapp", deadline).ok());
    CHECK(absl::IsUnavailable(
        MakeClusterClassSource(client)->Get("shop", "webapp", deadline).status()));
  }
  for (const auto& [user, error] : std::map<std::string, std::string>{
           {"exec: {command: aws}", "user.exec: isn't supported"},
           {"client-key-data: '***'", "client-key-data: not base64"}}) {
    const auto config = config_with(user);
    REQUIRE(absl::IsInvalidArgument(config.status()));
    CHECK_THAT(std::string(Message(config.status())), Catch::Contains(error));
  }
}

TEST_CASE("a kubeconfig's proxy-url is taken, or refused by name") {
  std::string target;
  TestHttpServer proxy([&](const TestHttpRequest& request) {
    target = request.target();
    return TestHttpAnswer(200, R"({"kind":"Node"})");
  });
  Folder folder;
  const auto config_with = [&folder](const std::string& proxy_url) {
    folder.Write("config", StrCat("current-context: c\n"
                                  "contexts: [{name: c, context: {cluster: k}}]\n"
                                  "clusters: [{name: k, cluster: {server: 'http://api.invalid', "
                                  "proxy-url: '",
                                  proxy_url, "'}}]\n"));
    return LoadKubeConfig(folder.path + "/config");
  };
  auto config = config_with(proxy.address());
  REQUIRE(config.ok());
  KubeClient client(*std::move(config));
  const auto node = client.Get("/api/v1/nodes/n", absl::Now() + absl::Seconds(10));
  INFO(node.status());
  CHECK(node.ok());
  CHECK(target == "http://api.invalid/api/v1/nodes/n");
  for (const char* other : {"socks5://u:secret@p:1080", "https://u:secret@p", "http://"}) {
    const absl::Status refused = config_with(other).status();
    CHECK(absl::IsInvalidArgument(refused));
    CHECK_THAT(std::string(Message(refused)),
               Catch::Contains("the proxy in cluster.proxy-url") && !Catch::Contains("secret"));
  }
}

// An API server with one class, whose watches say what a test wants.
struct WatchedServer {
  // Answers a watch with events and leaves it open, or with its end.
  static std::string WatchAnswer(const std::string& events, bool end) {
    std::string text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    if (!events.empty()) StrAppend(&text, absl::Hex(events.size()), "\r\n", events, "\r\n");
    return text + (end ? "0\r\n\r\n" : "");
  }
  static std::string Object(const std::string& role, int version) {
    return StrCat(R"({"apiVersion":"secrets-store.csi.x-k8s.io/v1","kind":"SecretProviderClass",)",
                  R"("metadata":{"name":"webapp","namespace":"shop","resourceVersion":")", version,
                  R"("},"spec":{"provider":"vault","parameters":{"roleName":")", role, R"("}}})");
  }
  static std::string Event(const std::string& type, const std::string& object) {
    return StrCat(R"({"type":")", type, R"(","object":)", object, "}\n");
  }

  std::string Answer(const TestHttpRequest& request) {
    std::lock_guard lock(mutex);
    const std::string target(request.target());
    if (forbid_watch && target.find("/namespaces/") == target.npos) {
      return TestHttpAnswer(403, R"({"kind":"Status","message":"forbidden"})");
    }
    if (target.find("watch=true") != target.npos) {
      watches.push_back(target);
      if (answers.empty()) return WatchAnswer("", watches_end);
      const std::string answer = answers.front();
      answers.erase(answers.begin());
      return answer;
    }
    if (target.find("limit=1") != target.npos) {
      ++lists;
      return TestHttpAnswer(200, StrCat(R"({"metadata":{"resourceVersion":")", list_version,
                                        R"("},"items":[]})"));
    }
    ++gets;
    return object.empty() ? TestHttpAnswer(404, "{}") : TestHttpAnswer(200, object);
  }

  std::mutex mutex;
  std::string object = Object("one", 5);
  int list_version = 10;
  bool forbid_watch = false;
  std::vector<std::string> answers;  // to watches, the next one first; then they stay open,
  bool watches_end = false;          // or end at once
  std::vector<std::string> watches;
  int lists = 0, gets = 0;
  TestHttpServer server{[this](const TestHttpRequest& request) { return Answer(request); }};
  KubeClient client{KubeConfig{.server = server.address()}};
};

TEST_CASE("a class is asked for once; changes come by the watch, which goes on where it ended") {
  WatchedServer api;
  api.answers = {WatchedServer::WatchAnswer(
      WatchedServer::Event("BOOKMARK", R"({"metadata":{"resourceVersion":"20"}})") +
          WatchedServer::Event("MODIFIED", WatchedServer::Object("two", 25)),
      true)};
  const auto source = MakeClusterClassSource(api.client);
  const auto role = [&]() -> std::string {
    const auto found = source->Get("shop", "webapp", absl::Now() + absl::Seconds(60));
    return found.ok() ? found->parameters.at("roleName") : found.status().ToString();
  };
  const auto gets_so_far = [&api] {
    std::lock_guard lock(api.mutex);
    return api.gets;
  };
  const std::string first = role();  // the watch may be quicker
  CHECK((first == "one" || first == "two"));
  CHECK(source->Ready().ok());
  REQUIRE(Eventually([&] {
    std::lock_guard lock(api.mutex);
    return api.watches.size() == 2;
  }));
  {
    std::lock_guard lock(api.mutex);
    CHECK_THAT(api.watches[0], Catch::Contains("&resourceVersion=10"));
    CHECK_THAT(api.watches[1], Catch::Contains("&resourceVersion=25"));
    api.object = WatchedServer::Object("two", 25);
  }
  REQUIRE(Eventually([&] {  // the second watch stands: nobody is asked any longer
    const int before = gets_so_far();
    return role() == "two" && gets_so_far() == before;
  }));
  const int gets = gets_so_far();
  for (int i = 0; i < 100; ++i) REQUIRE(role() == "two");
  CHECK(gets_so_far() == gets);
  CHECK(api.lists == 1);
}

TEST_CASE("after 410 the watch begins anew, and what was missed is asked for") {
  WatchedServer api;
  api.watches_end = true;
  const auto source = MakeClusterClassSource(api.client);
  const absl::Time deadline = absl::Now() + absl::Seconds(100);
  REQUIRE(source->Get("shop", "webapp", deadline)->parameters.at("roleName") == "one");
  {
    std::lock_guard lock(api.mutex);
    api.object = WatchedServer::Object("two", 30);
    api.list_version = 40;
    api.answers = {WatchedServer::WatchAnswer(
        WatchedServer::Event("ERROR", R"({"kind":"Status","code":410,"message":"too old"})"),
        true)};
    api.watches_end = false;
  }
  REQUIRE(Eventually([&] {
    std::lock_guard lock(api.mutex);
    return api.lists == 2 && api.watches.back().find("&resourceVersion=40") != std::string::npos;
  }));
  CHECK(source->Get("shop", "webapp", deadline)->parameters.at("roleName") == "two");
}

TEST_CASE("a class that is deleted is gone; one that comes back is found") {
  WatchedServer api;
  api.answers = {WatchedServer::WatchAnswer("", true)};
  const auto source = MakeClusterClassSource(api.client);
  const absl::Time deadline = absl::Now() + absl::Seconds(100);
  REQUIRE(source->Get("shop", "webapp", deadline).ok());
  {
    std::lock_guard lock(api.mutex);
    api.object.clear();
    api.answers.push_back(WatchedServer::WatchAnswer(
        WatchedServer::Event("DELETED", WatchedServer::Object("one", 50)), false));
  }
  REQUIRE(Eventually([&] { return absl::IsNotFound(source->Get("shop", "webapp", deadline).status()); }));
  {
    std::lock_guard lock(api.mutex);
    api.object = WatchedServer::Object("again", 60);
  }
  CHECK(source->Get("shop", "webapp", deadline)->parameters.at("roleName") == "again");
}

TEST_CASE("where the plugin may not watch, each Get asks; with no API server, what is known serves") {
  auto api = std::make_unique<WatchedServer>();
  api->forbid_watch = true;
  const auto source = MakeClusterClassSource(api->client);
  const absl::Time deadline = absl::Now() + absl::Seconds(100);
  REQUIRE(source->Get("shop", "webapp", deadline).ok());
  {
    std::lock_guard lock(api->mutex);
    api->object = WatchedServer::Object("two", 6);
  }
  CHECK(source->Get("shop", "webapp", deadline)->parameters.at("roleName") == "two");
  const auto unasked = MakeClusterClassSource(api->client);
  CHECK(Eventually([&] { return unasked->Ready().ok(); }));

  std::optional<WatchedServer> gone(std::in_place);
  KubeClient client(KubeConfig{.server = gone->server.address()});
  const auto cut_off = MakeClusterClassSource(client);
  REQUIRE(cut_off->Get("shop", "webapp", deadline).ok());
  gone.reset();
  CHECK(cut_off->Get("shop", "webapp", deadline)->parameters.at("roleName") == "one");
  CHECK(absl::IsUnavailable(cut_off->Get("shop", "other", deadline).status()));
  CHECK(cut_off->Ready().ok());
  CHECK(absl::IsUnavailable(MakeClusterClassSource(client)->Ready()));
}

TEST_CASE("a class that no pod has asked for in an hour isn't kept") {
  std::optional<WatchedServer> api(std::in_place);
  api->watches_end = true;
  KubeClient client(KubeConfig{.server = api->server.address()});
  std::atomic<int> hours{0};
  const auto source = MakeClusterClassSource(
      client, [&hours] { return SteadyTime() + std::chrono::hours(hours.load()); });
  const absl::Time deadline = absl::Now() + absl::Seconds(100);
  const auto watched = [&] {
    std::lock_guard lock(api->mutex);
    return api->watches.size();
  };
  REQUIRE(source->Get("shop", "webapp", deadline).ok());
  hours = 2;
  SECTION("used") { REQUIRE(source->Get("shop", "webapp", deadline).ok()); }
  SECTION("unused") {}
  const bool used = [&] {
    std::lock_guard lock(api->mutex);
    return api->gets == 2;
  }();
  const std::size_t before = watched();
  REQUIRE(Eventually([&] { return watched() >= before + 3; }));
  api.reset();
  CHECK(source->Get("shop", "webapp", deadline).ok() == used);
}

TEST_CASE("a kubeconfig with a client certificate inside is used without touching the disk") {
  const TestCertificate ca("");
  const TestCertificate leaf("IP:127.0.0.1", &ca);
  const TestCertificate client_certificate("", &ca);
  TestHttpServer server([](const TestHttpRequest&) { return TestHttpAnswer(200, "{}"); }, &leaf,
                        &ca);
  const auto base64 = [](const std::string& text) {
    return std::string(EncodeBase64(SecretBytes::CopyOf(text).span()).view());
  };
  Folder folder;
  folder.Write("config", StrCat("current-context: c\n"
                                "contexts: [{name: c, context: {cluster: k, user: u}}]\n"
                                "clusters: [{name: k, cluster: {server: '",
                                server.address(),
                                "', certificate-authority-data: ", base64(ca.certificate_pem()),
                                "}}]\nusers: [{name: u, user: {client-certificate-data: ",
                                base64(client_certificate.certificate_pem()), ", client-key-data: ",
                                base64(client_certificate.key_pem()), "}}]\n"));
  auto config = LoadKubeConfig(folder.path + "/config");
  REQUIRE(config.ok());
  KubeClient client(*std::move(config));
  const auto answer = client.Get("/api", absl::Now() + absl::Seconds(10));
  INFO(answer.status());
  CHECK(answer.ok());
}

TEST_CASE(
    "inside a cluster the ServiceAccount's files say how; outside, the error says what to do") {
  unsetenv("KUBERNETES_SERVICE_HOST");
  const auto outside = InClusterConfig().status();
  CHECK(absl::IsFailedPrecondition(outside));
  CHECK_THAT(std::string(Message(outside)), Catch::Contains("--secret-provider-class-dir"));
  setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
  setenv("KUBERNETES_SERVICE_PORT", "6443", 1);
  const auto inside = InClusterConfig("/sa");
  REQUIRE(inside.ok());
  CHECK(inside->server == "https://[fd00::1]:6443");
  CHECK(inside->tls.ca_file == "/sa/ca.crt");
  CHECK(inside->token_file == "/sa/token");
  unsetenv("KUBERNETES_SERVICE_HOST");
}

}  // namespace
}  // namespace coffer::csi
