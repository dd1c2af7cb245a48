// Against an API server that keeps objects as the real one does, as far as it matters here; the real
// one is in tests/csi/kube_test.py.
#include "csi/kube_reporter.h"

#include "absl/time/clock.h"
#include "common/http_client_test_server.h"
#include "csi/pod_tokens.h"
#include "csi/secret_checks.h"

namespace coffer::csi {
namespace {

class FakeApi {
 public:
  std::string Answer(const TestHttpRequest& request) {
    std::lock_guard lock(mutex_);
    if (down) return TestHttpAnswer(503, R"({"message":"away"})");
    const std::string path(request.target().substr(0, request.target().find('?')));
    const std::string method(request.method());
    Json body = request.body.empty() ? Json() : *ParseJson(request.body);
    log.push_back(StrCat(method, " ", path));
    if (nodes_forbidden && path.starts_with("/api/v1/nodes/")) {
      return TestHttpAnswer(403, R"({"message":"nodes is forbidden"})");
    }
    if (secrets_forbidden && path.starts_with("/api/v1/") && path.find("/secrets") != path.npos) {
      return TestHttpAnswer(403, R"({"message":"secrets is forbidden"})");
    }
    if (refused_events != 0 && path.ends_with("/events")) {
      return TestHttpAnswer(refused_events, R"({"message":"no"})");
    }
    if (method == "POST" && path.ends_with("/token")) {
      ++tokens;
      const auto& audiences = body["spec"]["audiences"];
      return TestHttpAnswer(
          201, StrCat(R"({"status":{"token":"jwt-)",
                      audiences.empty() ? std::string_view("default")
                                        : std::string_view(audiences[0].get_ref<const SecretString&>()),
                      R"(","expirationTimestamp":"2035-01-01T00:00:00Z"}})"));
    }
    if (method == "POST") {
      const std::string name =
          StrCat(path, "/", std::string_view(body["metadata"]["name"].get_ref<const SecretString&>()));
      if (objects.contains(name)) return TestHttpAnswer(409, R"({"message":"exists"})");
      body["metadata"]["uid"] = SecretString(StrCat("uid-", ++version_));
      return Store(name, std::move(body), 201);
    }
    const auto found = objects.find(path);
    if (found == objects.end()) return TestHttpAnswer(404, R"({"message":"not found"})");
    if (method == "GET") return TestHttpAnswer(200, DumpJson(found->second).view());
    const Json& metadata = found->second["metadata"];
    if (method == "DELETE" && deletes_fail) return TestHttpAnswer(503, R"({"message":"away"})");
    if (method == "DELETE") {
      const Json& wanted = body["preconditions"];
      for (const auto& [name, value] : wanted.items()) {
        if (metadata[name] != value) return TestHttpAnswer(409, R"({"message":"precondition"})");
      }
      objects.erase(found);
      return TestHttpAnswer(200, "{}");
    }
    if (body["metadata"].contains("resourceVersion") &&
        body["metadata"]["resourceVersion"] != metadata["resourceVersion"]) {
      return TestHttpAnswer(409, R"({"message":"changed"})");
    }
    Json merged = found->second;
    merged.merge_patch(body);
    return Store(path, std::move(merged), 200);
  }

  // The object at that path, or null; by value, since the server's threads change it.
  Json At(const std::string& path) {
    std::lock_guard lock(mutex_);
    const auto found = objects.find(path);
    return found == objects.end() ? Json() : found->second;
  }
  void Put(const std::string& path, const char* text) {
    std::lock_guard lock(mutex_);
    objects[path] = *ParseJson(text);
  }
  void Remove(const std::string& path) {
    std::lock_guard lock(mutex_);
    objects.erase(path);
  }
  std::vector<Json> Events() {
    std::lock_guard lock(mutex_);
    std::vector<Json> events;
    for (const auto& [path, object] : objects) {
      if (path.find("/events/") != path.npos) events.push_back(object);
    }
    return events;
  }

