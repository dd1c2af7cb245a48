// A volume as a pod sees it, by a bind mount: which calls fail and how, and which must work. Each is
// tried on volumes that deliver opens and on those that don't. Needs root and /dev/fuse.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <functional>

#include "csi/volume/volume_testing.h"

namespace coffer::volume {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kText = "0123456789";

// A volume with a bind mount of it, and what its paths are there.
struct Pod {
  explicit Pod(bool opens) {
    const std::string target = folder.path + "/mount";
    for (const std::string& path : {target, view}) fs::create_directory(path);
    REQUIRE(server
                .Mount({"csi-1", target, {}, opens},
                       Files(Contents{{"file", std::string(kText)},
                                      {"dir/inner", "x"},
                                      {"private", "p", 0400, 0, 0}}))
                .ok());
    REQUIRE(mount(target.c_str(), view.c_str(), nullptr, MS_BIND, nullptr) == 0);
  }
  ~Pod() {
    CHECK(umount2(view.c_str(), MNT_DETACH) == 0);
    CHECK(server.Unmount(folder.path + "/mount").ok());
  }
  // As if the bind mount had been made writable: then the file system itself is asked.
  void MakeWritable() {
    REQUIRE(mount(nullptr, view.c_str(), nullptr, MS_REMOUNT | MS_BIND, nullptr) == 0);
  }

