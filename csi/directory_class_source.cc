// SecretProviderClasses from a folder.
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>

#include "common/strings.h"
#include "csi/class_source.h"
#include "provider/class_document.h"

namespace coffer::csi {
namespace {

// What tells that a file is the one that was read.
struct Stamp {
  ino_t inode = 0;
  off_t size = 0;
  std::int64_t changed_ns = 0;

  bool operator==(const Stamp&) const = default;
};

struct ReadFile {
  Stamp stamp;
  absl::StatusOr<std::vector<provider::SecretProviderClass>> classes;
};

absl::StatusOr<Stamp> StampOf(const std::string& path) {
  struct stat facts = {};
  if (stat(path.c_str(), &facts) != 0 || !S_ISREG(facts.st_mode)) {
    return absl::NotFoundError("");
  }
  return Stamp{facts.st_ino, facts.st_size,
               facts.st_ctim.tv_sec * 1'000'000'000LL + facts.st_ctim.tv_nsec};
}

class DirectoryClassSource : public ClassSource {
 public:
  explicit DirectoryClassSource(std::string_view folder) : folder_(folder) {}

  absl::StatusOr<ClassObject> Get(std::string_view kubernetes_namespace, std::string_view name,
                                  absl::Time) override {
    std::lock_guard lock(mutex_);
    absl::Status refreshed = Refresh();
    if (!refreshed.ok()) return refreshed;
    const provider::SecretProviderClass* found = nullptr;
    std::string found_in;
    std::string broken;
    for (const auto& [path, file] : files_) {
      if (!file.classes.ok()) {
        StrAppend(&broken, "; ", path, ": ", Message(file.classes.status()));
        continue;
      }
      for (const provider::SecretProviderClass& candidate : *file.classes) {
        if (candidate.name != name || candidate.kubernetes_namespace != kubernetes_namespace) {
          continue;
        }
        if (found != nullptr) {
          return absl::FailedPreconditionError(StrCat("SecretProviderClass ", kubernetes_namespace,
                                                      "/", name, " is both in ", found_in, " and ",
                                                      path));
        }
        found = &candidate;
        found_in = path;
      }
    }
    // Without a cluster there are no Kubernetes Secrets to copy into.
    if (found != nullptr) return ClassObject{*found, {}};
    const std::string missing = StrCat("SecretProviderClass ", kubernetes_namespace, "/", name,
                                       " is in no file of ", folder_);
    if (broken.empty()) return absl::NotFoundError(missing);
    return absl::InvalidArgumentError(StrCat(missing, broken));
  }

 private:
  absl::Status Refresh() {
    std::map<std::string, ReadFile> now;
    std::error_code error;
    std::filesystem::directory_iterator entries(folder_, error);
    for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
      const std::string path = entries->path();
      const std::string extension = entries->path().extension();
      if (extension != ".yaml" && extension != ".yml" && extension != ".json") continue;
      const absl::StatusOr<Stamp> stamp = StampOf(path);
      if (!stamp.ok()) continue;
      const auto known = files_.find(path);
      if (known != files_.end() && known->second.stamp == *stamp) {
        now.insert(files_.extract(known));
        continue;
      }
      std::ifstream file(path);
      std::ostringstream text;
      text << file.rdbuf();
      now.insert_or_assign(path, ReadFile{*stamp, provider::ReadClasses(text.str())});
    }
    files_ = std::move(now);
    if (!error) return absl::OkStatus();
    return absl::UnavailableError(
        StrCat("reading the folder of SecretProviderClasses ", folder_, ": ", error.message()));
  }

  const std::string folder_;
  std::mutex mutex_;
  std::map<std::string, ReadFile> files_;  // by path
};

}  // namespace

std::unique_ptr<ClassSource> MakeDirectoryClassSource(std::string_view folder) {
  return std::make_unique<DirectoryClassSource>(folder);
}

}  // namespace coffer::csi
