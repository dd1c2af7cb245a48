// Plugins and keepers that are killed and started under readers who never stop. Needs root and
// /dev/fuse.
#include <linux/fuse.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "csi/volume/keeper_testing.h"
#include "csi/volume/mount.h"
#include "csi/volume/secret_mapping.h"
#include "csi/volume/snapshot.h"
#include "keeper/protocol.h"

namespace coffer::volume {
namespace {

TEST_CASE("a plugin is killed twenty times, in swaps and between them, and readers see no error") {
  Play play;
  play.StartPlugin();
  REQUIRE(play.Served());
  for (unsigned seed = 1; seed <= 2; ++seed) play.StartReader(seed);
  std::minstd_rand random(5);
  for (int i = 0; i < 20; ++i) {
    const auto until = Steady::now() + std::chrono::milliseconds(random() % 60);
    std::this_thread::sleep_until(until);
    if (i % 2 == 0) {  // in a swap
      while (!play.shared->swapping && Steady::now() < until + 1s) {
      }
      const auto later = Steady::now() + std::chrono::microseconds(random() % 600);
      while (Steady::now() < later) {
      }
    }
    const pid_t old = play.plugin;
    kill(old, SIGKILL);
    // Mostly it is gone at once. One that was killed while its call waits behind a reader's for a
    // folder's lock goes when the next one has answered the reader.
    for (int wait = 0; i % 4 < 2 && wait < 100 && waitpid(old, nullptr, WNOHANG) == 0; ++wait) {
      std::this_thread::sleep_for(1ms);
    }
    play.StartPlugin();
    waitpid(old, nullptr, 0);
    REQUIRE(play.Served());
  }
  CheckNothingBroke(play, "20 kills of the plugin");

  // What is old goes, and at the end all of it.
  CHECK(play.KeeperHolds("1 volumes"));
  // Not waited for here: its swap may wait behind a reader that only the next one can answer.
  const pid_t last = std::exchange(play.plugin, 0);
  kill(last, SIGKILL);
  play.shared->done = true;
  KeeperClient client(play.socket);
  SystemClock clock;
  VolumeServer server(clock, 2, "/", &client);
  CHECK(server.Adopt(absl::Seconds(60)).value_or(0) == 1);
  waitpid(last, nullptr, 0);
  CHECK(server.List().at(0).volume_id == "a volume");
  for (int i = 0; i < 6000 && Names(play.target).size() > 5; ++i) std::this_thread::sleep_for(10ms);
  CHECK(Names(play.target).size() == 5);  // ..data, its folder, a, b, n
  CHECK(VersionAt(AT_FDCWD, play.target + "/a") > 0);
  CHECK(server.Unmount(play.target).ok());
  CHECK(play.KeeperHolds("0 volumes"));
  CHECK(FindMounts(play.folder.path)->empty());
}

TEST_CASE("keeper and plugin are killed and stopped in any order, not both gone at once") {
  Play play;
  play.StartPlugin();
  REQUIRE(play.Served());
  play.StartReader(3);
  std::minstd_rand random(7);
  for (int i = 0; i < 16; ++i) {
    INFO(i);
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 40));
    if (random() % 2 == 0) {
      Play::Kill(&play.keeper);
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 40));
      play.StartKeeper();
      REQUIRE(play.KeeperHolds("1 volumes; plugin: process"));
    } else {
      const pid_t old = play.plugin;
      kill(old, random() % 2 == 0 ? SIGKILL : SIGTERM);
      play.StartPlugin();
      waitpid(old, nullptr, 0);
      REQUIRE(play.Served());
    }
  }
  CheckNothingBroke(play, "16 deaths of plugin and keeper");
}