  Folder folder;
  std::string view = folder.path + "/pod";
  ManualClock clock;
  VolumeServer server{clock};
};

using Call = std::function<long()>;
using Calls = std::vector<std::pair<const char*, Call>>;

// 0 if it succeeds, else errno.
int ErrorOf(const Call& call) {
  errno = 0;
  return call() >= 0 ? 0 : errno;
}

// Calls that would change something, below `v`.
Calls Changes(const std::string& v) {
  const auto path = [v](const char* name) { return StrCat(v, "/", name); };
  const std::string file = path("file"), data = path("..data"), fresh = path("new");
  const std::string real = path("..data/file"), dir = path("..data/dir"), inner = path("dir/inner");
  const auto opens = [](const std::string& name, int flags) {
    return [name, flags] { return open(name.c_str(), flags | O_CLOEXEC, 0600); };
  };
  const auto chmods = [](const std::string& name) {
    return [name] { return chmod(name.c_str(), 0777); };
  };
  const auto renames = [](const std::string& from, const std::string& to, unsigned flags) {
    return [=] { return renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags); };
  };
  const auto times = [](const std::string& name, int flags) {
    return [=] { return utimensat(AT_FDCWD, name.c_str(), nullptr, flags); };
  };
  const auto makes = [](const std::string& name, mode_t mode) {
    return [=] { return mknod(name.c_str(), mode | 0600, makedev(1, 3)); };
  };
  const auto sets = [](const std::string& name, const char* attribute) {
    return [=] { return setxattr(name.c_str(), attribute, "v", 1, 0); };
  };
  return {
      {"create", opens(fresh, O_CREAT | O_WRONLY)},
      {"create to read", opens(fresh, O_CREAT | O_RDONLY)},
      {"create in a folder", opens(path("dir/new"), O_CREAT | O_WRONLY)},
      {"create exclusively", opens(fresh, O_CREAT | O_EXCL | O_RDWR)},
      {"create through ..data", opens(path("..data/new"), O_CREAT | O_WRONLY)},
      {"create where the swap does", opens(path("..data_tmp"), O_CREAT | O_WRONLY)},
      {"temporary file", opens(v, O_TMPFILE | O_WRONLY)},
      {"temporary file in a folder", opens(dir, O_TMPFILE | O_RDWR)},
      {"open with O_TRUNC", opens(file, O_WRONLY | O_TRUNC)},
      {"open to read with O_TRUNC", opens(file, O_RDONLY | O_TRUNC)},
      {"truncate", [=] { return truncate(file.c_str(), 1); }},
      {"lengthen", [=] { return truncate(file.c_str(), 100); }},
      {"truncate to its size", [=] { return truncate(file.c_str(), kText.size()); }},
      {"chmod", chmods(file)},
      {"chmod of a folder", chmods(dir)},
      {"chmod of the root", chmods(v)},
      {"chown", [=] { return chown(file.c_str(), 1, 1); }},
      {"chown to nobody else", [=] { return chown(file.c_str(), 0, 0); }},
      {"chown of a link", [=] { return lchown(file.c_str(), 1, 1); }},
      {"chown of the root", [=] { return chown(v.c_str(), 1, 1); }},
      {"utimes", times(file, 0)},
      {"utimes of a link", times(file, AT_SYMLINK_NOFOLLOW)},
      {"utimes of a folder", times(dir, 0)},
      {"setxattr", sets(file, "user.a")},
      {"setxattr of a folder", sets(dir, "user.a")},
      {"setxattr, trusted", sets(file, "trusted.a")},
      {"setxattr of a link", [=] { return lsetxattr(file.c_str(), "trusted.a", "v", 1, 0); }},
      {"removexattr", [=] { return removexattr(file.c_str(), "user.a"); }},
      {"mkdir", [=] { return mkdir(fresh.c_str(), 0755); }},
      {"mkdir in a folder", [=] { return mkdir(path("dir/new").c_str(), 0755); }},
      {"rmdir", [=] { return rmdir(dir.c_str()); }},
      {"unlink", [=] { return unlink(file.c_str()); }},
      {"unlink of the file itself", [=] { return unlink(real.c_str()); }},
      {"unlink in a folder", [=] { return unlink(inner.c_str()); }},
      {"unlink of ..data", [=] { return unlink(data.c_str()); }},
      {"rename", renames(file, fresh, 0)},
      {"rename over another", renames(real, inner, 0)},
      {"rename of a folder", renames(dir, path("..data/new"), 0)},
      {"rename of ..data", renames(data, fresh, 0)},
      {"rename over ..data", renames(file, data, 0)},
      {"rename, no replacing", renames(file, fresh, RENAME_NOREPLACE)},
      {"exchange", renames(file, data, RENAME_EXCHANGE)},
      {"link", [=] { return link(real.c_str(), fresh.c_str()); }},
      {"link of a link", [=] { return link(file.c_str(), fresh.c_str()); }},
      {"symlink", [=] { return symlink("file", fresh.c_str()); }},
      {"symlink as the swap makes it", [=] { return symlink("..x", path("..data_tmp").c_str()); }},
      {"mknod of a file", makes(fresh, S_IFREG)},
      {"mknod of a pipe", makes(fresh, S_IFIFO)},
      {"mknod of a device", makes(fresh, S_IFCHR)},
      {"socket",
       [=]() -> long {
         const UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
         // The path of a socket is short: by a descriptor.
         const UniqueFd at(open(v.c_str(), O_PATH | O_CLOEXEC));
         sockaddr_un name{.sun_family = AF_UNIX, .sun_path = {}};
         StrCat("/proc/self/fd/", at.get(), "/new").copy(name.sun_path, sizeof name.sun_path - 1);
         return bind(socket_fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name);
       }},
  };
}

TEST_CASE("every change is refused with EROFS") {
  const bool opens = GENERATE(false, true);
  Pod pod(opens);
  for (const auto& [name, call] : Changes(pod.view)) {
    INFO(name << (opens ? ", opens delivered" : ""));
    CHECK(ErrorOf(call) == EROFS);
  }
  // By others than root, too, who would lack the right as well.
  CHECK(InChild([&] {
          if (setresgid(1234, 1234, 1234) != 0 || setresuid(1234, 1234, 1234) != 0) return 255;
          int others = 0;
          for (const auto& [name, call] : Changes(pod.view)) {
            const int error = ErrorOf(call);
            others += error != EROFS && error != EACCES && error != EPERM;
          }
          return others;
        }) == 0);
  CHECK(access((pod.view + "/file").c_str(), W_OK) != 0);
  CHECK(errno == EROFS);
  CHECK(ErrorOf([&] { return open((pod.view + "/file").c_str(), O_WRONLY); }) == EROFS);
  CHECK(ErrorOf([&] { return open((pod.view + "/file").c_str(), O_RDWR); }) == EROFS);
  CHECK(Read(pod.view + "/file") == kText);
  CHECK(Names(pod.view).size() == 5);
}