  std::atomic<bool> down{false};
  std::atomic<bool> deletes_fail{false};
  std::atomic<bool> secrets_forbidden{false};
  std::atomic<bool> nodes_forbidden{false};
  std::atomic<int> refused_events{0};  // with that
  std::vector<std::string> log;
  std::map<std::string, Json> objects;
  int tokens = 0;
  TestHttpServer server{[this](const TestHttpRequest& request) { return Answer(request); }};

 private:
  std::string Store(const std::string& path, Json object, int status) {
    object["metadata"]["resourceVersion"] = SecretString(StrCat(++version_));
    objects[path] = object;
    return TestHttpAnswer(status, DumpJson(object).view());
  }
  std::mutex mutex_;
  int version_ = 0;
};

constexpr char kStatus[] =
    "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/shop/secretproviderclasspodstatuses/"
    "web-1-shop-webapp";
constexpr char kSecret[] = "/api/v1/namespaces/shop/secrets/copy";

// The machine's, set wrong by that much.
class SteppedClock : public Clock {
 public:
  absl::Time Now() const override { return absl::Now() + absl::Seconds(seconds.load()); }
  std::atomic<int> seconds{0};
};

struct Fixture {
  FakeApi api;
  KubeClient client{KubeConfig{.server = api.server.address()}};
  SteppedClock clock;
  std::atomic<int> minutes{0};  // that have passed beside those of the test
  Metrics metrics;
  KubeReporter reporter{clock, client, metrics, "node-1", [this] {
                          return std::chrono::steady_clock::now() + std::chrono::minutes(minutes);
                        }};

  // As after a publish of pod web-<pod> whose file has that content.
  void Publish(int pod, const std::string& content, bool again = false, bool rotated = false,
               absl::Status status = absl::OkStatus(), std::string file = "password") {
    PublishOutcome outcome;
    outcome.status = status;
    outcome.secret_class.provider = "vault";
    outcome.again = again;
    outcome.rotated = rotated;
    outcome.versions = {{"password", content}};
    std::vector<provider::File> files;
    files.push_back({.path = "password", .content = SecretBytes::CopyOf(content)});
    outcome.secrets = FillSecretObjects(
        {{.name = "copy", .labels = {{"team", "a"}}, .annotations = {{"note", "b"}},
          .data = {{"pw", std::move(file)}}}},
        files);
    const VolumeContext context = {.secret_class = "webapp",
                                   .pod = {.name = StrCat("web-", pod),
                                           .kubernetes_namespace = "shop",
                                           .uid = StrCat("pod-uid-", pod)},
                                   .fs_group = fs_group};
    reporter.Published(Target(pod), context, outcome);
    settled = reporter.writer().Drain(absl::Now() + absl::Seconds(10));
  }
  void Unpublish(int pod) {
    reporter.Unpublished(Target(pod), {}, absl::OkStatus());
    settled = reporter.writer().Drain(absl::Now() + absl::Seconds(10));
  }
  // Whether it holds within a minute.
  static bool Comes(const std::function<bool()>& holds) {
    const absl::Time end = absl::Now() + absl::Seconds(60);
    while (!holds() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(10));
    return holds();
  }
  static std::string Target(int pod) { return StrCat("/kubelet/pods/", pod, "/mount"); }
  std::string Data() { return DumpOf(api.At(kSecret)["data"]); }
  static std::string DumpOf(const Json& json) { return std::string(DumpJson(json).view()); }
  bool settled = false;
  std::optional<std::uint32_t> fs_group;
};

TEST_CASE("a published volume has a status of upstream's shape, kept up to date, gone with it") {
  Fixture f;
  f.Publish(1, "v1");
  Json status = f.api.At(kStatus);
  REQUIRE(status.is_object());
  CHECK(f.DumpOf(status["status"]) ==
        R"({"mounted":true,"objects":[{"id":"password","version":"v1"}],"podName":"web-1",)"
        R"("secretProviderClassName":"webapp","targetPath":"/kubelet/pods/1/mount"})");
  CHECK(f.DumpOf(status["metadata"]["labels"]) ==
        R"({"internal.secrets-store.csi.k8s.io/node-name":"node-1"})");
  CHECK(f.DumpOf(status["metadata"]["ownerReferences"]) ==
        R"([{"apiVersion":"v1","kind":"Pod","name":"web-1","uid":"pod-uid-1"}])");
  CHECK_FALSE(status["status"].contains("fsGroup"));
  f.Publish(1, "v2", true, true);
  CHECK(f.api.At(kStatus)["status"]["objects"][0]["version"] == "v2");
  f.Unpublish(1);
  CHECK(f.api.At(kStatus).is_null());
  CHECK(f.settled);
}