// A plugin that hears of each request, and is killed before it answers: with a call of its own.
[[noreturn]] void BeStuck(const Play& play) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  KeeperClient client(play.socket);
  if (!client.Take(absl::Seconds(60)).ok()) _exit(1);
  const UniqueFd fuse(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  const auto mount = MakeMount(fuse.get(), "id");
  if (!mount.ok() || !Attach(*mount, OpenTarget("/", play.target)->get()).ok()) _exit(2);
  const auto memory = SecretMapping::Make(1);
  client.Put(play.target, "", fuse.get(), 1, memory->fd());
  // As the keeper has it.
  fcntl(fuse.get(), F_SETFL, O_NONBLOCK);
  std::thread own;
  alignas(8) char request[64 * 1024];
  for (;;) {
    pollfd wait = {fuse.get(), POLLIN, 0};
    poll(&wait, 1, -1);
    if (read(fuse.get(), request, sizeof request) < 0) continue;
    const auto* header = reinterpret_cast<const fuse_in_header*>(request);
    if (header->opcode == FUSE_INIT) {
      struct {
        fuse_out_header header = {};
        fuse_init_out init = {};
      } answer;
      answer.header = {sizeof answer, 0, header->unique};
      answer.init.major = FUSE_KERNEL_VERSION;
      answer.init.minor = FUSE_KERNEL_MINOR_VERSION;
      if (write(fuse.get(), &answer, sizeof answer) != sizeof answer) _exit(3);
      own = std::thread([&] { (void)access((play.target + "/own").c_str(), F_OK); });
      play.shared->generation = 1;
    } else if (header->opcode != FUSE_INTERRUPT) {
      ++play.shared->reads;
    }
  }
}

TEST_CASE(
    "threads of a plugin that was killed are freed, of a reader with a signal no call fails") {
  Play play;
  REQUIRE(play.KeeperHolds("0 volumes"));
  play.plugin = fork();
  if (play.plugin == 0) BeStuck(play);
  const auto reach = [](const auto& number, long value) {
    for (int i = 0; i < 6000 && number < value; ++i) std::this_thread::sleep_for(10ms);
    return number >= value;
  };
  REQUIRE(reach(play.shared->generation, 1));
  pid_t reader = fork();
  if (reader == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGALRM, [](int) {});  // restarts calls
    const itimerval often = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &often, nullptr);
    if (open((play.target + "/live").c_str(), O_RDONLY) < 0 && errno == EINTR) {
      ++play.shared->errors;
    }
    _exit(0);
  }
  REQUIRE(reach(play.shared->reads, 2));
  kill(play.plugin, SIGKILL);
  for (int i = 0; i < 6000 && waitpid(play.plugin, nullptr, WNOHANG) == 0; ++i) {
    std::this_thread::sleep_for(10ms);
  }
  CHECK(kill(play.plugin, 0) != 0);
  play.plugin = 0;
  std::this_thread::sleep_for(200ms);
  CHECK(play.shared->errors == 0);
  CHECK(waitpid(reader, nullptr, WNOHANG) == 0);
  umount2(play.target.c_str(), MNT_FORCE | MNT_DETACH);
  Play::Kill(&play.keeper);  // and with it the connection
  Play::Kill(&reader);
}

TEST_CASE("the keeper's socket is root's alone") {
  Play play;
  CHECK(play.KeeperHolds("0 volumes; no plugin"));
  struct stat facts {};
  REQUIRE(stat(play.socket.c_str(), &facts) == 0);
  CHECK((facts.st_mode & 07777) == 0600);
  // The mode is no longer in the way, the credentials are.
  REQUIRE(chmod(play.socket.c_str(), 0666) == 0);
  CHECK(InChild([&] {
          if (setresuid(1234, 1234, 1234) != 0) return 1;
          KeeperClient client(play.socket);
          return client.Take(absl::Milliseconds(50)).ok() ? 2 : 0;
        }) == 0);
  CHECK(InChild([&] {
          KeeperClient client(play.socket);
          return client.Take(absl::Milliseconds(50)).ok() ? 0 : 2;
        }) == 0);
}

TEST_CASE("without a keeper volumes are served, and one that comes later holds them") {
  Play play;
  Play::Kill(&play.keeper);
  KeeperClient client(play.socket);
  ManualClock clock;
  VolumeServer server(clock, 2, "/", &client);
  CHECK(server.Adopt(absl::ZeroDuration()).status().code() == absl::StatusCode::kUnavailable);
  REQUIRE(server.Mount({"id", play.target}, Files({{"a", "1"}})).ok());
  CHECK(Read(play.target + "/a") == "1");
  play.StartKeeper();
  CHECK(play.KeeperHolds("1 volumes; plugin: process"));
  CHECK(server.Unmount(play.target).ok());
  CHECK(play.KeeperHolds("0 volumes"));
}

