// Opens that are delivered: told, refused, and files that go. Needs root and /dev/fuse.
#include <fcntl.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "csi/volume/keeper_testing.h"
#include "csi/volume/open_listener.h"
#include "csi/volume/volume_testing.h"

namespace coffer::volume {
namespace {

class Told : public OpenListener {
 public:
  void Opened(const OpenEvent& event) override {
    std::lock_guard lock(mutex_);
    events_.push_back(event);
  }
  void StillOwed(const OpenEvent& event) override {
    std::lock_guard lock(mutex_);
    owed_.push_back(event);
  }
  // What a plugin before this one owed, taken away.
  std::vector<OpenEvent> TakeOwed() {
    std::lock_guard lock(mutex_);
    return std::exchange(owed_, {});
  }
  // The first `count` events, taken away.
  std::vector<OpenEvent> Take(std::size_t count) {
    CHECK(Eventually([&] {
      std::lock_guard lock(mutex_);
      return events_.size() >= count;
    }));
    std::lock_guard lock(mutex_);
    return std::exchange(events_, {});
  }
  // The first one of that file, taken away.
  OpenEvent TakeOf(std::string_view file) {
    OpenEvent event;
    CHECK(Eventually([&] {
      std::lock_guard lock(mutex_);
      const auto found = std::find_if(events_.begin(), events_.end(),
                                      [&](const OpenEvent& e) { return e.file == file; });
      if (found == events_.end()) return false;
      event = *found;
      events_.erase(found);
      return true;
    }));
    return event;
  }
  bool none() {
    std::lock_guard lock(mutex_);
    return events_.empty();
  }

 private:
  std::mutex mutex_;
  std::vector<OpenEvent> events_, owed_;
};

struct Ruled {
  std::string path, content;
  FileRules rules = {};
};

using Ruleds = std::vector<Ruled>;

std::vector<SnapshotFile> Files(const Ruleds& contents) {
  std::vector<SnapshotFile> files;
  for (const Ruled& c : contents) {
    files.push_back({c.path, SecretBytes::CopyOf(c.content), 0644, 0, 0, c.rules});
  }
  return files;
}

struct Opened {
  explicit Opened(const Ruleds& contents, bool audit = false) {
    fs::create_directory(target);
    const absl::Status status =
        server.Mount({"csi-1", target, {"shop", "web-0", "uid-0", "webapp"}, audit},
                     Files(contents));
    INFO(status);
    REQUIRE(status.ok());
  }
  ~Opened() { CHECK(server.Unmount(target).ok()); }
  absl::Status Swap(const Ruleds& contents) {
    clock.Advance(absl::Seconds(1));
    return server.Swap(target, Files(contents)).status();
  }
  std::string operator/(std::string_view path) const { return StrCat(target, "/", path); }

