#include "csi/volume/snapshot.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "csi/volume/volume_testing.h"

namespace coffer::volume {
namespace {

std::unique_ptr<Snapshot> Built(const Contents& contents) {
  std::vector<SnapshotFile> files = Files(contents);
  auto built = Snapshot::Build(files, 100, absl::FromUnixSeconds(1748950851));
  REQUIRE(built.ok());
  return *std::move(built);
}

TEST_CASE("an image holds the tree in breadth-first order, children by name") {
  const auto snapshot =
      Built({{"b", "B"}, {"a/z", "AZ"}, {"a.txt", "T"}, {"a/c/d", "ACD"}, {"a/b", ""}});
  CHECK(snapshot->folder_name() == "..2025_06_03_11_40_51.100");
  CHECK(snapshot->Content(Snapshot::kDataLink) == snapshot->folder_name());
  std::vector<std::string> paths;
  for (std::uint32_t i = 2; i < snapshot->node_count(); ++i) paths.push_back(snapshot->Path(i));
  CHECK(paths == std::vector<std::string>{"a", "a.txt", "b", "a/b", "a/c", "a/z", "a/c/d"});
  CHECK(snapshot->Content(*snapshot->Child(2, "z")) == "AZ");
  CHECK(snapshot->Content(*snapshot->Child(2, "b")).empty());
  CHECK(S_ISDIR(snapshot->node(*snapshot->Child(2, "c")).mode));
  CHECK_FALSE(snapshot->Child(2, "").has_value());
  CHECK_FALSE(snapshot->Child(2, "zz").has_value());
  CHECK_FALSE(snapshot->Child(Snapshot::kFolder, "..data").has_value());
  CHECK(snapshot->file_count() == 5);
  CHECK(snapshot->content_size() == 7);
  CHECK(snapshot->Has(100));
  CHECK_FALSE(snapshot->Has(99));
  CHECK_FALSE(snapshot->Has(100 + snapshot->node_count()));
}

TEST_CASE("the same files in any order are held, any difference is seen") {
  const Contents files = {{"a/b", "1", 0400, 5, 6}, {"c", "2"}};
  const auto snapshot = Built(files);
  CHECK(snapshot->Holds(Files({files[1], files[0]})));
  const Contents cases[] = {{files[0]},
                            {files[0], files[0]},
                            {files[0], {"c", "3"}},
                            {files[0], {"c", "22"}},
                            {files[0], {"c", "2", 0600}},
                            {files[0], {"c", "2", 0644, 1}},
                            {files[0], {"c", "2", 0644, 0, 1}},
                            {files[0], {"d", "2"}},
                            {files[1], {"a", "1", 0400, 5, 6}},
                            {files[0], {"c/x", "2"}},
                            {files[0], files[1], {"e", ""}}};
  for (const Contents& other : cases) {
    INFO(other.back().path);
    CHECK_FALSE(snapshot->Holds(Files(other)));
  }
}

TEST_CASE("a file that may go is held by its digest: another thread may be wiping its bytes") {
  const auto file = [](const std::string& content) {
    std::vector<SnapshotFile> files = Files(Contents{{"once", content}});
    files[0].rules.read_once = true;
    return files;
  };
  std::vector<SnapshotFile> files = file("1");
  const auto snapshot = Snapshot::Build(files, 100, absl::UnixEpoch(), /*guarded=*/true);
  REQUIRE(snapshot.ok());
  const std::uint32_t once = *(*snapshot)->Find("once");
  CHECK((*snapshot)->Vanish(once));
  (*snapshot)->guard(once)->gone = 0;  // as before it says so
  CHECK((*snapshot)->Holds(file("1")));
  CHECK_FALSE((*snapshot)->Holds(file("2")));
}

TEST_CASE("each node has the one of its path as its counterpart in another snapshot") {
  const auto old = Built({{"a", "1"}, {"b/c", "2"}, {"b/d/e", "3"}, {"f", "4"}});
  const auto next = Built({{"a/x", "1"}, {"b/c", "5"}, {"b/d/e", "6"}, {"b/g", "7"}});
  const Snapshot::Counterparts found = next->CounterpartsIn(*old);
  REQUIRE(found.size() == next->node_count());
  CHECK(found[Snapshot::kFolder] == Snapshot::kFolder);
  for (std::uint32_t i = Snapshot::kDataLink + 1; i < next->node_count(); ++i) {
    INFO(next->Path(i));
    CHECK(found[i] == old->Find(next->Path(i)));
  }
}

TEST_CASE("of a canary's first open it is inherited that it was told, and that it is owed") {
  constexpr std::uint32_t kUntold = 0, kDone = Guard::kTold, kOwed = Guard::kTold | Guard::kOwed;
  struct Case {
    const char* name;
    std::uint32_t old, next, inherited;
  };
  const Case cases[] = {
      {"nothing", kUntold, kUntold, kUntold},
      {"an old build's, or a delivered one", 1, kUntold, kDone},
      {"one that is owed", kOwed, kUntold, kOwed},
      {"again, after a death", kOwed, kOwed, kOwed},
      {"again, after one in the middle of marking it as delivered", kDone, kOwed, kOwed},
      {"told of the next one alone", kUntold, kDone, kDone},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    const auto built = [](std::uint32_t told) {
      std::vector<SnapshotFile> files = Files(Contents{{"bait", "1"}});
      files[0].rules.canary = true;
      auto snapshot = *Snapshot::Build(files, 100, absl::UnixEpoch(), /*guarded=*/true);
      snapshot->guard(*snapshot->Find("bait"))->told = told;
      return snapshot;
    };
    const auto old = built(c.old), next = built(c.next);
    next->Inherit(*old, next->CounterpartsIn(*old));
    CHECK(next->guard(*next->Find("bait"))->told == c.inherited);
  }
}

TEST_CASE("references are counted a node and in all") {
  const auto snapshot = Built({{"a", "1"}, {"b", "2"}});
  snapshot->AddLookup(2);
  snapshot->AddLookup(2);
  snapshot->AddLookup(3);
  CHECK(snapshot->lookups() == 3);
  snapshot->Forget(2, 1);
  CHECK(snapshot->node(2).lookups == 1);
  snapshot->Forget(2, 100);  // more than there are
  CHECK(snapshot->lookups() == 1);
}

TEST_CASE("a refusal names the path and never the content") {
  for (const Contents& files :
       {Contents{{"a/../b", "top secret"}}, Contents{{"a", "top secret"}, {"a", "top secret"}},
        Contents{{"a", "top secret"}, {"a/b", "top secret"}}}) {
    std::vector<SnapshotFile> list = Files(files);
    const auto built = Snapshot::Build(list, 100, absl::UnixEpoch());
    CHECK(built.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(Message(built.status()).find(files.back().path) != std::string_view::npos);
    CHECK(Message(built.status()).find("secret") == std::string_view::npos);
  }
}

TEST_CASE("both kinds of memory are shared, zeroed, locked and left out of core dumps") {
  for (const MemoryKind kind : {MemoryKind::kMemfdSecret, MemoryKind::kLockedMemfd}) {
    const auto mapping = SecretMapping::Make(10'000, kind);
    REQUIRE(mapping.ok());
    CHECK(mapping->kind() == kind);  // memfd_secret: Linux 5.14, or secretmem.enable=1 before 6.5
    CHECK(mapping->span().size() == 10'000);
    CHECK(std::all_of(mapping->span().begin(), mapping->span().end(),
                      [](std::uint8_t b) { return b == 0; }));
    mapping->span()[9'999] = 1;

    std::ifstream smaps("/proc/self/smaps");
    const std::string start =
        StrCat(absl::Hex(reinterpret_cast<std::uintptr_t>(mapping->span().data())), "-");
    std::string line, flags;
    while (std::getline(smaps, line) && line.rfind(start, 0) != 0) continue;
    while (std::getline(smaps, line) && line.rfind("VmFlags:", 0) != 0) continue;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they disable mlock(2)
    CHECK(line.find(" lo") != std::string::npos);
#endif
    CHECK(line.find(" dd") != std::string::npos);
    CHECK(line.find(" sh") != std::string::npos);

    // Not even root reads secret memory through /proc.
    const UniqueFd memory(open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
    char byte;
    const ssize_t size =
        pread(memory.get(), &byte, 1,
              static_cast<off_t>(reinterpret_cast<std::uintptr_t>(mapping->span().data())));
    CHECK(size == (kind == MemoryKind::kMemfdSecret ? -1 : 1));
  }
}

}  // namespace
}  // namespace coffer::volume
