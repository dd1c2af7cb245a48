// The case of a full disk needs root: it mounts a small tmpfs.
#include "csi/audit_log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/eventually.h"
#include "common/json.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using volume::OpenEvent;
using volume::Opener;

struct Folder {
  Folder() {
    char name[] = "/tmp/coffer-audit.XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() {
    if (mounted) umount2(path.c_str(), MNT_DETACH);
    fs::remove_all(path);
  }
  std::string path;
  bool mounted = false;
};

std::string Text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The lines, each of which must be JSON.
std::vector<Json> Lines(const std::string& path) {
  const std::string text = Text(path);
  std::vector<Json> lines;
  for (const std::string_view line : Split(text, '\n')) {
    if (line.empty()) continue;
    auto parsed = ParseJson(line);
    INFO(line);
    REQUIRE(parsed.ok());
    lines.push_back(*std::move(parsed));
  }
  return lines;
}

OpenEvent Event(std::string file) {
  static const auto info = std::make_shared<const volume::VolumeInfo>(volume::VolumeInfo{
      "csi-1", "/target", {"shop", "web-0", "uid-0", "webapp"}, true});
  return {.volume = info,
          .file = std::move(file),
          .version = "3",
          .opener = {.pid = 42, .uid = 1000, .gid = 0, .command = "app"},
          .time = absl::FromUnixMicros(1748950851000123)};
}

void Write(const std::unique_ptr<AuditLog>& log, const OpenEvent& event) {
  log->Add(event);
  log->WriteSoon();
}

TEST_CASE("what is known of an open is in its line, and nothing else") {
  const std::string known =
      R"("namespace":"shop","pod":"web-0","pod_uid":"uid-0","class":"webapp","volume":"csi-1",)";
  struct Case {
    OpenEvent event;
    std::string line;
  };
  OpenEvent full = Event("tls/key");
  full.opener.container = "c0ffee";
  full.opener.executable = "/usr/bin/app";
  OpenEvent unseen = Event("a");
  unseen.opener = Opener{};
  unseen.version.clear();
  OpenEvent refused = Event("a\n\"\xff");
  refused.error = EACCES;
  refused.refusal = "uid 1000 isn't in allowUIDs";
  OpenEvent gone = Event("a");
  gone.error = ENOENT;
  OpenEvent canary = Event("a");
  canary.canary = true;
  const std::string head = R"({"time":"2025-06-03T11:40:51.000123Z","event":"open",)";
  const std::string tail = R"(,"pid":42,"uid":1000,"gid":0,"command":"app"})";
  const Case cases[] = {
      {full, StrCat(head, R"("result":"ok",)", known,
                    R"("file":"tls/key","version":"3","container":"c0ffee","pid":42,"uid":1000,)"
                    R"("gid":0,"command":"app","executable":"/usr/bin/app"})")},
      {unseen, StrCat(head, R"("result":"ok",)", known, R"("file":"a","version":""})")},
      {refused, StrCat(head, R"("result":"refused","reason":"uid 1000 isn't in allowUIDs",)", known,
                       "\"file\":\"a\\n\\\"\xef\xbf\xbd\",\"version\":\"3\"", tail)},
      {gone, StrCat(head, R"("result":"gone",)", known, R"("file":"a","version":"3")", tail)},
      {canary,
       StrCat(head, R"("result":"ok","canary":true,)", known, R"("file":"a","version":"3")", tail)},
  };
  for (const Case& c : cases) {
    SecretBytes line;
    AppendAuditLine(c.event, &line);
    CHECK(std::string(line.view()) == c.line + "\n");
  }
}

