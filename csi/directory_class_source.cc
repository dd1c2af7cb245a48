// SecretProviderClasses from a folder.
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <tuple>

#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "csi/class_source.h"
#include "provider/class_document.h"

namespace coffer::csi {
namespace {

// Changes within one tick of the kernel's clock leave the same time: what is younger than this may
// change again unseen.
constexpr absl::Duration kSettled = absl::Milliseconds(100);

// What tells that a file or folder is still the one that was read.
class Stamp {
 public:
  Stamp() = default;  // of nothing

  static Stamp Of(const std::string& path) {
    Stamp stamp;
    struct stat facts = {};
    if (stat(path.c_str(), &facts) != 0) return stamp;
    const absl::Time changed = absl::TimeFromTimespec(facts.st_ctim);
    stamp.mode_ = facts.st_mode;
    stamp.facts_ = {facts.st_dev, facts.st_ino, facts.st_size, changed};
    stamp.settled_ = absl::Now() - changed > kSettled;
    return stamp;
  }

  bool regular() const { return S_ISREG(mode_); }
  // Whether what was read after this stamp was taken is what there is at `now`.
  bool Holds(const Stamp& now) const { return settled_ && facts_ == now.facts_; }

 private:
  mode_t mode_ = 0;
  std::tuple<dev_t, ino_t, off_t, absl::Time> facts_;
  bool settled_ = false;
};

struct ReadFile {
  Stamp stamp;
  absl::StatusOr<std::vector<provider::SecretProviderClass>> classes;
};
using ReadFiles = std::map<std::string, ReadFile>;  // by path

// A Get looks at the folder and at the files that define its class alone: whatever comes, goes or is
// renamed changes the folder, and what is written in place changes its file. Everything is looked at
// where one of them has changed, or no file defines the class.
class DirectoryClassSource : public ClassSource {
 public:
  explicit DirectoryClassSource(std::string_view folder) : folder_(folder) {}

  absl::StatusOr<ClassObject> Get(std::string_view kubernetes_namespace, std::string_view name,
                                  absl::Time) override {
    std::lock_guard lock(mutex_);
    const ClassName wanted(kubernetes_namespace, name);
    if (!IsCurrent(wanted)) RETURN_IF_ERROR(Refresh());
    const auto [first, last] = definitions_.equal_range(wanted);
    if (first == last) return Missing(wanted);
    if (const auto second = std::next(first); second != last) {
      return absl::FailedPreconditionError(
          StrCat("SecretProviderClass ", kubernetes_namespace, "/", name, " is both in ",
                 first->second.file->first, " and ", second->second.file->first));
    }
    // Without a cluster there are no Kubernetes Secrets to copy into.
    return ClassObject{*first->second.read, {}};
  }

 private:
  using ClassName = std::pair<std::string_view, std::string_view>;  // namespace, name
  struct Definition {
    ReadFiles::const_iterator file;
    const provider::SecretProviderClass* read;
  };

  bool IsCurrent(const ClassName& wanted) const {
    const auto [first, last] = definitions_.equal_range(wanted);
    return first != last && stamp_.Holds(Stamp::Of(folder_)) &&
           std::all_of(first, last, [](const auto& definition) {
             const auto& [path, file] = *definition.second.file;
             return file.stamp.Holds(Stamp::Of(path));
           });
  }

  absl::Status Missing(const ClassName& wanted) const {
    const std::string missing = StrCat("SecretProviderClass ", wanted.first, "/", wanted.second,
                                       " is in no file of ", folder_);
    std::string broken;
    for (const auto& [path, file] : files_) {
      if (!file.classes.ok()) {
        StrAppend(&broken, "; ", path, ": ", Message(file.classes.status()));
      }
    }
    if (broken.empty()) return absl::NotFoundError(missing);
    return absl::InvalidArgumentError(StrCat(missing, broken));
  }

  absl::Status Refresh() {
    ReadFiles now;
    stamp_ = Stamp::Of(folder_);
    definitions_.clear();
    std::error_code error;
    std::filesystem::directory_iterator entries(folder_, error);
    for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
      const std::string path = entries->path();
      const std::string extension = entries->path().extension();
      if (extension != ".yaml" && extension != ".yml" && extension != ".json") continue;
      const Stamp stamp = Stamp::Of(path);
      if (!stamp.regular()) continue;
      const auto known = files_.find(path);
      if (known != files_.end() && known->second.stamp.Holds(stamp)) {
        now.insert(files_.extract(known));
        continue;
      }
      std::ifstream file(path);
      std::ostringstream text;
      text << file.rdbuf();
      now.insert_or_assign(path, ReadFile{stamp, provider::ReadClasses(text.str())});
    }
    files_ = std::move(now);
    for (auto file = files_.cbegin(); file != files_.cend(); ++file) {
      if (!file->second.classes.ok()) continue;
      for (const provider::SecretProviderClass& read : *file->second.classes) {
        definitions_.emplace(ClassName(read.kubernetes_namespace, read.name),
                             Definition{file, &read});
      }
    }
    if (!error) return absl::OkStatus();
    stamp_ = Stamp();
    return absl::UnavailableError(
        StrCat("reading the folder of SecretProviderClasses ", folder_, ": ", error.message()));
  }

  const std::string folder_;
  std::mutex mutex_;
  Stamp stamp_;  // of the folder
  ReadFiles files_;
  std::multimap<ClassName, Definition> definitions_;  // what files_ hold
};

}  // namespace

std::unique_ptr<ClassSource> MakeDirectoryClassSource(std::string_view folder) {
  return std::make_unique<DirectoryClassSource>(folder);
}

}  // namespace coffer::csi
