// What kernels and containers may lack, and what volumes are made of then. Needs root and /dev/fuse.
#include <sys/syscall.h>

#include "csi/volume/keeper_testing.h"
#include "csi/volume/mount.h"
#include "csi/volume/open_listener.h"

// The kernel's, but that one link can't be made.
static std::atomic<const char*> refused_link = nullptr;
extern "C" int symlinkat(const char* to, int folder, const char* name) noexcept {
  const char* const refused = refused_link;
  if (refused == nullptr || strcmp(name, refused) != 0) {
    return static_cast<int>(syscall(SYS_symlinkat, to, folder, name));
  }
  errno = ENOMEM;
  return -1;
}

namespace coffer::volume {
namespace {

// Without FUSE.
struct OnTmpfs {
  OnTmpfs() { fs::create_directory(target); }
  absl::Status Mount(const Contents& contents) {
    return server.Mount({"an id", target}, Files(contents));
  }
  // Writable, for a while, to leave what a plugin that was killed leaves.
  int Remount(unsigned long flag) {
    return mount(nullptr, target.c_str(), nullptr, MS_REMOUNT | MS_BIND | flag, nullptr);
  }

  Folder folder;
  std::string target = folder.path + "/mount";
  SystemClock clock;
  VolumeServer server{clock, 1, folder.path, nullptr, nullptr, {.fuse = false}};
};

TEST_CASE("a volume on tmpfs has the layout, the modes and the owners, and is read-only") {
  OnTmpfs t;
  REQUIRE(t.Mount({{"a", "one"}, {"b/c", "two", 0400, 1234, 5678}, {"b/d", ""}}).ok());
  CHECK(t.server.Serves(t.target));
  CHECK(t.server.List().at(0).volume_id == "an id");
  CHECK(Read(t.target + "/a") == "one");
  CHECK(Read(t.target + "/b/c") == "two");
  CHECK(Read(t.target + "/b/d").empty());
  CHECK(fs::read_symlink(t.target + "/a") == "..data/a");
  CHECK(fs::read_symlink(t.target + "/..data").string().compare(0, 4, "..20") == 0);
  CHECK(Names(t.target) == NameSet{"..data", fs::read_symlink(t.target + "/..data"), "a", "b"});
  struct stat facts {};
  REQUIRE(stat((t.target + "/b/c").c_str(), &facts) == 0);
  CHECK((facts.st_mode & 07777) == 0400);
  CHECK(facts.st_uid == 1234);
  CHECK(facts.st_gid == 5678);
  const std::string a = t.target + "/a";
  CHECK(Errno([&] { return open(a.c_str(), O_WRONLY); }) == EROFS);
  CHECK(Errno([&] { return open((t.target + "/new").c_str(), O_CREAT | O_WRONLY, 0600); }) == EROFS);
  CHECK(Errno([&] { return unlink(a.c_str()); }) == EROFS);
  CHECK(Errno([&] { return chmod(a.c_str(), 0777); }) == EROFS);
  CHECK(t.Mount({{"a", "2"}}).code() == absl::StatusCode::kAlreadyExists);
  REQUIRE(t.server.Unmount(t.target).ok());
  CHECK_FALSE(t.server.Serves(t.target));
  CHECK(FindMounts(t.folder.path)->empty());
  CHECK(fs::is_empty(t.target));
  CHECK(t.server.Unmount(t.target).ok());
}

TEST_CASE("a volume on tmpfs is swapped: names come and go, open files stay what they were") {
  OnTmpfs t;
  REQUIRE(t.Mount({{"a", "1"}, {"gone", "1"}}).ok());
  const auto first = fs::read_symlink(t.target + "/..data");
  const UniqueFd old(open((t.target + "/a").c_str(), O_RDONLY));
  REQUIRE(t.server.Swap(t.target, Files({{"a", "1"}, {"gone", "1"}})).ok());
  CHECK(fs::read_symlink(t.target + "/..data") == first);  // the same: no event
  REQUIRE(t.server.Swap(t.target, Files({{"a", "2"}, {"new", "2", 0640}})).ok());
  CHECK(Read(t.target + "/a") == "2");
  CHECK(Read(t.target + "/new") == "2");
  CHECK(Read(t.target + "/gone") == "error: ENOENT");
  char byte = 0;
  CHECK(pread(old.get(), &byte, 1, 0) == 1);
  CHECK(byte == '1');
  for (int i = 0; i < 6000 && Names(t.target).size() > 4; ++i) std::this_thread::sleep_for(10ms);
  CHECK(Names(t.target) == NameSet{"..data", fs::read_symlink(t.target + "/..data"), "a", "new"});
  REQUIRE(t.server.Swap(t.target, Files({{"a", "2"}, {"new", "2", 0600}})).ok());  // modes count
  const auto held = t.server.Files(t.target);
  REQUIRE(held.ok());
  CHECK(held->size() == 2);
  CHECK(fs::status(t.target + "/new").permissions() == fs::perms(0600));
  CHECK(t.server.Unmount(t.target).ok());
}

TEST_CASE("links that a swap couldn't make come with the next publish of the same content") {
  const bool on_fuse = GENERATE(true, false);
  INFO(on_fuse);
  const Folder folder;
  const std::string target = folder.path + "/mount";
  fs::create_directory(target);
  const SystemClock clock;
  VolumeServer server(clock, 1, folder.path, nullptr, nullptr, {.fuse = on_fuse});
  REQUIRE(server.Mount({"an id", target}, Files({{"a", "1"}, {"stale", "1"}})).ok());
  const std::string first = fs::read_symlink(target + "/..data");
  const Contents next = {{"a", "2"}, {"b", "2"}, {"c", "2"}};
  refused_link = "c";
  CHECK_FALSE(server.Swap(target, Files(next)).ok());
  CHECK_FALSE(server.Swap(target, Files(next)).ok());
  refused_link = nullptr;
  const std::string second = fs::read_symlink(target + "/..data");
  CHECK(second != first);
  CHECK(Read(target + "/c") == "error: ENOENT");
  CHECK(server.Swap(target, Files(next)).value_or(false));
  CHECK(Read(target + "/c") == "2");
  CHECK_FALSE(server.Swap(target, Files(next)).value_or(true));
  CHECK(Eventually([&] { return !fs::exists(StrCat(target, "/", first)); }));
  CHECK(Names(target) == NameSet{"..data", second, "a", "b", "c"});
  CHECK(server.Unmount(target).ok());
}

TEST_CASE("a swap on tmpfs that a plugin was killed in is ended by the next one") {
  OnTmpfs t;
  REQUIRE(t.Mount({{"a", "1"}, {"b", "1"}}).ok());
  const NameSet all = Names(t.target);
  REQUIRE(t.Remount(0) == 0);
  fs::remove(t.target + "/b");
  fs::create_symlink("..data/gone", t.target + "/gone");
  REQUIRE(t.Remount(MS_RDONLY) == 0);
  VolumeServer next(t.clock, 1, t.folder.path);
  CHECK(next.Recover().value_or(0) == 1);
  CHECK(Names(t.target) == all);
  CHECK(next.Unmount(t.target).ok());
}

TEST_CASE("the next plugin leaves what is old on tmpfs to its readers for a grace") {
  OnTmpfs t;
  REQUIRE(t.Mount({{"a", "1"}}).ok());
  const std::string old = t.target + "/..2026_01_02_03_04_05.6";
  REQUIRE(t.Remount(0) == 0);
  fs::create_directory(old);
  REQUIRE(t.Remount(MS_RDONLY) == 0);
  const auto start = Steady::now();
  VolumeServer next(t.clock, 1, t.folder.path);
  CHECK(next.Recover().value_or(0) == 1);
  CHECK(Eventually([&] { return !fs::exists(old); }));
  CHECK(Steady::now() - start >= 1s);
  CHECK(Read(t.target + "/a") == "1");
  CHECK(next.Unmount(t.target).ok());
}

TEST_CASE("a switch on tmpfs that a killed plugin ends after the next one has come stays") {
  OnTmpfs t;
  REQUIRE(t.Mount({{"a", "1"}}).ok());
  const std::string first = fs::read_symlink(t.target + "/..data");
  const std::string second = "..2099_01_02_03_04_05.6", folder = t.target + "/" + second;
  REQUIRE(t.Remount(0) == 0);
  fs::create_directory(folder);
  for (const char* name : {"/a", "/b"}) std::ofstream(folder + name) << "2";
  VolumeServer next(t.clock, 1, t.folder.path);
  CHECK(next.Recover().value_or(0) == 1);
  fs::create_symlink(second, t.target + "/..data_tmp");
  fs::rename(t.target + "/..data_tmp", t.target + "/..data");
  REQUIRE(t.Remount(MS_RDONLY) == 0);
  CHECK(Eventually([&] { return !fs::exists(StrCat(t.target, "/", first)); }));
  CHECK(Names(t.target) == NameSet{"..data", second, "a", "b"});
  CHECK(Read(t.target + "/a") == "2");
  CHECK(Read(t.target + "/b") == "2");
  CHECK(next.Unmount(t.target).ok());
}

TEST_CASE("old files on tmpfs are overwritten, but not under who reads them") {
  OnTmpfs t;
  REQUIRE(t.Mount({{"a", "secret"}, {"b/c", "secret", 0400, 1234}, {"d", "secret"}}).ok());
  const std::string first = t.target + "/" + fs::read_symlink(t.target + "/..data").string();
  const auto look = [&](const char* name) {  // which opens nothing
    return UniqueFd(open((first + name).c_str(), O_PATH));
  };
  const UniqueFd a = look("/a"), c = look("/b/c"), d = look("/d");
  const auto text = [](const UniqueFd& file) { return Read(StrCat("/proc/self/fd/", file.get())); };
  UniqueFd reader(open((first + "/a").c_str(), O_RDONLY));
  REQUIRE(t.server.Swap(t.target, Files({{"a", "new"}})).ok());
  const std::string wiped(6, '\0');
  CHECK(Eventually([&] { return !fs::exists(first); }));
  CHECK(Eventually([&] { return text(c) == wiped && text(d) == wiped; }));
  char bytes[6];
  CHECK(pread(reader.get(), bytes, 6, 0) == 6);
  CHECK(std::string_view(bytes, 6) == "secret");
  SECTION("until it is closed") {
    reader.reset();
    CHECK(Eventually([&] { return text(a) == wiped; }));
    CHECK(t.server.Unmount(t.target).ok());
  }
  SECTION("until the volume is unmounted") {
    CHECK(t.server.Unmount(t.target).ok());
    CHECK(pread(reader.get(), bytes, 6, 0) == 6);
    CHECK(std::string_view(bytes, 6) == wiped);
  }
}

TEST_CASE("the next plugin takes a volume on tmpfs up, whatever it makes new ones of") {
  OnTmpfs t;
  REQUIRE(t.Mount({{"a", "1"}}).ok());
  VolumeServer next(t.clock, 1, t.folder.path);
  CHECK(next.Recover().value_or(0) == 1);
  CHECK(next.Serves(t.target));
  CHECK(next.List().at(0).volume_id == "an id");
  REQUIRE(next.Swap(t.target, Files({{"a", "2"}})).ok());
  CHECK(Read(t.target + "/a") == "2");
  REQUIRE(next.Unmount(t.target).ok());
  REQUIRE(next.Mount({"an id", t.target}, Files({{"a", "3"}})).ok());
  CHECK(FindMounts(t.folder.path, MountKind::kFuse)->size() == 1);
  CHECK(next.Unmount(t.target).ok());
}

TEST_CASE("what can't be kept on tmpfs is refused, and so are paths") {
  OnTmpfs t;
  auto files = Files({{"a", "1"}});
  files[0].rules.read_once = true;
  CHECK(absl::IsFailedPrecondition(t.server.Mount({"id", t.target}, std::move(files))));
  CHECK(absl::IsFailedPrecondition(
      t.server.Mount({.volume_id = "id", .target = t.target, .audit = true}, Files({{"a", "1"}}))));
  CHECK(absl::IsInvalidArgument(t.Mount({{"../a", "1"}})));
  CHECK(absl::IsInvalidArgument(t.Mount({{"a", "1"}, {"a", "2"}})));
  CHECK(FindMounts(t.folder.path)->empty());
  CHECK_FALSE(t.server.Serves(t.target));
  CHECK(t.server.Ready().ok());
}

// A plugin on a kernel that lacks things, killed where it stands.
class Killed : public Play {
 public:
  Killed(const Abilities& abilities, bool in_an_answer) {
    plugin = fork();
    if (plugin != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct Stuck : OpenListener {
      void Opened(const OpenEvent&) override {
        for (;;) pause();
      }
    } stuck;
    KeeperClient client(socket);
    SystemClock clock;
    VolumeServer server(clock, 1, "/", &client, &stuck, abilities);
    const VolumeInfo info{.volume_id = "id", .target = target, .audit = in_an_answer};
    const bool good = server.Adopt(absl::Seconds(60)).ok() &&
                      server.Mount(info, Files({{"a", "kept"}})).ok();
    shared->generation = good ? 1 : 2;
    for (;;) pause();
  }
  void Kill() { Play::Kill(&plugin); }
};

// Whether the volume is there after it. Not where the kill hit the moment after the last answer.
bool OutlivesAKill() {
  const Abilities without{.resend = false, .memory = MemoryKind::kLockedMemfd};
  Killed first(without, /*in_an_answer=*/false);
  for (int i = 0; i < 6000 && first.shared->generation == 0; ++i) std::this_thread::sleep_for(10ms);
  REQUIRE(first.shared->generation == 1);
  CHECK(Read(first.target + "/a") == "kept");
  std::this_thread::sleep_for(50ms);
  first.Kill();
  KeeperClient client(first.socket);
  SystemClock clock;
  VolumeServer server(clock, 1, "/", &client, nullptr, without);
  const absl::StatusOr<std::size_t> adopted = server.Adopt(absl::Seconds(60));
  REQUIRE(adopted.ok());
  if (*adopted == 0) return false;
  CHECK(Read(first.target + "/a") == "kept");
  REQUIRE(server.Swap(first.target, Files({{"a", "new"}})).ok());
  CHECK(Read(first.target + "/a") == "new");
  CHECK(server.Unmount(first.target).ok());
  return true;
}

TEST_CASE("where the kernel can't ask again, a volume outlives a plugin that was killed while idle") {
  bool outlived = false;
  for (int i = 0; i < 20 && !outlived; ++i) outlived = OutlivesAKill();
  CHECK(outlived);
}

TEST_CASE("where the kernel can't ask again, a volume is made anew if its plugin was killed in an answer") {
  const Abilities without{.resend = false};
  Killed first(without, /*in_an_answer=*/true);
  for (int i = 0; i < 6000 && first.shared->generation == 0; ++i) std::this_thread::sleep_for(10ms);
  REQUIRE(first.shared->generation == 1);
  CHECK(InChild([&] { return open((first.target + "/a").c_str(), O_RDONLY) >= 0 ? 0 : errno; }) == 0);
  first.Kill();
  KeeperClient client(first.socket);
  SystemClock clock;
  VolumeServer server(clock, 1, "/", &client, nullptr, without);
  CHECK(server.Adopt(absl::Seconds(60)).value_or(1) == 0);
  CHECK(FindMounts(first.folder.path)->empty());
  CHECK(server.Mount({"id", first.target}, Files({{"a", "anew"}})).ok());
  CHECK(Read(first.target + "/a") == "anew");
  CHECK(server.Unmount(first.target).ok());
}

TEST_CASE("what is missing is found by trying, and said in one line each") {
  const Abilities here = FindAbilities();
  CHECK(here.fuse);
  CHECK(here.Backend() == "FUSE");
  CHECK(InChild([] {
          if (setresuid(1234, 1234, 1234) != 0) return 1;
          const Abilities nobody = FindAbilities();
          if (nobody.fuse || nobody.fuse_refusal.empty()) return 2;
          return nobody.Fallbacks(true).empty() ? 3 : 0;
        }) == 0);
  const Abilities none{.fuse = false, .resend = false, .noswap = false,
                       .memory = MemoryKind::kLockedMemfd, .fuse_refusal = "no device"};
  CHECK(none.Fallbacks(true).size() == 2);
  CHECK(none.Fallbacks(true)[0].find("no device") != std::string::npos);
  const Abilities old{.resend = false, .memory = MemoryKind::kLockedMemfd};
  CHECK(old.Fallbacks(true).size() == 2);
  CHECK(old.Fallbacks(false).size() == 1);
  CHECK(Abilities{}.Fallbacks(true).empty());
}

TEST_CASE("where there is SELinux, volumes are labelled for containers of all categories") {
  const Folder folder;
  CHECK(ContainerLabel(folder.path.c_str()) == "system_u:object_r:container_file_t:s0");
  CHECK(ContainerLabel((folder.path + "/selinux").c_str()).empty());
}

}  // namespace
}  // namespace coffer::volume
