// Needs root and /dev/fuse: mounts. The keystore here is a server that says what a test wants; a
// real one is in tests/csi.
#include "csi/publisher.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/time/clock.h"
#include "common/http_client_test_server.h"
#include "csi/volume_records.h"

namespace coffer::csi {
namespace {

namespace fs = std::filesystem;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

class FixedClasses : public ClassSource {
 public:
  absl::StatusOr<ClassObject> Get(std::string_view, std::string_view name, absl::Time) override {
    if (name != secret_class.name) return absl::NotFoundError("no such class");
    return secret_class;
  }
  ClassObject secret_class;
};

// The machine's, set wrong by that much.
class SteppedClock : public Clock {
 public:
  absl::Time Now() const override { return absl::Now() + absl::Seconds(seconds.load()); }
  std::atomic<int> seconds{0};
};

struct Fixture {
  explicit Fixture(RotationRule rule = {}) : rotation(rule) {
    fs::create_directories(root + "/pods/1");
    static_cast<provider::SecretProviderClass&>(classes.secret_class) = {
        .name = "webapp",
        .kubernetes_namespace = "default",
        .provider = "vault",
        .parameters = {{"vaultAddress", keystore.address()},
                       {"roleName", "r"},
                       {"objects", "- {objectName: p, secretPath: kv/a, secretKey: p}"}}};
  }
  ~Fixture() {
    (void)volumes.Unmount(target);
    if (const auto mounts = volume::FindMounts(root); mounts.ok()) {
      for (const auto& mount : *mounts) (void)volume::DetachMount(mount.target);
    }
    fs::remove_all(root);
  }

  absl::Status Publish(const std::string& volume_id = "v", const std::string& at = "",
                       const std::string& secret_class = "webapp") {
    VolumeContext context{
        .secret_class = secret_class,
        .pod = {.name = "web", .kubernetes_namespace = "default", .service_account = "vault"}};
    context.pod.tokens.emplace("", SecretBytes::CopyOf("jwt"));
    context.fs_group = fs_group;
    return publisher.Publish(volume_id, at.empty() ? target : at, context,
                             clock.Now() + absl::Seconds(100));
  }

  bool drained() { return revoker.Drain(absl::Now() + absl::Seconds(60)); }

  void Hold(const std::string& content) {
    std::lock_guard lock(mutex);
    secret = content;
  }

  const RotationRule rotation;
  std::optional<std::uint32_t> fs_group;
  std::atomic<int> status{200}, logins{0};
  std::atomic<int> revoke_status{204}, revoked{0}, refused{0};
  std::mutex mutex;
  std::string secret = "one";
  std::atomic<bool> held{false};  // reads wait as long as it is
  std::atomic<int> reads{0};
  TestHttpServer keystore{[this](const TestHttpRequest& request) {
    std::lock_guard lock(mutex);
    if (request.target().ends_with("/login")) {
      ++logins;
      return TestHttpAnswer(200, R"({"auth":{"client_token":"hvs.x","lease_duration":3600}})");
    }
    if (request.target().ends_with("/revoke-self")) {
      ++(revoke_status == 204 ? revoked : refused);
      return TestHttpAnswer(revoke_status, "");
    }
    ++reads;
    while (held) absl::SleepFor(absl::Milliseconds(1));
    if (request.target().find("/kv2/data/") != std::string_view::npos) {
      return TestHttpAnswer(200, R"({"data":{"data":{"p":"one","q":"other"},"metadata":
          {"version":7,"created_time":"2026-01-01T00:00:00Z"}}})");
    }
    return TestHttpAnswer(status, StrCat(R"({"data":{"p":")", secret, R"("}})"));
  }};
  char name[27] = "/tmp/coffer-publish.XXXXXX";
  const std::string root = mkdtemp(name);
  const std::string target = root + "/pods/1/mount";
  SteppedClock clock;
  FixedClasses classes;
  provider::Workers workers{4};
  provider::Provider provider{clock, workers, provider::Provider::Options()};
  volume::VolumeServer volumes{clock, 1};
  TokenRevoker revoker{clock, provider};
  VolumeRecords records{clock};
  Publisher publisher{clock, classes,
                      provider, volumes,
                      revoker, root,
                      {.observers = {&records}, .rotation = rotation}};
};

