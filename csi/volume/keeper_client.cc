#include "csi/volume/keeper_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>

#include "absl/time/clock.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "csi/volume/pidfd.h"
#include "keeper/protocol.h"

namespace coffer::volume {
namespace {

constexpr int kRetryMs = 50;
constexpr int kLockMs = 2;
constexpr int kAskMs = 5;
constexpr int kPatienceMs = 1000;
constexpr int kTakePatienceMs = 30'000;  // of who is welcome, and knows that the keeper lives
constexpr int kPollMs = 10;  // where there is nobody to tell
constexpr int kLockedOutMs = 1000;

// Unavailable: there is none; DeadlineExceeded: it is there, but stands still.
absl::Status Broken(std::string_view what, int error) {
  const std::string text =
      StrCat("the keeper: ", what, ": ", std::string_view(strerrordesc_np(error)));
  return error == EAGAIN || error == ETIMEDOUT ? absl::DeadlineExceededError(text)
                                               : absl::UnavailableError(text);
}

absl::Status Stopped() { return absl::CancelledError("stopped while standing by"); }

// Whether one of the descriptors (-1: none) can be read within `ms` milliseconds, or for ever (-1).
bool Readable(int a, int b, int ms) {
  pollfd wait[] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
  return poll(wait, 2, ms) > 0;
}

absl::Status AwaitPacket(int connection, int stop_fd, int ms) {
  if (!Readable(connection, stop_fd, ms)) return Broken("doesn't answer", ETIMEDOUT);
  return Readable(stop_fd, -1, 0) ? Stopped() : absl::OkStatus();
}

bool SameFile(int a, int b) {
  struct stat of_a {
  }, of_b{};
  return fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
         of_a.st_ino == of_b.st_ino;
}

}  // namespace

KeeperClient::KeeperClient(std::string socket)
    : socket_(std::move(socket)),
      stop_(eventfd(0, EFD_CLOEXEC)),
      nothing_(open("/dev/null", O_RDONLY | O_CLOEXEC)),
      thread_([this] { ReconnectLoop(); }) {}

void KeeperClient::OnLate(std::function<bool(Kept)> on_late) {
  std::lock_guard lock(mutex_);
  on_late_ = std::move(on_late);
}

void KeeperClient::OnGone(std::function<void()> on_gone) {
  std::lock_guard lock(mutex_);
  on_gone_ = std::move(on_gone);
}

bool KeeperClient::LockTurn() {
  if (lock_) return true;
  const std::string folder = socket_.substr(0, socket_.rfind('/') + 1);
  UniqueFd fd(open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return true;
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return errno != EWOULDBLOCK;
  lock_ = std::move(fd);
  return true;
}

absl::StatusOr<UniqueFd> KeeperClient::Greet(bool serves) const {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(StrCat("the keeper's socket path is too long: ", socket_));
  }
  std::copy(socket_.begin(), socket_.end(), address.sun_path);
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const timeval patience = {1, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Broken(StrCat("can't connect to ", socket_), errno);
  }
  // Of a thread of ours, which waits for nothing but this: since Linux 6.15 that of the main thread
  // says nothing before all threads are gone.
  const UniqueFd life = OpenThread(thread_id_);
  const int pidfd = life.get();
  if (!keeper::Send(fd.get(), keeper::kHello,
                    keeper::Versions(keeper::kOldestVersion, keeper::kNewestVersion), "",
                    serves ? keeper::kServesAlready : "", &pidfd, pidfd >= 0 ? 1 : 0)) {
    return Broken("can't say hello", errno);
  }
  return fd;
}

absl::StatusOr<KeeperClient::Answer> KeeperClient::AwaitWelcome(int connection, int stop_fd,
                                                               int ms) const {
  RETURN_IF_ERROR(AwaitPacket(connection, stop_fd, ms));
  const auto packet = std::make_unique<keeper::Packet>();
  if (const int got = keeper::Receive(connection, packet.get()); got <= 0) {
    return Broken("doesn't answer", got == 0 ? ECONNRESET : errno);
  }
  switch (packet->head.kind) {
    case keeper::kWelcome:
      if (static_cast<std::uint32_t>(packet->head.number) >= 5) {
        const UniqueFd threads(open("/proc/self/task", O_PATH | O_DIRECTORY | O_CLOEXEC));
        const int fd = threads.get();
        if (fd >= 0) keeper::Send(connection, keeper::kThreads, 0, "", "", &fd, 1);
      }
      return packet->head.number >> 32 == 1 ? Answer::kAfterKill : Answer::kWelcome;
    case keeper::kStandby:
      return Answer::kStandBy;
    case keeper::kBusy:
      return Answer::kBusy;
    case keeper::kRefuse:
      return absl::FailedPreconditionError(
          StrCat("the keeper speaks versions ", packet->head.number >> 32, " to ",
                 packet->head.number & 0xffffffff, " of the protocol, this plugin ",
                 keeper::kOldestVersion, " to ", keeper::kNewestVersion, ": update the older one"));
    default:
      return absl::FailedPreconditionError("the keeper's answer makes no sense");
  }
}

absl::StatusOr<KeeperClient::Answer> KeeperClient::Connect(const StandBy& stand_by, bool serves,
                                                           const std::function<void()>& begin) {
  ASSIGN_OR_RETURN(connection_, Greet(serves));
  absl::StatusOr<Answer> answer = AwaitWelcome(connection_.get(), stand_by.stop_fd, kPatienceMs);
  if (absl::IsDeadlineExceeded(answer.status())) {
    log::Warning("the keeper doesn't answer; waiting for it, since it may hold volumes", {});
    begin();
    answer = AwaitWelcome(connection_.get(), stand_by.stop_fd, -1);
  }
  return answer;
}

// OK: welcomed, and no other plugin serves. Another error: this plugin is to serve without a keeper.
// `kept`: what a keeper has given, while it was this plugin's turn, before it was gone.
absl::Status KeeperClient::AwaitTurn(absl::Duration patience, const StandBy& stand_by,
                                     Holdings* kept) {
  absl::Time end = absl::Now() + patience;
  bool standing_by = false;
  const auto begin = [&] {
    if (!std::exchange(standing_by, true)) stand_by.begins();
  };
  const auto may_serve = [&] { return LockTurn() || !kept->empty(); };
  for (;;) {
    bool locked_out = false;
    const absl::Time start = absl::Now();
    absl::StatusOr<Answer> answer = Connect(stand_by, !kept->empty(), begin);
    end += absl::Now() - start;  // a keeper that is slow is there
    if (answer.ok() && *answer == Answer::kStandBy) {
      begin();
      kept->clear();
      lock_.reset();  // it is for who serves
      answer = AwaitWelcome(connection_.get(), stand_by.stop_fd, -1);
      end = absl::Now() + patience;  // who serves may need a moment yet to have the lock
    }
    if (absl::IsCancelled(answer.status())) return answer.status();
    if (absl::IsDeadlineExceeded(answer.status())) {
      connection_.reset();
      begin();
    } else if (!answer.ok()) {
      connection_.reset();
      if (absl::Now() > end || !absl::IsUnavailable(answer.status())) {
        if (may_serve()) return answer.status();
        begin();
      }
    } else if (*answer == Answer::kAfterKill || (*answer == Answer::kWelcome && may_serve())) {
      after_kill_ = *answer == Answer::kAfterKill;
      return absl::OkStatus();
    } else {
      connection_.reset();
      begin();
      locked_out = *answer == Answer::kWelcome;  // one serves whom the keeper doesn't know
    }
    // Who serves and has lost its connection comes back to the keeper soon.
    for (int i = 0; i < (locked_out ? kLockedOutMs / kPollMs : 1); ++i) {
      if (Readable(stand_by.stop_fd, -1, kPollMs)) return Stopped();
      if (locked_out && LockTurn()) break;
    }
  }
}

absl::Status KeeperClient::Ask(int connection, int stop_fd, Holdings* kept) const {
  if (!keeper::Send(connection, keeper::kTake)) return Broken("can't be asked", errno);
  const auto batch = std::make_unique<keeper::Batch>();
  const auto packet = std::make_unique<keeper::Packet>();
  Kept volume;
  std::uint64_t images_to_come = 0;
  for (;;) {
    const int got = keeper::Receive(connection, batch.get(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) {
      RETURN_IF_ERROR(AwaitPacket(connection, stop_fd, kTakePatienceMs));
      continue;
    }
    if (got <= 0) return Broken("went away", got == 0 ? ECONNRESET : errno);
    std::vector<UniqueFd> fds(batch->fds, batch->fds + batch->fd_count);
    auto next_fd = fds.begin();
    for (std::size_t at = 0; at < batch->size;) {
      const std::size_t size =
          keeper::ReadMessage(batch->bytes + at, batch->size - at, packet.get());
      if (size == 0) return Broken("says what isn't ours", EBADMSG);
      at += size;
      const std::uint32_t kind = packet->head.kind;
      if (kind == keeper::kEnd) return absl::OkStatus();
      if (kind != keeper::kVolume && (kind != keeper::kImage || images_to_come == 0)) continue;
      UniqueFd fd;
      if (next_fd != fds.end()) fd = std::move(*next_fd++);
      if (kind == keeper::kVolume) {
        volume = {packet->target, packet->facts, std::move(fd), {}};
        images_to_come = packet->head.number;
      } else {
        volume.images[packet->head.number] = std::move(fd);
        --images_to_come;
      }
      if (images_to_come == 0) (*kept)[packet->target] = std::move(volume);
    }
  }
}

void KeeperClient::Hold(const Kept& kept) {
  Volume& volume = volumes_[kept.target] = {kept.facts, kept.fuse.get(), {}};
  for (const auto& [number, image] : kept.images) volume.images[number] = image.get();
}

absl::StatusOr<std::vector<KeeperClient::Kept>> KeeperClient::Take(absl::Duration patience,
                                                                   const StandBy& stand_by) {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this] { return thread_id_ != 0; });
  Holdings kept;
  absl::Status turn;
  while ((turn = AwaitTurn(patience, stand_by, &kept)).ok()) {
    Holdings before = std::exchange(kept, {});  // of a keeper that may have been another one
    turn = Ask(connection_.get(), stand_by.stop_fd, &kept);
    if (turn.ok()) {
      knows_all_ = true;
      if (!before.empty()) {
        for (const auto& [target, volume] : before) Hold(volume);
        for (const auto& [target, volume] : kept) Hold(volume);
        if (!TellAll(kept)) connection_.reset();
      }
    }
    kept.merge(before);
    if (turn.ok()) break;
    connection_.reset();
    if (absl::IsCancelled(turn)) break;
    log::Warning("volumes are not taken over yet", {{"so far", kept.size()}, {"cause", turn}});
    // Of a keeper that is dead there is no more to be had than this.
    if (!kept.empty()) patience = absl::ZeroDuration();
    if (!absl::IsUnavailable(turn) && Readable(stand_by.stop_fd, -1, kPatienceMs)) {
      turn = Stopped();
      break;
    }
  }
  taken_ = true;
  wake_.notify_all();
  if (!turn.ok() && (absl::IsCancelled(turn) || kept.empty())) return turn;
  std::vector<Kept> volumes;
  for (auto& [target, volume] : kept) {
    Hold(volume);
    (target.starts_with('/') ? volumes : others_).push_back(std::move(volume));
  }
  return volumes;
}

