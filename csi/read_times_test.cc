#include "csi/read_times.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "common/strings.h"

namespace coffer::csi {
namespace {

namespace fs = std::filesystem;

struct Folder {
  Folder() {
    char name[] = "/tmp/coffer-reads.XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { fs::remove_all(path); }
  std::string path;
};

std::vector<std::string> Names(const std::vector<ReadTime>& all) {
  std::vector<std::string> names;
  for (const ReadTime& one : all) {
    names.push_back(StrCat(one.kubernetes_namespace, "/", one.secret_class, "/", one.file));
  }
  return names;
}

using List = std::vector<std::string>;

TEST_CASE("what nobody has opened for a time is found, the longest unread first") {
  ManualClock clock;
  ReadTimes times(clock, "");
  times.Published("shop", "webapp", {"password", "tls/key", "user"});
  clock.Advance(absl::Hours(24));
  times.Opened("shop", "webapp", "user", "web-1", clock.Now());
  times.Published("shop", "late", {"token"});
  CHECK(Names(times.All()) == List{"shop/late/token", "shop/webapp/password",
                                   "shop/webapp/tls/key", "shop/webapp/user"});
  CHECK(Names(times.Unused(absl::Hours(25))).empty());
  CHECK(Names(times.Unused(absl::Hours(24))) ==
        List{"shop/webapp/password", "shop/webapp/tls/key"});
  clock.Advance(absl::Hours(24));
  CHECK(Names(times.Unused(absl::Hours(24))) ==
        List{"shop/webapp/password", "shop/webapp/tls/key", "shop/late/token", "shop/webapp/user"});
  times.Opened("shop", "webapp", "password", "web-1", clock.Now());
  CHECK(Names(times.Unused(absl::Hours(24))) ==
        List{"shop/webapp/tls/key", "shop/late/token", "shop/webapp/user"});
  CHECK(times.Unused(absl::Hours(24))[0].last_read == absl::InfinitePast());
  CHECK(times.Unused(absl::Hours(24))[2].last_read == clock.Now() - absl::Hours(24));
}

TEST_CASE("an open counts that comes before its publish is told") {
  ManualClock clock;
  ReadTimes times(clock, "");
  const absl::Time start = clock.Now();
  times.Opened("n", "c", "f", "web-1", start);
  clock.Advance(absl::Seconds(1));
  times.Published("n", "c", {"f", "unread"});
  clock.Advance(absl::Hours(1));
  CHECK(Names(times.Unused(absl::Hours(1))) == List{"n/c/f", "n/c/unread"});
  CHECK(times.All()[0].last_read == start);
  CHECK(times.All()[0].published == start);
  CHECK(times.OpenedBy("n", "c", "web-1").size() == 1);
}

TEST_CASE("times outlive the process, names with any byte in them too") {
  Folder folder;
  ManualClock clock;
  const absl::Time start = clock.Now();
  const std::string odd = "a\tb\nc\\d\\n";
  {
    ReadTimes times(clock, folder.path);
    times.Load();
    times.Published("shop", "webapp", {odd, "b"});
    clock.Advance(absl::Hours(2));
    times.Opened("shop", "webapp", odd, "web-1", clock.Now());
  }
  struct stat info {};
  REQUIRE(stat((folder.path + "/read-times").c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
  ReadTimes times(clock, folder.path);
  times.Load();
  const std::vector<ReadTime> all = times.All();
  REQUIRE(all.size() == 2);
  CHECK(all[0].file == odd);
  CHECK(all[0].published == start);
  CHECK(all[0].last_read == start + absl::Hours(2));
  CHECK(all[1].last_read == absl::InfinitePast());
}

TEST_CASE("which pod read a file when outlives the process, and ends with the pod") {
  using Reads = std::vector<std::pair<std::string, absl::Time>>;
  Folder folder;
  ManualClock clock;
  const absl::Time start = clock.Now();
  const std::string odd = "web\t\n\\";
  {
    ReadTimes times(clock, folder.path);
    times.Published("shop", "webapp", {"a", "b"});
    times.Published("shop", "webapp2", {"a"});
    times.Opened("shop", "webapp", "a", odd, start);
    times.Opened("shop", "webapp", "a", "ends", start);
    times.Opened("shop", "webapp2", "a", "ends", start);
    clock.Advance(absl::Hours(1));
    times.Opened("shop", "webapp", "a", odd, clock.Now());
    times.Opened("shop", "webapp", "b", odd, start);
  }
  ReadTimes times(clock, folder.path);
  times.Load();
  CHECK(times.OpenedBy("shop", "webapp", odd) == Reads{{"a", clock.Now()}, {"b", start}});
  CHECK(times.OpenedBy("shop", "webapp", "other").empty());
  times.Gone("shop", "webapp", "ends");
  REQUIRE(times.Save().ok());
  CHECK(times.OpenedBy("shop", "webapp", "ends").empty());
  CHECK(times.OpenedBy("shop", "webapp2", "ends") == Reads{{"a", start}});
  CHECK(times.All()[0].last_read == clock.Now());
  clock.Advance(ReadTimes::kLife);
  times.Published("shop", "webapp", {"a", "b"});
  REQUIRE(times.Save().ok());
  CHECK(times.OpenedBy("shop", "webapp", odd) == Reads{{"a", start + absl::Hours(1)}});
  for (std::size_t i = 0; i <= ReadTimes::kMostPods; ++i) {
    clock.Advance(absl::Seconds(1));
    times.Opened("shop", "webapp", "a", StrCat("pod-", i), clock.Now());
  }
  CHECK(times.OpenedBy("shop", "webapp", "pod-0").empty());
  CHECK(times.OpenedBy("shop", "webapp", "pod-1").size() == 1);
}

TEST_CASE("two plugins that follow each other lose nothing of what the other has seen") {
  Folder folder;
  ManualClock clock;
  ReadTimes standby(clock, folder.path);
  ReadTimes active(clock, folder.path);
  active.Published("n", "c", {"a", "b"});
  clock.Advance(absl::Hours(1));
  active.Opened("n", "c", "a", "web-1", clock.Now());
  REQUIRE(active.Save().ok());
  standby.Load();
  CHECK(Names(standby.All()) == List{"n/c/a", "n/c/b"});
  clock.Advance(absl::Hours(1));
  standby.Opened("n", "c", "b", "web-1", clock.Now());
  active.Opened("n", "c", "a", "web-1", clock.Now());  // before it stops
  REQUIRE(active.Save().ok());
  REQUIRE(standby.Save().ok());
  ReadTimes next(clock, folder.path);
  next.Load();
  CHECK(next.All()[0].last_read == clock.Now());
  CHECK(next.All()[1].last_read == clock.Now());
}

TEST_CASE("files that aren't published any longer are forgotten after thirty days") {
  Folder folder;
  ManualClock clock;
  ReadTimes times(clock, folder.path);
  times.Published("n", "c", {"old", "kept"});
  clock.Advance(absl::Hours(24 * 20));
  times.Published("n", "c", {"kept"});
  clock.Advance(absl::Hours(24 * 11));
  times.Opened("n", "c", "kept", "web-1", clock.Now());
  REQUIRE(times.Save().ok());
  CHECK(Names(times.All()) == List{"n/c/kept"});
}

TEST_CASE("there is a limit, and what was published last stays") {
  ManualClock clock;
  ReadTimes times(clock, "");
  times.Published("n", "c", {"first"});
  clock.Advance(absl::Hours(1));
  std::vector<std::string> files;
  for (std::size_t i = 0; i < ReadTimes::kMostFiles; ++i) files.push_back(StrCat("f", i));
  times.Published("n", "c", files);
  const std::vector<ReadTime> all = times.All();
  CHECK(all.size() == ReadTimes::kMostFiles);
  CHECK(all[0].file == "f0");
  clock.Advance(absl::Hours(1));
  times.Opened("n", "c", "new", "web-1", clock.Now());
  CHECK(times.All().size() <= ReadTimes::kMostFiles);
  CHECK(times.OpenedBy("n", "c", "web-1").size() == 1);
}

TEST_CASE("a file in another format, or no folder, is no reason to stop") {
  Folder folder;
  ManualClock clock;
  std::ofstream(folder.path + "/read-times") << "something else\nn\tc\tf\t1\t1\t1\n";
  ReadTimes times(clock, folder.path);
  times.Load();
  CHECK(times.All().empty());
  ReadTimes nowhere(clock, folder.path + "/none");
  nowhere.Load();
  nowhere.Published("n", "c", {"f"});
  CHECK_FALSE(nowhere.Save().ok());
  CHECK(nowhere.All().size() == 1);
}

}  // namespace
}  // namespace coffer::csi
