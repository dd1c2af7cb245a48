// Volumes as a DaemonSet's container and pods have them: mounted in one mount and pid namespace,
// seen in others, there with identities mapped. Needs root and /dev/fuse.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <optional>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "csi/volume/open_listener.h"
#include "csi/volume/volume_testing.h"

namespace coffer::volume {
namespace {

namespace fs = std::filesystem;

// The kubelet's folder, of which the plugin's container has a Bidirectional mount.
struct SharedFolder : Folder {
  SharedFolder() {
    REQUIRE(mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) == 0);
    REQUIRE(mount(nullptr, path.c_str(), nullptr, MS_SHARED, nullptr) == 0);
    fs::create_directory(target);
  }
  ~SharedFolder() {
    DetachMount(target).IgnoreError();
    CHECK(umount2(path.c_str(), MNT_DETACH) == 0);
  }
  const std::string target = path + "/mount";
};

// A plugin in mount and pid namespaces of its own, which does what it is told.
class PluginContainer {
 public:
  explicit PluginContainer(const std::string& target) {
    int orders[2], answers[2];
    REQUIRE((pipe2(orders, O_CLOEXEC) == 0 && pipe2(answers, O_CLOEXEC) == 0));
    process_ = fork();
    if (process_ == 0) {
      close(orders[1]);
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (unshare(CLONE_NEWNS | CLONE_NEWPID) != 0) _exit(1);
      const pid_t plugin = fork();
      if (plugin == 0) Serve(target, orders[0], answers[1]);
      int status;
      waitpid(plugin, &status, 0);
      _exit(0);
    }
    close(orders[0]);
    close(answers[1]);
    orders_.reset(orders[1]);
    answers_.reset(answers[0]);
  }
  ~PluginContainer() { Stop(); }

  // m: mount version 1; s: swap to version 2; d: detach a dead mount; u: unmount. False: an error.
  bool operator()(char order) const {
    char answer = 0;
    return write(orders_.get(), &order, 1) == 1 && read(answers_.get(), &answer, 1) == 1 &&
           answer == '+';
  }
  // Ends without a word.
  void Stop() {
    if (process_ <= 0) return;
    (void)!write(orders_.get(), "e", 1);
    waitpid(std::exchange(process_, 0), nullptr, 0);
  }

 private:
  [[noreturn]] static void Serve(const std::string& target, int orders, int answers) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    SystemClock clock;
    VolumeServer server(clock);
    for (char order; read(orders, &order, 1) == 1 && order != 'e';) {
      absl::Status done;
      if (order == 'm') done = server.Mount({"id", target}, Files({{"a", "1"}}));
      if (order == 's') done = server.Swap(target, Files({{"a", "2"}, {"b", "3"}})).status();
      if (order == 'd') done = DetachMount(target);
      if (order == 'u') done = server.Unmount(target);
      const char answer = done.ok() ? '+' : '-';
      (void)!write(answers, &answer, 1);
    }
    _exit(0);  // and its volumes die
  }

  pid_t process_;
  UniqueFd orders_, answers_;
};

// A pod's container: a mount namespace. With HostToContainer it is told of the node's mounts; a
// container that has one volume has a mount of what was at the target when it started.
class PodContainer {
 public:
  static constexpr unsigned long kNone = MS_PRIVATE, kHostToContainer = MS_SLAVE;
  PodContainer(unsigned long propagation, const std::string& volume) {
    int ready[2];
    REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
    process_ = fork();
    if (process_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const bool good =
          unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | propagation, nullptr) == 0 &&
          mount(volume.c_str(), "/mnt", nullptr, MS_BIND, nullptr) == 0;
      (void)!write(ready[1], good ? "+" : "-", 1);
      for (;;) pause();
    }
    char byte = 0;
    REQUIRE((read(ready[0], &byte, 1) == 1 && byte == '+'));
    close(ready[0]);
    close(ready[1]);
  }
  ~PodContainer() {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
  }
  // As it is seen in there; its volume is at /mnt.
  std::string operator/(std::string_view path) const {
    return StrCat("/proc/", process_, "/root/", path);
  }

 private:
  pid_t process_;
};

TEST_CASE("a volume of a plugin in a container reaches the node, read-only, and its swaps do") {
  const SharedFolder folder;
  const std::string& target = folder.target;
  PluginContainer plugin(target);
  REQUIRE(plugin('m'));
  CHECK(FindMounts(folder.path)->size() == 1);
  CHECK(Read(target + "/a") == "1");
  CHECK(Errno([&] { return mkdir((target + "/x").c_str(), 0755); }) == EROFS);
  struct statfs info {};
  REQUIRE(statfs(target.c_str(), &info) == 0);
  CHECK((info.f_flags & MS_RDONLY) != 0);
  REQUIRE(plugin('s'));
  CHECK(Read(target + "/a") == "2");
  CHECK(Read(target + "/b") == "3");
  CHECK(Names(target + "/..data") == NameSet{"a", "b"});
  REQUIRE(plugin('u'));
  CHECK(FindMounts(folder.path)->empty());
}

