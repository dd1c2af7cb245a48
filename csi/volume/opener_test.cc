#include "csi/volume/opener.h"

#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "common/strings.h"
#include "csi/volume/file_rules.h"
#include "csi/volume/pidfd.h"

namespace coffer::volume {
namespace {

constexpr char kId[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
constexpr char kInner[] = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

TEST_CASE("the container is known by its group, however its runtime names that") {
  struct Case {
    const char* what;
    std::string before, after;
    bool known = true;
  };
  const Case cases[] = {
      {"containerd, version 2, systemd",
       "0::/kubepods.slice/kubepods-burstable.slice/"
       "kubepods-burstable-pod6f1f3c5e_1111_2222_3333_444444444444.slice/cri-containerd-",
       ".scope\n"},
      {"containerd, version 2, cgroupfs",
       "0::/kubepods/besteffort/pod6f1f3c5e-1111-2222-3333-444444444444/", "\n"},
      {"containerd, version 1, cgroupfs",
       "12:pids:/kubepods/burstable/pod6f1f3c5e-1111-2222-3333-444444444444/",
       "\n1:name=systemd:/\n"},
      {"containerd, version 1, systemd",
       "11:memory:/system.slice/containerd.service/"
       "kubepods-burstable-pod6f1f3c5e_1111_2222_3333_444444444444.slice:cri-containerd:",
       "\n0::/\n"},
      {"version 1, only the last line tells", "4:cpu:/\n1:name=systemd:/kubepods/pod1/", "\n"},
      {"CRI-O, version 2", "0::/kubepods.slice/kubepods-pod1.slice/crio-", ".scope\n"},
      {"CRI-O with a group of its own inside", "0::/kubepods.slice/kubepods-pod1.slice/crio-",
       ".scope/container\n"},
      {"CRI-O, version 1", "8:cpuset:/kubepods.slice/kubepods-pod1.slice/crio-", ".scope\n"},
      {"Docker, version 2", "0::/system.slice/docker-", ".scope\n"},
      {"Docker, version 1", "3:cpu,cpuacct:/docker/", "\n"},
      {"cri-dockerd", "0::/kubepods.slice/kubepods-pod1.slice/docker-", ".scope\n"},
      {"Podman", "0::/machine.slice/libpod-", ".scope/container\n"},
      {"seen from another group's namespace",
       "0::/../../kubepods-besteffort-pod2.slice/cri-containerd-", ".scope\n"},
      {"a group that the container has made", "0::/kubepods/pod1/", "/init.scope\n"},
      {"no line end", "0::/docker/", ""},
      {"the inner one of two", StrCat("0::/docker/", kInner, "/kubelet/kubepods/pod1/"), "\n"},
      {"CRI-O's monitor", "0::/kubepods.slice/kubepods-pod1.slice/crio-conmon-", ".scope\n", false},
      {"Podman's monitor", "0::/machine.slice/libpod-conmon-", ".scope\n", false},
      {"longer than an id", "0::/docker/0", "\n", false},
      {"part of a word", "0::/docker/x", "\n", false},
      {"followed by a word", "0::/docker/", "z\n", false},
  };
  for (const Case& c : cases) {
    INFO(c.what);
    const std::string cgroup = StrCat(c.before, kId, c.after);
    CHECK(ContainerId(cgroup) == (c.known ? kId : ""));
  }
  for (const char* none : {"", "0::/\n", "0::/user.slice/user-1000.slice/session-2.scope\n",
                           "0::/kubepods.slice/kubepods-pod6f1f3c5e_1111_2222.slice\n"}) {
    INFO(none);
    CHECK(ContainerId(none) == "");
  }
}

TEST_CASE("rules are read as they were written") {
  const FileRules cases[] = {
      {},
      {.version = "3-2026-11-24T20:31:00Z"},
      {.allow_uids = {0}},
      {.version = "1", .allow_uids = {1000, 4294967294}},
      {.allow_executables = {"/usr/bin/app"}},
      {.version = "v", .allow_uids = {7}, .allow_executables = {"/a", "/b c"}},
  };
  for (const FileRules& rules : cases) {
    const std::string text = RulesText(rules);
    const RulesView view(text);
    CHECK(view.version == rules.version);
    for (const std::uint32_t uid : {0u, 1u, 7u, 100u, 1000u, 10000u, 4294967294u}) {
      INFO(uid);
      const bool named = std::find(rules.allow_uids.begin(), rules.allow_uids.end(), uid) !=
                         rules.allow_uids.end();
      CHECK(view.AllowsUid(uid) == (named || rules.allow_uids.empty()));
    }
    std::string paths;
    for (const std::string& path : rules.allow_executables) {
      StrAppend(&paths, paths.empty() ? std::string() : std::string(1, '\0'), path);
    }
    CHECK(view.executables == paths);
  }
}

TEST_CASE("a process is described, and what it runs is what it runs") {
  Openers openers;
  const auto self = static_cast<std::uint32_t>(getpid());
  const std::string executable = std::filesystem::read_symlink("/proc/self/exe");
  for (int i = 0; i < 2; ++i) {  // known anew, known already
    const Opener opener = openers.Describe(self, Opener::kUnknownId, Opener::kUnknownId);
    CHECK(opener.pid == self);
    CHECK(opener.uid == getuid());
    CHECK(opener.gid == getgid());
    CHECK(opener.executable == executable);
    CHECK_FALSE(opener.command.empty());
    CHECK_FALSE(opener.Runs("/bin/sh"));
    CHECK_FALSE(opener.Runs("/nowhere"));
    CHECK_FALSE(opener.Runs(""));
  }
  // As the request has it.
  CHECK(openers.Describe(self, 1234, 4321).uid == 1234);
  CHECK(openers.Describe(self, 1234, 4321).gid == 4321);
  const Opener unseen = openers.Describe(0, 1234, 4321);
  CHECK(unseen.pid == 0);
  CHECK(unseen.uid == 1234);
  CHECK_FALSE(unseen.Runs(executable));
}

TEST_CASE("a process's ids are those that files see at the time") {
  int asks[2], answers[2];
  REQUIRE((pipe(asks) == 0 && pipe(answers) == 0));
  const pid_t child = fork();
  if (child == 0) {
    char byte = 0;
    while (read(asks[0], &byte, 1) == 1) {
      setfsgid(4321);
      setfsuid(1234);
      if (write(answers[1], &byte, 1) != 1) break;
    }
    _exit(0);
  }
  const auto id = static_cast<std::uint32_t>(child);
  Openers openers;
  const Opener before = openers.Describe(id, Opener::kUnknownId, Opener::kUnknownId);
  CHECK((before.uid == getuid() && before.gid == getgid()));
  char byte = 0;
  CHECK((write(asks[1], &byte, 1) == 1 && read(answers[0], &byte, 1) == 1));
  const Opener after = openers.Describe(id, Opener::kUnknownId, Opener::kUnknownId);
  CHECK((after.uid == 1234 && after.gid == 4321));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  for (const int fd : {asks[0], asks[1], answers[0], answers[1]}) close(fd);
}

// A control group of version 2, there while this is.
struct Group {
  explicit Group(std::string_view name) {
    for (const char* const mount : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
      path = StrCat(mount, "/", name);
      if (access(StrCat(mount, "/cgroup.procs").c_str(), W_OK) == 0 &&
          mkdir(path.c_str(), 0755) == 0) {
        return;
      }
    }
    path.clear();
  }
  ~Group() { rmdir(path.c_str()); }
  bool Take(pid_t process) const {
    return static_cast<bool>(std::ofstream(path + "/cgroup.procs") << process << std::flush);
  }
  std::string path;
};

pid_t ForkSleeper() {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  return child;
}

void End(pid_t child) {
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST_CASE("a process's container is the one whose group it is in at the time") {
  const Group group(kId), other(kInner);
  if (group.path.empty() || other.path.empty()) {
    WARN("no control groups of version 2 can be made here");
    return;
  }
  Openers openers;
  const auto container_of = [&](pid_t process) {
    return openers
        .Describe(static_cast<std::uint32_t>(process), Opener::kUnknownId, Opener::kUnknownId)
        .container;
  };
  // Before 6.13 the kernel doesn't tell cheaply that a process was moved.
  const bool told = [] {
    utsname info{};
    int major = 0, minor = 0;
    return uname(&info) == 0 && sscanf(info.release, "%d.%d", &major, &minor) == 2 &&
           std::pair(major, minor) >= std::pair(6, 13) && OpenThread(getpid());
  }();
  for (int i = 0; i < 2; ++i) {  // the groups are known anew, known already
    const pid_t child = ForkSleeper(), second = ForkSleeper();
    CHECK((group.Take(child) && group.Take(second)));
    CHECK(container_of(child) == kId);
    CHECK(container_of(second) == kId);
    CHECK(container_of(getpid()) != kId);
    CHECK(other.Take(child));
    CHECK(container_of(child) == (told ? kInner : kId));
    CHECK(container_of(second) == kId);
    End(child);
    End(second);
  }
}

TEST_CASE("a thread that is gone isn't mistaken for another") {
  Openers openers;
  const pid_t child = ForkSleeper();
  const auto id = static_cast<std::uint32_t>(child);
  CHECK(openers.Describe(id, 0, 0).pid == id);
  End(child);
  const Opener gone = openers.Describe(id, 0, 0);
  CHECK(gone.pid == 0);
  CHECK(gone.command.empty());
  CHECK_FALSE(gone.Runs("/bin/sh"));
}

TEST_CASE("more processes than are kept are described all the same") {
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                         std::filesystem::directory_iterator());
  };
  const auto before = descriptors();
  Openers openers;
  std::vector<pid_t> children;
  const auto pid_of = [&](pid_t child) {
    return openers.Describe(static_cast<std::uint32_t>(child), 0, 0).pid;
  };
  for (int i = 0; i < 100; ++i) {
    children.push_back(ForkSleeper());
    CHECK(pid_of(children.back()) == static_cast<std::uint32_t>(children.back()));
    openers.Tidy();
  }
  CHECK(descriptors() - before <= 64 * 3);
  for (const pid_t child : children) {
    CHECK(pid_of(child) == static_cast<std::uint32_t>(child));
    openers.Tidy();
    End(child);
  }
}

}  // namespace
}  // namespace coffer::volume