std::vector<KeeperClient::Kept> KeeperClient::TakeOthers(std::string_view prefix) {
  std::lock_guard lock(mutex_);
  const auto taken = std::stable_partition(others_.begin(), others_.end(), [&](const Kept& kept) {
    return !kept.target.starts_with(prefix);
  });
  std::vector<Kept> others(std::make_move_iterator(taken), std::make_move_iterator(others_.end()));
  others_.erase(taken, others_.end());
  return others;
}

bool KeeperClient::TellAll(const Holdings& kept) const {
  const Kept nothing;
  for (const auto& [target, volume] : volumes_) {
    const auto found = kept.find(target);
    if (!Tell(target, volume, found == kept.end() ? nothing : found->second)) return false;
  }
  return true;
}

bool KeeperClient::Tell(const std::string& target, const Volume& volume, const Kept& kept) const {
  const int fd = connection_.get();
  const auto is_kept = [&kept](const auto& image) {
    const auto found = kept.images.find(image.first);
    return found != kept.images.end() && SameFile(image.second, found->second.get());
  };
  // It drops what is kept, of another mount at the same path: so the newest content is in it.
  bool put = std::none_of(volume.images.begin(), volume.images.end(), is_kept);
  for (auto image = volume.images.rbegin(); image != volume.images.rend(); ++image) {
    if (is_kept(*image)) continue;
    const int both[] = {volume.fuse, image->second};
    const bool sent =
        put ? keeper::Send(fd, keeper::kPut, image->first, target.c_str(), volume.facts.c_str(),
                           both, 2)
            : keeper::Send(fd, keeper::kAdd, image->first, target.c_str(), "", &image->second, 1);
    if (!sent) return false;
    put = false;
  }
  for (const auto& [number, image] : kept.images) {
    if (volume.images.contains(number)) continue;
    if (!keeper::Send(fd, keeper::kRemove, number, target.c_str())) return false;
  }
  return true;
}

