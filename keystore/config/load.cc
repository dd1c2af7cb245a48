// Reads configuration from files and folders.
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "common/secret_bytes.h"
#include "common/status_macros.h"
#include "common/status_prefix.h"
#include "common/strings.h"
#include "keystore/config/config.h"
#include "keystore/hcl/hcl.h"

namespace coffer::keystore {
namespace {

namespace fs = std::filesystem;

absl::Status CantRead(std::string_view path, int code) {
  const std::string message =
      StrCat("can't read the configuration ", path, ": ", std::strerror(code));
  if (code == ENOENT || code == ENOTDIR) return absl::NotFoundError(message);
  if (code == EACCES || code == EPERM) return absl::PermissionDeniedError(message);
  return absl::UnavailableError(message);
}

// A configuration may hold a secret, so its text is kept as one.
absl::StatusOr<SecretBytes> ReadText(const std::string& path) {
  errno = 0;
  std::ifstream file;
  file.rdbuf()->pubsetbuf(nullptr, 0);  // no copy in a plain buffer
  file.open(path, std::ios::binary);
  if (!file) return CantRead(path, errno);
  SecretBytes text(hcl::kMaxTextSize + 1);
  file.read(reinterpret_cast<char*>(text.data()), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return CantRead(path, errno);
  text.Resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

// The files of a folder that are configuration, leaving out what editors leave behind.
absl::StatusOr<std::vector<std::string>> FilesIn(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool configuration = name.ends_with(".hcl") || name.ends_with(".json");
    std::error_code ignored;
    if (configuration && !name.starts_with('.') && !name.starts_with('#') &&
        entry->is_regular_file(ignored)) {
      files.push_back(entry->path().string());
    }
  }
  if (error) return CantRead(folder, error.value());
  if (files.empty()) {
    return absl::NotFoundError(StrCat("the folder ", folder, " holds no *.hcl or *.json file"));
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

absl::StatusOr<ServerConfig> LoadServerConfig(const std::vector<std::string>& paths) {
  if (paths.empty()) return absl::InvalidArgumentError("no configuration: give -config=FILE");
  ServerConfig config;
  for (const std::string& path : paths) {
    std::error_code ignored;
    std::vector<std::string> files = {path};
    if (fs::is_directory(path, ignored)) {
      ASSIGN_OR_RETURN(files, FilesIn(path));
    }
    for (const std::string& file : files) {
      ASSIGN_OR_RETURN(const SecretBytes text, ReadText(file));
      ASSIGN_OR_RETURN(ServerConfig one, ParseServerConfig(file, text.view()));
      MergeServerConfig(std::move(one), &config);
    }
  }
  const absl::Status checked = CheckServerConfig(config);
  if (!checked.ok()) {
    std::string files;
    for (const std::string& path : paths) StrAppend(&files, files.empty() ? "" : ", ", path);
    return Prefixed(files, checked);
  }
  return config;
}

}  // namespace coffer::keystore
