#include "csi/socket_server.h"

#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>
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

absl::StatusOr<std::unique_ptr<SocketServer>> SocketServer::Start(
    const std::vector<std::string>& paths, const std::vector<grpc::Service*>& services) {
  gpr_set_log_function(LogGrpc);
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMostRequestBytes);
  std::vector<int> ports(paths.size());
  for (std::size_t i = 0; i < paths.size(); ++i) {
    RETURN_IF_ERROR(RemoveStaleSocket(paths[i]));
    builder.AddListeningPort(StrCat("unix:", paths[i]), grpc::InsecureServerCredentials(),
                             &ports[i]);
  }
  for (grpc::Service* service : services) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  for (const std::string& path : paths) {
    if (server == nullptr || chmod(path.c_str(), 0600) != 0) {
      return absl::InternalError(
          StrCat("listening on ", path, ": is its folder there and writable?"));
    }
  }
  return std::unique_ptr<SocketServer>(new SocketServer(paths, std::move(server)));
}

SocketServer::SocketServer(std::vector<std::string> paths, std::unique_ptr<grpc::Server> server)
    : paths_(std::move(paths)), server_(std::move(server)) {}

SocketServer::~SocketServer() {
  // Last first: the kubelet learns that the plugin is gone before it finds no socket.
  for (auto path = paths_.rbegin(); path != paths_.rend(); ++path) unlink(path->c_str());
  server_->Shutdown(std::chrono::system_clock::now() + kGrace);
  server_->Wait();
}

}  // namespace coffer::csi