TEST_CASE("a status tells the pod's fsGroup, and not that of a namesake before it") {
  Fixture f;
  f.fs_group = 2000;
  f.Publish(1, "v1");
  CHECK(f.api.At(kStatus)["status"]["fsGroup"] == "2000");
  KubeReporter next(f.clock, f.client, f.metrics, "node-1");
  PublishOutcome outcome;
  next.Published(f.Target(1),
                 {.secret_class = "webapp",
                  .pod = {.name = "web-1", .kubernetes_namespace = "shop", .uid = "pod-uid-9"}},
                 outcome);
  REQUIRE(next.writer().Drain(absl::Now() + absl::Seconds(10)));
  CHECK(f.api.At(kStatus)["metadata"]["ownerReferences"][0]["uid"] == "pod-uid-9");
  CHECK_FALSE(f.api.At(kStatus)["status"].contains("fsGroup"));
}

TEST_CASE("a republish without news writes nothing") {
  Fixture f;
  f.Publish(1, "v1");
  const std::size_t writes = f.api.log.size();
  for (int i = 0; i < 10; ++i) f.Publish(1, "v1", true, false);
  CHECK(f.api.log.size() == writes);
}

TEST_CASE("the status of a pod's namesake is taken over as it is, and left to it") {
  Fixture f;
  f.api.Put(kStatus, R"({"metadata":{"uid":"old","resourceVersion":"1",
      "labels":{"internal.secrets-store.csi.k8s.io/node-name":"node-2"}}})");
  f.Publish(1, "v1");
  CHECK(f.api.At(kStatus)["metadata"]["labels"]["internal.secrets-store.csi.k8s.io/node-name"] ==
        "node-1");
  CHECK(f.api.At(kStatus)["metadata"]["uid"] == "old");
  // The next pod of that name, elsewhere, takes the object over: the API server keeps its uid.
  f.api.Put(kStatus, R"({"metadata":{"uid":"old","resourceVersion":"9"},
      "status":{"targetPath":"/kubelet/pods/2/mount"}})");
  f.Unpublish(1);
  CHECK(f.settled);
  CHECK(f.api.At(kStatus)["status"]["targetPath"] == "/kubelet/pods/2/mount");
}

TEST_CASE("a status that was deleted late is its pod's, not the namesake's on the same node") {
  Fixture f;
  const VolumeContext pod = {.secret_class = "webapp",
                             .pod = {.name = "web-1", .kubernetes_namespace = "shop", .uid = "new"}};
  f.Publish(1, "v1");
  f.api.deletes_fail = true;
  f.reporter.Unpublished(Fixture::Target(1), {}, absl::OkStatus());
  PublishOutcome outcome;
  f.reporter.Published(Fixture::Target(2), pod, outcome);
  REQUIRE(f.Comes([&] {
    return f.api.At(kStatus)["metadata"]["ownerReferences"][0]["uid"] == "new";
  }));
  f.api.deletes_fail = false;
  CHECK(f.Comes([&] { return f.reporter.writer().pending() == 0; }));
  CHECK(f.api.At(kStatus)["status"]["targetPath"] == Fixture::Target(2).c_str());
}