// A keeper that says what the test has it say, to one plugin.
class ScriptedKeeper {
 public:
  explicit ScriptedKeeper(const std::string& path)
      : listener_(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(listener_.get(), 1) == 0);
  }
  void Await(keeper::Kind kind) {
    if (!peer_) peer_.reset(accept(listener_.get(), nullptr, nullptr));
    while (!Hear().empty() && packet_.head.kind != kind) continue;
  }
  // Kind, number and target of what comes next; "": the end.
  std::string Hear() {
    if (keeper::Receive(peer_.get(), &packet_) != 1) return "";
    for (int i = 0; i < packet_.fd_count; ++i) close(packet_.fds[i]);
    return StrCat(packet_.head.kind, " ", packet_.head.number, " ", packet_.target);
  }
  void Say(keeper::Kind kind, std::uint64_t number, const char* target = "") {
    Say(kind, number, target, null_.get());
  }
  // `fd`: of a volume or an image.
  void Say(keeper::Kind kind, std::uint64_t number, const char* target, int fd) {
    const bool with = kind == keeper::kVolume || kind == keeper::kImage;
    keeper::Send(peer_.get(), kind, number, target, "", &fd, with ? 1 : 0);
  }
  void Leave() { peer_.reset(); }
  void Die() {
    listener_.reset();
    peer_.reset();
  }

 private:
  UniqueFd listener_, peer_;
  const UniqueFd null_{open("/dev/null", O_RDONLY | O_CLOEXEC)};
  keeper::Packet packet_;
};

TEST_CASE("of a keeper that dies while it gives, what is whole is taken") {
  Folder folder;
  ScriptedKeeper keeper(folder.path + "/keeper.sock");
  std::thread play([&] {
    keeper.Await(keeper::kHello);
    keeper.Say(keeper::kWelcome, 2);
    keeper.Await(keeper::kTake);
    keeper.Say(keeper::kVolume, 1, "/one");
    keeper.Say(keeper::kImage, 7, "/one");
    keeper.Say(keeper::kVolume, 2, "/two");
    keeper.Say(keeper::kImage, 8, "/two");
    keeper.Die();
  });
  KeeperClient client(folder.path + "/keeper.sock");
  const auto kept = client.Take(absl::Seconds(60));
  play.join();
  REQUIRE(kept.ok());
  REQUIRE(kept->size() == 1);
  CHECK(kept->at(0).target == "/one");
  CHECK(kept->at(0).images.count(7) == 1);
  CHECK_FALSE(client.connected());
}

TEST_CASE("over a new connection a keeper is told what it lacks, and loses nothing by that") {
  Folder folder;
  ScriptedKeeper keeper(folder.path + "/keeper.sock");
  const SecretMapping images[] = {*SecretMapping::Make(1), *SecretMapping::Make(1),
                                  *SecretMapping::Make(1)};
  std::vector<std::string> heard;
  std::thread play([&] {
    keeper.Await(keeper::kHello);
    keeper.Say(keeper::kWelcome, 4);
    keeper.Await(keeper::kTake);
    keeper.Say(keeper::kEnd, 0);
    keeper.Await(keeper::kDrop);
    keeper.Leave();
    keeper.Await(keeper::kHello);
    keeper.Say(keeper::kWelcome, 4);
    keeper.Await(keeper::kTake);
    keeper.Say(keeper::kVolume, 3, "/known");
    keeper.Say(keeper::kImage, 10, "/known", images[0].fd());
    keeper.Say(keeper::kImage, 20, "/known", images[1].fd());
    keeper.Say(keeper::kImage, 5, "/known");
    keeper.Say(keeper::kVolume, 1, "/other");  // another mount's
    keeper.Say(keeper::kImage, 10, "/other");
    keeper.Say(keeper::kEnd, 0);
    for (int i = 0; i < 4; ++i) heard.push_back(keeper.Hear());
  });
  KeeperClient client(folder.path + "/keeper.sock");
  REQUIRE(client.Take(absl::Seconds(60)).ok());
  const UniqueFd fuse(open("/dev/null", O_RDONLY | O_CLOEXEC));
  for (const char* target : {"/end", "/known", "/other"}) {
    client.Put(target, "", fuse.get(), 10, images[0].fd());
    client.Add(target, 20, images[1].fd());
  }
  client.Add("/known", 30, images[2].fd());
  client.Drop("/end");
  play.join();
  CHECK(heard == std::vector<std::string>{
                     StrCat(keeper::kAdd, " 30 /known"), StrCat(keeper::kRemove, " 5 /known"),
                     StrCat(keeper::kPut, " 20 /other"), StrCat(keeper::kAdd, " 10 /other")});
}

