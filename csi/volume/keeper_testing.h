// Play: a keeper, plugins and readers as processes of their own, for tests that kill them. Needs
// root and /dev/fuse.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdio>
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "common/log.h"
#include "csi/volume/keeper_client.h"
#include "csi/volume/volume_testing.h"

namespace coffer::volume {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using Steady = std::chrono::steady_clock;

// What all processes of a test see.
struct Shared {
  std::atomic<int> generation = 0;  // of the plugin that serves
  std::atomic<int> version = 0;
  std::atomic<bool> swapping = false, done = false;
  std::atomic<long> reads = 0, swaps = 0, errors = 0, longest_ns = 0;
  char message[256] = {};

  void Complain(const std::string& what) {
    if (errors++ == 0) what.copy(message, sizeof message - 1);
  }
};

// Every file tells the version in all of its 12,000 bytes.
inline Contents ContentsOf(int version) {
  std::string text;
  for (int i = 0; i < 1500; ++i) text += StrCat(10'000'000 + version);
  return {{"a", text}, {"b/c", text}, {StrCat("n", version % 3), text}};
}

// The version that the whole file tells, -1 with errno where it can't be read, -2 for a mixture.
inline int VersionOf(int fd) {
  std::string text(13000, 0);
  const ssize_t size = pread(fd, text.data(), text.size(), 0);
  if (size < 0) return -1;
  if (size != 12000) return -2;
  for (std::size_t i = 8; i < 12000; i += 8) {
    if (text.compare(i, 8, text, 0, 8) != 0) return -2;
  }
  return std::stoi(text.substr(0, 8)) - 10'000'000;
}

inline int VersionAt(int folder, const std::string& path) {
  const UniqueFd file(openat(folder, path.c_str(), O_RDONLY | O_CLOEXEC));
  return file ? VersionOf(file.get()) : -1;
}

class Play {
 public:
  // `audit`: of the volume.
  explicit Play(bool audit = false) : audit_(audit) {
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    fs::create_directory(target);
    shared = new (mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                       -1, 0)) Shared;
    StartKeeper();
  }
  ~Play() {
    shared->done = true;
    for (int i = 0; i < 200 && !readers_.empty(); ++i) {
      std::erase_if(readers_, [](pid_t reader) { return waitpid(reader, nullptr, WNOHANG) > 0; });
      std::this_thread::sleep_for(10ms);
    }
    CHECK(readers_.empty());
    // After a failure nobody may be there to answer: then what waits ends with the file system.
    if (keeper > 0) kill(keeper, SIGKILL);
    if (plugin > 0) kill(plugin, SIGKILL);
    umount2(target.c_str(), MNT_FORCE | MNT_DETACH);
    for (pid_t& reader : readers_) Kill(&reader);
    Kill(&plugin);
    Kill(&keeper);
    munmap(shared, sizeof(Shared));
  }

