#include "csi/read_times.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>
#include <ranges>

#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

constexpr std::string_view kHead = "coffer read times 1";
constexpr int kSaveMillis = 60'000;
constexpr absl::Duration kHour = absl::Hours(1);

std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\t' || c == '\n' || c == '\\') escaped += '\\';
    escaped += c == '\t' ? 't' : c == '\n' ? 'n' : c;
  }
  return escaped;
}

std::string Unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      plain += text[i];
      continue;
    }
    const char c = text[++i];
    plain += c == 't' ? '\t' : c == 'n' ? '\n' : c;
  }
  return plain;
}

std::int64_t SecondsOf(absl::Time time) {
  return time == absl::InfinitePast() ? 0 : absl::ToUnixSeconds(time);
}

std::optional<absl::Time> ParseSeconds(std::string_view text) {
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return seconds == 0 ? absl::InfinitePast() : absl::FromUnixSeconds(seconds);
}

// Of a map by namespace, class and file.
template <class Map>
auto OfClass(Map& times, std::string_view kubernetes_namespace, std::string_view secret_class) {
  using Key = typename Map::key_type;
  const std::string next = std::string(secret_class) + '\0';
  return std::ranges::subrange(times.lower_bound(Key(kubernetes_namespace, secret_class, "")),
                               times.lower_bound(Key(kubernetes_namespace, next, "")));
}

absl::Status WriteFile(const std::string& path, std::string_view text) {
  const auto failed = [&path](std::string_view what) {
    const int error = errno;
    unlink(path.c_str());
    return absl::ErrnoToStatus(error, ToAbsl(StrCat("can't ", what, " ", path)));
  };
  UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return absl::ErrnoToStatus(errno, ToAbsl(StrCat("can't make ", path)));
  while (!text.empty()) {
    const ssize_t wrote = write(file.get(), text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return failed("write");
    text.remove_prefix(static_cast<std::size_t>(wrote));
  }
  if (fsync(file.get()) != 0) return failed("write");
  return absl::OkStatus();
}

}  // namespace

ReadTimes::ReadTimes(const Clock& clock, std::string folder)
    : clock_(clock), folder_(std::move(folder)), stop_(eventfd(0, EFD_CLOEXEC)) {
  if (folder_.empty()) return;
  thread_ = std::thread([this] { SaveLoop(); });
}

ReadTimes::~ReadTimes() {
  if (!thread_.joinable()) return;
  eventfd_write(stop_.get(), 1);
  thread_.join();
  if (const absl::Status saved = Save(); !saved.ok()) {
    log::Warning("read times not kept", {{"error", saved}});
  }
}

void ReadTimes::SaveLoop() {
  pollfd stop{.fd = stop_.get(), .events = POLLIN, .revents = 0};
  bool failing = false;
  while (poll(&stop, 1, kSaveMillis) <= 0) {
    const absl::Status saved = Save();
    if (!saved.ok() && !failing) log::Warning("read times not kept", {{"error", saved}});
    failing = !saved.ok();
  }
}

void ReadTimes::Load() {
  if (folder_.empty()) return;
  const std::string path = folder_ + "/read-times";
  FILE* const file = fopen(path.c_str(), "re");
  if (file == nullptr) {
    if (errno != ENOENT) {
      log::Warning("read times are begun anew",
                   {{"error", absl::ErrnoToStatus(errno, ToAbsl(path))}});
    }
    return;
  }
  std::string text;
  char buffer[65536];
  for (std::size_t size; (size = fread(buffer, 1, sizeof buffer, file)) > 0;) {
    text.append(buffer, size);
  }
  fclose(file);
  std::vector<std::string_view> lines = Split(text, '\n');
  if (lines.front() != kHead) {
    log::Warning("read times are begun anew: another format", {{"file", path}});
    return;
  }
  lines.erase(lines.begin());
  std::lock_guard lock(mutex_);
  for (const std::string_view line : lines) {
    const std::vector<std::string_view> parts = Split(line, '\t');
    if (parts.size() == 6) LoadFile(parts);
    if (parts.size() == 5) LoadPod(parts);
  }
  loaded_ = clock_.Now();
}

void ReadTimes::LoadFile(const std::vector<std::string_view>& parts) {
  const auto published = ParseSeconds(parts[3]);
  const auto last = ParseSeconds(parts[4]);
  const auto read = ParseSeconds(parts[5]);
  if (!published || !last || !read || times_.size() >= kMostFiles) return;
  const auto [entry, added] =
      times_.try_emplace({Unescaped(parts[0]), Unescaped(parts[1]), Unescaped(parts[2])},
                         Times{*published, *last, *read});
  Times& times = entry->second;
  times.published = std::min(times.published, *published);
  times.last_published = std::max(times.last_published, *last);
  times.last_read = std::max(times.last_read, *read);
}

// What was there the last time and isn't known any longer is of a pod that is gone.
void ReadTimes::LoadPod(const std::vector<std::string_view>& parts) {
  const auto found =
      times_.find(Key(Unescaped(parts[0]), Unescaped(parts[1]), Unescaped(parts[2])));
  const auto read = ParseSeconds(parts[4]);
  if (found == times_.end() || !read || *read + absl::Seconds(1) < loaded_) return;
  absl::Time& known =
      found->second.by_pod.try_emplace(Unescaped(parts[3]), absl::InfinitePast()).first->second;
  known = std::max(known, *read);
}

