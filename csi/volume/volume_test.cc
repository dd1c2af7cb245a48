// Needs root and /dev/fuse.
#include "csi/volume/volume.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "csi/volume/volume_testing.h"

namespace coffer::volume {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

TEST_CASE("files read as published, through links laid out as the kubelet's") {
  Mounted volume(Contents{
      {"username", "static-user"}, {"empty", ""}, {"tls/server/key.pem", "PEM"}, {"tls/ca", "CA"}});
  CHECK(Read(volume.target + "/username") == "static-user");
  CHECK(Read(volume.target + "/empty") == "");
  CHECK(Read(volume.target + "/tls/server/key.pem") == "PEM");
  CHECK(Read(volume.target + "/tls/ca") == "CA");
  CHECK(fs::read_symlink(volume.target + "/username") == "..data/username");
  CHECK(fs::read_symlink(volume.target + "/tls") == "..data/tls");
  const std::string folder = fs::read_symlink(volume.target + "/..data");
  CHECK(folder.substr(0, 22) == "..2025_06_03_11_40_51.");
  CHECK(Names(volume.target) == NameSet{folder, "..data", "username", "empty", "tls"});
  CHECK(Names(volume.target + "/..data") == NameSet{"username", "empty", "tls"});
  CHECK(Names(volume.target + "/tls") == NameSet{"server", "ca"});
  CHECK(Errno([&] { return open((volume.target + "/nothing").c_str(), O_RDONLY); }) == ENOENT);
  CHECK(volume.server.Serves(volume.target));
  REQUIRE(volume.server.List().size() == 1);
  CHECK(volume.server.List()[0].volume_id == "csi test\\1");
}

TEST_CASE("a volume without files is an empty one") {
  Mounted volume(Contents{});
  CHECK(Names(volume.target + "/..data").empty());
  REQUIRE(volume.Swap({{"first", "1"}}).ok());
  CHECK(Read(volume.target + "/first") == "1");
}

TEST_CASE("wrong paths are refused and nothing is mounted") {
  const std::vector<std::vector<Content>> cases = {{{"", "x"}},
                                                   {{"/abs", "x"}},
                                                   {{"a/", "x"}},
                                                   {{"a//b", "x"}},
                                                   {{".", "x"}},
                                                   {{"..", "x"}},
                                                   {{"a/../b", "x"}},
                                                   {{"..data", "x"}},
                                                   {{"a/./b", "x"}},
                                                   {{"a", "x"}, {"a", "y"}},
                                                   {{"a", "x"}, {"a/b", "y"}},
                                                   {{std::string(256, 'n'), "x"}},
                                                   {{std::string("a\0b", 3), "x"}}};
  for (const auto& files : cases) {
    INFO(files[0].path);
    Folder folder;
    ManualClock clock;
    VolumeServer server(clock);
    CHECK(server.Mount({"id", folder.path}, Files(files)).code() ==
          absl::StatusCode::kInvalidArgument);
    CHECK_FALSE(server.Serves(folder.path));
    CHECK(FindMounts(folder.path)->empty());
  }
}

TEST_CASE("targets must be folders below the root with no link on the way") {
  Folder folder;
  fs::create_directories(folder.path + "/root/real");
  fs::create_directories(folder.path + "/outside");
  fs::create_directory_symlink("real", folder.path + "/root/link");
  fs::create_directory_symlink("root", folder.path + "/rootlink");
  std::ofstream(folder.path + "/root/file") << "x";
  ManualClock clock;
  VolumeServer server(clock, 1, folder.path + "/rootlink");
  const std::pair<std::string, absl::StatusCode> cases[] = {
      {"/rootlink/link", absl::StatusCode::kInvalidArgument},
      {"/rootlink/../outside", absl::StatusCode::kInvalidArgument},
      {"/outside", absl::StatusCode::kInvalidArgument},
      {"/rootlink/file", absl::StatusCode::kInvalidArgument},
      {"/rootlink", absl::StatusCode::kInvalidArgument},
      {"/rootlink/none", absl::StatusCode::kNotFound},
      {"/rootlink/real", absl::StatusCode::kOk}};
  for (const auto& [path, code] : cases) {
    INFO(path);
    CHECK(server.Mount({"id", folder.path + path}, Files({{"a", "1"}})).code() == code);
  }
  CHECK(Read(folder.path + "/root/real/a") == "1");
  CHECK(server.Mount({"id", folder.path + "/rootlink/real/"}, {}).code() ==
        absl::StatusCode::kAlreadyExists);
  const auto found = FindMounts(folder.path + "/rootlink");
  REQUIRE(found->size() == 1);
  CHECK(found->front().target == folder.path + "/rootlink/real");
  CHECK(server.Unmount(folder.path + "/rootlink/real").ok());
}

TEST_CASE("the kernel honours modes and owners") {
  Mounted volume(Contents{{"all", "1", 0644},
                          {"owner", "2", 0400, 1234, 0},
                          {"group", "3", 0440, 0, 4321},
                          {"root", "4", 0400}});
  const auto reads = [&](uid_t uid, gid_t gid) {
    return InChild([&] {
      if (setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) return 255;
      int readable = 0, bit = 1;
      for (const char* name : {"all", "owner", "group", "root"}) {
        if (open((volume.target + "/" + name).c_str(), O_RDONLY) >= 0) readable |= bit;
        bit <<= 1;
      }
      return readable;
    });
  };
  CHECK(reads(1234, 1234) == 0b0011);
  CHECK(reads(9999, 4321) == 0b0101);
  CHECK(reads(9999, 9999) == 0b0001);
  struct stat info {};
  REQUIRE(stat((volume.target + "/owner").c_str(), &info) == 0);
  CHECK(info.st_mode == (S_IFREG | 0400));
  CHECK(info.st_uid == 1234);
  CHECK(info.st_size == 1);
  CHECK(info.st_mtime == 1748950851);
}

TEST_CASE("every change is refused with EROFS, also through a mount that was made writable") {
  Mounted volume(Contents{{"file", "content"}, {"dir/file", "x"}});
  const std::string t = volume.target;
  const auto changes = std::vector<std::pair<const char*, std::function<int()>>>{
      {"create", [&] { return open((t + "/new").c_str(), O_CREAT | O_WRONLY, 0600); }},
      {"create deep", [&] { return open((t + "/dir/new").c_str(), O_CREAT | O_WRONLY, 0600); }},
      {"temporary", [&] { return open(t.c_str(), O_TMPFILE | O_WRONLY, 0600); }},
      {"truncate", [&] { return truncate((t + "/file").c_str(), 1); }},
      {"open with O_TRUNC", [&] { return open((t + "/file").c_str(), O_WRONLY | O_TRUNC); }},
      {"chmod", [&] { return chmod((t + "/file").c_str(), 0777); }},
      {"chmod root", [&] { return chmod(t.c_str(), 0777); }},
      {"chown", [&] { return chown((t + "/file").c_str(), 1, 1); }},
      {"utimes", [&] { return utimensat(AT_FDCWD, (t + "/file").c_str(), nullptr, 0); }},
      {"setxattr", [&] { return setxattr((t + "/file").c_str(), "user.a", "b", 1, 0); }},
      {"removexattr", [&] { return removexattr((t + "/file").c_str(), "user.a"); }},
      {"mkdir", [&] { return mkdir((t + "/d").c_str(), 0755); }},
      {"rmdir", [&] { return rmdir((t + "/..data/dir").c_str()); }},
      {"unlink", [&] { return unlink((t + "/file").c_str()); }},
      {"unlink data", [&] { return unlink((t + "/..data").c_str()); }},
      {"unlink deep", [&] { return unlink((t + "/dir/file").c_str()); }},
      {"rename", [&] { return rename((t + "/file").c_str(), (t + "/other").c_str()); }},
      {"exchange",
       [&] {
         return renameat2(AT_FDCWD, (t + "/file").c_str(), AT_FDCWD, (t + "/dir").c_str(),
                          RENAME_EXCHANGE);
       }},
      {"rename data", [&] { return rename((t + "/..data").c_str(), (t + "/x").c_str()); }},
      {"link", [&] { return link((t + "/..data/file").c_str(), (t + "/hard").c_str()); }},
      {"symlink", [&] { return symlink("file", (t + "/soft").c_str()); }},
      {"symlink data", [&] { return symlink("..evil", (t + "/..data_tmp").c_str()); }},
      {"mknod", [&] { return mknod((t + "/node").c_str(), S_IFREG | 0600, 0); }}};
  for (const bool writable : {false, true}) {
    if (writable) REQUIRE(mount(nullptr, t.c_str(), nullptr, MS_REMOUNT | MS_BIND, nullptr) == 0);
    for (const auto& [name, change] : changes) {
      INFO(name << (writable ? ", writable mount" : ""));
      CHECK(Errno(change) == EROFS);
    }
  }
  const UniqueFd file(open((t + "/file").c_str(), O_RDWR));
  REQUIRE(file);
  CHECK(Errno([&] { return static_cast<int>(pwrite(file.get(), "X", 1, 0)); }) == EROFS);
  CHECK(Errno([&] { return ftruncate(file.get(), 0); }) == EROFS);
  CHECK(Errno([&] {
          return posix_fallocate(file.get(), 0, 100) == EROFS ? (errno = EROFS, -1) : 0;
        }) == EROFS);
  CHECK(Read(t + "/file") == "content");
}

TEST_CASE("the calls that a reader makes") {
  const std::string text = "0123456789";
  Mounted volume(Contents{{"file", text}});
  const std::string path = volume.target + "/file";
  const UniqueFd file(open(path.c_str(), O_RDONLY));
  REQUIRE(file);
  char buffer[32];
  CHECK(pread(file.get(), buffer, 4, 3) == 4);
  CHECK(std::string(buffer, 4) == "3456");
  CHECK(pread(file.get(), buffer, 32, 8) == 2);
  CHECK(pread(file.get(), buffer, 32, 10) == 0);
  CHECK(lseek(file.get(), -2, SEEK_END) == 8);
  CHECK(lseek(file.get(), 0, SEEK_DATA) == 0);
  CHECK(lseek(file.get(), 0, SEEK_HOLE) == 10);
  CHECK(access(path.c_str(), R_OK) == 0);
  CHECK(fsync(file.get()) == 0);
  CHECK(Errno([&] { return static_cast<int>(getxattr(path.c_str(), "user.a", buffer, 4)); }) ==
        EOPNOTSUPP);
  CHECK(Errno([&] { return static_cast<int>(listxattr(path.c_str(), buffer, 4)); }) == EOPNOTSUPP);
  struct statfs info {};
  CHECK(statfs(path.c_str(), &info) == 0);
  CHECK(info.f_namelen == 255);
  CHECK(info.f_bavail == 0);
  CHECK((info.f_flags & MS_RDONLY) != 0);
  const void* mapped = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file.get(), 0);
  REQUIRE(mapped != MAP_FAILED);
  CHECK(std::memcmp(mapped, text.data(), text.size()) == 0);
  munmap(const_cast<void*>(mapped), 4096);
  CHECK(Errno([&] { return static_cast<int>(write(file.get(), "x", 1)); }) == EBADF);
}