TEST_CASE("a keeper that stands still is waited for, and takes nothing amiss") {
  Play play;
  play.StartPlugin();
  REQUIRE(play.Served());
  Play::Kill(&play.plugin);
  REQUIRE(play.KeeperHolds("1 volumes; no plugin"));
  REQUIRE(kill(play.keeper, SIGSTOP) == 0);
  std::thread later([&] {
    std::this_thread::sleep_for(1500ms);
    kill(play.keeper, SIGCONT);
  });
  KeeperClient client(play.socket);
  SystemClock clock;
  VolumeServer server(clock, 2, "/", &client);
  CHECK(server.Adopt(absl::ZeroDuration()).value_or(0) == 1);
  later.join();
  CHECK(play.KeeperHolds("1 volumes; plugin: process"));
  CHECK(server.Unmount(play.target).ok());
}

TEST_CASE("readers don't wait for a keeper that stands still and has its socket full") {
  Play play;
  KeeperClient client(play.socket);
  SystemClock clock;
  VolumeServer server(clock, 2, "/", &client);
  REQUIRE(server.Adopt(absl::Seconds(60)).ok());
  const auto memory = SecretMapping::Make(1);
  REQUIRE(memory.ok());
  const auto content = [](const std::string& plain) {
    std::vector<SnapshotFile> files = Files({{"canary", "1"}, {"once", "2"}, {"plain", plain}});
    files[0].rules.canary = files[1].rules.read_once = true;
    return files;
  };
  bool waits_for_nobody = false;
  for (int turn = 0; turn < 5 && !waits_for_nobody; ++turn) {  // the machine may stand still, too
    const std::string target = StrCat(play.folder.path, "/", turn);
    fs::create_directory(target);
    REQUIRE(server.Mount({"read", target, {}, /*audit=*/true}, content("3")).ok());
    std::vector<std::string> lost;
    for (int i = 0; i < 4; ++i) {
      fs::create_directory(lost.emplace_back(StrCat(target, "-", i)));
      REQUIRE(server.Mount({"lost", lost.back()}, Files({{"a", "1"}})).ok());
    }
    REQUIRE(Eventually([&] { return client.connected(); }));
    REQUIRE(kill(play.keeper, SIGSTOP) == 0);
    std::atomic<int> told = 0;
    std::atomic<bool> done = false;
    std::thread teller([&] {
      for (; !done; ++told) client.PutOther("other", memory->fd());
    });
    int stuck = -1;
    while (std::exchange(stuck, told) != told || stuck == 0) std::this_thread::sleep_for(30ms);
    std::thread swapper([&] { (void)server.Swap(target, content("4")); });
    for (const std::string& other : lost) CHECK(umount2(other.c_str(), MNT_DETACH) == 0);
    std::this_thread::sleep_for(30ms);
    for (const char* const name : {"canary", "once", "plain"}) {
      CHECK_THAT(Read(StrCat(target, "/", name)), !Catch::StartsWith("error"));
    }
    waits_for_nobody = told == stuck;
    done = true;
    teller.join();
    swapper.join();
    kill(play.keeper, SIGCONT);
    for (const std::string& other : lost) CHECK(Eventually([&] { return !server.Serves(other); }));
    CHECK(server.Unmount(target).ok());
  }
  CHECK(waits_for_nobody);
}

