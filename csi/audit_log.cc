#include "csi/audit_log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "common/json_writer.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

// Lines are gathered for that long, so that a stream of opens doesn't wake the thread at each.
constexpr std::chrono::milliseconds kGather{5};
constexpr std::size_t kBatchBytes = 64 * 1024;  // longer than any line
constexpr std::chrono::milliseconds kLookAgain{200};  // at what another plugin may be writing
constexpr std::string_view kBufferPrefix = "audit:";

absl::StatusOr<UniqueFd> OpenFile(const std::string& path) {
  UniqueFd file(
      open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600));
  struct stat info {};
  if (!file || fstat(file.get(), &info) != 0) {
    return absl::ErrnoToStatus(errno, ToAbsl(StrCat("can't open the audit log ", path)));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(StrCat("the audit log ", path, " must be a file"));
  }
  return file;
}

void AppendTime(absl::Time time, SecretBytes* out) {
  out->Append(StrCat("{\"time\":\"",
                     absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", time, absl::UTCTimeZone()), "\""));
}

// Members of an object that has one already.
void AppendText(std::string_view name, std::string_view text, SecretBytes* out) {
  out->Append(StrCat(",\"", name, "\":"));
  AppendJsonString(text, out);
}

void AppendNumber(std::string_view name, std::uint64_t number, SecretBytes* out) {
  out->Append(StrCat(",\"", name, "\":", number));
}

}  // namespace

void AppendAuditLine(const volume::OpenEvent& event, SecretBytes* out) {
  const volume::VolumeInfo& info = *event.volume;
  const volume::Opener& opener = event.opener;
  AppendTime(event.time, out);
  AppendText("event", "open", out);
  AppendText("result", event.error == 0 ? "ok" : event.error == EACCES ? "refused" : "gone", out);
  if (!event.refusal.empty()) AppendText("reason", event.refusal, out);
  if (event.canary) out->Append(std::string_view(",\"canary\":true"));
  AppendText("namespace", info.pod.kubernetes_namespace, out);
  AppendText("pod", info.pod.name, out);
  AppendText("pod_uid", info.pod.uid, out);
  AppendText("class", info.pod.secret_class, out);
  AppendText("volume", info.volume_id, out);
  AppendText("file", event.file, out);
  AppendText("version", event.version, out);
  if (!opener.container.empty()) AppendText("container", opener.container, out);
  if (opener.pid != 0) AppendNumber("pid", opener.pid, out);
  if (opener.uid != volume::Opener::kUnknownId) AppendNumber("uid", opener.uid, out);
  if (opener.gid != volume::Opener::kUnknownId) AppendNumber("gid", opener.gid, out);
  if (!opener.command.empty()) AppendText("command", opener.command, out);
  if (!opener.executable.empty()) AppendText("executable", opener.executable, out);
  out->Append(std::string_view("}\n"));
}

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(const Clock& clock, std::string path) {
  ASSIGN_OR_RETURN(UniqueFd file, OpenFile(path));
  ASSIGN_OR_RETURN(AuditBuffer buffer, AuditBuffer::Make());
  return std::unique_ptr<AuditLog>(
      new AuditLog(clock, std::move(path), std::move(file), std::move(buffer)));
}

AuditLog::AuditLog(const Clock& clock, std::string path, UniqueFd file, AuditBuffer buffer)
    : clock_(clock), path_(std::move(path)), buffer_(std::move(buffer)), file_(std::move(file)) {
  thread_ = std::thread([this] { WriteLoop(); });
}

void AuditLog::Start(volume::KeeperClient* keeper) {
  std::list<Left> left;
  if (keeper != nullptr) {
    name_ = StrCat(kBufferPrefix, absl::Hex(absl::ToUnixNanos(clock_.Now()), absl::kZeroPad16));
    keeper->PutOther(name_, buffer_.fd());
    const auto due = std::chrono::steady_clock::now() +
                     (keeper->after_kill() ? std::chrono::seconds(0) : kLastLines);
    for (volume::KeeperClient::Kept& kept : keeper->TakeOthers(kBufferPrefix)) {
      absl::StatusOr<AuditBuffer> lines = AuditBuffer::Open(
          kept.images.empty() ? UniqueFd() : std::move(kept.images.begin()->second));
      if (lines.ok()) {
        left.push_back({std::move(kept), *std::move(lines), due});
      } else {
        log::Warning("lines of another plugin's audit log", {{"cause", lines.status()}});
        keeper->Drop(kept.target);
      }
    }
  }
  AddEvent("start");
  std::lock_guard lock(mutex_);
  keeper_ = keeper;
  left_ = std::move(left);
  started_ = true;
  wake_.notify_one();
}

