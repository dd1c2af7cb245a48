#include "csi/volume/keeper_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <iterator>

#include "absl/time/clock.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "keeper/protocol.h"

namespace coffer::volume {
namespace {

constexpr int kRetryMs = 50;
constexpr int kPatienceMs = 1000;
constexpr int kPollMs = 10;  // where there is nobody to tell
constexpr int kLockedOutMs = 1000;
constexpr int kPidfdThread = O_EXCL;  // PIDFD_THREAD, Linux 6.9

absl::Status Broken(std::string_view what, int error) {
  return absl::UnavailableError(
      StrCat("the keeper: ", what, ": ", std::string_view(strerrordesc_np(error))));
}

// Whether one of the descriptors (-1: none) can be read within `ms` milliseconds, or for ever (-1).
bool Readable(int a, int b, int ms) {
  pollfd wait[] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
  return poll(wait, 2, ms) > 0;
}

}  // namespace

KeeperClient::KeeperClient(std::string socket)
    : socket_(std::move(socket)), stop_(eventfd(0, EFD_CLOEXEC)), thread_([this] {
        ReconnectLoop();
      }) {}

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

absl::StatusOr<KeeperClient::Answer> KeeperClient::Connect(UniqueFd* connection) const {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(StrCat("the keeper's socket path is too long: ", socket_));
  }
  std::copy(socket_.begin(), socket_.end(), address.sun_path);
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const timeval patience = {1, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Broken(StrCat("can't connect to ", socket_), errno);
  }
  // Of a thread of ours, which waits for nothing but this: since Linux 6.15 that of the main thread
  // says nothing before all threads are gone.
  const UniqueFd life(static_cast<int>(syscall(SYS_pidfd_open, thread_id_, kPidfdThread)));
  const int pidfd = life.get();
  if (!keeper::Send(fd.get(), keeper::kHello,
                    keeper::Versions(keeper::kOldestVersion, keeper::kNewestVersion), "", "",
                    &pidfd, pidfd >= 0 ? 1 : 0)) {
    return Broken("can't say hello", errno);
  }
  *connection = std::move(fd);
  return AwaitWelcome(connection->get(), -1, kPatienceMs);
}

absl::StatusOr<KeeperClient::Answer> KeeperClient::AwaitWelcome(int connection, int stop_fd,
                                                               int ms) const {
  if (!Readable(connection, stop_fd, ms)) return Broken("doesn't answer", ETIMEDOUT);
  if (Readable(stop_fd, -1, 0)) return absl::CancelledError("stopped while standing by");
  const auto packet = std::make_unique<keeper::Packet>();
  if (const int got = keeper::Receive(connection, packet.get()); got <= 0) {
    return Broken("doesn't answer", got == 0 ? ECONNRESET : errno);
  }
  switch (packet->head.kind) {
    case keeper::kWelcome:
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

// OK: welcomed, and no other plugin serves. Another error: this plugin is to serve without a keeper.
absl::Status KeeperClient::AwaitTurn(absl::Duration patience, const StandBy& stand_by) {
  absl::Time end = absl::Now() + patience;
  bool standing_by = false;
  const auto begin = [&] {
    if (!std::exchange(standing_by, true)) stand_by.begins();
  };
  for (;;) {
    bool locked_out = false;
    absl::StatusOr<Answer> answer = Connect(&connection_);
    if (answer.ok() && *answer == Answer::kStandBy) {
      begin();
      lock_.reset();  // it is for who serves
      answer = AwaitWelcome(connection_.get(), stand_by.stop_fd, -1);
      end = absl::Now() + patience;  // who serves may need a moment yet to have the lock
    }
    if (absl::IsCancelled(answer.status())) return answer.status();
    if (!answer.ok()) {
      connection_.reset();
      if (absl::Now() > end || !absl::IsUnavailable(answer.status())) {
        if (LockTurn()) return answer.status();
        begin();
      }
    } else if (*answer == Answer::kAfterKill ||
               (*answer == Answer::kWelcome && LockTurn())) {
      return absl::OkStatus();
    } else {
      connection_.reset();
      begin();
      locked_out = *answer == Answer::kWelcome;  // one serves whom the keeper doesn't know
    }
    // Who serves and has lost its connection comes back to the keeper soon.
    for (int i = 0; i < (locked_out ? kLockedOutMs / kPollMs : 1); ++i) {
      if (Readable(stand_by.stop_fd, -1, kPollMs)) {
        return absl::CancelledError("stopped while standing by");
      }
      if (locked_out && LockTurn()) break;
    }
  }
}

absl::StatusOr<std::vector<KeeperClient::Kept>> KeeperClient::Take(absl::Duration patience,
                                                                   const StandBy& stand_by) {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this] { return thread_id_ != 0; });
  absl::StatusOr<std::vector<Kept>> kept = std::vector<Kept>();
  if (absl::Status turn = AwaitTurn(patience, stand_by); !turn.ok()) kept = turn;
  if (kept.ok()) {
    const auto packet = std::make_unique<keeper::Packet>();
    std::uint64_t images_to_come = 0;  // of the last volume
    int got = keeper::Send(connection_.get(), keeper::kTake) ? 1 : -1;
    while (got > 0 && (got = keeper::Receive(connection_.get(), packet.get())) > 0) {
      if (packet->head.kind == keeper::kEnd) break;
      if (packet->head.kind == keeper::kVolume && packet->fd_count == 1) {
        kept->push_back({packet->target, packet->facts, UniqueFd(packet->fds[0]), {}});
        volumes_[packet->target] = {packet->facts, packet->fds[0], {}};
        images_to_come = packet->head.number;
      } else if (packet->head.kind == keeper::kImage && packet->fd_count == 1 && !kept->empty() &&
                 kept->back().target == packet->target) {
        kept->back().images[packet->head.number] = UniqueFd(packet->fds[0]);
        volumes_[packet->target].images[packet->head.number] = packet->fds[0];
        --images_to_come;
      }
    }
    if (got <= 0) {
      log::Warning("the keeper went away while volumes were taken over: those that came live on",
                   {{"volumes", kept->size()},
                    {"cause", std::string_view(strerrordesc_np(got == 0 ? ECONNRESET : errno))}});
      if (images_to_come > 0) {
        volumes_.erase(kept->back().target);
        kept->pop_back();
      }
      connection_.reset();
    }
  }
  if (kept.ok()) {
    const auto volumes_end = std::stable_partition(
        kept->begin(), kept->end(), [](const Kept& k) { return k.target.starts_with('/'); });
    std::move(volumes_end, kept->end(), std::back_inserter(others_));
    kept->erase(volumes_end, kept->end());
  }
  taken_ = true;
  wake_.notify_all();
  return kept;
}

