// Preloaded, it has a program see the kernel without what COFFER_WITHOUT names, with commas between:
// fuse, noswap, memfd_secret, resend, pidfd. Each is refused as a kernel that doesn't have it does.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr int kResend = 7;  // FUSE_NOTIFY_RESEND, Linux 6.9

bool Lacks(const char* what) {
  const char* const all = getenv("COFFER_WITHOUT");
  return all != nullptr && strstr(all, what) != nullptr;
}

template <class Function>
Function* Real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  static auto* const real = Real<int(const char*, int, ...)>("open");
  va_list more;
  va_start(more, flags);
  const unsigned mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, unsigned) : 0;
  va_end(more);
  if (strcmp(path, "/dev/fuse") == 0 && Lacks("fuse")) {
    errno = ENOENT;
    return -1;
  }
  return real(path, flags, mode);
}

ssize_t write(int fd, const void* bytes, size_t size) {
  static auto* const real = Real<ssize_t(int, const void*, size_t)>("write");
  fuse_out_header header;
  if (size == sizeof header && Lacks("resend")) {
    memcpy(&header, bytes, size);
    if (header.unique == 0 && header.len == size && header.error == kResend) {
      errno = EINVAL;
      return -1;
    }
  }
  return real(fd, bytes, size);
}

int fsconfig(int context, unsigned command, const char* key, const void* value, int more) noexcept {
  static auto* const real = Real<int(int, unsigned, const char*, const void*, int)>("fsconfig");
  if (key != nullptr && strcmp(key, "noswap") == 0 && Lacks("noswap")) {
    errno = EINVAL;
    return -1;
  }
  return real(context, command, key, value, more);
}

long syscall(long number, ...) noexcept {
  static auto* const real = Real<long(long, ...)>("syscall");
  if ((number == SYS_memfd_secret && Lacks("memfd_secret")) ||
      (number == SYS_pidfd_open && Lacks("pidfd"))) {
    errno = ENOSYS;
    return -1;
  }
  va_list more;
  va_start(more, number);
  long given[6];
  for (long& argument : given) argument = va_arg(more, long);
  va_end(more);
  return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}

}  // extern "C"
