// Needs root: mounts.
#include "csi/target_path.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace coffer::csi {
namespace {

namespace fs = std::filesystem;

struct Root {
  Root() {
    char name[] = "/tmp/coffer target.XXXXXX";
    path = mkdtemp(name);
    fs::create_directories(path + "/pods/1");
  }
  ~Root() { fs::remove_all(path); }
  std::string path;
};

TEST_CASE("targets are absolute, plain and below the kubelet's folder") {
  CHECK(CheckTarget("/var/lib/kubelet", "/var/lib/kubelet/pods/1/mount").ok());
  CHECK(CheckTarget("/var/lib/kubelet/", "/var/lib/kubelet/x").ok());
  CHECK(CheckTarget("/", "/x").ok());
  const std::string nul("/var/lib/kubelet/a\0b", 20);
  for (const std::string& target :
       {std::string(), std::string("var/lib/kubelet/x"), std::string("/var/lib/kubelet"),
        std::string("/var/lib/kubelet/"), std::string("/var/lib/kubelets/x"), std::string("/etc/x"),
        std::string("/var/lib/kubelet/../x"), std::string("/var/lib/kubelet/a/../b"),
        std::string("/var/lib/kubelet/./b"), std::string("/var/lib/kubelet//b"),
        std::string("/var/lib/kubelet/b/"), nul, "/var/lib/kubelet/" + std::string(256, 'a'),
        "/var/lib/kubelet" + std::string(5000, '/')}) {
    INFO(target.substr(0, 60));
    CHECK(absl::IsInvalidArgument(CheckTarget("/var/lib/kubelet", target)));
  }
}

TEST_CASE("the folder is made once and removed, the kubelet's folder is not") {
  Root root;
  const std::string target = root.path + "/pods/1/mount";
  CHECK(*MakeTarget(root.path, target));
  CHECK(fs::is_directory(target));
  CHECK_FALSE(*MakeTarget(root.path, target));
  CHECK(RemoveTarget(root.path, target).ok());
  CHECK_FALSE(fs::exists(target));
  CHECK(fs::exists(root.path + "/pods/1"));
  CHECK(RemoveTarget(root.path, target).ok());
  CHECK(RemoveTarget(root.path, root.path + "/pods/none/mount").ok());
  CHECK(absl::IsNotFound(MakeTarget(root.path, root.path + "/pods/none/mount").status()));
}

TEST_CASE("no link is followed below the kubelet's folder, whatever it points to") {
  Root root;
  Root outside;
  fs::create_directory_symlink(outside.path, root.path + "/pods/out");
  fs::create_directory_symlink(root.path + "/pods/1", root.path + "/pods/in");
  fs::create_directory_symlink(outside.path, root.path + "/pods/1/mount");
  for (const char* target : {"/pods/out/mount", "/pods/in/mount", "/pods/1/mount"}) {
    INFO(target);
    CHECK(absl::IsInvalidArgument(MakeTarget(root.path, root.path + target).status()));
    CHECK_FALSE(RemoveTarget(root.path, root.path + target).ok());
  }
  CHECK(fs::is_empty(fs::path(outside.path) / "pods/1"));
  // The kubelet's folder itself may be a link.
  const std::string link = outside.path + "/kubelet";
  fs::create_directory_symlink(root.path, link);
  CHECK(*MakeTarget(link, link + "/pods/x"));
  CHECK(fs::exists(root.path + "/pods/x"));
}

TEST_CASE("a file or a full folder at the target is left alone") {
  Root root;
  const std::string target = root.path + "/pods/1/mount";
  std::ofstream(target) << "x";
  CHECK(absl::IsFailedPrecondition(MakeTarget(root.path, target).status()));
  CHECK(absl::IsFailedPrecondition(RemoveTarget(root.path, target)));
  CHECK(fs::exists(target));
  fs::remove(target);
  fs::create_directory(target);
  std::ofstream(target + "/file") << "x";
  CHECK(absl::IsFailedPrecondition(RemoveTarget(root.path, target)));
  CHECK(fs::exists(target + "/file"));
}

TEST_CASE("what the driver before Coffer has mounted there goes, layer by layer") {
  Root root;
  const std::string target = root.path + "/pods/1/mount";
  fs::create_directory(target);
  for (int i = 0; i < 2; ++i) {
    REQUIRE(mount("tmpfs", target.c_str(), "tmpfs", 0, nullptr) == 0);
    std::ofstream(target + "/old") << "x";
  }
  CHECK_FALSE(*MakeTarget(root.path, target));
  CHECK(fs::is_empty(target));
  REQUIRE(mount("tmpfs", target.c_str(), "tmpfs", 0, nullptr) == 0);
  CHECK(RemoveTarget(root.path, target).ok());
  CHECK_FALSE(fs::exists(target));
}

}  // namespace
}  // namespace coffer::csi