void AuditLog::Stop() {
  if (!thread_.joinable()) return;
  if (started_) AddEvent("stop");
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

AuditLog::~AuditLog() {
  Stop();
  if (keeper_ != nullptr) keeper_->Drop(name_);
}

void AuditLog::Add(const volume::OpenEvent& event) {
  thread_local SecretBytes line;
  line.Clear();
  AppendAuditLine(event, &line);
  Put(line.view());
}

void AuditLog::WriteSoon() {
  std::lock_guard lock(mutex_);
  if (idle_) wake_.notify_one();
}

void AuditLog::AddEvent(std::string_view event) {
  SecretBytes line;
  AppendTime(clock_.Now(), &line);
  AppendText("event", event, &line);
  line.Append(std::string_view("}\n"));
  Put(line.view());
}

void AuditLog::Put(std::string_view line) {
  std::lock_guard lock(mutex_);
  if (buffer_.Append(line)) return;
  ++lost_;
  ++untold_;
  reason_ = "more opens than can be written";
}

void AuditLog::Reopen() {
  std::lock_guard lock(mutex_);
  reopen_ = true;
  wake_.notify_one();
}

std::uint64_t AuditLog::lost() const {
  std::lock_guard lock(mutex_);
  return lost_;
}

void AuditLog::WriteLoop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto due = [this] { return stopping_ || reopen_ || !buffer_.waiting().empty(); };
    idle_ = true;
    if (left_.empty()) {
      wake_.wait(lock, [&] { return due() || !left_.empty(); });
    } else {
      wake_.wait_for(lock, kLookAgain, due);
    }
    idle_ = false;
    if (!stopping_) wake_.wait_for(lock, kGather, [this] { return stopping_; });
    const std::string_view lines = buffer_.waiting();
    if (stopping_ && lines.empty()) break;
    reopen_ = false;
    lock.unlock();
    FollowPath();
    WriteLeft();
    WriteLines(lines, &buffer_);
    lock.lock();
  }
  lock.unlock();
  TellLost();
}

// Of plugins before this one, unless those may be at it still. The thread's alone, but for Start.
void AuditLog::WriteLeft() {
  std::list<Left> left;
  {
    std::lock_guard lock(mutex_);
    left = std::exchange(left_, {});
  }
  std::erase_if(left, [this](Left& one) {
    if (!one.lines.waiting().empty() && std::chrono::steady_clock::now() < one.due) return false;
    WriteLines(one.lines.waiting(), &one.lines);
    keeper_->Drop(one.kept.target);
    return true;
  });
  std::lock_guard lock(mutex_);
  left_.splice(left_.begin(), left);  // Start may have come meanwhile
}

void AuditLog::FollowPath() {
  struct stat there {}, ours {};
  strayed_ = !file_ || fstat(file_.get(), &ours) != 0 || lstat(path_.c_str(), &there) != 0 ||
             there.st_dev != ours.st_dev || there.st_ino != ours.st_ino;
  if (!strayed_) return;
  absl::StatusOr<UniqueFd> file = OpenFile(path_);
  if (!file.ok()) {
    if (ours.st_nlink == 0) file_.reset();  // else it was moved, and is written to
    if (!std::exchange(failing_, true)) log::Error("audit log", {{"error", file.status()}});
    return;
  }
  file_ = *std::move(file);
  strayed_ = false;
  torn_ = true;
}

void AuditLog::WriteLines(std::string_view lines, AuditBuffer* from) {
  TellLost();
  while (!lines.empty()) {
    std::string_view batch = lines.substr(0, kBatchBytes);
    if (const auto end = batch.rfind('\n'); end != batch.npos) batch = batch.substr(0, end + 1);
    if (const int error = Append(batch); error != 0) {
      Lose(static_cast<std::uint64_t>(std::count(batch.begin(), batch.end(), '\n')),
           StrCat("can't write: ", strerror(error)));
    }
    std::lock_guard lock(mutex_);
    from->Written(batch.size());
    lines = from->waiting().substr(0, lines.size() - batch.size());
  }
}

int AuditLog::Append(std::string_view lines) {
  if (!file_) return ENOENT;
  struct stat before {};
  fstat(file_.get(), &before);
  char last = '\n';
  if (torn_ && before.st_size > 0) (void)!pread(file_.get(), &last, 1, before.st_size - 1);
  if (last != '\n') {
    if (write(file_.get(), "\n", 1) != 1) return errno;
    ++before.st_size;
  }
  torn_ = false;
  for (std::size_t done = 0; done < lines.size();) {
    const ssize_t wrote = write(file_.get(), lines.data() + done, lines.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const int error = wrote == 0 ? EIO : errno;
      TakeBack(before.st_size, done);
      if (!std::exchange(failing_, true)) {
        log::Error("audit log not written", {{"file", path_}, {"cause", strerror(error)}});
      }
      return error;
    }
    done += static_cast<std::size_t>(wrote);
  }
  if (!strayed_ && std::exchange(failing_, false)) {
    log::Info("audit log is written again", {{"file", path_}});
  }
  return 0;
}

void AuditLog::TakeBack(off_t size, std::size_t done) {
  if (done == 0) return;
  struct stat now {};
  const bool alone =
      fstat(file_.get(), &now) == 0 && now.st_size == size + static_cast<off_t>(done);
  torn_ = !alone || ftruncate(file_.get(), size) != 0;
}

void AuditLog::Lose(std::uint64_t lines, std::string reason) {
  std::lock_guard lock(mutex_);
  lost_ += lines;
  untold_ += lines;
  reason_ = std::move(reason);
}

void AuditLog::TellLost() {
  SecretBytes line;
  std::uint64_t count = 0;
  {
    std::lock_guard lock(mutex_);
    if (untold_ == 0) return;
    count = untold_;
    AppendTime(clock_.Now(), &line);
    AppendText("event", "lost", &line);
    AppendNumber("lines", count, &line);
    AppendText("reason", reason_, &line);
    line.Append(std::string_view("}\n"));
  }
  if (Append(line.view()) != 0) return;
  std::lock_guard lock(mutex_);
  untold_ -= count;
}

}  // namespace coffer::csi
