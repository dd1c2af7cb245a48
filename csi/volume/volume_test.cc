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