TEST_CASE("every change is refused with EROFS by the file system itself") {
  const bool opens = GENERATE(false, true);
  Pod pod(opens);
  pod.MakeWritable();
  for (const auto& [name, call] : Changes(pod.view)) {
    INFO(name << (opens ? ", opens delivered" : ""));
    CHECK(ErrorOf(call) == EROFS);
  }
  const UniqueFd file(open((pod.view + "/file").c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(file);
  const UniqueFd other(open((pod.view + "/dir/inner").c_str(), O_RDONLY | O_CLOEXEC));
  const Calls calls = {
      {"write", [&] { return write(file.get(), "X", 1); }},
      {"pwrite", [&] { return pwrite(file.get(), "X", 1, 20); }},
      {"ftruncate", [&] { return ftruncate(file.get(), 0); }},
      {"fchmod", [&] { return fchmod(file.get(), 0777); }},
      {"fchown", [&] { return fchown(file.get(), 1, 1); }},
      {"fallocate", [&] { return fallocate(file.get(), 0, 0, 100); }},
      {"punching a hole",
       [&] { return fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4); }},
      {"fsetxattr", [&] { return fsetxattr(file.get(), "user.a", "v", 1, 0); }},
      {"copy_file_range",
       [&] { return copy_file_range(other.get(), nullptr, file.get(), nullptr, 1, 0); }},
  };
  for (const auto& [name, call] : calls) {
    INFO(name << (opens ? ", opens delivered" : ""));
    CHECK(ErrorOf(call) == EROFS);
  }
  CHECK(Read(pod.view + "/file") == kText);
}

TEST_CASE("calls that fail otherwise fail as on other file systems") {
  const bool opens = GENERATE(false, true);
  Pod pod(opens);
  const std::string file = pod.view + "/file", dir = pod.view + "/dir";
  const UniqueFd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(fd);
  char buffer[32];
  const std::string long_name(256, 'n');
  const std::tuple<const char*, int, Call> cases[] = {
      {"nothing there", ENOENT, [&] { return open((pod.view + "/no").c_str(), O_RDONLY); }},
      {"below a file", ENOTDIR, [&] { return open((file + "/x").c_str(), O_RDONLY); }},
      {"a file as a folder", ENOTDIR, [&] { return open(file.c_str(), O_DIRECTORY); }},
      {"a folder to write", EISDIR, [&] { return open(dir.c_str(), O_WRONLY); }},
      {"a link itself", ELOOP, [&] { return open(file.c_str(), O_RDONLY | O_NOFOLLOW); }},
      {"a name too long", ENAMETOOLONG,
       [&] { return access((pod.view + "/" + long_name).c_str(), F_OK); }},
      {"exclusive, where there is one", EEXIST,
       [&] { return open(file.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600); }},
      {"mkdir, where there is one", EEXIST, [&] { return mkdir(dir.c_str(), 0755); }},
      {"write by a reader", EBADF, [&] { return write(fd.get(), "x", 1); }},
      {"fallocate by a reader", EBADF, [&] { return fallocate(fd.get(), 0, 0, 100); }},
      {"truncate by a reader", EINVAL, [&] { return ftruncate(fd.get(), 0); }},
      {"a shared writable mapping", EACCES,
       [&] {
         return mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0) == MAP_FAILED
                    ? -1
                    : 0;
       }},
      {"an xattr", EOPNOTSUPP, [&] { return getxattr(file.c_str(), "user.a", buffer, 4); }},
      {"all xattrs", EOPNOTSUPP, [&] { return listxattr(file.c_str(), buffer, 4); }},
      {"data after the end", ENXIO, [&] { return lseek(fd.get(), 10, SEEK_DATA); }},
      {"a place before the start", EINVAL, [&] { return lseek(fd.get(), -1, SEEK_SET); }},
      {"readlink of a file", EINVAL,
       [&] { return readlink((pod.view + "/..data/file").c_str(), buffer, 32); }},
      {"running a file", EACCES,
       [&] {
         char* const arguments[] = {nullptr};
         return execve(file.c_str(), arguments, arguments);
       }},
  };
  for (const auto& [name, error, call] : cases) {
    INFO(name << (opens ? ", opens delivered" : ""));
    CHECK(ErrorOf(call) == error);
  }
  CHECK(InChild([&] {
          if (setresgid(1234, 1234, 1234) != 0 || setresuid(1234, 1234, 1234) != 0) return 255;
          return ErrorOf([&] { return open((pod.view + "/private").c_str(), O_RDONLY); });
        }) == EACCES);
}