  // `log`: what it writes to in place of /dev/null.
  void StartKeeper(int log = -1) {
    keeper = fork();
    if (keeper != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const UniqueFd null(open("/dev/null", O_WRONLY));
    dup2(log >= 0 ? log : null.get(), STDERR_FILENO);
    execl(COFFER_KEEPER, COFFER_KEEPER, StrCat("-socket=", socket).c_str(), nullptr);
    _exit(1);
  }

  // What `coffer-keeper -status` prints.
  std::string Status() const {
    std::string text;
    FILE* out = popen(StrCat(COFFER_KEEPER, " -status '-socket=", socket, "' 2>&1").c_str(), "r");
    char line[512];
    while (fgets(line, sizeof line, out) != nullptr) text += line;
    pclose(out);
    return text;
  }
  bool KeeperHolds(std::string_view what) const {
    for (int i = 0; i < 6000; ++i) {
      if (Status().find(what) != std::string::npos) return true;
      std::this_thread::sleep_for(10ms);
    }
    return false;
  }

  // A process that adopts what is there, or mounts, and swaps all the time.
  void StartPlugin() {
    const int generation = ++generation_;
    plugin = fork();
    if (plugin != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log::Configure(log::Level::kError, log::Format::kText);
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stop, nullptr);
    {
      KeeperClient client(socket);
      SystemClock clock;
      VolumeServer server(clock, 2, "/", &client);
      const absl::StatusOr<std::size_t> adopted = server.Adopt(absl::Seconds(10));
      if (!adopted.ok()) shared->Complain(StrCat("adopt: ", Message(adopted.status())));
      if (generation == 1) {
        const absl::Status mounted = server.Mount({"a volume", target, {}, audit_}, Files(ContentsOf(0)));
        if (!mounted.ok()) shared->Complain(StrCat("mount: ", Message(mounted)));
      } else if (!server.Serves(target)) {
        shared->Complain("the volume wasn't taken over");
      }
      shared->generation = generation;
      std::atomic<bool> stopping = false;
      std::thread swapper([&] {
        std::minstd_rand random(static_cast<unsigned>(generation));
        while (!stopping) {
          auto files = Files(ContentsOf(++shared->version));
          shared->swapping = true;
          const absl::Status swapped = server.Swap(target, std::move(files)).status();
          shared->swapping = false;
          if (!swapped.ok()) shared->Complain(StrCat("swap: ", Message(swapped)));
          ++shared->swaps;
          std::this_thread::sleep_for(std::chrono::microseconds(random() % 10'000));
        }
      });
      int signal_number = 0;
      sigwait(&stop, &signal_number);
      stopping = true;
      swapper.join();
    }
    _exit(0);
  }

  bool Served() const {
    for (int i = 0; i < 60'000; ++i) {
      if (shared->generation == generation_) return true;
      std::this_thread::sleep_for(1ms);
    }
    return false;
  }

  void StartReader(unsigned seed) {
    const pid_t reader = fork();
    readers_.push_back(reader);
    if (reader != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::minstd_rand random(seed);
    int newest = 0;
    UniqueFd kept;
    int kept_version = 0;
    while (!shared->done) {
      const auto start = Steady::now();
      const unsigned what = random() % 6;
      errno = 0;
      int version = newest;
      if (what <= 1) {
        version = VersionAt(AT_FDCWD, target + (what == 0 ? "/a" : "/b/c"));
      } else if (what == 2) {  // two files of one version
        const UniqueFd data(open((target + "/..data").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        version = VersionAt(data.get(), "a");
        const int other = VersionAt(data.get(), "b/c");
        if (other != version) shared->Complain(StrCat("a holds ", version, ", b/c ", other));
      } else if (what == 3) {
        struct stat facts {};
        if (stat((target + "/a").c_str(), &facts) != 0) version = -1;
        if (facts.st_size != 12000) version = -2;
      } else if (what == 4) {
        NameSet names;
        try {
          names = Names(target);
        } catch (const fs::filesystem_error& error) {
          shared->Complain(error.what());
        }
        if (names.count("a") != 1 || names.count("b") != 1 || names.count("..data") != 1) {
          version = -3;
        }
      } else if (kept) {  // an open file stays what it was
        if (VersionOf(kept.get()) != kept_version) shared->Complain("an open file has changed");
        kept.reset();
      } else {
        kept.reset(open((target + "/a").c_str(), O_RDONLY | O_CLOEXEC));
        version = kept_version = VersionOf(kept.get());
      }
      const long took = (Steady::now() - start).count();
      if (version < 0) {
        shared->Complain(StrCat("operation ", what, " gave ", version, " ",
                                std::string_view(strerrordesc_np(errno)), " after ", took / 1000,
                                " us"));
      } else if (version < newest) {
        shared->Complain(StrCat("operation ", what, ": version ", version, " after ", newest));
      }
      newest = std::max(newest, version);
      if (took > shared->longest_ns) shared->longest_ns = took;
      ++shared->reads;
    }
    _exit(0);
  }

  // SIGKILL, and until the process is gone for good.
  static void Kill(pid_t* process) {
    if (*process <= 0) return;
    kill(*process, SIGKILL);
    waitpid(*process, nullptr, 0);
    *process = 0;
  }

  Folder folder;
  const std::string target = folder.path + "/mount", socket = folder.path + "/keeper.sock";
  Shared* shared;
  pid_t keeper = 0, plugin = 0;

 private:
  const bool audit_;
  int generation_ = 0;
  std::vector<pid_t> readers_;
};

inline void CheckNothingBroke(Play& play, std::string_view what) {
  const Shared& shared = *play.shared;
  for (int i = 0; i < 6000 && (shared.reads <= 1000 || shared.swaps <= 20); ++i) {
    std::this_thread::sleep_for(10ms);
  }
  INFO(shared.message);
  CHECK(shared.errors == 0);
  CHECK(shared.reads > 1000);
  CHECK(shared.swaps > 20);
  std::printf("%s: %ld reads, %ld swaps, %ld errors, longest stall %.1f ms\n",
              std::string(what).c_str(), shared.reads.load(), shared.swaps.load(),
              shared.errors.load(), static_cast<double>(shared.longest_ns) / 1e6);
}

}  // namespace coffer::volume