TEST_CASE("a Secret is made, shared, rotated, and gone with the last pod") {
  Fixture f;
  f.Publish(1, "one");
  Json secret = f.api.At(kSecret);
  CHECK(f.Data() == R"({"pw":"b25l"})");
  CHECK(secret["type"] == "Opaque");
  CHECK(f.DumpOf(secret["metadata"]["labels"]) ==
        R"({"secrets-store.csi.k8s.io/managed":"true","team":"a"})");
  CHECK(secret["metadata"]["annotations"]["note"] == "b");
  f.Publish(2, "one");
  CHECK(f.api.At(kSecret)["metadata"]["ownerReferences"].size() == 2);
  f.Publish(1, "two", true, true);
  CHECK(f.Data() == R"({"pw":"dHdv"})");
  f.Unpublish(1);
  secret = f.api.At(kSecret);
  CHECK(f.DumpOf(secret["metadata"]["ownerReferences"]) ==
        R"([{"apiVersion":"v1","kind":"Pod","name":"web-2","uid":"pod-uid-2"}])");
  f.Unpublish(2);
  CHECK(f.api.At(kSecret).is_null());
  CHECK_THAT(f.metrics.Text(),
             Catch::Contains("sync_k8s_secret_total{namespace=\"shop\",os_type=\"linux\","
                             "provider=\"vault\",secret_provider_class=\"webapp\"} 3\n"));
}

TEST_CASE("a Secret that isn't the driver's is left alone, and an Event says what to do") {
  Fixture f;
  f.api.Put(kSecret, R"({"metadata":{"uid":"x","resourceVersion":"1"},"data":{"mine":"eA=="}})");
  f.Publish(1, "one");
  CHECK(f.Data() == R"({"mine":"eA=="})");
  f.Unpublish(1);
  CHECK(f.api.At(kSecret).is_object());
  const auto events = f.api.Events();
  REQUIRE(events.size() == 1);
  CHECK(events[0]["reason"] == "FailedToCreateSecret");
  CHECK(events[0]["type"] == "Warning");
  CHECK(events[0]["involvedObject"]["uid"] == "pod-uid-1");
  CHECK_THAT(f.DumpOf(events[0]["message"]),
             Catch::Contains("delete it or choose another secretName"));
}

TEST_CASE("an Event tells of a rotation that fails, once for many failures, and of its end") {
  Fixture f;
  f.Publish(1, "one");
  for (int i = 0; i < 20; ++i) {
    f.Publish(1, "", true, false, absl::UnavailableError("the keystore is sealed"));
  }
  auto events = f.api.Events();
  REQUIRE(events.size() == 1);
  CHECK(events[0]["reason"] == "MountRotationFailed");
  CHECK(events[0]["message"] == "the volume keeps its old content: the keystore is sealed");
  f.Publish(1, "two", true, true);
  events = f.api.Events();
  REQUIRE(events.size() == 3);
  CHECK_THAT(f.DumpOf(Json(events)), Catch::Contains("MountRotationComplete"));
  CHECK_THAT(f.DumpOf(Json(events)), Catch::Contains("SecretRotationComplete"));
  // A first publish that fails is the kubelet's to tell of.
  f.Publish(2, "", false, false, absl::NotFoundError("no"));
  CHECK(f.api.Events().size() == 3);
}

TEST_CASE("what befalls the plugin is a Warning on its own pod, where that is known") {
  Fixture f;
  f.reporter.TellOwnPod("", "", "", "DriverDisplaced", absl::FailedPreconditionError("why"));
  f.reporter.TellOwnPod("vault", "vault-csi-x", "uid", "DriverDisplaced",
                        absl::FailedPreconditionError("why"));
  REQUIRE(f.reporter.writer().Drain(absl::Now() + absl::Seconds(60)));
  const auto events = f.api.Events();
  REQUIRE(events.size() == 1);
  CHECK(events[0]["reason"] == "DriverDisplaced");
  CHECK(events[0]["message"] == "why");
  CHECK(events[0]["involvedObject"]["name"] == "vault-csi-x");
}

TEST_CASE("a parameter that means nothing is a Warning on the pod") {
  Fixture f;
  PublishOutcome outcome;
  outcome.warning = "spec.parameters.x: unknown, and ignored";
  const VolumeContext context = {
      .secret_class = "webapp",
      .pod = {.name = "web-1", .kubernetes_namespace = "shop", .uid = "pod-uid-1"}};
  f.reporter.Published(f.Target(1), context, outcome);
  REQUIRE(f.reporter.writer().Drain(absl::Now() + absl::Seconds(10)));
  const auto events = f.api.Events();
  REQUIRE(events.size() == 1);
  CHECK(events[0]["type"] == "Warning");
  CHECK(events[0]["reason"] == "UnknownParameters");
  CHECK(events[0]["message"] == "spec.parameters.x: unknown, and ignored");
}