bool KeeperClient::Listen(bool* gone) {
  const auto packet = std::make_unique<keeper::Packet>();
  for (;;) {
    const int got = keeper::Receive(connection_.get(), packet.get(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return true;
    if (got <= 0 || packet->head.kind != keeper::kGone) return false;
    *gone = true;
  }
}

// What the keeper holds and this plugin doesn't know: it was dropped while there was no connection, or
// is here to be taken where Take() was in vain.
bool KeeperClient::Reconcile(Holdings kept) {
  if (!TellAll(kept)) return false;
  for (auto& [target, volume] : kept) {
    if (volumes_.contains(target)) continue;
    if (knows_all_) {
      if (!keeper::Send(connection_.get(), keeper::kDrop, 0, target.c_str())) return false;
    } else if (target.starts_with('/')) {
      Hold(volume);
      if (!on_late_(std::move(volume))) volumes_.erase(target);
    } else {
      Hold(volume);
      others_.push_back(std::move(volume));
    }
  }
  knows_all_ = true;
  return true;
}

// One step on the way to a keeper: `greeted` is one that has yet to answer.
void KeeperClient::Reconnect(std::unique_lock<std::mutex>& lock, UniqueFd* greeted) {
  lock.unlock();
  Holdings kept;
  bool welcome = false;
  if (!*greeted) *greeted = Greet(/*serves=*/true).value_or(UniqueFd());
  if (*greeted && Readable(greeted->get(), -1, 0)) {
    const absl::StatusOr<Answer> answer = AwaitWelcome(greeted->get(), stop_.get(), 0);
    welcome = answer.ok() && (*answer == Answer::kWelcome || *answer == Answer::kAfterKill) &&
              Ask(greeted->get(), stop_.get(), &kept).ok();
    if (!welcome) greeted->reset();  // one that stands by may have come first: it leaves again
  }
  lock.lock();
  if (!welcome || left_) return;
  connection_ = std::move(*greeted);
  if (Reconcile(std::move(kept))) {
    log::Info("the keeper is here again, and holds all volumes", {{"volumes", volumes_.size()}});
  } else {
    connection_.reset();
  }
}

// The thread whose end tells the keeper that the plugin was killed: it waits for no file system.
void KeeperClient::ReconnectLoop() {
  std::unique_lock lock(mutex_);
  thread_id_ = static_cast<int>(syscall(SYS_gettid));
  wake_.notify_all();
  wake_.wait(lock, [this] { return taken_ || left_; });
  bool somebody_dies = false;
  absl::Time next_ask = absl::InfinitePast();
  UniqueFd greeted;
  while (!left_) {
    // Who was killed has the lock for as long as one of its threads is in the kernel. Such a thread
    // may take a request with it after the kernel was asked to ask again, and itself wait for what
    // hangs on that one's answer: so it is asked until there is nobody left, and once more.
    const bool dying = !LockTurn();
    bool gone = std::exchange(somebody_dies, dying) && !dying;
    if (connection_ && !Listen(&gone)) {
      log::Warning("the keeper is gone; volumes live as long as this plugin", {});
      connection_.reset();
    }
    if (!connection_) Reconnect(lock, &greeted);
    if (left_) break;
    const absl::Time start = absl::Now();
    if (dying && start >= next_ask) gone = true;
    const std::function<void()> on_gone = gone ? on_gone_ : [] {};
    const int connection = connection_ ? connection_.get() : greeted.get();
    lock.unlock();
    on_gone();
    // For a tenth of the time, where there are many volumes.
    if (gone) {
      next_ask = absl::Now() + std::clamp(10 * (absl::Now() - start),
                                          absl::Milliseconds(kAskMs), absl::Milliseconds(kRetryMs));
    }
    // At most for a while: who tells may find the connection broken. Without the lock another one
    // could be the first to have it.
    Readable(connection, stop_.get(), dying ? kLockMs : kRetryMs);
    lock.lock();
  }
}

template <class Send>
void KeeperClient::Tell(const Send& send) {
  if (!connection_ || left_) return;
  if (!send(connection_.get())) connection_.reset();  // and everything is told again
}

void KeeperClient::Put(const std::string& target, const std::string& facts, int fuse,
                       std::uint64_t number, int image) {
  std::lock_guard lock(mutex_);
  volumes_[target] = {facts, fuse, {{number, image}}};
  Tell([&](int fd) {
    const int both[] = {fuse, image};
    return keeper::Send(fd, keeper::kPut, number, target.c_str(), facts.c_str(), both, 2);
  });
}

void KeeperClient::Add(const std::string& target, std::uint64_t number, int image) {
  std::lock_guard lock(mutex_);
  const auto at = volumes_.find(target);
  if (at == volumes_.end()) return;
  at->second.images[number] = image;
  Tell([&](int fd) {
    return keeper::Send(fd, keeper::kAdd, number, target.c_str(), "", &image, 1);
  });
}

void KeeperClient::Remove(const std::string& target, std::uint64_t number) {
  std::lock_guard lock(mutex_);
  const auto at = volumes_.find(target);
  if (at == volumes_.end() || at->second.images.erase(number) == 0) return;
  Tell([&](int fd) { return keeper::Send(fd, keeper::kRemove, number, target.c_str()); });
}

void KeeperClient::Drop(const std::string& target) {
  std::lock_guard lock(mutex_);
  if (volumes_.erase(target) == 0) return;
  Tell([&](int fd) { return keeper::Send(fd, keeper::kDrop, 0, target.c_str()); });
}

void KeeperClient::Leave() {
  {
    std::lock_guard lock(mutex_);
    left_ = true;
    lock_.reset();  // first: who is welcomed next may need it
    connection_.reset();
    volumes_.clear();
  }
  wake_.notify_all();
  eventfd_write(stop_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

}  // namespace coffer::volume
