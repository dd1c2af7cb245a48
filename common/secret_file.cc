#include "common/secret_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "common/strings.h"
#include "common/unique_fd.h"

namespace coffer {

absl::StatusOr<SecretBytes> ReadSecretFile(const std::string& path) {
  const auto failed = [&path](std::string_view what) {
    return absl::ErrnoToStatus(errno, ToAbsl(StrCat(what, " ", path)));
  };
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return failed("open");
  SecretBytes text;
  SecretBytes block(16 << 10);
  for (;;) {
    const ssize_t count = read(fd.get(), block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed("read");
    if (count == 0) return text;
    text.Append(block.view().substr(0, static_cast<std::size_t>(count)));
  }
}

}  // namespace coffer
