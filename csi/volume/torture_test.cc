// Everything at once, at random from a fixed seed. Needs root and /dev/fuse.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "csi/volume/open_listener.h"
#include "csi/volume/volume_testing.h"

namespace coffer::volume {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

class Counter : public OpenListener {
 public:
  void Opened(const OpenEvent& event) override { ++(event.error == 0 ? opened : refused); }

  std::atomic<int> opened = 0, refused = 0;
};

// Every file of a snapshot holds the same, so that a mixture shows. With rules: some can be opened
// by root, some by nobody here, some not for long.
std::vector<SnapshotFile> FilesOf(const std::string& version, unsigned name, bool ruled) {
  std::vector<SnapshotFile> files = Files({{"a", version}, {StrCat("name", name), version}});
  if (!ruled) return files;
  const std::pair<const char*, FileRules> rules[] = {
      {"for root", {.allow_uids = {0}}},
      {"for others", {.allow_uids = {1234}}},
      {"for that", {.allow_executables = {"/nowhere"}}},
      {"once", {.read_once = true}},
      {"brief", {.available_for = absl::Milliseconds(20)}},
      {"bait", {.canary = true}},
  };
  for (const auto& [path, rule] : rules) {
    files.push_back({path, SecretBytes::CopyOf(version), 0644, 0, 0, rule});
  }
  return files;
}

constexpr const char* kNames[] = {"a",    "for root", "for others", "for that",
                                  "once", "brief",    "bait"};

TEST_CASE("volumes mounted, swapped, read, listed and unmounted by many threads at random") {
  const bool on_fuse = GENERATE(true, false);
  INFO(on_fuse);
  constexpr int kTargets = 4;  // on FUSE every other one is audited, and has rules
  Folder folder;
  std::vector<std::string> targets;
  for (int i = 0; i < kTargets; ++i) {
    targets.push_back(StrCat(folder.path, "/t", i));
    fs::create_directory(targets.back());
  }
  SystemClock clock;
  Counter told;
  std::atomic<bool> done = false;
  std::atomic<int> versions = 0, mounts = 0, swaps = 0, reads = 0, opened = 0, refused = 0;
  std::atomic<int> unexpected = 0;
  std::mutex mutex;
  std::string message;
  std::set<std::string> read_once;
  const auto complain = [&](std::string what) {
    ++unexpected;
    std::lock_guard lock(mutex);
    message = std::move(what);
  };
  // Errors are right here, while it is unmounted, and on tmpfs what is wiped under who has it open;
  // other content is not.
  const auto read = [&](const std::string& target, bool ruled, const std::string& name) {
    const std::string text = Read(StrCat(target, "/", name));
    if (text.compare(0, 8, "version ") != 0) {
      const bool wiped = !on_fuse && text.find('\0') != text.npos;
      if (text.compare(0, 7, "error: ") != 0 && !text.empty() && !wiped) {
        complain(StrCat("read: ", text));
      }
      if (text == "error: EACCES") {
        ++refused;
        if (name != "for others" && name != "for that") complain(StrCat(name, " is refused"));
      }
      return;
    }
    ++reads;
    opened += ruled;
    if (name == "for others" || name == "for that") complain(StrCat(name, " was read"));
    std::lock_guard lock(mutex);
    if (name == "once" && !read_once.insert(text).second) {
      ++unexpected;
      message = StrCat(text, " was read twice");
    }
  };
  {
    VolumeServer server(clock, 2, folder.path, nullptr, &told, {.fuse = on_fuse});
    std::vector<std::thread> threads;
    for (unsigned seed = 0; seed < 6; ++seed) {
      threads.emplace_back([&, seed] {
        std::minstd_rand random(seed + 1);
        while (!done) {
          const unsigned i = random() % kTargets;
          const std::string& target = targets[i];
          const bool ruled = on_fuse && i % 2 == 1;
          const std::string version = StrCat("version ", ++versions);
          switch (random() % 8) {
            case 0: {
              const absl::Status status = server.Mount({"id", target, {}, /*audit=*/ruled},
                                                       FilesOf(version, random() % 3, ruled));
              if (status.ok()) {
                ++mounts;
              } else if (status.code() != absl::StatusCode::kAlreadyExists) {
                complain(StrCat("mount: ", Message(status)));
              }
              break;
            }
            case 1:
              if (const absl::Status status = server.Unmount(target); !status.ok()) {
                complain(StrCat("unmount: ", Message(status)));
              }
              break;
            case 2:
            case 3: {
              const absl::Status status =
                  server.Swap(target, FilesOf(version, random() % 3, ruled)).status();
              if (status.ok()) {
                ++swaps;
              } else if (server.Serves(target) && status.code() != absl::StatusCode::kNotFound &&
                         status.code() != absl::StatusCode::kFailedPrecondition) {
                complain(StrCat("swap: ", Message(status)));
              }
              break;
            }
            case 4:
            case 5:
            case 6:
              read(target, ruled, kNames[ruled ? random() % std::size(kNames) : 0]);
              break;
            default:
              if (server.List().size() > kTargets) complain("too many volumes");
              if (!FindMounts(folder.path).ok()) complain("FindMounts failed");
          }
        }
      });
    }
    std::this_thread::sleep_for(3s);
    done = true;
    for (std::thread& thread : threads) thread.join();
    INFO(message);
    CHECK(unexpected == 0);
    CHECK(mounts > 20);
    CHECK(swaps > 20);
    CHECK(reads > 20);
    CHECK((opened > 0) == on_fuse);
    CHECK((refused > 0) == on_fuse);
    CHECK(read_once.empty() != on_fuse);
    for (const std::string& target : targets) CHECK(server.Unmount(target).ok());
    CHECK(FindMounts(folder.path)->empty());
    CHECK(server.List().empty());
    for (const std::string& target : targets) CHECK(fs::is_empty(target));

    // A server that ends with swaps behind it leaves its mounts; those on FUSE are dead.
    REQUIRE(server.Mount({"id", targets[0]}, Files({{"a", "1"}})).ok());
    REQUIRE(server.Swap(targets[0], Files({{"a", "2"}})).ok());
  }
  CHECK(told.opened >= opened);
  CHECK(told.refused >= refused);
  CHECK(FindMounts(folder.path)->size() == 1);
  const int left = on_fuse ? ENOTCONN : ENOENT;
  CHECK(Errno([&] { return open((targets[0] + "/b").c_str(), O_RDONLY); }) == left);
}

TEST_CASE("without the right to mount, an error says so and nothing is left") {
  Folder folder;
  CHECK(InChild([&] {
          if (setresuid(1234, 1234, 1234) != 0) return 1;
          ManualClock clock;
          VolumeServer server(clock);
          fs::create_directory("/tmp/coffer-unprivileged");
          const absl::Status status =
              server.Mount({"id", "/tmp/coffer-unprivileged"}, Files({{"a", "top secret"}}));
          fs::remove("/tmp/coffer-unprivileged");
          // Unavailable: the device is root's alone.
          if (!absl::IsPermissionDenied(status) && !absl::IsUnavailable(status)) return 2;
          if (Message(status).find("secret") != std::string_view::npos) return 3;
          return server.Serves("/tmp/coffer-unprivileged") ? 4 : 0;
        }) == 0);
}

}  // namespace
}  // namespace coffer::volume