TEST_CASE("sizes: 10,000 files, names of 255 bytes, 1 MiB, deep folders") {
  std::vector<Content> files;
  for (int i = 0; i < 10'000; ++i) files.push_back({StrCat("file-", i), StrCat("content ", i)});
  std::string big(1 << 20, '\0');
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 2654435761u >> 13);
  files.push_back({"big", big});
  std::string umlauts;
  while (umlauts.size() < 254) umlauts += "ü";
  umlauts += "n";
  files.push_back({umlauts, "long name"});
  std::string deep = "d";
  for (int i = 0; i < 60; ++i) deep += StrCat("/level", i);
  files.push_back({deep, "deep"});

  Mounted volume(files);
  CHECK(Names(volume.target).size() == files.size() + 2);
  CHECK(Names(volume.target + "/..data").size() == files.size());
  int wrong = 0;
  for (int i = 0; i < 10'000; ++i)
    wrong += Read(StrCat(volume.target, "/file-", i)) != StrCat("content ", i);
  CHECK(wrong == 0);
  CHECK(Read(volume.target + "/big") == big);
  CHECK(Read(volume.target + "/" + umlauts) == "long name");
  CHECK(Read(volume.target + "/" + deep) == "deep");
  files.back().content = "deeper";
  REQUIRE(volume.Swap(files).ok());
  CHECK(Read(volume.target + "/" + deep) == "deeper");
  CHECK(Read(volume.target + "/big") == big);
}

TEST_CASE("300 volumes at once, made and unmade by several threads") {
  Folder folder;
  ManualClock clock;
  VolumeServer server(clock);
  constexpr int kEach = 100;
  const auto target = [&](int t, int i) { return StrCat(folder.path, "/v", t, "-", i); };
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        fs::create_directory(target(t, i));
        wrong +=
            !server
                 .Mount({StrCat("id", t, "-", i), target(t, i)}, Files({{"a", StrCat(t, ".", i)}}))
                 .ok();
      }
      for (int i = 0; i < kEach; ++i) wrong += Read(target(t, i) + "/a") != StrCat(t, ".", i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(server.List().size() == 300);
  CHECK(FindMounts(folder.path)->size() == 300);
  for (const VolumeInfo& info : server.List()) CHECK(server.Unmount(info.target).ok());
  CHECK(server.List().empty());
  CHECK(FindMounts(folder.path)->empty());
}

}  // namespace
}  // namespace coffer::volume