TEST_CASE("a canary that was opened is a Warning on its pod, also one that a plugin before published") {
  Fixture f;
  const volume::VolumeInfo info{
      "csi-1", Fixture::Target(1), {"shop", "web-1", "pod-uid-1", "webapp"}, false};
  f.reporter.CanaryOpened({.volume = std::make_shared<const volume::VolumeInfo>(info),
                           .file = "bait",
                           .version = "1",
                           .opener = {.pid = 7,
                                      .uid = 1000,
                                      .command = "cat",
                                      .container = std::string(64, 'c')},
                           .time = f.clock.Now(),
                           .canary = true});
  REQUIRE(f.reporter.writer().Drain(absl::Now() + absl::Seconds(60)));
  const auto events = f.api.Events();
  REQUIRE(events.size() == 1);
  CHECK(events[0]["reason"] == "SecretCanaryOpened");
  CHECK(events[0]["type"] == "Warning");
  CHECK(events[0]["involvedObject"]["uid"] == "pod-uid-1");
  CHECK(events[0]["message"] ==
        "the canary file bait of SecretProviderClass webapp was opened by cat as uid 1000 in "
        "container cccccccccccc");
}

TEST_CASE(
    "a canary's open is delivered when the API server has its Event, or refuses it for good") {
  Fixture f;
  std::atomic<int> delivered = 0;
  const auto opened = [&](int pod, absl::Time time = absl::UnixEpoch()) {
    const volume::VolumeInfo info{"csi-1",
                                  Fixture::Target(pod),
                                  {"shop", StrCat("web-", pod), StrCat("pod-uid-", pod), "webapp"},
                                  false};
    f.reporter.CanaryOpened({.volume = std::make_shared<const volume::VolumeInfo>(info),
                             .file = "bait",
                             .time = time,
                             .canary = true,
                             .delivered = [&] { ++delivered; }});
  };
  SECTION("away, and back") {
    f.api.down = true;
    opened(1);
    opened(1);  // of another volume of the pod: the same words
    opened(2, absl::InfinitePast());
    CHECK_FALSE(f.reporter.writer().Drain(absl::Now() + absl::Seconds(10)));
    CHECK(delivered == 0);
    f.api.down = false;
    CHECK(f.Comes([&] { return f.reporter.writer().pending() == 0; }));
    CHECK(delivered == 3);
    const auto events = f.api.Events();
    REQUIRE(events.size() == 2);
    CHECK(events[0]["message"] == "the canary file bait of SecretProviderClass webapp was opened");
    CHECK(events[0]["count"] == 2);
    CHECK(events[1]["message"] ==
          "the canary file bait of SecretProviderClass webapp was opened; the node plugin's logs "
          "say by whom");
    opened(1);  // soon after
    CHECK(f.reporter.writer().Drain(absl::Now() + absl::Seconds(10)));
    CHECK(delivered == 4);
  }
  SECTION("refused") {
    f.api.refused_events = GENERATE(403, 404, 422);
    opened(1);
    CHECK(f.Comes([&] { return f.reporter.writer().pending() == 0; }));
    CHECK(delivered == 1);
    CHECK(f.api.Events().empty());
  }
}

