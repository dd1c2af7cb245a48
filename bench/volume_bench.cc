// Volume against tmpfs with the same layout, in one run: how fast applications read, how fast
// volumes come and go, how much memory they take. Ends with 1 where something wanted is missed. Needs
// root. Usage: volume_bench [seconds per measurement]
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "common/clock.h"
#include "common/descriptor_limit.h"
#include "common/strings.h"
#include "csi/volume/open_listener.h"
#include "csi/volume/volume.h"

namespace coffer::volume {
namespace {

namespace fs = std::filesystem;
using Steady = std::chrono::steady_clock;

double seconds_each = 1.0;
std::size_t wrong = 0, missed = 0;

const char* Verdict(bool good) {
  missed += !good;
  return good ? "" : "  MISSED";
}

double Since(Steady::time_point start) {
  return std::chrono::duration<double>(Steady::now() - start).count();
}

std::vector<SnapshotFile> TwoFiles(int version) {
  std::vector<SnapshotFile> files(2);
  files[0].path = "username";
  files[0].content = SecretBytes::CopyOf(std::string_view("static-user"));
  files[1].path = "password";
  files[1].content = SecretBytes::CopyOf(StrCat("static-password-", version));
  return files;
}

// Calls a second, in turns with the other side, so that both meet the same weather.
std::pair<double, double> Compare(const std::function<void()>& ours,
                                  const std::function<void()>& theirs) {
  double time[2] = {}, calls[2] = {};
  for (int turn = 0; turn < 20; ++turn) {
    for (const int side : {0, 1}) {
      const std::function<void()>& call = side == 0 ? ours : theirs;
      const auto start = Steady::now();
      double spent = 0;
      for (; spent < seconds_each / 20; spent = Since(start)) {
        for (int i = 0; i < 200; ++i) call();
        calls[side] += 200;
      }
      time[side] += spent;
    }
  }
  return {calls[0] / time[0], calls[1] / time[1]};
}

void Print(const char* what, std::pair<double, double> rates, double wanted) {
  const double ratio = rates.first / rates.second;
  std::printf("%-34s %9.0f/s  tmpfs %9.0f/s  ratio %.2f (wanted %.2f)%s\n", what, rates.first,
              rates.second, ratio, wanted, Verdict(ratio >= wanted));
}

double Percentile(std::vector<double>& times, double part) {
  std::sort(times.begin(), times.end());
  return times[static_cast<std::size_t>(part * static_cast<double>(times.size() - 1))] * 1e6;
}

// `wanted`: the median, in microseconds, at most; 0: nothing is.
void PrintTimes(const char* what, std::vector<double> times, double wanted = 0) {
  const double median = Percentile(times, 0.5);
  std::printf("%-34s median %5.0f us, 99 %% %5.0f us", what, median, Percentile(times, 0.99));
  if (wanted > 0) std::printf(" (wanted: %.0f)%s", wanted, Verdict(median <= wanted));
  std::puts("");
}

// Has files opened by processes that were just started. It is a process itself: to fork this one
// would make its memory copy-on-write.
class Launcher {
 public:
  Launcher() {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_) != 0) std::exit(1);
    pid_ = fork();
    if (pid_ == 0) Run();
    close(ends_[0]);
  }

  pid_t pid() const { return pid_; }

  // How long the open took, in seconds.
  double Open(const std::string& path) {
    double time = 0;
    wrong += send(ends_[1], path.c_str(), path.size() + 1, 0) < 0 ||
             recv(ends_[1], &time, sizeof time, 0) != sizeof time;
    return time;
  }

 private:
  [[noreturn]] void Run() {
    close(ends_[1]);
    char path[256];
    while (recv(ends_[0], path, sizeof path, 0) > 0) {
      double time = 0;
      int pipe_ends[2];
      if (pipe(pipe_ends) != 0) _exit(1);
      const pid_t child = fork();
      if (child == 0) {
        close(open("/dev/null", O_RDONLY));  // its memory is its own now
        const auto start = Steady::now();
        const int fd = open(path, O_RDONLY);
        time = Since(start);
        _exit(fd < 0 || write(pipe_ends[1], &time, sizeof time) != sizeof time);
      }
      close(pipe_ends[1]);
      const bool read_all = read(pipe_ends[0], &time, sizeof time) == sizeof time;
      close(pipe_ends[0]);
      waitpid(child, nullptr, 0);
      if (!read_all || send(ends_[0], &time, sizeof time, 0) < 0) break;
    }
    _exit(0);
  }