TEST_CASE("a pod with HostToContainer sees volumes that are mounted after its start, and when both were gone") {
  const SharedFolder folder;
  const PodContainer pod(PodContainer::kHostToContainer, folder.path);
  const PodContainer apart(PodContainer::kNone, folder.path);
  const std::string seen = pod / folder.target, unseen = apart / folder.target;
  {
    PluginContainer plugin(folder.target);
    CHECK(fs::is_empty(seen));
    REQUIRE(plugin('m'));
    CHECK(Read(seen + "/a") == "1");
    CHECK(fs::is_empty(unseen));
    CHECK(Errno([&] { return unlink((seen + "/a").c_str()); }) == EROFS);
    REQUIRE(plugin('s'));
    CHECK(Read(seen + "/a") == "2");
    CHECK(Names(seen + "/..data") == NameSet{"a", "b"});
    REQUIRE(plugin('u'));
    CHECK(fs::is_empty(seen));
    REQUIRE(plugin('m'));
    CHECK(Read(seen + "/a") == "1");
  }
  CHECK(Errno([&] { return open((seen + "/b").c_str(), O_RDONLY); }) == ENOTCONN);
  PluginContainer next(folder.target);
  REQUIRE(next('d'));
  CHECK(fs::is_empty(seen));
  REQUIRE(next('m'));
  CHECK(Read(seen + "/a") == "1");
  REQUIRE(next('u'));
  CHECK(fs::is_empty(seen));
}

TEST_CASE("a container sees its volume's swaps, and when both were gone the new one from its next start on") {
  const SharedFolder folder;
  std::optional<PluginContainer> plugin(std::in_place, folder.target);
  REQUIRE((*plugin)('m'));
  for (const auto propagation : {PodContainer::kNone, PodContainer::kHostToContainer}) {
    const PodContainer pod(propagation, folder.target);
    CHECK(Read(pod / "mnt/a") == "1");
    REQUIRE((*plugin)('s'));
    CHECK(Read(pod / "mnt/a") == "2");
    CHECK(Read(pod / "mnt/b") == "3");
    CHECK(Errno([&] { return unlink((pod / "mnt/a").c_str()); }) == EROFS);
    plugin->Stop();
    CHECK(Errno([&] { return open((pod / "mnt/c").c_str(), O_RDONLY); }) == ENOTCONN);
    plugin.emplace(folder.target);
    REQUIRE((*plugin)('d'));
    REQUIRE((*plugin)('m'));
    CHECK(Errno([&] { return open((pod / "mnt/c").c_str(), O_RDONLY); }) == ENOTCONN);
    const PodContainer again(propagation, folder.target);
    CHECK(Read(again / "mnt/a") == "1");
  }
  REQUIRE((*plugin)('u'));
}

// In which the 65,536 numbers from 0 are the node's from 100,000.
class UserNamespace {
 public:
  UserNamespace() {
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    child_ = fork();
    if (child_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // it must not outlive a test that fails
      const char byte = unshare(CLONE_NEWUSER) == 0 ? '+' : '-';
      (void)!write(ready[1], &byte, 1);
      for (;;) pause();
    }
    char byte = 0;
    REQUIRE((read(ready[0], &byte, 1) == 1 && byte == '+'));
    for (const int end : ready) close(end);
    for (const std::string file : {"uid_map", "gid_map"}) {
      std::ofstream(StrCat("/proc/", child_, "/", file)) << "0 100000 65536\n";
    }
    users_.reset(open(StrCat("/proc/", child_, "/ns/user").c_str(), O_RDONLY | O_CLOEXEC));
  }
  ~UserNamespace() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }

  // A copy of the mount for a pod in this namespace; none where the kernel won't have it.
  UniqueFd Map(const std::string& target) const {
    UniqueFd pod(open_tree(AT_FDCWD, target.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_IDMAP;
    attributes.userns_fd = static_cast<std::uint64_t>(users_.get());
    const int mapped = mount_setattr(pod.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes);
    return mapped == 0 ? std::move(pod) : UniqueFd();
  }

 private:
  pid_t child_;
  UniqueFd users_;
};

// Linux 6.12 and later: earlier kernels can't map identities of FUSE mounts.
TEST_CASE("a pod in a user namespace sees the owners of its own numbers") {
  Mounted volume(Contents{{"mine", "1", 0400, 1000, 2000}});
  const UniqueFd pod = UserNamespace().Map(volume.target);
  REQUIRE(pod);
  struct stat info {};
  REQUIRE(fstatat(pod.get(), "mine", &info, 0) == 0);
  CHECK(info.st_uid == 101'000);
  CHECK(info.st_gid == 102'000);
  const auto readable = [&](uid_t uid) {
    return InChild([&] {
      return setresuid(uid, uid, uid) == 0 && openat(pod.get(), "mine", O_RDONLY) >= 0 ? 1 : 0;
    });
  };
  CHECK(readable(101'000) == 1);
  CHECK(readable(1000) == 0);
}

TEST_CASE(
    "a volume's numbers can be mapped once it is mounted, whatever keeps the answering thread") {
  struct Waiting : OpenListener {
    void Opening(const OpenEvent&) override {
      asked = true;
      go_on.get_future().wait();
    }
    void Opened(const OpenEvent&) override {}
    std::atomic<bool> asked = false;
    std::promise<void> go_on;
  } waiting;
  const Folder folder;
  const std::string busy = folder.path + "/busy", target = folder.path + "/mount";
  for (const std::string& path : {busy, target}) fs::create_directory(path);
  const SystemClock clock;
  VolumeServer server(clock, 1, "/", nullptr, &waiting);
  const VolumeInfo audited{.volume_id = "busy", .target = busy, .audit = true};
  REQUIRE(server.Mount(audited, Files({{"a", "1"}})).ok());
  std::thread reader([&] { CHECK(Read(busy + "/a") == "1"); });
  CHECK(Eventually([&] { return waiting.asked.load(); }));

  CHECK(server.Mount({.volume_id = "id", .target = target}, Files({{"a", "1"}})).ok());
  CHECK(UserNamespace().Map(target));

  waiting.go_on.set_value();
  reader.join();
}

}  // namespace
}  // namespace coffer::volume
