// Swaps, unmounts and deaths as readers and watchers see them. Needs root and /dev/fuse.
#include <fcntl.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "csi/volume/volume_testing.h"

namespace coffer::volume {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

class Watcher {
 public:
  void Add(const std::string& path,
           std::uint32_t mask = IN_ALL_EVENTS & ~(IN_OPEN | IN_ACCESS | IN_CLOSE)) {
    REQUIRE(inotify_add_watch(inotify_.get(), path.c_str(), mask) >= 0);
  }
  // Events since the last call, "CREATE name", in order.
  std::vector<std::string> Take() {
    std::vector<std::string> events;
    alignas(inotify_event) char buffer[65536];
    ssize_t size;
    while ((size = read(inotify_.get(), buffer, sizeof buffer)) > 0) {
      for (char* at = buffer; at < buffer + size;) {
        const auto* event = reinterpret_cast<const inotify_event*>(at);
        const std::pair<std::uint32_t, const char*> kinds[] = {
            {IN_CREATE, "CREATE"},           {IN_DELETE, "DELETE"},
            {IN_MOVED_FROM, "MOVED_FROM"},   {IN_MOVED_TO, "MOVED_TO"},
            {IN_DELETE_SELF, "DELETE_SELF"}, {IN_ATTRIB, "ATTRIB"},
            {IN_MODIFY, "MODIFY"},           {IN_IGNORED, "IGNORED"},
            {IN_UNMOUNT, "UNMOUNT"}};
        for (const auto& [bit, name] : kinds) {
          if ((event->mask & bit) == 0) continue;
          events.push_back(event->len == 0 ? name
                                           : StrCat(name, " ", std::string_view(event->name)));
        }
        at += sizeof *event + event->len;
      }
    }
    return events;
  }

 private:
  const UniqueFd inotify_{inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
};

// Looks at which of a file's pages are cached, without touching them.
class PageView {
 public:
  explicit PageView(int file) {
    struct stat info {};
    REQUIRE(fstat(file, &info) == 0);
    pages_ = (static_cast<std::size_t>(info.st_size) + 4095) / 4096;
    mapped_ = mmap(nullptr, pages_ * 4096, PROT_READ, MAP_SHARED, file, 0);
    REQUIRE(mapped_ != MAP_FAILED);
  }
  ~PageView() { munmap(mapped_, pages_ * 4096); }
  long cached() const {
    std::vector<unsigned char> resident(pages_);
    CHECK(mincore(mapped_, pages_ * 4096, resident.data()) == 0);
    return std::count_if(resident.begin(), resident.end(),
                         [](unsigned char page) { return page & 1; });
  }

