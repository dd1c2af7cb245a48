// How long readers wait when a plugin is killed and the next one takes its volumes over from the
// keeper: from the start of its process to the answer. Ends with 1 where that is over 50 ms. Needs root.
// Usage: takeover_bench [volumes [files of each]]
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <random>
#include <thread>

#include "common/clock.h"
#include "common/descriptor_limit.h"
#include "common/log.h"
#include "common/strings.h"
#include "csi/volume/keeper_client.h"
#include "csi/volume/volume.h"

namespace coffer::volume {
namespace {

namespace fs = std::filesystem;
using Steady = std::chrono::steady_clock;

constexpr int kRounds = 10, kReaders = 4;
constexpr double kWantedMs = 50;
constexpr char kServe[] = "serve";

double MillisSince(Steady::time_point start) {
  return std::chrono::duration<double, std::milli>(Steady::now() - start).count();
}

std::string TargetOf(const std::string& folder, int volume) { return StrCat(folder, "/v", volume); }

// Asks for a name that no cache knows. False: an error.
bool Ask(const std::string& target) {
  static std::atomic<int> asked = 0;
  struct stat facts {};
  return lstat(StrCat(target, "/", ++asked).c_str(), &facts) != 0 && errno == ENOENT;
}

// The plugin: takes over what there is, else mounts it; says so through standard output, and serves.
int Serve(const std::string& folder, int volumes, int files) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  log::Configure(log::Level::kWarning, log::Format::kText);
  KeeperClient keeper(folder + "/keeper.sock");
  SystemClock clock;
  VolumeServer server(clock, 2, "/", &keeper);
  const auto adopted = server.Adopt(absl::Seconds(10));
  bool ok = adopted.ok() && (*adopted == 0 || *adopted == static_cast<std::size_t>(volumes));
  for (int i = 0; ok && *adopted == 0 && i < volumes; ++i) {
    std::vector<SnapshotFile> all(static_cast<std::size_t>(files));
    for (int j = 0; j < files; ++j) {
      all[static_cast<std::size_t>(j)].path = StrCat("file-", j);
      all[static_cast<std::size_t>(j)].content = SecretBytes::CopyOf(std::string_view("a secret"));
    }
    ok = server.Mount({StrCat(i), TargetOf(folder, i)}, std::move(all)).ok();
  }
  if (write(STDOUT_FILENO, ok ? "+" : "-", 1) != 1) return 1;
  for (;;) pause();
}

class Bench {
 public:
  Bench(std::string self, int volumes, int files)
      : self_(std::move(self)), volumes_(volumes), files_(files) {
    char name[] = "/tmp/coffer-takeover.XXXXXX";
    folder_ = mkdtemp(name);
    for (int i = 0; i < volumes_; ++i) fs::create_directory(TargetOf(folder_, i));
    const std::string keeper = fs::path(self_).parent_path() / "coffer-keeper";
    keeper_ = Start({keeper, StrCat("-socket=", folder_, "/keeper.sock")}, /*out=*/-1);
    while (!fs::exists(folder_ + "/keeper.sock")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    StartPlugin();
  }
  ~Bench() {
    for (int i = 0; i < volumes_; ++i) (void)DetachMount(TargetOf(folder_, i));
    for (const pid_t process : {plugin_, keeper_}) {
      kill(process, SIGKILL);
      waitpid(process, nullptr, 0);
    }
    fs::remove_all(folder_);
  }

  // A few readers who never stop.
  void Few() {
    std::atomic<bool> done = false;
    std::atomic<double> longest = 0;
    std::vector<std::thread> readers;
    for (unsigned i = 0; i < kReaders; ++i) {
      readers.emplace_back([&, i] {
        std::minstd_rand random(i);
        while (!done) {
          const auto start = Steady::now();
          wrong += !Ask(TargetOf(folder_, static_cast<int>(random() % static_cast<unsigned>(volumes_))));
          const double took = MillisSince(start);
          for (double before = longest; took > before && !longest.compare_exchange_weak(before, took);) {
          }
        }
      });
    }
    std::vector<double> stalls;
    for (int round = 0; round < kRounds; ++round) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      longest = 0;
      Kill();
      StartPlugin();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      stalls.push_back(longest);
    }
    done = true;
    for (std::thread& reader : readers) reader.join();
    Print(StrCat(kReaders, " readers, longest stall"), std::move(stalls));
  }