TEST_CASE("what a keeper holds that comes after it was given up is taken over, and not cleared") {
  Play play;
  play.StartPlugin();
  REQUIRE(play.Served());
  Play::Kill(&play.plugin);
  REQUIRE(play.KeeperHolds("1 volumes; no plugin"));
  const std::string away = play.socket + ".away";
  fs::rename(play.socket, away);
  KeeperClient client(play.socket);
  SystemClock clock;
  VolumeServer server(clock, 2, "/", &client);
  REQUIRE(absl::IsUnavailable(server.Adopt(absl::ZeroDuration()).status()));
  const std::string other = play.folder.path + "/other";
  fs::create_directory(other);
  REQUIRE(server.Mount({"other", other}, Files({{"a", "1"}})).ok());
  fs::rename(away, play.socket);
  CHECK(play.KeeperHolds("2 volumes; plugin: process"));
  for (int i = 0; i < 6000 && server.List().size() < 2; ++i) std::this_thread::sleep_for(10ms);
  CHECK(server.List().size() == 2);
  CHECK(VersionAt(AT_FDCWD, play.target + "/a") >= 0);
  CHECK(server.Swap(play.target, Files({{"a", "2"}})).ok());
  CHECK(Read(play.target + "/a") == "2");
  CHECK(server.Unmount(play.target).ok());
  CHECK(server.Unmount(other).ok());
  CHECK(play.KeeperHolds("0 volumes"));
}

TEST_CASE("what is no volume, of a keeper that comes late, is there for the next plugin") {
  Play play;
  const UniqueFd memory(memfd_create("document", MFD_CLOEXEC));
  const std::string away = play.socket + ".away";
  {
    KeeperClient first(play.socket);
    REQUIRE(first.Take(absl::Seconds(60)).ok());
    first.PutOther("document:1", memory.get());
  }
  fs::rename(play.socket, away);
  {
    KeeperClient late(play.socket);
    REQUIRE(absl::IsUnavailable(late.Take(absl::ZeroDuration()).status()));
    CHECK(late.TakeOthers("").empty());
    fs::rename(away, play.socket);
    CHECK(Eventually([&] { return late.connected(); }));
  }
  KeeperClient next(play.socket);
  CHECK(next.Take(absl::Seconds(60)).value_or(std::vector<KeeperClient::Kept>(9)).empty());
  CHECK(next.TakeOthers("document:").size() == 1);
}

