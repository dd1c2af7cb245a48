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

#include "csi/volume/volume_testing.h"

namespace coffer::volume {
namespace {

namespace fs = std::filesystem;

TEST_CASE("a volume of a plugin in a container reaches the node, read-only, and its swaps do") {
  Folder folder;
  REQUIRE(mount(folder.path.c_str(), folder.path.c_str(), nullptr, MS_BIND, nullptr) == 0);
  REQUIRE(mount(nullptr, folder.path.c_str(), nullptr, MS_SHARED, nullptr) == 0);
  const std::string target = folder.path + "/mount";
  fs::create_directory(target);
  int orders[2], answers[2];
  REQUIRE((pipe2(orders, O_CLOEXEC) == 0 && pipe2(answers, O_CLOEXEC) == 0));

  const pid_t container = fork();
  if (container == 0) {
    close(orders[1]);
    if (unshare(CLONE_NEWNS | CLONE_NEWPID) != 0) _exit(1);
    const pid_t plugin = fork();
    if (plugin != 0) {  // the plugin ends with the pipe
      int status;
      waitpid(plugin, &status, 0);
      _exit(0);
    }
    SystemClock clock;
    VolumeServer server(clock);
    for (char order; read(orders[0], &order, 1) == 1;) {
      absl::Status done;
      if (order == 'm') done = server.Mount({"id", target}, Files({{"a", "1"}}));
      if (order == 's') done = server.Swap(target, Files({{"a", "2"}, {"b", "3"}})).status();
      if (order == 'u') done = server.Unmount(target);
      const char answer = done.ok() ? '+' : '-';
      (void)!write(answers[1], &answer, 1);
    }
    _exit(0);
  }
  close(orders[0]);
  const auto plugin = [&](char order) {
    char answer = 0;
    return write(orders[1], &order, 1) == 1 && read(answers[0], &answer, 1) == 1 && answer == '+';
  };

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
  close(orders[1]);
  waitpid(container, nullptr, 0);
  CHECK(umount2(folder.path.c_str(), MNT_DETACH) == 0);
}

// Linux 6.12 and later: earlier kernels can't map identities of FUSE mounts.
TEST_CASE("a pod in a user namespace sees the owners of its own numbers") {
  Mounted volume(Contents{{"mine", "1", 0400, 1000, 2000}});
  // A user namespace in which the 65,536 numbers from 0 are the node's from 100,000.
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // it must not outlive a test that fails
    const char byte = unshare(CLONE_NEWUSER) == 0 ? '+' : '-';
    (void)!write(ready[1], &byte, 1);
    for (;;) pause();
  }
  char byte = 0;
  REQUIRE((read(ready[0], &byte, 1) == 1 && byte == '+'));
  for (const std::string file : {"uid_map", "gid_map"}) {
    std::ofstream(StrCat("/proc/", child, "/", file)) << "0 100000 65536\n";
  }
  const UniqueFd users(open(StrCat("/proc/", child, "/ns/user").c_str(), O_RDONLY | O_CLOEXEC));

  const UniqueFd pod(
      open_tree(AT_FDCWD, volume.target.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<std::uint64_t>(users.get());
  REQUIRE(mount_setattr(pod.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0);
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
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace coffer::volume