TEST_CASE("without a right to Secrets nothing is left waiting for volumes that are gone") {
  Fixture f;
  f.api.secrets_forbidden = true;
  for (int pod = 1; pod <= 20; ++pod) {
    f.Publish(pod, "one");
    CHECK(f.reporter.writer().pending() == 1);  // its Secret, should the right be given
    f.Unpublish(pod);
    CHECK(f.reporter.writer().pending() == 0);
  }
  f.api.secrets_forbidden = false;
  f.Publish(1, "one");
  f.Publish(2, "one");
  f.api.secrets_forbidden = true;  // as by an API server that has just started
  f.Unpublish(1);
  CHECK(f.reporter.writer().pending() == 1);
  f.api.secrets_forbidden = false;
  CHECK(f.Comes([&] { return f.reporter.writer().pending() == 0; }));
  CHECK(f.api.At(kSecret)["metadata"]["ownerReferences"].size() == 1);
  f.api.secrets_forbidden = true;  // taken away for good
  f.Unpublish(2);
  CHECK(f.Comes([&] { return f.reporter.writer().pending() == 0; }));
  CHECK(f.api.At(kSecret).is_object());
}

TEST_CASE("what a plugin before this one may have written is released with the volume") {
  Fixture f;
  f.api.Put(kSecret, R"({"metadata":{"uid":"x","resourceVersion":"1",
      "labels":{"secrets-store.csi.k8s.io/managed":"true"},
      "ownerReferences":[{"uid":"pod-uid-1"}]}})");
  f.api.secrets_forbidden = true;
  f.reporter.TakenOver(Fixture::Target(1),
                       {.secret_class = "webapp",
                        .pod = {.name = "web-1", .kubernetes_namespace = "shop", .uid = "pod-uid-1"}},
                       {}, f.clock.Now());
  f.Publish(1, "one", true);
  f.api.secrets_forbidden = false;
  f.Unpublish(1);
  CHECK(f.api.At(kSecret).is_null());
}

// One class, whatever is asked for.
class FixedClasses : public ClassSource {
 public:
  absl::StatusOr<ClassObject> Get(std::string_view, std::string_view, absl::Time) override {
    return secret_class;
  }
  ClassObject secret_class;
};

TEST_CASE("a Secret that was deleted or changed is made right from what the volume holds") {
  Fixture f;
  char name[] = "/tmp/coffer-checks.XXXXXX";
  const std::string target = mkdtemp(name);
  volume::VolumeServer volumes(f.clock, 1);
  std::vector<volume::SnapshotFile> files;
  files.push_back({.path = "password", .content = SecretBytes::CopyOf("held")});
  REQUIRE(volumes.Mount({"csi-1", target}, std::move(files)).ok());
  FixedClasses classes;
  classes.secret_class.provider = "vault";
  SecretObject copy{.name = "copy", .labels = {{"team", "a"}}, .data = {{"pw", "password"}}};
  SECTION("of a volume that was published here") {
    PublishOutcome outcome;
    outcome.secrets.push_back({copy, absl::OkStatus(), {{"pw", "aGVsZA=="}}});
    f.reporter.Published(target, {.secret_class = "webapp",
                                  .pod = {.name = "web-1", .kubernetes_namespace = "shop", .uid = "u"}},
                         outcome);
  }
  SECTION("of one that was taken over") {
    f.reporter.TakenOver(target, {.secret_class = "webapp",
                                  .pod = {.name = "web-1", .kubernetes_namespace = "shop", .uid = "u"}},
                         {}, f.clock.Now());
  }
  classes.secret_class.secret_objects = {copy};
  SecretChecks checks(classes, volumes, f.reporter);
  const auto check = [&] {
    checks.CheckDue();
    f.minutes += 6;
    checks.CheckDue();
    return f.reporter.writer().Drain(absl::Now() + absl::Seconds(10));
  };
  REQUIRE(check());
  CHECK(f.Data() == R"({"pw":"aGVsZA=="})");
  f.api.Remove(kSecret);
  REQUIRE(check());
  CHECK(f.Data() == R"({"pw":"aGVsZA=="})");
  f.api.Put(kSecret, R"({"metadata":{"uid":"x","resourceVersion":"1",
      "labels":{"secrets-store.csi.k8s.io/managed":"true"}},"type":"Opaque",
      "data":{"pw":"eA==","more":"eA=="}})");
  REQUIRE(check());
  CHECK(f.Data() == R"({"pw":"aGVsZA=="})");
  classes.secret_class.secret_objects[0].name = "other";
  REQUIRE(check());
  CHECK(f.api.At(kSecret).is_null());
  CHECK(f.api.At("/api/v1/namespaces/shop/secrets/other").is_object());
  CHECK(f.api.Events().empty());
  CHECK(volumes.Unmount(target).ok());
  rmdir(target.c_str());
}