  int ends_[2];
  pid_t pid_ = 0;
};

// Lets all threads of these processes have one processor, for as long as it lives: what they do for
// each other then takes what it costs. Between two of them it also takes what it needs to wake one
// that is halted, which in a virtual machine is more than the rest.
class OnOneProcessor {
 public:
  explicit OnOneProcessor(std::vector<pid_t> processes) : processes_(std::move(processes)) {
    if (sched_getaffinity(0, sizeof before_, &before_) != 0) std::exit(1);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    Allow(one);
  }
  ~OnOneProcessor() { Allow(before_); }
  OnOneProcessor(const OnOneProcessor&) = delete;
  OnOneProcessor& operator=(const OnOneProcessor&) = delete;

 private:
  void Allow(const cpu_set_t& processors) const {
    for (const pid_t process : processes_) {
      for (const auto& task : fs::directory_iterator(StrCat("/proc/", process, "/task"))) {
        wrong += sched_setaffinity(std::stoi(task.path().filename()), sizeof processors,
                                   &processors) != 0;
      }
    }
  }

  const std::vector<pid_t> processes_;
  cpu_set_t before_;
};

// Does with each open what the plugin's listener does at least: takes note of it.
struct Notes : OpenListener {
  void Opened(const OpenEvent& event) override { opens += event.error == 0; }
  std::atomic<std::size_t> opens = 0;
};

// Opens that are delivered, one after the other: by one that reads the file, too.
void ReadAudited(VolumeServer& server, const Notes& notes, Launcher& launcher,
                 const std::string& folder) {
  const std::string target = folder + "/audited";
  fs::create_directory(target);
  std::vector<SnapshotFile> files = TwoFiles(0);
  files[1].rules.allow_uids = {getuid()};
  files[1].rules.allow_executables = {fs::read_symlink("/proc/self/exe")};
  if (!server.Mount({"bench", target, {}, /*audit=*/true}, std::move(files)).ok()) std::exit(1);
  for (const char* name : {"/username", "/password"}) {
    std::vector<double> opens;
    char buffer[64];
    const auto begin = Steady::now();
    while (Since(begin) < seconds_each) {
      const auto start = Steady::now();
      const int fd = open((target + name).c_str(), O_RDONLY);
      opens.push_back(Since(start));
      wrong += read(fd, buffer, sizeof buffer) < 11;
      close(fd);
    }
    const double rate = static_cast<double>(opens.size()) / Since(begin);
    PrintTimes(name[1] == 'u' ? "audited open" : "audited open, uid and executable", opens, 60);
    std::printf("  with read and close %13.0f/s (wanted 20000)%s\n", rate, Verdict(rate >= 20000));
  }
  for (const char* name : {"/username", "/password"}) {
    const auto opens = [&] {
      std::vector<double> times;
      const auto begin = Steady::now();
      while (Since(begin) < seconds_each) times.push_back(launcher.Open(target + name));
      return times;
    };
    const bool audit_alone = name[1] == 'u';
    PrintTimes(audit_alone ? "first audited open of a process" : "the same, uid and executable",
               opens());
    const OnOneProcessor one({getpid(), launcher.pid()});
    PrintTimes("  all on one processor", opens(), audit_alone ? 60 : 0);
  }
  wrong += notes.opens == 0;
  (void)server.Unmount(target);
}