std::vector<KeeperClient::Kept> KeeperClient::TakeOthers() {
  std::lock_guard lock(mutex_);
  return std::exchange(others_, {});
}

bool KeeperClient::TellAll() {
  if (!keeper::Send(connection_.get(), keeper::kClear)) return false;
  for (const auto& [target, volume] : volumes_) {
    bool first = true;
    for (const auto& [number, image] : volume.images) {
      const int both[] = {volume.fuse, image};
      const bool sent =
          first ? keeper::Send(connection_.get(), keeper::kPut, number, target.c_str(),
                               volume.facts.c_str(), both, 2)
                : keeper::Send(connection_.get(), keeper::kAdd, number, target.c_str(), "", &image,
                               1);
      if (!sent) return false;
      first = false;
    }
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

// The thread whose end tells the keeper that the plugin was killed: it waits for no file system.
void KeeperClient::ReconnectLoop() {
  std::unique_lock lock(mutex_);
  thread_id_ = static_cast<int>(syscall(SYS_gettid));
  wake_.notify_all();
  wake_.wait(lock, [this] { return taken_ || left_; });
  bool somebody_dies = false;
  while (!left_) {
    // Who was killed has the lock for as long as one of its threads is in the kernel. Such a thread
    // may take a request with it after the kernel was asked to ask again, and itself wait for what
    // hangs on that one's answer: so it is asked until there is nobody left, and once more.
    const bool dying = !LockTurn();
    bool gone = std::exchange(somebody_dies, dying) || dying;
    if (connection_ && !Listen(&gone)) {
      log::Warning("the keeper is gone; volumes live as long as this plugin", {});
      connection_.reset();
    }
    if (!connection_) {
      UniqueFd fresh;
      lock.unlock();
      const absl::StatusOr<Answer> answer = Connect(&fresh);
      lock.lock();
      if (left_) break;
      connection_ = std::move(fresh);
      const bool welcome = answer.ok() && *answer != Answer::kStandBy && *answer != Answer::kBusy;
      if (welcome && TellAll()) {
        log::Info("the keeper is here again, and holds all volumes",
                  {{"volumes", volumes_.size()}});
      } else {
        connection_.reset();  // one that stands by may have come first: it leaves again
      }
    }
    const std::function<void()> on_gone = gone ? on_gone_ : [] {};
    const int connection = connection_.get();
    lock.unlock();
    on_gone();
    // At most for a while: who tells may find the connection broken.
    Readable(connection, stop_.get(), kRetryMs);
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