TEST_CASE("lines are appended to a file of root's alone, all of them") {
  Folder folder;
  const std::string path = folder.path + "/audit.log";
  const SystemClock clock;
  for (int run = 0; run < 2; ++run) {
    auto log = AuditLog::Open(clock, path);
    REQUIRE(log.ok());
    for (int i = 0; i < 100; ++i) Write(*log, Event(StrCat(run, "-", i)));
    log->reset();  // writes what waits
    const std::vector<Json> lines = Lines(path);
    REQUIRE(lines.size() == static_cast<std::size_t>(100 * (run + 1)));
    CHECK(lines.back()["file"] == StrCat(run, "-99"));
  }
  struct stat info {};
  REQUIRE(stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
}

TEST_CASE("a file that can't be opened is named") {
  Folder folder;
  const SystemClock clock;
  const auto missing = AuditLog::Open(clock, folder.path + "/no/audit.log");
  CHECK(missing.status().message().find("/no/audit.log") != absl::string_view::npos);
  fs::create_symlink("elsewhere", folder.path + "/link");
  CHECK_FALSE(AuditLog::Open(clock, folder.path + "/link").ok());
  CHECK_FALSE(AuditLog::Open(clock, folder.path).ok());
}

TEST_CASE("a log that was moved or is asked to is begun anew at its path") {
  Folder folder;
  const std::string path = folder.path + "/audit.log";
  const SystemClock clock;
  auto log = AuditLog::Open(clock, path);
  REQUIRE(log.ok());
  Write(*log, Event("one"));
  REQUIRE(Eventually([&] { return Lines(path).size() == 1; }));
  fs::rename(path, path + ".1");
  Write(*log, Event("two"));
  REQUIRE(Eventually([&] { return fs::exists(path) && Lines(path).size() == 1; }));
  CHECK(Lines(path)[0]["file"] == "two");
  CHECK(Lines(path + ".1")[0]["file"] == "one");
  fs::rename(path, path + ".2");
  (*log)->Reopen();
  CHECK(Eventually([&] { return fs::exists(path); }));
  CHECK((*log)->lost() == 0);
}

// What is logged while this lives.
class CapturedLog {
 public:
  explicit CapturedLog(std::string path)
      : path_(std::move(path)), stderr_(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
    const UniqueFd file(open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    dup2(file.get(), STDERR_FILENO);
  }
  ~CapturedLog() { dup2(stderr_.get(), STDERR_FILENO); }
  std::ptrdiff_t lines() const { return std::ranges::count(Text(path_), '\n'); }

 private:
  const std::string path_;
  const UniqueFd stderr_;
};

TEST_CASE("lines of a log that is deleted are counted and told, of one that is moved written") {
  Folder folder;
  const std::string logs = folder.path + "/logs", path = logs + "/audit.log";
  fs::create_directory(logs);
  const SystemClock clock;
  auto log = AuditLog::Open(clock, path);
  REQUIRE(log.ok());
  const CapturedLog said(folder.path + "/said");

  fs::rename(logs, folder.path + "/moved");
  (*log)->Reopen();
  for (std::size_t i = 1; i <= 5; ++i) {
    Write(*log, Event("moved"));
    REQUIRE(Eventually([&] { return Lines(folder.path + "/moved/audit.log").size() == i; }));
  }
  CHECK(said.lines() == 1);
  fs::create_directory(logs);
  Write(*log, Event("anew"));
  REQUIRE(Eventually([&] { return fs::exists(path) && Lines(path).size() == 1; }));
  CHECK(Eventually([&] { return said.lines() == 2; }));
  CHECK((*log)->lost() == 0);

  fs::remove_all(logs);
  for (std::uint64_t i = 1; i <= 5; ++i) {
    Write(*log, Event("lost"));
    REQUIRE(Eventually([&] { return (*log)->lost() == i; }));
  }
  CHECK(said.lines() == 3);
  fs::create_directory(logs);
  Write(*log, Event("back"));
  REQUIRE(Eventually([&] { return fs::exists(path) && Lines(path).size() == 2; }));
  CHECK(Lines(path)[0]["lines"] == 5);
  CHECK(Lines(path)[1]["file"] == "back");
  CHECK(Eventually([&] { return said.lines() == 4; }));
}

TEST_CASE("opens never wait for the log: each is a line, or counted in one that says so") {
  Folder folder;
  const std::string path = folder.path + "/audit.log";
  const SystemClock clock;
  constexpr int kEach = 60'000;
  std::uint64_t lost = 0;
  {
    auto log = AuditLog::Open(clock, path);
    REQUIRE(log.ok());
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < kEach; ++i) Write(*log, Event("f"));
      });
    }
    for (std::thread& thread : threads) thread.join();
    lost = (*log)->lost();
  }
  const std::string text = Text(path);
  std::uint64_t opens = 0, told = 0;
  for (const std::string_view line : Split(text, '\n')) {
    if (line.find("\"event\":\"open\"") != std::string_view::npos) ++opens;
    if (line.find("\"event\":\"lost\"") == std::string_view::npos) continue;
    const auto parsed = ParseJson(line);
    REQUIRE(parsed.ok());
    told += (*parsed)["lines"].get<std::uint64_t>();
  }
  CHECK(told == lost);
  CHECK(opens + lost == 2 * kEach);
}

TEST_CASE("a full disk costs lines, which the log tells when there is room again") {
  Folder folder;
  REQUIRE(mount("tmpfs", folder.path.c_str(), "tmpfs", 0, "size=64k") == 0);
  folder.mounted = true;
  const std::string path = folder.path + "/audit.log", filler = folder.path + "/filler";
  const SystemClock clock;
  auto log = AuditLog::Open(clock, path);
  REQUIRE(log.ok());
  Write(*log, Event("first"));
  REQUIRE(Eventually([&] { return Lines(path).size() == 1; }));
  {
    std::ofstream file(filler);
    const std::string page(4096, 'x');
    while (file.write(page.data(), 4096).flush()) continue;
  }
  std::uint64_t sent = 1;
  for (; (*log)->lost() == 0 && sent < 10'000; ++sent) {
    Write(*log, Event(std::string(100, 'a')));
    std::this_thread::sleep_for(1ms);
  }
  REQUIRE((*log)->lost() > 0);
  fs::remove(filler);
  Write(*log, Event("last"));
  ++sent;
  log->reset();
  std::uint64_t opens = 0, told = 0;
  for (const Json& line : Lines(path)) {
    if (line["event"] == "open") ++opens;
    if (line["event"] == "lost") {
      told += line["lines"].get<std::uint64_t>();
      CHECK(line["reason"] == "can't write: No space left on device");
    }
  }
  CHECK(told > 0);
  CHECK(opens + told == sent);
}

TEST_CASE("what is added is written at the end at the latest, between a start and a stop") {
  Folder folder;
  const std::string path = folder.path + "/audit.log";
  std::ofstream(path) << R"({"event":"open","file":"of one that was kil)";
  const SystemClock clock;
  auto log = AuditLog::Open(clock, path);
  REQUIRE(log.ok());
  (*log)->Start(nullptr);
  (*log)->Add(Event("a"));
  log->reset();
  const std::string text = Text(path);
  const std::size_t first_line = text.find('\n') + 1;
  CHECK(first_line == 44);
  std::vector<std::string> events;
  for (const std::string_view line : Split(std::string_view(text).substr(first_line), '\n')) {
    if (line.empty()) continue;
    const auto parsed = ParseJson(line);
    REQUIRE(parsed.ok());
    events.emplace_back((*parsed)["event"].get_ref<const SecretString&>());
  }
  CHECK(events == std::vector<std::string>{"start", "open", "stop"});
}

}  // namespace
}  // namespace coffer::csi