UniqueFd Connected(const Play& play) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  play.socket.copy(address.sun_path, sizeof address.sun_path - 1);
  UniqueFd peer(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  REQUIRE(connect(peer.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  return peer;
}

TEST_CASE("a keeper in the place of another one welcomes first who serves already") {
  Play play;
  REQUIRE(play.KeeperHolds("0 volumes; no plugin"));
  Play::Kill(&play.keeper);
  play.StartKeeper();
  REQUIRE(play.KeeperHolds("0 volumes; no plugin"));
  const auto start = Steady::now();
  KeeperClient idle(play.socket);
  std::atomic<bool> began = false;
  bool took = false;
  std::thread waits([&] {
    took = idle.Take(absl::Seconds(60), {.begins = [&] { began = true; }}).ok();
  });
  while (!began && Steady::now() - start < 900ms) std::this_thread::sleep_for(1ms);
  const UniqueFd peer = Connected(play);
  keeper::Packet packet;
  REQUIRE(keeper::Send(peer.get(), keeper::kHello, keeper::Versions(3, 3), "",
                       keeper::kServesAlready));
  REQUIRE(keeper::Receive(peer.get(), &packet) == 1);
  // Where this machine was slow, the other one was there before.
  if (Steady::now() - start < 900ms) CHECK(packet.head.kind == keeper::kWelcome);
  shutdown(peer.get(), SHUT_RDWR);
  waits.join();
  CHECK(took);
}

TEST_CASE("an old snapshot whose references were counted twice is wiped when the kernel knows it no more") {
  Play play;
  SystemClock clock;
  {
    KeeperClient client(play.socket);
    VolumeServer server(clock, 2, "/", &client);
    REQUIRE(server.Adopt(absl::Seconds(60)).ok());
    REQUIRE(server.Mount({"id", play.target}, Files({{"a", "old"}, {"b/c", "old"}})).ok());
    CHECK(Read(play.target + "/b/c") == "old");
    REQUIRE(play.KeeperHolds("1 volumes; plugin: process"));
    server.HandOver(absl::Seconds(60));
  }
  {  // as when requests are answered twice
    KeeperClient client(play.socket);
    auto kept = client.Take(absl::Seconds(60));
    REQUIRE(kept.ok());
    auto snapshot = Snapshot::Open(std::move(kept->at(0).images.begin()->second));
    REQUIRE(snapshot.ok());
    for (std::uint32_t i = 0; i < (*snapshot)->node_count(); ++i) (*snapshot)->AddLookup(i);
    (*snapshot)->Spare();
    client.Leave();
  }
  KeeperClient client(play.socket);
  VolumeServer server(clock, 2, "/", &client);
  REQUIRE(server.Adopt(absl::Seconds(60)).value_or(0) == 1);
  UniqueFd open_file(open((play.target + "/a").c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(server.Swap(play.target, Files({{"a", "new"}})).ok());
  for (int i = 0; i < 6000 && Names(play.target).size() > 3; ++i) std::this_thread::sleep_for(10ms);
  REQUIRE(Names(play.target).size() == 3);  // ..data, its folder, a
  char text[8] = {};
  CHECK(pread(open_file.get(), text, sizeof text, 0) == 3);
  CHECK(std::string(text) == "old");
  CHECK(play.KeeperHolds(StrCat(play.target, "\t2 content(s)")));
  open_file.reset();
  CHECK(play.KeeperHolds(StrCat(play.target, "\t1 content(s)")));
  CHECK(server.Unmount(play.target).ok());
}

TEST_CASE("who asks what is kept and doesn't read holds nobody up, and hears all when it reads") {
  constexpr int kVolumes = 2000;  // more than a socket has room for
  Play play;
  KeeperClient client(play.socket);
  REQUIRE(client.Take(absl::Seconds(60)).ok());
  const UniqueFd fuse(open("/dev/null", O_RDONLY | O_CLOEXEC));
  auto memory = SecretMapping::Make(1);
  REQUIRE(memory.ok());
  for (int i = 0; i < kVolumes; ++i) {
    client.Put(StrCat("/", i), "", fuse.get(), 1, memory->fd());
  }
  const UniqueFd slow = Connected(play);
  REQUIRE(keeper::Send(slow.get(), keeper::kLook));
  REQUIRE(play.KeeperHolds(StrCat(kVolumes, " volumes; plugin: process")));
  client.Put("/new", "", fuse.get(), 1, memory->fd());
  client.Drop("/0");
  REQUIRE(play.KeeperHolds("/new"));
  keeper::Packet packet;
  int told = 0;
  while (keeper::Receive(slow.get(), &packet) == 1 && packet.head.kind == keeper::kVolume) ++told;
  CHECK(packet.head.kind == keeper::kEnd);
  CHECK(told == kVolumes - 1);
}

TEST_CASE("many volumes come in a packet, to a plugin of version 3 one message in each") {
  constexpr int kVolumes = 300;
  Play play;
  const UniqueFd fuse(open("/dev/null", O_RDONLY | O_CLOEXEC));
  auto memory = SecretMapping::Make(1);
  REQUIRE(memory.ok());
  {
    KeeperClient client(play.socket);
    REQUIRE(client.Take(absl::Seconds(60)).ok());
    for (int i = 0; i < kVolumes; ++i) client.Put(StrCat("/", i), "facts", fuse.get(), 1, memory->fd());
    client.Add("/7", 2, memory->fd());
    REQUIRE(play.KeeperHolds(StrCat(kVolumes, " volumes; plugin: process")));
  }
  for (const std::uint32_t version : {3, 4}) {
    INFO(version);
    REQUIRE(play.KeeperHolds("no plugin"));
    const UniqueFd peer = Connected(play);
    REQUIRE(keeper::Send(peer.get(), keeper::kHello, keeper::Versions(1, version)));
    keeper::Packet packet;
    REQUIRE(keeper::Receive(peer.get(), &packet) == 1);
    REQUIRE(static_cast<std::uint32_t>(packet.head.number) == version);
    REQUIRE(keeper::Send(peer.get(), keeper::kTake));
    int packets = 0, messages = 0, fds = 0;
    const auto batch = std::make_unique<keeper::Batch>();
    packet.head.kind = keeper::kTake;
    while (packet.head.kind != keeper::kEnd) {
      REQUIRE(keeper::Receive(peer.get(), batch.get()) == 1);
      ++packets;
      for (std::size_t at = 0, size = 0; at < batch->size; at += size, ++messages) {
        size = keeper::ReadMessage(batch->bytes + at, batch->size - at, &packet);
        REQUIRE(size > 0);
      }
      for (int i = 0; i < batch->fd_count; ++i) close(batch->fds[i]);
      fds += batch->fd_count;
    }
    CHECK(fds == 2 * kVolumes + 1);
    CHECK(messages == 2 * kVolumes + 2);
    if (version == 3) CHECK(packets == messages);
    if (version == 4) CHECK(packets < 6);
  }
  KeeperClient client(play.socket);
  const auto kept = client.Take(absl::Seconds(60));
  REQUIRE(kept.ok());
  REQUIRE(kept->size() == kVolumes);
  for (const KeeperClient::Kept& volume : *kept) {
    CHECK(volume.facts == "facts");
    CHECK(volume.images.size() == (volume.target == "/7" ? 2 : 1));
  }
}

TEST_CASE("a keeper without room for more keeps what it has, and answers who connects") {
  Play play;
  Play::Kill(&play.keeper);
  const std::string said = play.folder.path + "/said";
  const UniqueFd log(open(said.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  play.StartKeeper(log.get());
  KeeperClient client(play.socket);
  REQUIRE(client.Take(absl::Seconds(60)).ok());
  const rlimit few = {160, 200};
  REQUIRE(prlimit(play.keeper, RLIMIT_NOFILE, &few, nullptr) == 0);
  const UniqueFd fuse(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const auto memory = SecretMapping::Make(1);
  REQUIRE(memory.ok());
  for (int i = 0; i < 200; ++i) client.Put(StrCat("/", i), "", fuse.get(), 1, memory->fd());
  std::this_thread::sleep_for(300ms);
  CHECK(play.KeeperHolds("volumes; plugin: process"));
  CHECK(play.KeeperHolds("/70\t1 content(s)"));
  for (int i = 0; i < 150; ++i) client.Drop(StrCat("/", i));
  client.Put("/more", "", fuse.get(), 1, memory->fd());
  CHECK(play.KeeperHolds("/more\t1 content(s)"));
  CHECK(play.KeeperHolds("1 volumes; plugin: process"));
  const std::string text = Read(said);
  CHECK(text.find("a plugin is here") == text.rfind("a plugin is here"));
}

TEST_CASE("a keeper whose log nobody reads works on") {
  Play play;
  Play::Kill(&play.keeper);
  int log[2];
  REQUIRE(pipe2(log, O_CLOEXEC | O_NONBLOCK) == 0);
  while (write(log[1], "x", 1) == 1) {
  }
  REQUIRE(fcntl(log[1], F_SETFL, 0) == 0);
  play.StartKeeper(log[1]);
  CHECK(play.KeeperHolds("0 volumes; no plugin"));
  KeeperClient client(play.socket);
  CHECK(client.Take(absl::Seconds(60)).ok());
  CHECK(play.KeeperHolds("0 volumes; plugin: process"));
  close(log[0]);
  close(log[1]);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they take more themselves
TEST_CASE("the keeper needs less than 2 MB") {
  Play play;
  REQUIRE(play.KeeperHolds("0 volumes"));
  std::ifstream status(StrCat("/proc/", play.keeper, "/status"));
  for (std::string line; std::getline(status, line);) {
    if (line.substr(0, 6) != "VmRSS:") continue;
    INFO(line);
    CHECK(std::stoi(line.substr(6)) < 2048);
  }
}
#endif

}  // namespace
}  // namespace coffer::volume