void CompareReads(VolumeServer& server, const std::string& folder) {
  const std::string target = folder + "/volume", plain = folder + "/tmpfs";
  for (const std::string& path : {target, plain}) fs::create_directory(path);
  const std::string big(1 << 20, 'b');
  std::vector<SnapshotFile> files = TwoFiles(0);
  files.emplace_back();
  files.back().path = "big";
  files.back().content = SecretBytes::CopyOf(big);
  if (!server.Mount({"bench", target}, std::move(files)).ok() ||
      mount("tmpfs", plain.c_str(), "tmpfs", 0, "") != 0) {
    std::puts("can't mount");
    std::exit(1);
  }
  fs::create_directory(plain + "/..2026");
  fs::create_directory_symlink("..2026", plain + "/..data");
  for (const auto& [name, text] :
       {std::pair<std::string, std::string>{"username", "static-user"}, {"big", big}}) {
    std::ofstream(plain + "/..2026/" + name) << text;
    fs::create_symlink("..data/" + name, plain + "/" + name);
  }

  static char buffer[1 << 20];
  const auto reads = [](const std::string& path, std::size_t size) {
    return [path, size] {
      const int fd = open(path.c_str(), O_RDONLY);
      wrong += read(fd, buffer, sizeof buffer) != static_cast<ssize_t>(size);
      close(fd);
    };
  };
  Print("open+read+close", Compare(reads(target + "/username", 11), reads(plain + "/username", 11)),
        0.65);
  Print("open+read+close, 1 MiB",
        Compare(reads(target + "/big", 1 << 20), reads(plain + "/big", 1 << 20)), 0.65);
  const auto stats = [](const std::string& path) {
    return [path] {
      struct stat info {};
      wrong += stat(path.c_str(), &info) != 0;
    };
  };
  Print("stat", Compare(stats(target + "/username"), stats(plain + "/username")), 0.60);
  for (const std::string name : {"/username", "/big"}) {
    const auto preads = [&](const std::string& base) {
      const int fd = open((base + name).c_str(), O_RDONLY);
      return [fd] { wrong += pread(fd, buffer, 4096, 0) <= 0; };
    };
    Print(name == "/big" ? "pread of 4 KiB" : "pread of 11 bytes",
          Compare(preads(target), preads(plain)), 0.90);
  }
  const auto maps = [&](const std::string& base) {
    const int fd = open((base + "/big").c_str(), O_RDONLY);
    return [fd] {
      auto* mapped =
          static_cast<volatile char*>(mmap(nullptr, 65536, PROT_READ, MAP_SHARED, fd, 0));
      for (int i = 0; i < 65536; i += 4096) wrong += mapped[i] != 'b';
      munmap(const_cast<char*>(mapped), 65536);
    };
  };
  Print("mmap, 16 pages touched, munmap", Compare(maps(target), maps(plain)), 0.90);
  umount2(plain.c_str(), MNT_DETACH);
  (void)server.Unmount(target);
}

// How long each open+read+close of a process of its own takes: what it waits for is the volume's
// alone.
std::vector<double> ReadTimes(const std::string& path) {
  int ends[2];
  if (pipe(ends) != 0) std::exit(1);
  const pid_t reader = fork();
  if (reader == 0) {
    char buffer[64];
    for (const auto begin = Steady::now(); Since(begin) < seconds_each;) {
      const auto start = Steady::now();
      const int fd = open(path.c_str(), O_RDONLY);
      const bool whole = read(fd, buffer, sizeof buffer) >= 17;
      close(fd);
      const double took = whole ? Since(start) : -1;
      if (write(ends[1], &took, sizeof took) != sizeof took) break;
      std::this_thread::sleep_for(std::chrono::microseconds(50));  // else chrt is held back
    }
    _exit(0);
  }
  close(ends[1]);
  std::vector<double> times;
  for (double took; read(ends[0], &took, sizeof took) == sizeof took;) {
    wrong += took < 0;
    times.push_back(took);
  }
  close(ends[0]);
  waitpid(reader, nullptr, 0);
  return times;
}

// The longest one while `change` is done again and again.
void ReadBeside(const std::string& path, const char* what, std::chrono::milliseconds pause,
                const std::function<void(int)>& change) {
  std::vector<double> quiet = ReadTimes(path);
  std::atomic<bool> done = false;
  std::thread changer([&] {
    for (int i = 1; !done; ++i) {
      change(i);
      std::this_thread::sleep_for(pause);
    }
  });
  std::vector<double> busy = ReadTimes(path);
  done = true;
  changer.join();
  for (auto* times : {&quiet, &busy}) {
    std::printf("open+read+close, %-17s 99.9 %% %5.0f us, longest %5.0f us\n",
                times == &quiet ? "nothing beside" : what, Percentile(*times, 0.999),
                Percentile(*times, 1));
  }
  // What the machine does without swaps is not theirs.
  const double more = Percentile(busy, 1) - Percentile(quiet, 1);
  std::printf("  longest, beyond that without     %5.0f us (wanted: 5000)%s\n", more,
              Verdict(more <= 5000));
}

void ReadWhileSwapped(VolumeServer& server, const std::string& folder) {
  const std::string target = folder + "/swapped";
  fs::create_directory(target);
  if (!server.Mount({"bench", target}, TwoFiles(0)).ok()) std::exit(1);
  ReadBeside(target + "/password", "100 swaps/s", std::chrono::milliseconds(10),
             [&](int i) { wrong += !server.Swap(target, TwoFiles(i)).ok(); });
  (void)server.Unmount(target);
}