TEST_CASE("calls that a reader makes succeed") {
  const bool opens = GENERATE(false, true);
  Pod pod(opens);
  const std::string path = pod.view + "/file";
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd folder(open(pod.view.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const UniqueFd copy(open((pod.folder.path + "/copy").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  int pipes[2];
  REQUIRE(pipe2(pipes, O_CLOEXEC) == 0);
  const UniqueFd out(pipes[0]), in(pipes[1]);
  const UniqueFd watcher(inotify_init1(IN_CLOEXEC));
  char buffer[64];
  iovec parts[2] = {{buffer, 4}, {buffer + 4, 60}};
  struct stat info {};
  struct statx more {};
  struct statfs system {};
  off_t offset = 0;
  const std::tuple<const char*, long, Call> cases[] = {
      {"pread", 4, [&] { return pread(file.get(), buffer, 4, 3); }},
      {"pread over the end", 2, [&] { return pread(file.get(), buffer, 64, 8); }},
      {"pread at the end", 0, [&] { return pread(file.get(), buffer, 64, 10); }},
      {"pread far behind it", 0, [&] { return pread(file.get(), buffer, 64, 1L << 40); }},
      {"preadv", 10, [&] { return preadv(file.get(), parts, 2, 0); }},
      {"read of nothing", 0, [&] { return read(file.get(), buffer, 0); }},
      {"seek from the end", 8, [&] { return lseek(file.get(), -2, SEEK_END); }},
      {"seek behind the end", 99, [&] { return lseek(file.get(), 99, SEEK_SET); }},
      {"seek to data", 3, [&] { return lseek(file.get(), 3, SEEK_DATA); }},
      {"seek to a hole", 10, [&] { return lseek(file.get(), 0, SEEK_HOLE); }},
      {"sendfile", 10, [&] { return sendfile(copy.get(), file.get(), &(offset = 0), 64); }},
      {"splice", 10, [&] { return splice(file.get(), &(offset = 0), in.get(), nullptr, 64, 0); }},
      {"copy to another file system", 10,
       [&] {
         offset = 0;
         const long copied = copy_file_range(file.get(), &offset, copy.get(), nullptr, 64, 0);
         return copied < 0 && (errno == EXDEV || errno == EOPNOTSUPP) ? 10 : copied;
       }},
      {"readahead", 0, [&] { return readahead(file.get(), 0, 64); }},
      {"fadvise", 0, [&] { return posix_fadvise(file.get(), 0, 0, POSIX_FADV_WILLNEED); }},
      {"fsync", 0, [&] { return fsync(file.get()); }},
      {"fsync of a folder", 0, [&] { return fsync(folder.get()); }},
      {"syncfs", 0, [&] { return syncfs(folder.get()); }},
      {"flock", 0, [&] { return flock(file.get(), LOCK_SH | LOCK_NB); }},
      {"access", 0, [&] { return access(path.c_str(), R_OK); }},
      {"access of a folder", 0, [&] { return access(pod.view.c_str(), R_OK | X_OK); }},
      {"stat", 0, [&] { return stat(path.c_str(), &info); }},
      {"fstat", 0, [&] { return fstat(file.get(), &info); }},
      {"lstat", 0, [&] { return lstat(path.c_str(), &info); }},
      {"statx", 0, [&] { return statx(folder.get(), "file", 0, STATX_ALL, &more); }},
      {"statfs", 0, [&] { return statfs(pod.view.c_str(), &system); }},
      {"fstatfs", 0, [&] { return fstatfs(file.get(), &system); }},
      {"readlink", 11, [&] { return readlink(path.c_str(), buffer, 64); }},
      {"a watch", 1, [&] { return inotify_add_watch(watcher.get(), path.c_str(), IN_ALL_EVENTS); }},
      {"open to read with O_CREAT", 0,
       [&] { return UniqueFd(open(path.c_str(), O_RDONLY | O_CREAT, 0600)) ? 0 : -1; }},
      {"open of the path alone", 0,
       [&] { return UniqueFd(open(path.c_str(), O_PATH)) ? 0 : -1; }},
      {"open without noting it", 0,
       [&] { return UniqueFd(open(path.c_str(), O_RDONLY | O_NOATIME)) ? 0 : -1; }},
      {"open around the cache", 0,
       [&] {
         const UniqueFd direct(open(path.c_str(), O_RDONLY | O_DIRECT));
         return direct && read(direct.get(), buffer, 64) == 10 ? 0 : -1;
       }},
      {"poll", 1,
       [&] {
         pollfd ready{.fd = file.get(), .events = POLLIN, .revents = 0};
         return poll(&ready, 1, 0);
       }},
  };
  for (const auto& [name, result, call] : cases) {
    INFO(name << (opens ? ", opens delivered" : ""));
    errno = 0;
    CHECK(call() == result);
    CHECK((errno == 0 || errno == EXDEV || errno == EOPNOTSUPP));
  }
  CHECK(more.stx_size == kText.size());
  CHECK(more.stx_mode == (S_IFREG | 0644));
  CHECK(system.f_namelen == 255);
  CHECK(system.f_bavail == 0);
  CHECK((system.f_flags & MS_RDONLY) != 0);
  CHECK((system.f_flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC)) == (MS_NOSUID | MS_NODEV | MS_NOEXEC));
}

TEST_CASE("mappings show the bytes, and a private one is the process's own") {
  const bool opens = GENERATE(false, true);
  Pod pod(opens);
  const UniqueFd file(open((pod.view + "/file").c_str(), O_RDONLY | O_CLOEXEC));
  for (const int kind : {MAP_SHARED, MAP_PRIVATE}) {
    const int protection = kind == MAP_PRIVATE ? PROT_READ | PROT_WRITE : PROT_READ;
    void* const mapped = mmap(nullptr, 4096, protection, kind, file.get(), 0);
    REQUIRE(mapped != MAP_FAILED);
    CHECK(std::memcmp(mapped, kText.data(), kText.size()) == 0);
    if (kind == MAP_PRIVATE) std::memset(mapped, 'X', kText.size());
    munmap(mapped, 4096);
  }
  CHECK(Read(pod.view + "/file") == kText);
}

TEST_CASE("a folder's stream can be rewound, and taken up at any place") {
  const bool opens = GENERATE(false, true);
  Pod pod(opens);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir(pod.view.c_str()), closedir);
  REQUIRE(stream != nullptr);
  std::vector<std::pair<long, std::string>> entries;
  for (long at = telldir(stream.get()); const dirent* entry = readdir(stream.get());
       at = telldir(stream.get())) {
    entries.emplace_back(at, entry->d_name);
  }
  CHECK(entries.size() == 7);  // with "." and ".."
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    seekdir(stream.get(), entry->first);
    const dirent* again = readdir(stream.get());
    REQUIRE(again != nullptr);
    CHECK(again->d_name == entry->second);
  }
  rewinddir(stream.get());
  CHECK(readdir(stream.get())->d_name == entries[0].second);
}

}  // namespace
}  // namespace coffer::volume