  // One reader of each volume, who all wait when the plugin starts; or, if it isn't `killed`, when
  // it is continued after a stop, which is what the answers and the readers themselves take.
  void All(bool killed) {
    std::vector<double> stalls;
    for (int round = 0; round < kRounds; ++round) {
      if (killed) {
        Kill();
      } else {
        kill(plugin_, SIGSTOP);
        waitpid(plugin_, nullptr, WUNTRACED);
      }
      std::atomic<int> asking = 0, answered = 0;
      std::mutex going_on;  // held until all are answered: who is, sleeps
      going_on.lock();
      std::vector<double> times(static_cast<std::size_t>(volumes_));
      Steady::time_point start;
      std::vector<std::thread> readers;
      for (int i = 0; i < volumes_; ++i) {
        readers.emplace_back([&, i] {
          ++asking;
          wrong += !Ask(TargetOf(folder_, i));
          times[static_cast<std::size_t>(i)] = MillisSince(start);
          ++answered;
          std::lock_guard all_are_answered(going_on);
        });
      }
      while (asking < volumes_) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      wrong += answered != 0;
      start = Steady::now();
      if (killed) {
        StartPlugin();
      } else {
        kill(plugin_, SIGCONT);
      }
      while (answered < volumes_) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      going_on.unlock();
      for (std::thread& reader : readers) reader.join();
      stalls.push_back(*std::max_element(times.begin(), times.end()));
    }
    Print(killed ? "a reader of each volume, the last one" : "the same, only stopped and continued",
          std::move(stalls));
  }

  int wrong_calls() const { return wrong; }
  bool missed = false;

 private:
  // Not by fork(), which would copy what describes this process's memory. `out`: -1: to nowhere.
  pid_t Start(std::vector<std::string> words, int out) {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (out >= 0) {
      posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    } else {
      posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    }
    pid_t child = 0;
    if (posix_spawn(&child, arguments[0], &actions, nullptr, arguments.data(), environ) != 0) std::exit(1);
    posix_spawn_file_actions_destroy(&actions);
    return child;
  }
  void StartPlugin() {
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0) std::exit(1);
    plugin_ = Start({self_, kServe, folder_, StrCat(volumes_), StrCat(files_)}, ready[1]);
    close(ready[1]);
    char answer = 0;
    wrong += read(ready[0], &answer, 1) != 1 || answer != '+';
    close(ready[0]);
  }
  void Kill() {
    kill(plugin_, SIGKILL);
    waitpid(plugin_, nullptr, 0);
  }
  void Print(const std::string& what, std::vector<double> stalls) {
    std::sort(stalls.begin(), stalls.end());
    const double median = stalls[stalls.size() / 2];
    missed |= median > kWantedMs;
    std::printf("%-40s median %6.1f ms, longest of %zu %6.1f ms (wanted: %.0f)%s\n", what.c_str(), median,
                stalls.size(), stalls.back(), kWantedMs, median > kWantedMs ? "  MISSED" : "");
  }

  const std::string self_;
  const int volumes_, files_;
  std::string folder_;
  pid_t keeper_ = 0, plugin_ = 0;
  std::atomic<int> wrong = 0;
};

}  // namespace
}  // namespace coffer::volume

int main(int argc, char** argv) {
  using namespace coffer::volume;
  mallopt(M_ARENA_MAX, 1);  // as the node plugin
  coffer::RaiseDescriptorLimit();
  if (argc == 5 && std::string_view(argv[1]) == kServe) {
    return Serve(argv[2], std::atoi(argv[3]), std::atoi(argv[4]));
  }
  Bench bench(std::filesystem::read_symlink("/proc/self/exe"), argc > 1 ? std::atoi(argv[1]) : 1500,
              argc > 2 ? std::atoi(argv[2]) : 64);
  bench.Few();
  bench.All(/*killed=*/true);
  bench.All(/*killed=*/false);
  if (bench.wrong_calls() != 0) std::printf("%d calls failed\n", bench.wrong_calls());
  return bench.wrong_calls() == 0 && !bench.missed ? 0 : 1;
}
