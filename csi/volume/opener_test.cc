#include "csi/volume/opener.h"

#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "common/strings.h"
#include "csi/volume/file_rules.h"

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

TEST_CASE("a thread that is gone isn't mistaken for another") {
  Openers openers;
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  const auto id = static_cast<std::uint32_t>(child);
  CHECK(openers.Describe(id, 0, 0).pid == id);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const Opener gone = openers.Describe(id, 0, 0);
  CHECK(gone.pid == 0);
  CHECK(gone.command.empty());
  CHECK_FALSE(gone.Runs("/bin/sh"));
}

TEST_CASE("more processes than are kept are described all the same") {
  Openers openers;
  std::vector<pid_t> children;
  for (int i = 0; i < 100; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      pause();
      _exit(0);
    }
    children.push_back(child);
    CHECK(openers.Describe(static_cast<std::uint32_t>(child), 0, 0).pid ==
          static_cast<std::uint32_t>(child));
  }
  for (const pid_t child : children) {
    CHECK(openers.Describe(static_cast<std::uint32_t>(child), 0, 0).pid ==
          static_cast<std::uint32_t>(child));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
}

}  // namespace
}  // namespace coffer::volume
