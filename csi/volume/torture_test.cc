// Everything at once, at random from a fixed seed. Needs root and /dev/fuse.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "csi/volume/volume_testing.h"

namespace coffer::volume {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

TEST_CASE("volumes mounted, swapped, read, listed and unmounted by many threads at random") {
  constexpr int kTargets = 4;
  Folder folder;
  std::vector<std::string> targets;
  for (int i = 0; i < kTargets; ++i) {
    targets.push_back(StrCat(folder.path, "/t", i));
    fs::create_directory(targets.back());
  }
  SystemClock clock;
  std::atomic<bool> done = false;
  std::atomic<int> mounts = 0, swaps = 0, reads = 0, unexpected = 0;
  std::mutex message_mutex;
  std::string message;
  const auto complain = [&](std::string what) {
    ++unexpected;
    std::lock_guard lock(message_mutex);
    message = std::move(what);
  };
  {
    VolumeServer server(clock);
    std::vector<std::thread> threads;
    for (unsigned seed = 0; seed < 6; ++seed) {
      threads.emplace_back([&, seed] {
        std::minstd_rand random(seed + 1);
        while (!done) {
          const std::string& target = targets[random() % kTargets];
          const std::string version = StrCat("version ", random() % 1000);
          // Every file of a snapshot holds the same, so that a mixture shows.
          const Contents contents = {{"a", version}, {StrCat("name", random() % 3), version}};
          switch (random() % 6) {
            case 0: {
              const absl::Status status = server.Mount({"id", target}, Files(contents));
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
              const absl::Status status = server.Swap(target, Files(contents)).status();
              if (status.ok()) {
                ++swaps;
              } else if (server.Serves(target) && status.code() != absl::StatusCode::kNotFound &&
                         status.code() != absl::StatusCode::kFailedPrecondition) {
                complain(StrCat("swap: ", Message(status)));
              }
              break;
            }
            case 4: {
              // Errors are right here, while it is unmounted; other content is not.
              const std::string text = Read(target + "/a");
              reads += text.compare(0, 8, "version ") == 0;
              if (text.compare(0, 8, "version ") != 0 && text.compare(0, 7, "error: ") != 0 &&
                  !text.empty()) {
                complain(StrCat("read: ", text));
              }
              break;
            }
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
    for (const std::string& target : targets) CHECK(server.Unmount(target).ok());
    CHECK(FindMounts(folder.path)->empty());
    CHECK(server.List().empty());
    for (const std::string& target : targets) CHECK(fs::is_empty(target));

    // A server that ends with swaps behind it leaves its mounts, dead.
    REQUIRE(server.Mount({"id", targets[0]}, Files({{"a", "1"}})).ok());
    REQUIRE(server.Swap(targets[0], Files({{"a", "2"}})).ok());
  }
  CHECK(FindMounts(folder.path)->size() == 1);
  CHECK(Errno([&] { return open((targets[0] + "/b").c_str(), O_RDONLY); }) == ENOTCONN);
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