TEST_CASE("what was read before a publish is not written after it") {
  Fixture f;
  f.Publish(1, "old");
  f.reporter.DueChecks();
  f.minutes = 6;
  const auto due = f.reporter.DueChecks();
  REQUIRE(due.size() == 1);
  f.Publish(1, "new", true, true);
  std::vector<SecretPayload> old;
  old.push_back({{.name = "copy", .data = {{"pw", "password"}}}, absl::OkStatus(), {{"pw", "b2xk"}}});
  f.reporter.Checked(due[0], "vault", std::move(old));
  REQUIRE(f.reporter.writer().Drain(absl::Now() + absl::Seconds(10)));
  CHECK(f.Data() == R"({"pw":"bmV3"})");
  CHECK(f.reporter.DueChecks().empty());
}

TEST_CASE("the node's startup taint goes when its volumes are served, and other taints stay") {
  Fixture f;
  constexpr char kNode[] = "/api/v1/nodes/node-1";
  f.reporter.Serves();  // no such node: nobody waits for it
  CHECK(f.reporter.writer().Drain(absl::Now() + absl::Seconds(10)));
  f.api.Put(kNode, R"({"metadata":{"resourceVersion":"1"},"spec":{"taints":[
      {"key":"secrets-store.csi.k8s.io/agent-not-ready","effect":"NoExecute"},
      {"key":"other","effect":"NoSchedule"}]}})");
  f.api.nodes_forbidden = true;  // roles come later
  f.reporter.Serves();
  CHECK_FALSE(f.reporter.writer().Drain(absl::Now() + absl::Seconds(10)));
  f.api.nodes_forbidden = false;
  CHECK(f.Comes([&] { return f.reporter.writer().pending() == 0; }));
  CHECK(f.DumpOf(f.api.At(kNode)["spec"]) == R"({"taints":[{"effect":"NoSchedule","key":"other"}]})");
  const std::size_t writes = f.api.log.size();
  f.reporter.Serves();
  CHECK(f.reporter.writer().Drain(absl::Now() + absl::Seconds(10)));
  CHECK(f.api.log.size() == writes + 1);  // a look
}

TEST_CASE("a clock that is set keeps nothing waiting, and repeats nothing too early") {
  Fixture f;
  const auto fails = [&] {
    f.Publish(1, "", true, false, absl::UnavailableError("the keystore is sealed"));
  };
  f.api.down = true;
  f.Publish(1, "one");
  CHECK(f.reporter.writer().pending() > 0);
  f.clock.seconds = -7200;
  f.api.down = false;
  CHECK(f.Comes([&] { return f.reporter.writer().pending() == 0; }));
  const auto count = [&] {
    for (const Json& event : f.api.Events()) {
      if (event["reason"] == "MountRotationFailed") return event["count"].get<int>();
    }
    return 0;
  };
  fails();
  CHECK(count() == 1);
  f.clock.seconds = 7200;
  fails();
  CHECK(count() == 1);
  f.clock.seconds = -7200;
  f.minutes = 3;
  fails();
  CHECK(count() == 3);
}

TEST_CASE("what can't be filled is told of, and made right by the next publish") {
  Fixture f;
  f.Publish(1, "one", false, false, absl::OkStatus(), "absent");
  CHECK(f.api.At(kSecret).is_null());
  REQUIRE(f.api.Events().size() == 1);
  f.Publish(1, "one", true, false);
  CHECK(f.Data() == R"({"pw":"b25l"})");
}