// The same where opens are delivered and there is much to compare and to swap.
void ReadWhileLargeSwapped(VolumeServer& server, const std::string& folder) {
  const auto files_of = [](int count, std::size_t size, int version) {
    std::vector<SnapshotFile> files = TwoFiles(version);
    const std::string bytes(size, 'b');
    for (int i = 0; i < count; ++i) {
      files.push_back({.path = StrCat("more-", i), .content = SecretBytes::CopyOf(bytes)});
    }
    return files;
  };
  for (const auto& [count, size] : {std::pair(64, std::size_t{1} << 20), {10'000, 64}}) {
    const std::string target = StrCat(folder, "/large-", count);
    fs::create_directory(target);
    if (!server.Mount({"bench", target, {}, /*audit=*/true}, files_of(count, size, 0)).ok()) {
      std::exit(1);
    }
    std::printf("audited volume of %d files of %zu bytes:\n", count, size);
    const std::string password = target + "/password";
    ReadBeside(password, "the same again", std::chrono::milliseconds(20),
               [&](int) { wrong += !server.Swap(target, files_of(count, size, 0)).ok(); });
    ReadBeside(password, "swaps", std::chrono::milliseconds(100),
               [&](int i) { wrong += !server.Swap(target, files_of(count, size, i)).ok(); });
    ReadBeside(password, "all files read", std::chrono::milliseconds(100),
               [&](int) { wrong += !server.Files(target).ok(); });
    (void)server.Unmount(target);
  }
}

long ResidentKiB() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return std::atol(line.c_str() + 6);
  }
  return 0;
}

void ComeAndGo(VolumeServer& server, const std::string& folder, int count) {
  std::vector<std::string> targets;
  for (int i = 0; i < count; ++i) {
    targets.push_back(StrCat(folder, "/v", i));
    fs::create_directory(targets.back());
  }
  const long before = ResidentKiB();
  std::vector<double> mounts, first_reads, swaps, unmounts;
  char buffer[64];
  const auto timed = [](std::vector<double>& times, const auto& call) {
    const auto start = Steady::now();
    wrong += !call();
    times.push_back(Since(start));
  };
  for (const std::string& target : targets) {
    timed(mounts, [&] { return server.Mount({"bench", target}, TwoFiles(0)).ok(); });
    timed(first_reads, [&] {
      const int fd = open((target + "/username").c_str(), O_RDONLY);
      const bool ok = read(fd, buffer, sizeof buffer) == 11;
      close(fd);
      return ok;
    });
  }
  const long after = ResidentKiB();
  const auto start = Steady::now();
  for (const std::string& target : targets) {
    timed(swaps, [&] { return server.Swap(target, TwoFiles(1)).ok(); });
  }
  const double all_swaps = Since(start);
  sleep(2);
  const long swapped = ResidentKiB();
  for (const std::string& target : targets)
    timed(unmounts, [&] { return server.Unmount(target).ok(); });
  std::printf(
      "%d volumes of 2 files: resident %.1f MB -> %.1f MB (%.1f KiB each); swapped, old ones gone: "
      "%.1f MB\n",
      count, static_cast<double>(before) / 1024, static_cast<double>(after) / 1024,
      static_cast<double>(after - before) / count, static_cast<double>(swapped) / 1024);
  PrintTimes("  mount", mounts, 1000);
  PrintTimes("  first open+read+close", first_reads);
  PrintTimes("  swap", swaps);
  std::printf("  all swapped in                   %.0f ms (wanted: 1000)%s\n", all_swaps * 1000,
              Verdict(all_swaps <= 1));
  PrintTimes("  unmount", unmounts);
}

}  // namespace
}  // namespace coffer::volume

int main(int argc, char** argv) {
  using namespace coffer::volume;
  if (argc > 1) seconds_each = std::atof(argv[1]);
  coffer::RaiseDescriptorLimit();

  Launcher launcher;  // before there is any thread
  char name[] = "/tmp/coffer-bench.XXXXXX";
  const std::string folder = mkdtemp(name);
  coffer::SystemClock clock;
  Notes notes;
  VolumeServer server(clock, 2, "/", nullptr, &notes);
  ComeAndGo(server, folder, 110);
  ComeAndGo(server, folder, 1500);
  CompareReads(server, folder);
  ReadAudited(server, notes, launcher, folder);
  ReadWhileSwapped(server, folder);
  ReadWhileLargeSwapped(server, folder);
  std::filesystem::remove_all(folder);
  if (wrong != 0) std::printf("%zu calls failed\n", wrong);
  return wrong == 0 && missed == 0 ? 0 : 1;
}