TEST_CASE("publish mounts, publish again swaps, unpublish leaves nothing and revokes the token") {
  Fixture f;
  REQUIRE(f.Publish() == absl::OkStatus());
  CHECK(ReadFile(f.target + "/p") == "one");
  REQUIRE(f.Publish().ok());
  const std::string data = fs::read_symlink(f.target + "/..data");
  REQUIRE(f.Publish().ok());
  CHECK(fs::read_symlink(f.target + "/..data") == data);  // nothing new: nothing changes
  {
    std::lock_guard lock(f.mutex);
    f.secret = "two";
  }
  REQUIRE(f.Publish().ok());
  CHECK(ReadFile(f.target + "/p") == "two");
  CHECK(fs::read_symlink(f.target + "/..data") != data);
  REQUIRE(f.publisher.Unpublish("v", f.target).ok());
  CHECK_FALSE(fs::exists(f.target));
  CHECK(volume::FindMounts(f.root)->empty());
  CHECK(f.drained());
  CHECK(f.revoked == 1);
  CHECK(f.publisher.Unpublish("v", f.target).ok());
}

TEST_CASE("files are of the pod's fsGroup where the class names no group, also when read anew") {
  Fixture f;
  f.classes.secret_class.parameters["objects"] =
      "- {objectName: p, secretPath: kv/a, secretKey: p, filePermission: 0640}\n"
      "- {objectName: own, secretPath: kv/a, secretKey: p, group: 7}";
  f.fs_group = 2000;
  REQUIRE(f.Publish().ok());
  const auto facts = [&f](const char* file) {
    struct stat found = {};
    REQUIRE(stat((f.target + "/" + file).c_str(), &found) == 0);
    return found;
  };
  CHECK(facts("p").st_gid == 2000);
  CHECK(facts("p").st_uid == 0);
  CHECK((facts("p").st_mode & 07777) == 0640);
  CHECK(facts("own").st_gid == 7);
  f.Hold("two");
  REQUIRE(f.publisher.Refetch(f.target, absl::Now() + absl::Seconds(20)).ok());
  CHECK(ReadFile(f.target + "/p") == "two");
  CHECK(facts("p").st_gid == 2000);
}

TEST_CASE("other content of the same version, as of another key, is a rotation; the same content isn't") {
  Fixture f;
  const auto key = [&](const char* name) {
    f.classes.secret_class.parameters["objects"] =
        StrCat("- {objectName: p, secretPath: kv2/data/a, secretKey: ", name, "}");
  };
  const auto rotated = [&] { return f.records.All()[f.target].rotated > absl::InfinitePast(); };
  key("p");
  REQUIRE(f.Publish().ok());
  REQUIRE(f.Publish().ok());
  CHECK_FALSE(rotated());
  key("q");
  REQUIRE(f.Publish().ok());
  CHECK(ReadFile(f.target + "/p") == "other");
  CHECK(rotated());
}

TEST_CASE("a publish that fails mounts nothing and leaves no folder and no token") {
  Fixture f;
  f.status = 404;
  CHECK(absl::IsNotFound(f.Publish()));
  CHECK_FALSE(fs::exists(f.target));
  CHECK(f.drained());
  CHECK(f.revoked == 1);
  f.status = 200;
  CHECK(absl::IsNotFound(f.Publish("v", "", "other")));
  f.classes.secret_class.provider = "azure";
  CHECK(absl::IsFailedPrecondition(f.Publish()));
  f.classes.secret_class.provider = "coffer";
  CHECK(absl::IsInvalidArgument(f.Publish("v", "/etc/mount")));
  CHECK(absl::IsNotFound(f.Publish("v", f.root + "/pods/none/mount")));
  CHECK(volume::FindMounts(f.root)->empty());
  CHECK(f.Publish().ok());
}

TEST_CASE("a republish that fails keeps what is there and says why") {
  Fixture f;
  REQUIRE(f.Publish().ok());
  f.status = 403;
  const absl::Status failed = f.Publish();
  CHECK(absl::IsPermissionDenied(failed));
  CHECK(ReadFile(f.target + "/p") == "one");
  f.status = 200;
  CHECK(f.Publish().ok());
}

