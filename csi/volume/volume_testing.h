// What the volume's tests share: a mounted volume, and short ways to say files.
#pragma once

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/eventually.h"
#include "common/random.h"
#include "csi/volume/volume.h"

namespace coffer::volume {

struct Content {
  std::string path;
  std::string content;
  std::uint32_t mode = 0644;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

using Contents = std::vector<Content>;

inline std::vector<SnapshotFile> Files(const Contents& contents) {
  std::vector<SnapshotFile> files;
  for (const Content& c : contents) {
    files.push_back({c.path, SecretBytes::CopyOf(c.content), c.mode, c.uid, c.gid});
  }
  return files;
}

// A new folder, removed at the end.
struct Folder {
  Folder() {
    char name[] = "/tmp/coffer volume.XXXXXX";  // the blank is escaped in mountinfo
    path = mkdtemp(name);
    chmod(path.c_str(), 0755);
  }
  ~Folder() {
    if (const auto mounts = FindMounts(path); mounts.ok()) {
      for (const VolumeInfo& mount : *mounts) (void)DetachMount(mount.target);
    }
    std::filesystem::remove_all(path);
  }
  std::string path;
};

struct Mounted {
  explicit Mounted(const std::vector<Content>& contents) {
    std::filesystem::create_directory(target);
    const absl::Status status = server.Mount({"csi test\\1", target}, Files(contents));
    INFO(status);
    REQUIRE(status.ok());
  }
  ~Mounted() { CHECK(server.Unmount(target).ok()); }
  absl::Status Swap(const std::vector<Content>& contents) {
    clock.Advance(absl::Seconds(1));
    return server.Swap(target, Files(contents)).status();
  }

  Folder folder;
  std::string target = folder.path + "/mount";
  ManualClock clock;
  VolumeServer server{clock};
};

// The file's bytes, or "error: …".
inline std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return StrCat("error: ", std::string_view(strerrorname_np(errno)));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

using NameSet = std::multiset<std::string>;  // a name that is listed twice is there twice

inline NameSet Names(const std::string& folder) {
  NameSet names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename());
  return names;
}

// 0 if the call succeeds.
template <class Call>
int Errno(const Call& call) {
  return call() >= 0 ? 0 : errno;
}

// What `run` returns, 0..255, in a process of its own.
template <class Run>
int InChild(const Run& run) {
  const pid_t child = fork();
  if (child == 0) _exit(run());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace coffer::volume
