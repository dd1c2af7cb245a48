#include "cli/environment.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/go_bool.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/unique_fd.h"

namespace coffer::cli {
namespace {

absl::Status FileError(std::string_view what, const std::string& path) {
  const int error = errno;
  return absl::ErrnoToStatus(error, ToAbsl(StrCat(what, " ", path)));
}

}  // namespace

std::string_view Environment::Setting(std::string_view name) const {
  for (std::string_view prefix : {"VAULT_", "BAO_"}) {
    const char* value = lookup_(StrCat(prefix, name).c_str());
    if (value != nullptr && *value != '\0') return value;
  }
  return {};
}

std::string_view Environment::Variable(const char* name) const {
  const char* value = lookup_(name);
  return value == nullptr ? std::string_view() : value;
}

absl::StatusOr<bool> Environment::Switch(std::string_view name) const {
  const std::string_view text = Setting(name);
  if (text.empty()) return false;
  if (const std::optional<bool> on = ParseGoBool(text)) return *on;
  return absl::InvalidArgumentError(
      StrCat("could not parse VAULT_", name, ": \"", text, "\" is neither true nor false"));
}

std::string Environment::TokenFile() const {
  const char* home = lookup_("HOME");
  return home == nullptr || *home == '\0' ? "" : StrCat(home, "/.vault-token");
}

absl::StatusOr<SecretBytes> Environment::Token() const {
  const std::string_view set = Setting("TOKEN");
  if (!set.empty()) return SecretBytes::CopyOf(set);
  const std::string path = TokenFile();
  if (path.empty()) return SecretBytes();
  absl::StatusOr<SecretBytes> text = ReadSecretFile(path);
  if (text.ok()) return SecretBytes::CopyOf(Trim(text->view()));
  if (absl::IsNotFound(text.status())) return SecretBytes();
  return text.status();
}

absl::Status Environment::StoreToken(std::string_view token) const {
  const std::string path = TokenFile();
  if (path.empty()) {
    return absl::FailedPreconditionError("HOME is not set, so there is no place for .vault-token");
  }
  const std::string draft = StrCat(path, ".", getpid(), ".tmp");
  unlink(draft.c_str());
  UniqueFd fd(open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return FileError("create", draft);
  while (!token.empty()) {
    const ssize_t count = write(fd.get(), token.data(), token.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const absl::Status failed = FileError("write", draft);
      unlink(draft.c_str());
      return failed;
    }
    token.remove_prefix(count);
  }
  if (fsync(fd.get()) != 0 || rename(draft.c_str(), path.c_str()) != 0) {
    const absl::Status failed = FileError("replace", path);
    unlink(draft.c_str());
    return failed;
  }
  return absl::OkStatus();
}

}  // namespace coffer::cli
