#include "csi/socket_server.h"

#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

constexpr std::chrono::seconds kGrace{5};
// Requests are a volume context with a few tokens; more is not for us.
constexpr int kMostRequestBytes = 1 << 20;
// How long a connection waits where the process has no descriptor left for it.
constexpr int kNoDescriptorsMs = 100;

// gRPC's own words, for who debugs it: what matters is said by us.
void LogGrpc(gpr_log_func_args* line) { log::Debug("grpc", {{"message", line->message}}); }

}  // namespace

absl::Status RemoveStaleSocket(const std::string& path) {
  struct stat facts = {};
  if (lstat(path.c_str(), &facts) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return absl::InternalError(StrCat("looking at socket ", path, ": ", strerror(errno)));
  }
  if (!S_ISSOCK(facts.st_mode)) {
    return absl::FailedPreconditionError(
        StrCat(path, " is there and isn't a socket: remove it or choose another path"));
  }
  if (unlink(path.c_str()) != 0) {
    return absl::InternalError(StrCat("removing old socket ", path, ": ", strerror(errno)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> SocketPath(const std::string& endpoint) {
  std::string path = endpoint;
  for (const std::string_view prefix : {"unix://", "unix:"}) {
    if (path.starts_with(prefix)) {
      path = path.substr(prefix.size());
      break;
    }
  }
  if (!path.starts_with('/')) {
    return absl::InvalidArgumentError(
        StrCat("endpoint \"", endpoint, "\" must be unix:// and an absolute path"));
  }
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(StrCat("endpoint \"", endpoint, "\" is longer than ",
                                             sizeof(sockaddr_un::sun_path) - 1, " bytes"));
  }
  return path;
}

// A socket that listens at `path`, put over what was there by a rename: whoever connects finds the
// old one or the new one. Its name until then begins with a dot, which the kubelet overlooks.
absl::StatusOr<SocketServer::Listener> SocketServer::ListenAt(const std::string& path) {
  const auto failed = [&path] {
    return absl::InternalError(StrCat("listening on ", path, ": ", strerror(errno),
                                      ": is its folder there and writable?"));
  };
  struct stat facts = {};
  if (lstat(path.c_str(), &facts) == 0 && !S_ISSOCK(facts.st_mode)) {
    return absl::FailedPreconditionError(
        StrCat(path, " is there and isn't a socket: remove it or choose another path"));
  }
  const std::size_t slash = path.rfind('/');
  const std::string name = path.substr(slash + 1);
  const UniqueFd folder(
      open(path.substr(0, slash + 1).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return failed();
  const std::string new_name = StrCat(".", name.substr(0, 70), ".new");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  StrCat("/proc/self/fd/", folder.get(), "/", new_name).copy(address.sun_path, sizeof address.sun_path - 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  unlinkat(folder.get(), new_name.c_str(), 0);
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      fchmodat(folder.get(), new_name.c_str(), 0600, 0) != 0 || listen(fd.get(), SOMAXCONN) != 0 ||
      fstatat(folder.get(), new_name.c_str(), &facts, AT_SYMLINK_NOFOLLOW) != 0 ||
      renameat(folder.get(), new_name.c_str(), folder.get(), name.c_str()) != 0) {
    return failed();
  }
  return Listener{path, std::move(fd), facts.st_dev, facts.st_ino};
}

absl::Status SocketServer::InPlace(const Listener& listener) {
  struct stat facts = {};
  const bool there = lstat(listener.path.c_str(), &facts) == 0;
  if (there && facts.st_dev == listener.device && facts.st_ino == listener.inode) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      StrCat(there ? "another program has put its socket in the place of " : "somebody removed ",
             listener.path,
             ": the kubelet no longer finds this plugin there. If another driver has its name on "
             "the node, uninstall it or give this one another (--driver-name, csi.driverName in "
             "the chart); then restart this plugin"));
}

absl::Status SocketServer::InPlace() const {
  for (const Listener& listener : listeners_) RETURN_IF_ERROR(InPlace(listener));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SocketServer>> SocketServer::Start(
    const std::vector<std::string>& paths, const std::vector<grpc::Service*>& services) {
  gpr_set_log_function(LogGrpc);
  std::vector<Listener> listeners;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(Listener listener, ListenAt(path));
    listeners.push_back(std::move(listener));
  }
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMostRequestBytes);
  for (grpc::Service* service : services) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return absl::InternalError("gRPC's server doesn't start");
  return std::unique_ptr<SocketServer>(
      new SocketServer(std::move(listeners), std::move(server)));
}

SocketServer::SocketServer(std::vector<Listener> listeners, std::unique_ptr<grpc::Server> server)
    : listeners_(std::move(listeners)),
      server_(std::move(server)),
      stop_(eventfd(0, EFD_CLOEXEC)),
      thread_([this] { AcceptLoop(); }) {}

void SocketServer::AcceptLoop() {
  std::vector<pollfd> polled = {{stop_.get(), POLLIN, 0}};
  for (const Listener& listener : listeners_) polled.push_back({listener.fd.get(), POLLIN, 0});
  for (;;) {
    poll(polled.data(), polled.size(), -1);
    if (polled[0].revents != 0) return;
    for (std::size_t i = 1; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      const int fd = accept4(polled[i].fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) {
        grpc::AddInsecureChannelFromFd(server_.get(), fd);
      } else if (errno != EAGAIN && errno != ECONNABORTED) {
        poll(polled.data(), 1, kNoDescriptorsMs);
      }
    }
  }
}

void SocketServer::StopListening() {
  if (!thread_.joinable()) return;
  // Last first: the kubelet learns that the plugin is gone before it finds no socket.
  for (auto listener = listeners_.rbegin(); listener != listeners_.rend(); ++listener) {
    if (InPlace(*listener).ok()) unlink(listener->path.c_str());
  }
  eventfd_write(stop_.get(), 1);
  thread_.join();
  listeners_.clear();  // who was about to be accepted learns at once
}

SocketServer::~SocketServer() {
  StopListening();
  server_->Shutdown(std::chrono::system_clock::now() + kGrace);
  server_->Wait();
}

}  // namespace coffer::csi