TEST_CASE("an API server that is away gets everything when it is back, and no more than the last") {
  Fixture f;
  f.api.down = true;
  f.Publish(1, "one");
  f.Publish(2, "one");
  f.Unpublish(2);
  CHECK_FALSE(f.settled);
  f.Publish(1, "two", true, true);
  CHECK(f.reporter.writer().pending() > 0);
  f.api.down = false;
  REQUIRE(f.Comes([&] { return f.reporter.writer().pending() == 0; }));
  CHECK(f.api.At(kStatus)["status"]["objects"][0]["version"] == "two");
  CHECK(f.Data() == R"({"pw":"dHdv"})");
  CHECK(f.api.At(kSecret)["metadata"]["ownerReferences"].size() == 1);
}

TEST_CASE("a token that the kubelet didn't send comes from the TokenRequest API, once in a while") {
  Fixture f;
  SteadyTime now;
  PodTokens tokens(f.client, [&now] { return now; });
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  const auto token = [&](const std::string& audience, const std::string& uid = "u") {
    VolumeContext context = {.pod = {.name = "web",
                                     .kubernetes_namespace = "shop",
                                     .uid = uid,
                                     .service_account = "vault"}};
    REQUIRE(tokens.Complete(audience, &context, deadline).ok());
    CHECK(context.expirations.at(audience) == "2035-01-01T00:00:00Z");
    return std::string(context.pod.tokens.at(audience).view());
  };
  CHECK(token("vault") == "jwt-vault");
  CHECK(token("") == "jwt-default");
  CHECK(f.api.tokens == 2);
  CHECK(token("vault") == "jwt-vault");
  CHECK(f.api.tokens == 2);
  CHECK(token("vault", "other") == "jwt-vault");
  CHECK(f.api.tokens == 3);
  now += std::chrono::minutes(9);
  CHECK(token("vault") == "jwt-vault");
  CHECK(f.api.tokens == 4);

  VolumeContext context = {
      .pod = {.name = "web", .kubernetes_namespace = "shop", .service_account = "vault"}};
  context.pod.tokens.emplace("other", SecretBytes::CopyOf("sent"));
  CHECK(tokens.Complete("", &context, deadline).ok());  // the only one is taken
  CHECK(context.pod.tokens.size() == 1);
  CHECK(f.api.tokens == 4);
  f.api.down = true;
  const absl::Status refused = tokens.Complete("vault", &context, deadline);
  CHECK(absl::IsUnavailable(refused));
  CHECK_THAT(std::string(Message(refused)),
             Catch::Contains("the kubelet sent no token of audience \"vault\"") &&
                 Catch::Contains("tokenRequests"));
}

TEST_CASE("a token that has ended is asked for anew with the audience that the kubelet sent") {
  struct Case {
    const char* name;
    std::map<std::string, std::string> sent;  // expirations
    std::string named;
    std::string asked;
    std::string vendors;  // all that another vendor's provider gets
  };
  const Case cases[] = {
      {"none was sent", {}, "", "", ""},
      {"none was sent, one is named", {}, "sts", "sts", "sts,"},
      {"vault's goes first, as in vault-csi-provider", {{"", "x"}, {"vault", "x"}}, "", "vault",
       ",vault,"},
      {"then the API server's", {{"", "x"}, {"sts", "x"}}, "", "", ",sts,"},
      {"then the only one", {{"sts", "x"}}, "", "sts", "sts,"},
      {"of several strange ones none", {{"aws", "x"}, {"sts", "x"}}, "", "", "aws,sts,"},
      {"a named one goes before all", {{"vault", "x"}}, "sts", "sts", "sts,vault,"},
  };
  Fixture f;
  for (const Case& c : cases) {
    INFO(c.name);
    PodTokens tokens(f.client);
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    VolumeContext context = {
        .pod = {.name = "web", .kubernetes_namespace = "shop", .service_account = "vault"},
        .expirations = c.sent};
    VolumeContext other = context.Copy();
    REQUIRE(tokens.Complete(c.named, &context, deadline).ok());
    REQUIRE(context.pod.tokens.size() == 1);
    CHECK(context.pod.tokens.begin()->first == c.asked);
    tokens.CompleteAll(c.named, &other, deadline);
    std::string all;
    for (const auto& [audience, token] : other.pod.tokens) StrAppend(&all, audience, ",");
    CHECK(all == c.vendors);
  }
}

}  // namespace
}  // namespace coffer::csi