TEST_CASE("the kubelet's republish fetches only when the volume's interval is over") {
  Fixture f({.on = true, .interval = absl::Hours(1)});
  REQUIRE(f.Publish().ok());
  f.Hold("two");
  REQUIRE(f.Publish().ok());
  CHECK(ReadFile(f.target + "/p") == "one");
  SECTION("a failing keystore isn't noticed before") {
    f.status = 403;
    CHECK(f.Publish().ok());
  }
  SECTION("who means it gets it") {
    CHECK(f.publisher.Refetch(f.target, absl::Now() + absl::Seconds(20)).ok());
    CHECK(ReadFile(f.target + "/p") == "two");
    CHECK(f.logins == 1);
  }
  SECTION("a changed class counts at once, and may say other things") {
    f.classes.secret_class.parameters["rotationInterval"] = "0";
    CHECK(f.Publish().ok());
    CHECK(ReadFile(f.target + "/p") == "two");
    f.Hold("three");
    CHECK(f.Publish().ok());
    CHECK(ReadFile(f.target + "/p") == "three");
  }
  SECTION("a wrong word is an error that names the field, and the content stays") {
    f.classes.secret_class.parameters["rotation"] = "maybe";
    const absl::Status refused = f.Publish();
    CHECK(absl::IsInvalidArgument(refused));
    CHECK_THAT(std::string(Message(refused)),
               Catch::Contains("default/webapp: spec.parameters.rotation: must be"));
    CHECK(ReadFile(f.target + "/p") == "one");
  }
}

TEST_CASE("a clock that is set is no reason to wait longer") {
  Fixture f({.on = true, .interval = absl::Hours(1)});
  f.clock.seconds = 7200;
  REQUIRE(f.Publish().ok());
  f.Hold("two");
  f.clock.seconds = 0;
  REQUIRE(f.Publish().ok());
  CHECK(ReadFile(f.target + "/p") == "two");
  f.Hold("three");
  f.clock.seconds = 7200;
  REQUIRE(f.Publish().ok());
  CHECK(ReadFile(f.target + "/p") == "three");
  REQUIRE(f.publisher.Unpublish("v", f.target).ok());
}

TEST_CASE("a clock that is set back keeps no token from being given back") {
  Fixture f;
  REQUIRE(f.Publish().ok());
  f.revoke_status = 503;
  REQUIRE(f.publisher.Unpublish("v", f.target).ok());
  while (f.refused == 0) absl::SleepFor(absl::Milliseconds(1));
  f.clock.seconds = -7200;
  f.revoke_status = 204;
  for (int i = 0; i < 6000 && f.revoked == 0; ++i) absl::SleepFor(absl::Milliseconds(10));
  CHECK(f.revoked == 1);
}

TEST_CASE("what isn't rotated keeps what it was published with") {
  Fixture f({.on = false, .interval = absl::ZeroDuration()});
  REQUIRE(f.Publish().ok());
  f.Hold("two");
  REQUIRE(f.Publish().ok());
  REQUIRE(f.publisher.Refetch(f.target, absl::Now() + absl::Seconds(20)).ok());
  CHECK(ReadFile(f.target + "/p") == "one");
  f.classes.secret_class.parameters["rotation"] = "on";
  REQUIRE(f.Publish().ok());
  CHECK(ReadFile(f.target + "/p") == "two");
}

TEST_CASE("nothing is read anew for a target without a volume") {
  Fixture f;
  CHECK(f.publisher.Refetch(f.target, absl::Now() + absl::Seconds(20)).ok());
  CHECK_FALSE(fs::exists(f.target));
  CHECK(f.logins == 0);
}

TEST_CASE("one call at a time works on a volume; another is told to come again") {
  Fixture f;
  f.held = true;
  absl::Status first;
  std::thread publishing([&] { first = f.Publish(); });
  while (f.reads == 0) absl::SleepFor(absl::Milliseconds(1));
  CHECK(absl::IsAborted(f.Publish()));
  CHECK(absl::IsAborted(f.publisher.Unpublish("v", f.target)));
  f.held = false;
  publishing.join();
  CHECK(first.ok());
  CHECK(ReadFile(f.target + "/p") == "one");
}