void ReadTimes::Published(std::string_view kubernetes_namespace, std::string_view secret_class,
                          const std::vector<std::string>& files) {
  const absl::Time now = clock_.Now();
  std::lock_guard lock(mutex_);
  for (const std::string& file : files) {
    const auto [entry, added] = times_.try_emplace(Key(kubernetes_namespace, secret_class, file),
                                                   Times{.published = now});
    if (!added && now - entry->second.last_published < kHour) continue;
    entry->second.last_published = now;
    changed_ = true;
  }
  if (times_.size() > kMostFiles) DropOldest();
}

void ReadTimes::DropOldest() {
  std::vector<absl::Time> last;
  for (const auto& [key, times] : times_) last.push_back(times.last_published);
  const auto limit = last.end() - static_cast<std::ptrdiff_t>(kMostFiles * 9 / 10);
  std::nth_element(last.begin(), limit, last.end());
  std::erase_if(times_, [limit = *limit](const auto& e) { return e.second.last_published < limit; });
  while (times_.size() > kMostFiles) times_.erase(times_.begin());  // all at the same time
}

void ReadTimes::Opened(std::string_view kubernetes_namespace, std::string_view secret_class,
                       std::string_view file, std::string_view pod, absl::Time time) {
  std::lock_guard lock(mutex_);
  auto found = times_.find(std::tie(kubernetes_namespace, secret_class, file));
  if (found == times_.end()) {  // the publish that brings it is yet to be told
    found = times_
                .emplace(Key(kubernetes_namespace, secret_class, file),
                         Times{.published = time, .last_published = time})
                .first;
  }
  found->second.last_read = std::max(found->second.last_read, time);
  changed_ = true;
  PodTimes& pods = found->second.by_pod;
  const auto known = pods.find(pod);
  if (known != pods.end()) {
    known->second = std::max(known->second, time);
    return;
  }
  if (pods.size() >= kMostPods) {
    pods.erase(std::min_element(pods.begin(), pods.end(), [](const auto& a, const auto& b) {
      return a.second < b.second;
    }));
  }
  pods.emplace(pod, time);
  if (times_.size() > kMostFiles) DropOldest();
}

void ReadTimes::Gone(std::string_view kubernetes_namespace, std::string_view secret_class,
                     std::string_view pod) {
  std::lock_guard lock(mutex_);
  for (auto& [key, times] : OfClass(times_, kubernetes_namespace, secret_class)) {
    const auto known = times.by_pod.find(pod);
    if (known == times.by_pod.end()) continue;
    times.by_pod.erase(known);
    changed_ = true;
  }
}

std::vector<std::pair<std::string, absl::Time>> ReadTimes::OpenedBy(
    std::string_view kubernetes_namespace, std::string_view secret_class,
    std::string_view pod) const {
  std::vector<std::pair<std::string, absl::Time>> files;
  std::lock_guard lock(mutex_);
  for (const auto& [key, times] : OfClass(times_, kubernetes_namespace, secret_class)) {
    const auto known = times.by_pod.find(pod);
    if (known != times.by_pod.end()) files.emplace_back(std::get<2>(key), known->second);
  }
  return files;
}

std::vector<ReadTime> ReadTimes::All() const {
  std::vector<ReadTime> all;
  std::lock_guard lock(mutex_);
  for (const auto& [key, times] : times_) {
    const auto& [space, secret_class, file] = key;
    all.push_back({space, secret_class, file, times.published, times.last_published,
                   times.last_read, times.by_pod});
  }
  return all;
}

std::vector<ReadTime> ReadTimes::Unused(absl::Duration time) const {
  const absl::Time before = clock_.Now() - time;
  std::vector<ReadTime> unused = All();
  std::erase_if(unused, [before](const ReadTime& read) {
    return read.published > before || read.last_read > before;
  });
  std::stable_sort(unused.begin(), unused.end(), [](const ReadTime& a, const ReadTime& b) {
    return std::max(a.last_read, a.published) < std::max(b.last_read, b.published);
  });
  return unused;
}

absl::Status ReadTimes::Save() {
  if (folder_.empty()) return absl::OkStatus();
  std::lock_guard save_lock(save_mutex_);
  {
    std::lock_guard lock(mutex_);
    if (!std::exchange(changed_, false)) return absl::OkStatus();
  }
  Load();
  {
    std::lock_guard lock(mutex_);
    const absl::Time before = clock_.Now() - kLife;
    std::erase_if(times_, [&](const auto& e) { return e.second.last_published < before; });
    for (auto& [key, times] : times_) {
      std::erase_if(times.by_pod, [&](const auto& pod) { return pod.second < before; });
    }
  }
  std::string text(kHead);
  text += '\n';
  for (const ReadTime& read : All()) {
    StrAppend(&text, Escaped(read.kubernetes_namespace), "\t", Escaped(read.secret_class), "\t",
              Escaped(read.file), "\t", SecondsOf(read.published), "\t",
              SecondsOf(read.last_published), "\t", SecondsOf(read.last_read), "\n");
    for (const auto& [pod, time] : read.by_pod) {
      StrAppend(&text, Escaped(read.kubernetes_namespace), "\t", Escaped(read.secret_class), "\t",
                Escaped(read.file), "\t", Escaped(pod), "\t", SecondsOf(time), "\n");
    }
  }
  const std::string path = folder_ + "/read-times";
  absl::Status written = WriteFile(path + ".new", text);
  if (written.ok() && rename((path + ".new").c_str(), path.c_str()) != 0) {
    written = absl::ErrnoToStatus(errno, ToAbsl(StrCat("can't replace ", path)));
  }
  if (!written.ok()) {
    std::lock_guard lock(mutex_);
    changed_ = true;
  }
  return written;
}

}  // namespace coffer::csi
