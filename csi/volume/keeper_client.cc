#include "csi/volume/keeper_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <chrono>

#include "absl/time/clock.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "keeper/protocol.h"

namespace coffer::volume {
namespace {

constexpr std::chrono::milliseconds kRetry{50};
constexpr int kPidfdThread = O_EXCL;  // PIDFD_THREAD, Linux 6.9

absl::Status Broken(std::string_view what, int error) {
  return absl::UnavailableError(
      StrCat("the keeper: ", what, ": ", std::string_view(strerrordesc_np(error))));
}

}  // namespace

KeeperClient::KeeperClient(std::string socket)
    : socket_(std::move(socket)), thread_([this] { ReconnectLoop(); }) {}

absl::Status KeeperClient::Connect() {
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
  const auto packet = std::make_unique<keeper::Packet>();
  if (const int got = keeper::Receive(fd.get(), packet.get()); got <= 0) {
    return Broken("doesn't answer", got == 0 ? ECONNRESET : errno);
  }
  switch (packet->head.kind) {
    case keeper::kWelcome:
      connection_ = std::move(fd);
      return absl::OkStatus();
    case keeper::kBusy:
      return absl::UnavailableError("the keeper serves another plugin still");
    case keeper::kRefuse:
      return absl::FailedPreconditionError(
          StrCat("the keeper speaks versions ", packet->head.number >> 32, " to ",
                 packet->head.number & 0xffffffff, " of the protocol, this plugin ",
                 keeper::kOldestVersion, " to ", keeper::kNewestVersion, ": update the older one"));
    default:
      return absl::FailedPreconditionError("the keeper's answer makes no sense");
  }
}

absl::StatusOr<std::vector<KeeperClient::Kept>> KeeperClient::Take(absl::Duration patience) {
  const absl::Time end = absl::Now() + patience;
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this] { return thread_id_ != 0; });
  absl::StatusOr<std::vector<Kept>> kept = std::vector<Kept>();
  for (;;) {
    const absl::Status connected = Connect();
    if (connected.ok()) break;
    if (!absl::IsUnavailable(connected) || absl::Now() > end) {
      kept = connected;
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (kept.ok()) {
    const auto packet = std::make_unique<keeper::Packet>();
    int got = keeper::Send(connection_.get(), keeper::kTake) ? 1 : -1;
    while (got > 0 && (got = keeper::Receive(connection_.get(), packet.get())) > 0) {
      if (packet->head.kind == keeper::kEnd) break;
      if (packet->head.kind == keeper::kVolume && packet->fd_count == 1) {
        kept->push_back({packet->target, packet->facts, UniqueFd(packet->fds[0]), {}});
        volumes_[packet->target] = {packet->facts, packet->fds[0], {}};
      } else if (packet->head.kind == keeper::kImage && packet->fd_count == 1 && !kept->empty() &&
                 kept->back().target == packet->target) {
        kept->back().images[packet->head.number] = UniqueFd(packet->fds[0]);
        volumes_[packet->target].images[packet->head.number] = packet->fds[0];
      }
    }
    if (got <= 0) {
      kept = Broken("went away while volumes were taken over", got == 0 ? ECONNRESET : errno);
      volumes_.clear();
      connection_.reset();
    }
  }
  taken_ = true;
  wake_.notify_all();
  return kept;
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

void KeeperClient::ReconnectLoop() {
  std::unique_lock lock(mutex_);
  thread_id_ = static_cast<int>(syscall(SYS_gettid));
  wake_.notify_all();
  wake_.wait(lock, [this] { return taken_ || left_; });
  while (!left_) {
    if (connection_) {
      // Nothing is sent to us, so what can be read is the end.
      char byte;
      const ssize_t got = recv(connection_.get(), &byte, 1, MSG_DONTWAIT);
      if (got >= 0 || errno != EAGAIN) {
        log::Warning("the keeper is gone; volumes live as long as this plugin", {});
        connection_.reset();
      }
    }
    if (!connection_ && Connect().ok()) {
      if (TellAll()) {
        log::Info("the keeper is here again, and holds all volumes",
                  {{"volumes", volumes_.size()}});
      } else {
        connection_.reset();
      }
    }
    wake_.wait_for(lock, kRetry);
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
    connection_.reset();
    volumes_.clear();
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

}  // namespace coffer::volume