  Folder folder;
  std::string target = folder.path + "/mount";
  ManualClock clock;
  Told told;
  VolumeServer server{clock, 2, "/", nullptr, &told};
};

std::uint64_t MountOf(const std::string& path) {
  struct statx info {};
  REQUIRE(statx(AT_FDCWD, path.c_str(), 0, STATX_MNT_ID, &info) == 0);
  return info.stx_mnt_id;
}

// A folder on the root's file system, where executables are looked for.
struct RootFolder {
  RootFolder() {
    for (const char* const parent : {"/tmp", "/var/tmp", "/root", "/"}) {
      if (!fs::exists(parent) || MountOf(parent) != MountOf("/")) continue;
      path = StrCat(parent, "/coffer-open.XXXXXX");
      if (mkdtemp(path.data()) != nullptr) return;
    }
    FAIL("the root's file system can't be written to");
  }
  ~RootFolder() { fs::remove_all(path); }
  std::string path;
};

TEST_CASE("every open of an audited volume is told, with who, what and when") {
  Opened volume(Ruleds{{"password", "1", {.version = "3-now"}}, {"tls/key", "2"}}, /*audit=*/true);
  const int opened = InChild([&] {
    if (setresgid(4321, 4321, 4321) != 0 || setresuid(1234, 1234, 1234) != 0) return 1;
    return open((volume / "password").c_str(), O_RDONLY) >= 0 ? 0 : 2;
  });
  CHECK(opened == 0);
  std::vector<OpenEvent> events = volume.told.Take(1);
  REQUIRE(events.size() == 1);
  const OpenEvent& event = events[0];
  CHECK(event.volume->volume_id == "csi-1");
  CHECK(event.volume->pod.kubernetes_namespace == "shop");
  CHECK(event.volume->pod.name == "web-0");
  CHECK(event.volume->pod.uid == "uid-0");
  CHECK(event.volume->pod.secret_class == "webapp");
  CHECK(event.file == "password");
  CHECK(event.version == "3-now");
  CHECK(event.error == 0);
  CHECK_FALSE(event.canary);
  CHECK(event.time == volume.clock.Now());
  CHECK(event.opener.pid > 0);
  CHECK(event.opener.pid != static_cast<std::uint32_t>(getpid()));
  CHECK(event.opener.uid == 1234);
  CHECK(event.opener.gid == 4321);
  CHECK(event.opener.executable == std::string(fs::read_symlink("/proc/self/exe")));
  CHECK_FALSE(event.opener.command.empty());

  // Each one, cached pages or not; what opens nothing isn't told.
  CHECK(Names(volume.target).size() == 4);
  CHECK(fs::file_size(volume / "password") == 1);
  for (int i = 0; i < 20; ++i) CHECK(Read(volume / "tls/key") == "2");
  events = volume.told.Take(20);
  CHECK(events.size() == 20);
  for (const OpenEvent& each : events) {
    CHECK(each.file == "tls/key");
    CHECK(each.opener.pid == static_cast<std::uint32_t>(getpid()));
  }
  // Of a thread, too.
  std::thread([&] { CHECK(Read(volume / "tls/key") == "2"); }).join();
  CHECK(volume.told.Take(1)[0].opener.pid == static_cast<std::uint32_t>(getpid()));

  REQUIRE(volume.Swap(Ruleds{{"password", "3", {.version = "4-later"}}}).ok());
  CHECK(Read(volume / "password") == "3");
  CHECK(volume.told.Take(1)[0].version == "4-later");
}

TEST_CASE("volumes that aren't audited tell of nothing that is let in") {
  Opened fast(Ruleds{{"a", "1"}});
  CHECK(Read(fast / "a") == "1");
  Opened ruled(Ruleds{{"a", "1"}, {"b", "2", {.allow_uids = {0}}}});
  CHECK(Read(ruled / "a") == "1");
  CHECK(Read(ruled / "b") == "2");
  CHECK(fast.server.Unmount(fast.target).ok());  // by then all was told
  CHECK(fast.told.none());
  CHECK(ruled.told.none());
}

TEST_CASE("rules that come to a volume which doesn't ask for opens are refused, auditing isn't") {
  Opened volume(Ruleds{{"a", "1"}});
  CHECK(Read(volume / "a") == "1");
  CHECK(volume.Swap(Ruleds{{"a", "2", {.allow_uids = {0}}}}).code() ==
        absl::StatusCode::kFailedPrecondition);
  CHECK(Read(volume / "a") == "1");
  CHECK(volume.Swap(Ruleds{{"a", "2"}}).ok());
  CHECK(Read(volume / "a") == "2");
}

TEST_CASE("only the uids that a file allows open it, root neither") {
  Opened volume(Ruleds{{"app", "1", {.version = "7", .allow_uids = {1234, 1235}}}, {"all", "2"}});
  const auto opens = [&](uid_t uid, const char* name) {
    return InChild([&] {
      if (setresuid(uid, uid, uid) != 0) return 255;
      return open((volume / name).c_str(), O_RDONLY) >= 0 ? 0 : errno;
    });
  };
  CHECK(opens(1234, "app") == 0);
  CHECK(opens(1235, "app") == 0);
  CHECK(opens(1236, "app") == EACCES);
  CHECK(opens(0, "app") == EACCES);
  CHECK(opens(1236, "all") == 0);
  const std::vector<OpenEvent> events = volume.told.Take(2);
  REQUIRE(events.size() == 2);
  CHECK(events[0].error == EACCES);
  CHECK(events[0].refusal == "uid 1236 isn't in allowUIDs");
  CHECK(events[0].file == "app");
  CHECK(events[0].version == "7");
  CHECK(events[1].opener.uid == 0);
  // A change of the rules alone takes effect, too.
  REQUIRE(volume.Swap(Ruleds{{"app", "1", {.version = "7", .allow_uids = {1236}}}, {"all", "2"}}).ok());
  CHECK(opens(1234, "app") == EACCES);
  CHECK(opens(1236, "app") == 0);
}

// What the copy of this program does that the next test starts.
TEST_CASE("opens a file from a root of its own", "[.child]") {
  const char* const root = std::getenv("OPEN_TEST_ROOT");
  const char* const path = std::getenv("OPEN_TEST_FILE");
  if (root == nullptr || path == nullptr) return;  // not started by it
  const UniqueFd folder(open(fs::path(path).parent_path().c_str(), O_PATH | O_DIRECTORY));
  const std::string name = fs::path(path).filename();
  if (*root != '\0') REQUIRE(chroot(root) == 0);
  _exit(openat(folder.get(), name.c_str(), O_RDONLY) >= 0 ? 0 : errno);
}

TEST_CASE("only the executables that a file allows open it") {
  RootFolder folder;
  const std::string app = folder.path + "/app", link = folder.path + "/link";
  fs::copy_file("/proc/self/exe", app);
  fs::create_symlink("app", link);
  Opened volume(Ruleds{{"a", "1", {.allow_executables = {"/nowhere", app}}}});
  // How the open of the copy of this program ends, in `root` if there is one.
  const auto app_opens = [&](const std::string& root) {
    return InChild([&] {
      const UniqueFd null(open("/dev/null", O_WRONLY));
      dup2(null.get(), STDOUT_FILENO);
      setenv("OPEN_TEST_ROOT", root.c_str(), 1);
      setenv("OPEN_TEST_FILE", (volume / "..data/a").c_str(), 1);
      execl(app.c_str(), app.c_str(), "opens a file from a root of its own", nullptr);
      return 255;
    });
  };
  CHECK(app_opens("") == 0);
  CHECK(Read(volume / "a") == "error: EACCES");
  const std::vector<OpenEvent> events = volume.told.Take(1);
  REQUIRE(events.size() == 1);
  CHECK(events[0].refusal ==
        StrCat("the executable \"", std::string(fs::read_symlink("/proc/self/exe")),
               "\" isn't in allowExecutables, or not on the root mount of its container"));
  // A process can't make itself a root in which it has the right name, nor mount itself there.
  CHECK(app_opens(folder.path) == 0);
  const auto mounted_app_opens = [&] {
    return InChild([&] {
      if (unshare(CLONE_NEWNS) != 0) return 254;
      if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 254;
      if (mount(app.c_str(), app.c_str(), nullptr, MS_BIND, nullptr) != 0) return 254;
      return app_opens("");
    });
  };
  CHECK(mounted_app_opens() == EACCES);
  // Real paths alone.
  REQUIRE(volume.Swap(Ruleds{{"a", "2", {.allow_executables = {"/app", link}}}}).ok());
  CHECK(app_opens("") == EACCES);
  CHECK(app_opens(folder.path) == EACCES);
}

TEST_CASE("a container that has made a volume its root holds up nobody") {
  const fs::path groups =
      fs::exists("/sys/fs/cgroup/pids") ? "/sys/fs/cgroup/pids" : "/sys/fs/cgroup";
  const fs::path group = groups / std::string(64, 'c');
  fs::create_directory(group);
  Opened volume(Ruleds{{"a", "1", {.allow_executables = {"/app"}}}});
  const int opened = InChild([&] {
    std::ofstream(group / "cgroup.procs") << getpid() << std::flush;
    alarm(20);
    const bool in = unshare(CLONE_NEWNS) == 0 &&
                    mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                    chdir(volume.target.c_str()) == 0 && syscall(SYS_pivot_root, ".", ".") == 0 &&
                    umount2(".", MNT_DETACH) == 0;
    if (!in) return 254;
    return open("/a", O_RDONLY) >= 0 ? 0 : errno;
  });
  CHECK(opened == EACCES);
  const std::vector<OpenEvent> events = volume.told.Take(1);
  REQUIRE(events.size() == 1);
  CHECK(events[0].opener.container == std::string(64, 'c'));
  CHECK(Eventually([&] { return rmdir(group.c_str()) == 0; }));
}

TEST_CASE("a read-once file is gone when it was read and closed, and comes back with other bytes") {
  const FileRules once{.read_once = true};
  Opened volume(Ruleds{{"token", "secret", once}, {"dir/other", "o", once}, {"stays", "s"}});
  const UniqueFd watch(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  REQUIRE(inotify_add_watch(watch.get(), (volume / "..data").c_str(), IN_DELETE) >= 0);

  char buffer[64];
  {  // in part, from the end, opened alone: not read
    const UniqueFd file(open((volume / "token").c_str(), O_RDONLY));
    CHECK(read(file.get(), buffer, 3) == 3);
    CHECK(pread(file.get(), buffer, 64, 4) == 2);
  }
  { const UniqueFd file(open((volume / "token").c_str(), O_RDONLY)); }
  {
    const UniqueFd file(open((volume / "token").c_str(), O_RDONLY));
    const UniqueFd rival(open((volume / "token").c_str(), O_RDONLY));
    REQUIRE(rival);
    CHECK(read(file.get(), buffer, 3) == 3);
    CHECK(read(file.get(), buffer, 64) == 3);
    // From then on it is that handle's alone, which may begin anew.
    CHECK(Read(volume / "token") == "error: ENOENT");
    CHECK(Errno([&] { return static_cast<int>(read(rival.get(), buffer, 64)); }) == ENOENT);
    CHECK(pread(file.get(), buffer, 64, 0) == 6);
    CHECK(std::string(buffer, 6) == "secret");
  }
  CHECK(Eventually([&] { return !fs::exists(fs::symlink_status(volume / "token")); }));
  CHECK(Read(volume / "token") == "error: ENOENT");
  CHECK(Names(volume / "..data") == NameSet{"dir", "stays"});
  CHECK(Eventually([&] { return read(watch.get(), buffer, sizeof buffer) > 0; }));
  CHECK(Read(volume / "stays") == "s");

  // The same again: it stays gone, also when something else changes.
  REQUIRE(volume.Swap(Ruleds{{"token", "secret", once}, {"dir/other", "o", once}, {"stays", "s"}}).ok());
  CHECK(Read(volume / "token") == "error: ENOENT");
  REQUIRE(volume.Swap(Ruleds{{"token", "secret", once}, {"dir/other", "o", once}, {"stays", "t"}}).ok());
  CHECK(Read(volume / "stays") == "t");
  CHECK(Read(volume / "token") == "error: ENOENT");
  CHECK(Names(volume / "..data") == NameSet{"dir", "stays"});
  // Other bytes: it is there.
  REQUIRE(volume.Swap(Ruleds{{"token", "second", once}, {"dir/other", "o", once}, {"stays", "t"}}).ok());
  CHECK(Read(volume / "dir/other") == "o");
  CHECK(Read(volume / "token") == "second");
  CHECK(Eventually([&] { return Names(volume / "..data") == NameSet{"dir", "stays"}; }));
  CHECK(Eventually([&] { return Names(volume / "dir").empty(); }));
  // And without the rule, it is an ordinary file.
  REQUIRE(volume.Swap(Ruleds{{"token", "second"}}).ok());
  CHECK(Read(volume / "token") == "second");
  CHECK(Read(volume / "token") == "second");
}

TEST_CASE("a read-once file that is read under an old snapshot is gone in the new one") {
  const FileRules once{.read_once = true};
  Opened volume(Ruleds{{"token", "secret", once}, {"v", "1"}});
  char buffer[64];
  {
    const UniqueFd file(open((volume / "token").c_str(), O_RDONLY));
    REQUIRE(volume.Swap(Ruleds{{"token", "secret", once}, {"v", "2"}}).ok());
    CHECK(read(file.get(), buffer, 64) == 6);
    CHECK(Read(volume / "token") == "error: ENOENT");
  }
  CHECK(Eventually([&] { return Names(volume / "..data") == NameSet{"v"}; }));
  REQUIRE(volume.Swap(Ruleds{{"token", "secret", once}, {"v", "3"}}).ok());
  CHECK(Names(volume / "..data") == NameSet{"v"});
}

// A file, mapped and closed.
struct Mapping {
  Mapping(const std::string& path, std::size_t bytes, int flags) : size(bytes) {
    const UniqueFd file(open(path.c_str(), O_RDONLY));
    void* const at = mmap(nullptr, size, PROT_READ, flags, file.get(), 0);
    REQUIRE(at != MAP_FAILED);
    data = static_cast<const char*>(at);
  }
  ~Mapping() { munmap(const_cast<char*>(data), size); }
  std::string_view text() const { return {data, size}; }
  // Whether its first page can be read, as far as the kernel tells who doesn't want to crash.
  bool readable() const {
    const UniqueFd copy(memfd_create("copy", MFD_CLOEXEC));
    return write(copy.get(), data, 1) == 1;
  }
  const std::size_t size;
  const char* data;
};

TEST_CASE("read-once files: empty ones, large ones, mapped ones") {
  const int flags = GENERATE(MAP_PRIVATE, MAP_SHARED);
  INFO(flags);
  std::string big(1 << 20, 'x');
  const FileRules once{.read_once = true};
  Opened volume(Ruleds{{"empty", "", once},
                       {"big", big, once},
                       {"from its end", "secret", once},
                       {"mapped", "secret", once},
                       {"big, mapped", big, once}});
  CHECK(Read(volume / "empty") == "");
  CHECK(Read(volume / "big") == big);
  {
    const UniqueFd file(open((volume / "from its end").c_str(), O_RDONLY));
    char buffer[8];
    CHECK(pread(file.get(), buffer, 2, 4) == 2);
    CHECK(pread(file.get(), buffer, 1, 2) == 1);
    CHECK(pread(file.get(), buffer, 2, 0) == 2);
    {
      const UniqueFd rival(open((volume / "from its end").c_str(), O_RDONLY));
      CHECK(rival);
    }
    CHECK(pread(file.get(), buffer, 2, 2) == 2);
    CHECK(Read(volume / "from its end") == "error: ENOENT");
  }
  CHECK(Mapping(volume / "mapped", 6, flags).text() == "secret");
  CHECK(Mapping(volume / "big, mapped", big.size(), flags).text() == big);
  CHECK(Eventually([&] { return Names(volume / "..data").empty(); }));
}

TEST_CASE("who has mapped a read-once file, too, loses it when somebody else has read all of it") {
  const int flags = GENERATE(MAP_PRIVATE, MAP_SHARED);
  INFO(flags);
  Opened volume(Ruleds{{"token", "secret", {.read_once = true}}});
  const Mapping rival(volume / "token", 6, flags);
  {
    const Mapping reader(volume / "token", 6, flags);
    CHECK(reader.text() == "secret");
    CHECK(Eventually([&] { return !rival.readable(); }));
    CHECK(reader.text() == "secret");
    CHECK(Read(volume / "token") == "error: ENOENT");
  }
  CHECK(Eventually([&] { return Names(volume / "..data").empty(); }));
  CHECK(Eventually([&] { return !rival.readable(); }));
}

TEST_CASE("a read-once file whose time is over is gone under its mappings") {
  const int flags = GENERATE(MAP_PRIVATE, MAP_SHARED);
  INFO(flags);
  Opened volume(
      Ruleds{{"token", "secret", {.read_once = true, .available_for = absl::Seconds(1)}}});
  const Mapping reader(volume / "token", 6, flags);
  (void)reader.readable();
  CHECK(Eventually([&] { return !reader.readable(); }));
}

TEST_CASE("a file whose time is over is gone, for open handles, too") {
  const FileRules brief{.available_for = absl::Seconds(1)};
  Opened volume(Ruleds{{"brief", "secret", brief}, {"long", "l", {.available_for = absl::Hours(1)}}});
  char buffer[64];
  const UniqueFd file(open((volume / "brief").c_str(), O_RDONLY));
  CHECK(Eventually([&] { return Read(volume / "brief") == "error: ENOENT"; }));
  CHECK(Eventually([&] { return Names(volume / "..data") == NameSet{"long"}; }));
  if (file) {  // else the machine was too slow
    CHECK(Eventually([&] { return pread(file.get(), buffer, 64, 0) < 0 && errno == ENOENT; }));
  }
  CHECK(Read(volume / "long") == "l");
  REQUIRE(volume.Swap(Ruleds{{"brief", "secret", brief}, {"long", "m"}}).ok());
  CHECK(Names(volume / "..data") == NameSet{"long"});
  const FileRules longer{.available_for = absl::Hours(1)};
  REQUIRE(volume.Swap(Ruleds{{"brief", "second", longer}, {"long", "m"}}).ok());
  CHECK(Read(volume / "brief") == "second");
}

TEST_CASE("however often a volume is swapped, it is looked after by one timer") {
  const FileRules hour{.available_for = absl::Hours(1)}, brief{.available_for = absl::Seconds(2)};
  Opened volume(Ruleds{{"hour", "1", hour}, {"brief", "1", brief}, {"v", ""}});
  for (int i = 0; i < 20; ++i) {
    REQUIRE(volume.Swap(Ruleds{{"hour", "1", hour}, {"brief", "1", brief}, {"v", StrCat(i)}}).ok());
    CHECK(volume.server.planned_removals() <= 1);
  }
  CHECK(Eventually([&] { return Names(volume / "..data") == NameSet{"hour", "v"}; }));
  CHECK(Eventually([&] { return Names(volume.target).size() == 4; }));
  CHECK(Eventually([&] { return volume.server.planned_removals() == 1; }));
}

TEST_CASE("a canary's first open is told, once, whatever comes after") {
  const FileRules canary{.canary = true};
  Opened volume(Ruleds{{"bait", "1", canary}, {"real", "2"}});
  CHECK(Read(volume / "real") == "2");
  CHECK(fs::file_size(volume / "bait") == 1);
  CHECK(volume.told.none());
  CHECK(Read(volume / "bait") == "1");
  const std::vector<OpenEvent> events = volume.told.Take(1);
  REQUIRE(events.size() == 1);
  CHECK(events[0].canary);
  CHECK(events[0].error == 0);
  CHECK(events[0].file == "bait");
  CHECK(Read(volume / "bait") == "1");
  REQUIRE(volume.Swap(Ruleds{{"bait", "3", canary}, {"real", "2"}}).ok());
  CHECK(Read(volume / "bait") == "3");
  CHECK(volume.server.Unmount(volume.target).ok());
  CHECK(volume.told.none());
}

TEST_CASE("of opens of a canary that come at once, one is the first") {
  struct Waiting : Told {
    void Opening(const OpenEvent& event) override {
      first += event.canary;
      if (++asked == 1) (void)Eventually([&] { return asked == 2; });
    }
    std::atomic<int> asked = 0, first = 0;
  } told;
  const Folder folder;
  ManualClock clock;
  VolumeServer server(clock, 2, "/", nullptr, &told);
  REQUIRE(server
              .Mount({.volume_id = "id", .target = folder.path, .audit = true},
                     Files(Ruleds{{"bait", "b", {.canary = true}}}))
              .ok());
  std::string other;
  std::thread one([&] { other = Read(folder.path + "/bait"); });
  CHECK(Eventually([&] { return told.asked == 1; }));
  CHECK(Read(folder.path + "/bait") == "b");
  one.join();
  CHECK(other == "b");
  CHECK(told.first == 1);
  CHECK(server.Unmount(folder.path).ok());
}

TEST_CASE("a canary whose plugin is killed before it has told is told by the next one") {
  Play play;
  play.plugin = fork();
  if (play.plugin == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct Dying : OpenListener {
      void Opening(const OpenEvent&) override { raise(SIGKILL); }
      void Opened(const OpenEvent&) override {}
    } dying;
    KeeperClient client(play.socket);
    SystemClock clock;
    VolumeServer server(clock, 1, "/", &client, &dying);
    const bool good = server.Adopt(absl::Seconds(60)).ok() &&
                      server
                          .Mount({.volume_id = "id", .target = play.target},
                                 Files(Ruleds{{"bait", "b", {.canary = true}}}))
                          .ok();
    play.shared->generation = good ? 1 : 2;
    for (;;) pause();
  }
  REQUIRE(Eventually([&] { return play.shared->generation == 1; }));
  REQUIRE(play.KeeperHolds("1 volumes"));
  std::string content;
  std::thread reader([&] { content = Read(play.target + "/bait"); });
  waitpid(std::exchange(play.plugin, 0), nullptr, 0);
  KeeperClient client(play.socket);
  ManualClock clock;
  Told told;
  VolumeServer server(clock, 2, "/", &client, &told);
  REQUIRE(server.Adopt(absl::Seconds(60)).value_or(9) == 1);
  reader.join();
  CHECK(content == "b");
  CHECK(told.TakeOf("bait").canary);
  CHECK(Read(play.target + "/bait") == "b");
  CHECK(server.Unmount(play.target).ok());
  CHECK(told.none());
}

TEST_CASE("a canary's first open is owed by each next plugin, until it is delivered") {
  Play play;
  const std::string& target = play.target;
  ManualClock clock;
  // One that delivers some of it before the opener goes on.
  struct Prompt : Told {
    void Opening(const OpenEvent& event) override {
      if (event.file == "prompt") event.delivered();
    }
  } told;
  const FileRules canary{.canary = true};
  const auto files = [&](const char* text) {
    return Files(Ruleds{{"dir/bait", text, canary},
                        {"late", text, canary},
                        {"prompt", text, canary},
                        {"untouched", text, canary}});
  };
  OpenEvent bait;
  {
    KeeperClient client(play.socket);
    VolumeServer server(clock, 2, "/", &client, &told);
    REQUIRE(server.Adopt(absl::Seconds(60)).value_or(9) == 0);
    REQUIRE(server.Mount({"csi-1", target, {"shop", "web-0", "uid-0", "webapp"}}, files("1")).ok());
    for (const char* const name : {"/dir/bait", "/late", "/prompt"}) {
      CHECK(Read(target + name) == "1");
    }
    told.TakeOf("late").delivered();
    bait = told.TakeOf("dir/bait");
    told.TakeOf("prompt");
    // What has new content is owed as before.
    REQUIRE(server.Swap(target, files("2")).ok());
  }
  bait.delivered();  // too late: the next plugin has the volume
  {
    KeeperClient client(play.socket);
    VolumeServer server(clock, 2, "/", &client, &told);
    REQUIRE(server.Adopt(absl::Seconds(60)).value_or(9) == 1);
    const std::vector<OpenEvent> all = told.TakeOwed();
    REQUIRE(all.size() == 1);
    const OpenEvent& owed = all[0];
    CHECK(owed.file == "dir/bait");
    CHECK(owed.volume->pod.uid == "uid-0");
    CHECK(owed.canary);
    CHECK(owed.time == absl::InfinitePast());
    CHECK(owed.opener.pid == 0);
    for (const char* const name : {"/dir/bait", "/late", "/prompt"}) {
      CHECK(Read(target + name) == "2");
    }
  }
  KeeperClient client(play.socket);
  auto server = std::make_unique<VolumeServer>(clock, 2, "/", &client, &told);
  REQUIRE(server->Adopt(absl::Seconds(60)).value_or(9) == 1);
  const std::vector<OpenEvent> again = told.TakeOwed();
  REQUIRE(again.size() == 1);
  CHECK(again[0].file == "dir/bait");
  again[0].delivered();
  server.reset();
  KeeperClient last(play.socket);
  server = std::make_unique<VolumeServer>(clock, 2, "/", &last, &told);
  REQUIRE(server->Adopt(absl::Seconds(60)).value_or(9) == 1);
  CHECK(told.TakeOwed().empty());
  CHECK(told.none());  // none of it was a first open anew
  CHECK(Read(target + "/untouched") == "2");
  const OpenEvent first = told.TakeOf("untouched");
  CHECK(first.canary);
  CHECK(server->Unmount(target).ok());
  first.delivered();  // the volume is gone
}

TEST_CASE("what was opened and read is known to the next plugin") {
  Play play;
  const std::string& target = play.target;
  ManualClock clock;
  Told told;
  const FileRules once{.read_once = true};
  const Ruleds contents = {{"gone", "secret", once},
                           {"whole", "secret", once},
                           {"half", "secret", once},
                           {"bait", "b", {.canary = true}},
                           {"brief", "b", {.available_for = absl::Milliseconds(300)}},
                           {"ruled", "r", {.version = "9", .allow_uids = {1234}}}};
  char buffer[64];
  UniqueFd whole, half;
  {
    KeeperClient client(play.socket);
    VolumeServer server(clock, 2, "/", &client, &told);
    REQUIRE(server.Adopt(absl::Seconds(60)).value_or(9) == 0);
    REQUIRE(server
                .Mount({"csi-1", target, {"shop", "web-0", "uid-0", "webapp"}, true},
                       Files(contents))
                .ok());
    CHECK(Read(target + "/gone") == "secret");
    CHECK(Eventually([&] { return !fs::exists(fs::symlink_status(target + "/gone")); }));
    whole.reset(open((target + "/whole").c_str(), O_RDONLY));
    CHECK(read(whole.get(), buffer, 64) == 6);
    half.reset(open((target + "/half").c_str(), O_RDONLY));
    CHECK(read(half.get(), buffer, 3) == 3);
    CHECK(Read(target + "/bait") == "b");
  }
  std::this_thread::sleep_for(350ms);  // nobody is there when its time ends
  KeeperClient client(play.socket);
  VolumeServer server(clock, 2, "/", &client, &told);
  REQUIRE(server.Adopt(absl::Seconds(60)).value_or(9) == 1);
  CHECK(Read(target + "/gone") == "error: ENOENT");
  CHECK(Read(target + "/whole") == "error: ENOENT");
  CHECK(read(half.get(), buffer, 64) == 3);
  whole.reset();
  half.reset();
  CHECK(Eventually([&] { return Names(target + "/..data") == NameSet{"bait", "ruled"}; }));
  REQUIRE(server.Swap(target, Files(contents)).ok());
  CHECK(Names(target + "/..data") == NameSet{"bait", "ruled"});

  CHECK(Read(target + "/bait") == "b");
  CHECK(Read(target + "/ruled") == "error: EACCES");
  const OpenEvent ruled = told.TakeOf("ruled");
  CHECK(ruled.error == EACCES);
  CHECK(ruled.version == "9");
  CHECK(ruled.volume->volume_id == "csi-1");
  CHECK(ruled.volume->target == target);
  CHECK(ruled.volume->pod.name == "web-0");
  CHECK(ruled.volume->pod.secret_class == "webapp");
  CHECK(told.TakeOf("bait").canary);
  CHECK_FALSE(told.TakeOf("bait").canary);
  CHECK(server.Unmount(target).ok());
}

TEST_CASE("plugins are killed under readers whose opens are delivered, and these see no error") {
  Play play(/*audit=*/true);
  play.StartPlugin();
  REQUIRE(play.Served());
  for (unsigned seed = 11; seed <= 12; ++seed) play.StartReader(seed);
  std::minstd_rand random(13);
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 60));
    const pid_t old = play.plugin;
    kill(old, i % 3 == 2 ? SIGTERM : SIGKILL);
    play.StartPlugin();
    waitpid(old, nullptr, 0);
    REQUIRE(play.Served());
  }
  CheckNothingBroke(play, "10 deaths of a plugin that is asked for each open");
}

}  // namespace
}  // namespace coffer::volume