TEST_CASE("the kubelet's republish is content with the plugin's own reading; who means it comes again") {
  Fixture f;
  REQUIRE(f.Publish().ok());
  f.Hold("two");
  f.held = true;
  const int reads = f.reads;
  absl::Status read;
  std::thread reading(
      [&] { read = f.publisher.Refetch(f.target, f.clock.Now() + absl::Seconds(100)); });
  while (f.reads == reads) absl::SleepFor(absl::Milliseconds(1));
  CHECK(f.Publish().ok());
  CHECK(absl::IsAborted(f.Publish("another")));
  CHECK(absl::IsAborted(f.publisher.Refetch(f.target, f.clock.Now())));
  CHECK(absl::IsAborted(f.publisher.Unpublish("v", f.target)));
  f.held = false;
  reading.join();
  CHECK(read.ok());
  CHECK(ReadFile(f.target + "/p") == "two");
  CHECK(f.Publish().ok());
}

TEST_CASE("a target holds one volume") {
  Fixture f;
  REQUIRE(f.Publish("a").ok());
  CHECK(absl::IsAlreadyExists(f.Publish("b")));
  CHECK(f.Publish("a").ok());
}

TEST_CASE(
    "the mounts of a plugin that died are detached at start and made anew by the next publish") {
  Fixture f;
  fs::create_directories(f.target);
  {
    volume::VolumeServer died(f.clock, 1);
    std::vector<volume::SnapshotFile> files;
    files.push_back({.path = "old", .content = SecretBytes::CopyOf("x")});
    REQUIRE(died.Mount({"v", f.target}, std::move(files)).ok());
    REQUIRE(fs::exists(f.target));  // the kernel knows its attributes from here on
  }
  REQUIRE(volume::FindMounts(f.root)->size() == 1);
  f.publisher.DetachDeadMounts();
  CHECK(volume::FindMounts(f.root)->empty());
  REQUIRE(f.Publish().ok());
  CHECK(ReadFile(f.target + "/p") == "one");
}

TEST_CASE("a mount that hangs is left alone at start, and hides no dead one") {
  Fixture f;
  const std::string hanging = f.root + "/hanging";
  fs::create_directories(hanging);
  fs::create_directories(f.target);
  const UniqueFd nobody(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  REQUIRE(mount("coffer:hangs", hanging.c_str(), "fuse.coffer", 0,
                StrCat("fd=", nobody.get(), ",rootmode=40755,user_id=0,group_id=0").c_str()) == 0);
  {
    volume::VolumeServer died(f.clock, 1);
    REQUIRE(died.Mount({"v", f.target}, {}).ok());
  }
  REQUIRE(volume::FindMounts(f.root)->size() == 2);
  f.publisher.DetachDeadMounts();
  CHECK(volume::FindMounts(f.root)->size() == 1);
  CHECK(umount2(hanging.c_str(), MNT_DETACH) == 0);
}

TEST_CASE("a live mount of another process is left alone at start") {
  Fixture f;
  fs::create_directories(f.target);
  std::vector<volume::SnapshotFile> files;
  files.push_back({.path = "live", .content = SecretBytes::CopyOf("x")});
  volume::VolumeServer other(f.clock, 1);
  REQUIRE(other.Mount({"v", f.target}, std::move(files)).ok());
  f.publisher.DetachDeadMounts();
  CHECK(ReadFile(f.target + "/live") == "x");
  CHECK(other.Unmount(f.target).ok());
}

TEST_CASE("a token waits for a keystore that is away and is given back when it returns") {
  Fixture f;
  REQUIRE(f.Publish().ok());
  f.revoke_status = 503;
  REQUIRE(f.publisher.Unpublish("v", f.target).ok());  // doesn't wait
  CHECK_FALSE(f.revoker.Drain(absl::Now() + absl::Seconds(1)));
  CHECK(f.revoked == 0);
  f.revoke_status = 204;
  CHECK(f.drained());
  CHECK(f.revoked == 1);
}

TEST_CASE("a plugin that stops gives its tokens back and leaves its volumes") {
  Fixture f;
  REQUIRE(f.Publish().ok());
  f.publisher.ForgetTokens();
  CHECK(f.drained());
  CHECK(f.revoked == 1);
  CHECK(ReadFile(f.target + "/p") == "one");
}

}  // namespace
}  // namespace coffer::csi
