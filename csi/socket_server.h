// SocketServer: gRPC services on Unix sockets that root alone can use.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace coffer::csi {

// The path of unix:///path, unix://path, unix:/path or a plain absolute path. InvalidArgument:
// anything else, and paths too long for a socket (107 bytes).
absl::StatusOr<std::string> SocketPath(const std::string& endpoint);

// Removes what a server before this one left at `path`. FailedPrecondition: it isn't a socket.
absl::Status RemoveStaleSocket(const std::string& path);

class SocketServer {
 public:
  // Serves all `services` (kept by the caller) on each of `paths`. A socket left there is replaced,
  // anything else isn't. The sockets have mode 0600; the process's umask must keep them so from
  // their birth (077).
  static absl::StatusOr<std::unique_ptr<SocketServer>> Start(
      const std::vector<std::string>& paths, const std::vector<grpc::Service*>& services);
  ~SocketServer();  // removes the sockets, lets calls under way end, up to five seconds

 private:
  SocketServer(std::vector<std::string> paths, std::unique_ptr<grpc::Server> server);

  const std::vector<std::string> paths_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace coffer::csi
