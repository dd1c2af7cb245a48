#include "provider/path_pattern.h"

#include <algorithm>

#include "common/glob.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "provider/objects.h"

namespace coffer::provider {
namespace {

constexpr std::size_t kMostPaths = 1000;
constexpr std::size_t kMostLists = 1000;
constexpr std::size_t kMostLevels = 16;

class Expansion {
 public:
  Expansion(std::string_view pattern, const ListNames& list)
      : segments_(Split(pattern, '/')), list_(list) {
    first_ = static_cast<std::size_t>(
        std::find_if(segments_.begin(), segments_.end(), IsGlob) - segments_.begin());
    for (std::size_t i = 1; i < first_ && data_ == 0; ++i) {
      if (segments_[i] == "data") data_ = i;
    }
  }

  absl::StatusOr<std::vector<MatchedPath>> Run() {
    std::string base;
    for (std::size_t i = 0; i < first_; ++i) StrAppend(&base, segments_[i], "/");
    base_size_ = base.size();
    RETURN_IF_ERROR(Descend(base, first_, 0));
    std::sort(found_.begin(), found_.end(),
              [](const MatchedPath& a, const MatchedPath& b) { return a.path < b.path; });
    return std::move(found_);
  }

 private:
  // `folder` ends in "/"; its names are matched with the segment `at`.
  absl::Status Descend(const std::string& folder, std::size_t at, std::size_t level) {
    if (level > kMostLevels) return TooMany("levels", kMostLevels);
    const bool all = segments_[at] == "**";
    const bool last = at + 1 == segments_.size();
    ASSIGN_OR_RETURN(const std::vector<std::string> names, List(folder));
    for (const std::string& listed : names) {
      std::string_view name = listed;
      const bool is_folder = name.ends_with('/');
      if (is_folder) name.remove_suffix(1);
      // A keystore that lists what is no name must not lead elsewhere.
      if (!CheckFilePath(name).ok() || name.find('/') != name.npos) continue;
      if (!all && !GlobMatches(segments_[at], name)) continue;
      const std::string path = StrCat(folder, name);
      if (is_folder && (all || !last)) {
        RETURN_IF_ERROR(Descend(path + "/", all ? at : at + 1, level + 1));
      } else if (!is_folder && last) {
        if (found_.size() == kMostPaths) return TooMany("paths", kMostPaths);
        found_.push_back({path, path.substr(base_size_)});
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) {
    if (++lists_ > kMostLists) return TooMany("folders", kMostLists);
    if (data_ != 0) {
      std::vector<std::string_view> parts = Split(folder, '/');
      parts[data_] = "metadata";
      std::string path;
      for (const std::string_view part : parts) StrAppend(&path, path.empty() ? "" : "/", part);
      absl::StatusOr<std::vector<std::string>> names = list_(path);
      if (names.ok() && folder.size() == base_size_) version2_ = true;
      if (!absl::IsNotFound(names.status())) return names;
      if (version2_) return std::vector<std::string>();
    }
    absl::StatusOr<std::vector<std::string>> names = list_(folder);
    if (absl::IsNotFound(names.status())) return std::vector<std::string>();
    return names;
  }

  static absl::Status TooMany(std::string_view what, std::size_t most) {
    return absl::ResourceExhaustedError(
        StrCat("the pattern matches more than ", most, " ", what, ": make it narrower"));
  }

  const std::vector<std::string_view> segments_;
  const ListNames& list_;
  std::size_t first_ = 0;  // segment with a pattern
  std::size_t data_ = 0;   // segment "data", 0 where there is none
  std::size_t base_size_ = 0;
  std::size_t lists_ = 0;
  bool version2_ = false;
  std::vector<MatchedPath> found_;
};

}  // namespace

absl::StatusOr<std::vector<MatchedPath>> ExpandPath(std::string_view pattern,
                                                    const ListNames& list) {
  return Expansion(pattern, list).Run();
}

bool PathMatches(std::string_view pattern, std::string_view path) {
  const std::vector<std::string_view> patterns = Split(pattern, '/');
  const std::vector<std::string_view> parts = Split(path, '/');
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    if (i == parts.size()) return false;
    if (patterns[i] == "**") return true;
    if (!GlobMatches(patterns[i], parts[i])) return false;
  }
  return patterns.size() == parts.size();
}

}  // namespace coffer::provider