 private:
  std::size_t pages_;
  void* mapped_;
};

// How often the 32 bytes `masked` ^ 0x55 are in this process's writable memory, secret pages
// included, which only the process itself can read.
int CountInMemory(const std::string& masked) {
  std::ifstream maps("/proc/self/maps");
  const UniqueFd copy(memfd_create("scan", MFD_CLOEXEC));
  int found = 0;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t start = 0, end = 0;
    char mode[5] = {};
    if (sscanf(line.c_str(), "%lx-%lx %4s", &start, &end, mode) != 3 || mode[0] != 'r' ||
        mode[1] != 'w')
      continue;
    if (line.find("[stack") != std::string::npos || end - start > (64u << 20)) continue;
    // A system call fails where a plain read would crash, and no sanitizer minds it.
    for (std::uintptr_t at = start; at < end; at += 4096) {
      if (syscall(SYS_pwrite64, copy.get(), at, 4096, 0) != 4096) continue;
      std::uint8_t page[4096];
      if (pread(copy.get(), page, sizeof page, 0) != 4096) continue;
      const std::uint8_t* const last = page + sizeof page - masked.size();
      const int first = static_cast<std::uint8_t>(masked[0]) ^ 0x55;
      for (const std::uint8_t* at_first = page; at_first <= last; ++at_first) {
        at_first = static_cast<const std::uint8_t*>(
            std::memchr(at_first, first, static_cast<std::size_t>(last - at_first) + 1));
        if (at_first == nullptr) break;
        found += std::equal(masked.begin(), masked.end(), at_first, [](char m, std::uint8_t byte) {
          return static_cast<std::uint8_t>(m) == (byte ^ 0x55);
        });
      }
      std::memset(page, 0, sizeof page);
    }
  }
  CHECK(ftruncate(copy.get(), 0) == 0);
  return found;
}

TEST_CASE("a swap shows new content, links and times, and takes the old away") {
  Mounted volume(Contents{{"stays", "old"}, {"goes", "x"}, {"dir/a", "1"}});
  const std::string folder = fs::read_symlink(volume.target + "/..data");
  struct stat before {
  }, after{};
  REQUIRE(stat((volume.target + "/stays").c_str(), &before) == 0);
  CHECK(Errno([&] { return open((volume.target + "/comes").c_str(), O_RDONLY); }) == ENOENT);
  CHECK(Names(volume.target).size() == 5);

  REQUIRE(volume.Swap({{"stays", "new content"}, {"comes", "y"}, {"dir/b", "2"}}).ok());
  CHECK(Read(volume.target + "/stays") == "new content");
  CHECK(Read(volume.target + "/comes") == "y");
  CHECK(Read(volume.target + "/goes") == "error: ENOENT");
  CHECK(Names(volume.target + "/dir") == NameSet{"b"});
  REQUIRE(stat((volume.target + "/stays").c_str(), &after) == 0);
  CHECK(after.st_ino != before.st_ino);
  CHECK(after.st_mtime == before.st_mtime + 1);
  const std::string new_folder = fs::read_symlink(volume.target + "/..data");
  CHECK(new_folder > folder);
  CHECK(Names(volume.target) == NameSet{"..data", folder, new_folder, "stays", "comes", "dir"});
  CHECK(Eventually([&] { return Names(volume.target).count(folder) == 0; }));
  CHECK(Errno([&] { return open((volume.target + "/" + folder).c_str(), O_RDONLY); }) == ENOENT);
}

TEST_CASE("a watcher on a read-only bind sees the kubelet's events") {
  Mounted volume(Contents{{"file", "old"}, {"goes", "x"}});
  const std::string pod = volume.folder.path + "/pod";
  fs::create_directory(pod);
  REQUIRE(mount(volume.target.c_str(), pod.c_str(), nullptr, MS_BIND, nullptr) == 0);
  REQUIRE(mount(nullptr, pod.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) == 0);
  const std::string old_folder = fs::read_symlink(pod + "/..data");
  Watcher root, file, data;
  root.Add(pod);
  file.Add(pod + "/file");  // through the links: the file itself
  data.Add(pod + "/..data");
  CHECK(Read(pod + "/file") == "old");

  REQUIRE(volume.Swap({{"file", "new"}, {"comes", "y"}}).ok());
  const auto held = volume.server.Files(volume.target);
  REQUIRE(held.ok());
  REQUIRE(held->size() == 2);
  CHECK(held->back().path == "file");
  CHECK(held->back().content.view() == "new");
  const std::string new_folder = fs::read_symlink(pod + "/..data");
  CHECK(root.Take() == std::vector<std::string>{"CREATE " + new_folder, "CREATE ..data_tmp",
                                                "MOVED_FROM ..data_tmp", "MOVED_TO ..data",
                                                "CREATE comes", "DELETE goes"});
  CHECK(Read(pod + "/file") == "new");
  std::vector<std::string> seen;
  CHECK(Eventually([&] { return !(seen = root.Take()).empty(); }));
  CHECK(seen == std::vector<std::string>{"DELETE " + old_folder});
  CHECK(file.Take() == std::vector<std::string>{"ATTRIB", "DELETE_SELF", "IGNORED"});
  CHECK(data.Take() == std::vector<std::string>{"DELETE file", "DELETE_SELF", "IGNORED"});
  CHECK(umount2(pod.c_str(), MNT_DETACH) == 0);
}

TEST_CASE("the same content again is no change and no event") {
  const std::vector<Content> files = {{"b/c", "2"}, {"a", "1", 0400, 5, 6}};
  Mounted volume(files);
  Watcher watcher;
  watcher.Add(volume.target);
  const std::string folder = fs::read_symlink(volume.target + "/..data");
  REQUIRE(volume.Swap({files[1], files[0]}).ok());
  CHECK(watcher.Take().empty());
  CHECK(fs::read_symlink(volume.target + "/..data") == folder);
  const std::vector<std::vector<Content>> changes = {{files[0], {"a", "1", 0440, 5, 6}},
                                                     {files[0], {"a", "1", 0440, 7, 6}},
                                                     {files[0], {"a", "1", 0440, 7, 8}},
                                                     {files[0], {"a", "2", 0440, 7, 8}},
                                                     {files[0]},
                                                     {files[0], {"b/d", "2"}}};
  for (const auto& change : changes) {
    REQUIRE(volume.Swap(change).ok());
    CHECK(watcher.Take().size() >= 4);
  }
  CHECK(absl::IsNotFound(volume.server.Swap(volume.folder.path + "/none", {}).status()));
  CHECK(volume.Swap({{"../x", ""}}).code() == absl::StatusCode::kInvalidArgument);
  CHECK(Read(volume.target + "/b/d") == "2");
}

TEST_CASE("readers during many swaps see no error and no mixture") {
  const auto version = [](int i) {
    const std::string text =
        StrCat("version ", i, " ", std::string(static_cast<std::size_t>(i % 7) * 3000, 'x'));
    return std::vector<Content>{{"a", text}, {"dir/b", text}, {"dir/sub/c", text}};
  };
  Mounted volume(version(0));
  std::atomic<bool> done = false;
  std::atomic<long> reads = 0, errors = 0, mixtures = 0;
  std::vector<std::thread> readers;
  for (int kind = 0; kind < 4; ++kind) {
    readers.emplace_back([&, kind] {
      while (!done) {
        if (kind < 2) {  // each file by its own path
          const std::string text = Read(volume.target + (kind == 0 ? "/a" : "/dir/sub/c"));
          errors += text.compare(0, 8, "version ") != 0;
        } else if (kind == 2) {  // one look at ..data, then all below it
          const UniqueFd folder(open((volume.target + "/..data").c_str(), O_PATH | O_DIRECTORY));
          std::set<std::string> texts;
          for (const char* name : {"a", "dir/b", "dir/sub/c"}) {
            texts.insert(Read(StrCat("/proc/self/fd/", folder.get(), "/", std::string_view(name))));
          }
          errors += texts.begin()->compare(0, 8, "version ") != 0;
          mixtures += texts.size() != 1;
        } else {
          struct stat info {};
          errors += stat((volume.target + "/dir/b").c_str(), &info) != 0;
          errors += Names(volume.target).count("..data") != 1;
        }
        ++reads;
      }
    });
  }
  const auto end = std::chrono::steady_clock::now() + 4s;
  int swaps = 0;
  while (std::chrono::steady_clock::now() < end) {
    if (!volume.Swap(version(++swaps)).ok()) ++errors;
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  INFO(swaps << " swaps, " << reads << " reads");
  CHECK(errors == 0);
  CHECK(mixtures == 0);
  CHECK(swaps > 10);  // a busy machine does few
  CHECK(reads > 1000);
  CHECK(Read(volume.target + "/dir/b") == version(swaps)[0].content);
}

TEST_CASE("who has a file open finishes with the old content") {
  const std::string old_text(300'000, 'o');
  Mounted volume(Contents{{"file", old_text}});
  const UniqueFd file(open((volume.target + "/file").c_str(), O_RDONLY));
  char* mapped =
      static_cast<char*>(mmap(nullptr, old_text.size(), PROT_READ, MAP_SHARED, file.get(), 0));
  CHECK(mapped[0] == 'o');
  REQUIRE(volume.Swap({{"file", "new"}}).ok());
  CHECK(Eventually([&] { return Names(volume.target).size() == 3; }));
  std::string text(old_text.size(), '\0');
  CHECK(pread(file.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  CHECK(text == old_text);
  CHECK(std::string_view(mapped, old_text.size()) == old_text);
  munmap(mapped, old_text.size());
  CHECK(Read(volume.target + "/file") == "new");
}

TEST_CASE("bytes are wiped and cached pages dropped: at the swap, at the last close, at unmount") {
  // Never in this process's memory unmasked but through the volume.
  std::string masked(32, '\0');
  FillRandom({reinterpret_cast<std::uint8_t*>(masked.data()), masked.size()});
  const auto secret = [&] {
    std::vector<SnapshotFile> files(1);
    files[0].path = "file";
    files[0].content = SecretBytes::CopyOf(masked);
    for (std::uint8_t& byte : files[0].content.span()) byte ^= 0x55;
    return files;
  };
  Mounted volume(Contents{});
  const auto read_once = [&] {
    // In a child: no copy is left here.
    return InChild([&] { return Read(volume.target + "/file").size() == 32 ? 0 : 1; }) == 0;
  };
  CHECK(CountInMemory(masked) == 0);
  REQUIRE(volume.server.Swap(volume.target, secret()).ok());
  REQUIRE(read_once());
  CHECK(CountInMemory(masked) == 1);

  SECTION("swapped, no handle") {
    REQUIRE(volume.Swap({{"file", "other"}}).ok());
    CHECK(Eventually([&] { return CountInMemory(masked) == 0; }));
  }
  SECTION("swapped, a handle is open: kept for it, pages dropped, wiped when it closes") {
    UniqueFd file(open((volume.target + "/file").c_str(), O_RDONLY));
    std::optional<PageView> pages(file.get());
    CHECK(pages->cached() == 1);
    REQUIRE(volume.Swap({{"file", "other"}}).ok());
    CHECK(Eventually([&] { return Names(volume.target).size() == 3; }));
    CHECK(Eventually([&] { return pages->cached() == 0; }));
    CHECK(CountInMemory(masked) == 1);
    pages.reset();
    file.reset();
    CHECK(Eventually([&] { return CountInMemory(masked) == 0; }));
  }
  SECTION("unmounted under an open handle, which has errors from then on") {
    const UniqueFd file(open((volume.target + "/file").c_str(), O_RDONLY));
    const PageView pages(file.get());
    CHECK(pages.cached() == 1);
    REQUIRE(volume.server.Unmount(volume.target).ok());
    CHECK(pages.cached() == 0);
    CHECK(CountInMemory(masked) == 0);
    char byte;
    CHECK(Errno([&] { return static_cast<int>(pread(file.get(), &byte, 1, 0)); }) != 0);
  }
}

TEST_CASE("unmounting leaves nothing, twice is once, and the place can be used again") {
  Mounted volume(Contents{{"a", "1"}});
  for (int i = 0; i < 3; ++i) {
    CHECK(volume.server.Unmount(volume.target).ok());
    CHECK(volume.server.Unmount(volume.target).ok());
    CHECK_FALSE(volume.server.Serves(volume.target));
    CHECK(FindMounts(volume.folder.path)->empty());
    CHECK(fs::is_empty(volume.target));
    REQUIRE(volume.server.Mount({"id", volume.target}, Files({{"a", StrCat(i)}})).ok());
    CHECK(Read(volume.target + "/a") == StrCat(i));
  }
  // By someone else: noticed.
  REQUIRE(umount2(volume.target.c_str(), MNT_DETACH) == 0);
  CHECK(Eventually([&] { return !volume.server.Serves(volume.target); }));
}

TEST_CASE(
    "mounts of a killed plugin are found without touching them, and mounted over or detached") {
  Folder folder;
  const std::vector<std::string> targets = {folder.path + "/one", folder.path + "/two \\ \t",
                                            folder.path + "/three"};
  for (const std::string& target : targets) fs::create_directory(target);
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  if (child == 0) {
    SystemClock clock;
    auto* server = new VolumeServer(clock);
    char ok = '1';
    for (const std::string& target : targets) {
      if (!server->Mount({"id of " + target, target}, Files({{"a", "1"}})).ok()) ok = '0';
    }
    (void)!write(ready[1], &ok, 1);
    for (;;) pause();
  }
  char ok = 0;
  REQUIRE(read(ready[0], &ok, 1) == 1);
  CHECK(ok == '1');
  CHECK(Read(targets[0] + "/a") == "1");

  // Stopped, nobody answers: to touch the mount would block.
  kill(child, SIGSTOP);
  auto found = FindMounts(folder.path);
  REQUIRE(found->size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK((*found)[i].target == targets[i]);
    CHECK((*found)[i].volume_id == "id of " + targets[i]);
  }
  CHECK(DetachMount(targets[0]).ok());
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  CHECK(Errno([&] { return open((targets[1] + "/other").c_str(), O_RDONLY); }) == ENOTCONN);
  CHECK(DetachMount(targets[1]).ok());
  CHECK(DetachMount(targets[1]).ok());
  CHECK(FindMounts(folder.path)->size() == 1);

  ManualClock clock;
  VolumeServer server(clock);
  REQUIRE(server.Mount({"again", targets[2]}, Files({{"a", "2"}})).ok());
  CHECK(Read(targets[2] + "/a") == "2");
  found = FindMounts(folder.path);
  REQUIRE(found->size() == 1);
  CHECK(found->front().volume_id == "again");
  CHECK(server.Unmount(targets[2]).ok());
  CHECK(FindMounts(folder.path)->empty());
  CHECK(DetachMount(targets[2]).ok());
  CHECK(FindMounts(folder.path + "/nowhere").value().empty());
}

}  // namespace
}  // namespace coffer::volume
