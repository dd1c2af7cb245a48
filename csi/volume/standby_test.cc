// Plugins that stand by while another one serves. Needs root and /dev/fuse.
#include "csi/volume/keeper_testing.h"

namespace coffer::volume {
namespace {

// A plugin that serves and another one that stands by, under readers.
struct Pair : Play {
  Pair() {
    StartPlugin();
    REQUIRE(Served());
    active = plugin;
    StartStandby();
    for (unsigned seed = 1; seed <= 2; ++seed) StartReader(seed);
  }
  ~Pair() {
    Kill(&standby);
    plugin = active;
  }
  void StartStandby() {
    StartPlugin();
    standby = plugin;
    plugin = active;
    REQUIRE(KeeperHolds("; 1 stand(s) by"));
  }
  // The one that serves ends by `signal`; the other one takes over.
  void End(int signal) {
    const pid_t old = active;
    kill(old, signal);
    REQUIRE(Served());
    waitpid(old, nullptr, 0);
    plugin = active = standby;
    StartStandby();
  }

  pid_t active = 0, standby = 0;
};

TEST_CASE("one that stands by takes over from one that is killed or stopped, and readers see no error") {
  Pair pair;
  std::minstd_rand random(11);
  for (int i = 0; i < 16; ++i) {
    INFO(i);
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 60));
    if (i % 3 == 0) {  // in a swap
      const auto until = Steady::now() + 1s;
      while (!pair.shared->swapping && Steady::now() < until) {
      }
    }
    pair.End(i % 2 == 0 ? SIGKILL : SIGTERM);
  }
  CheckNothingBroke(pair, "16 ends of the plugin with one that stands by");
}

TEST_CASE("a keeper that is killed comes back to the plugin that serves, whoever is there first") {
  Pair pair;
  std::minstd_rand random(13);
  for (int i = 0; i < 8; ++i) {
    INFO(i);
    Play::Kill(&pair.keeper);
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 60));
    pair.StartKeeper();
    REQUIRE(pair.KeeperHolds(StrCat("1 volumes; plugin: process ", pair.active, "; 1 stand(s) by")));
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 20));
    if (i % 4 == 3) pair.End(SIGKILL);
  }
  CheckNothingBroke(pair, "8 deaths of the keeper with a plugin that stands by");
}

TEST_CASE("who stands by may be killed, and be many; who came last takes over") {
  Pair pair;
  Play::Kill(&pair.standby);
  REQUIRE(pair.KeeperHolds("; 0 stand(s) by"));
  pair.StartStandby();
  pid_t older = pair.standby;
  pair.StartPlugin();
  pair.standby = pair.plugin;
  pair.plugin = pair.active;
  REQUIRE(pair.KeeperHolds("; 2 stand(s) by"));
  Play::Kill(&pair.active);
  REQUIRE(pair.Served());
  CHECK(pair.KeeperHolds(StrCat("1 volumes; plugin: process ", pair.standby, "; 1 stand(s) by")));
  pair.active = std::exchange(pair.standby, older);
  CheckNothingBroke(pair, "one of two that stand by");
}

TEST_CASE("one that stands by without a stop in sight is told to stop") {
  Pair pair;
  KeeperClient client(pair.socket);
  const UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  SystemClock clock;
  VolumeServer server(clock, 1, "/", &client);
  bool began = false;
  std::thread later([&] {
    std::this_thread::sleep_for(50ms);
    eventfd_write(stop.get(), 1);
  });
  const auto adopted = server.Adopt(
      absl::Seconds(60), {.stop_fd = stop.get(), .begins = [&] { began = true; }});
  later.join();
  CHECK(absl::IsCancelled(adopted.status()));
  CHECK(began);
}

TEST_CASE("a server that has handed over changes nothing more") {
  Play play;
  KeeperClient client(play.socket);
  SystemClock clock;
  VolumeServer server(clock, 2, "/", &client);
  REQUIRE(server.Adopt(absl::Seconds(60)).ok());
  REQUIRE(server.Mount({"id", play.target}, Files({{"a", "1"}})).ok());
  REQUIRE(play.KeeperHolds("1 volumes; plugin: process"));
  server.HandOver(absl::Seconds(60));
  CHECK(absl::IsUnavailable(server.Swap(play.target, Files({{"a", "2"}})).status()));
  CHECK(absl::IsUnavailable(server.Unmount(play.target)));
  bool made = false;
  CHECK(absl::IsUnavailable(server.Mount({"id", play.target}, Files({{"a", "2"}}), [&] {
    made = true;
    return absl::OkStatus();
  })));
  CHECK_FALSE(made);
  CHECK(absl::IsUnavailable(server.Stays()));
  CHECK(server.List().empty());
  KeeperClient next_client(play.socket);
  VolumeServer next(clock, 2, "/", &next_client);
  CHECK(next.Adopt(absl::Seconds(60)).value_or(0) == 1);
  CHECK(Read(play.target + "/a") == "1");
  CHECK(next.Unmount(play.target).ok());
}

}  // namespace
}  // namespace coffer::volume
