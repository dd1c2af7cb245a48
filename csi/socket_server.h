// SocketServer: gRPC services on Unix sockets that root alone can use.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"

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

// Listens by itself and hands gRPC the connections: gRPC would unlink the path at its end, when the
// next plugin has its socket there already.
class SocketServer {
 public:
  // Serves all `services` (kept by the caller) on each of `paths`. A socket left there is replaced
  // in one step, anything else isn't. The sockets have mode 0600; the process's umask must keep them
  // so from their birth (077).
  static absl::StatusOr<std::unique_ptr<SocketServer>> Start(
      const std::vector<std::string>& paths, const std::vector<grpc::Service*>& services);
  ~SocketServer();  // lets calls under way end, up to five seconds
  // FailedPrecondition: another program's socket, or none, is where one of ours was. Until
  // StopListening.
  absl::Status InPlace() const;
  // Removes the sockets, but not another program's in their place, and takes no more connections;
  // those that stand go on.
  void StopListening();

 private:
  struct Listener {
    std::string path;
    UniqueFd fd;
    dev_t device = 0;  // with `inode`: the socket's file, by which it is told from another one
    ino_t inode = 0;
  };
  static absl::StatusOr<Listener> ListenAt(const std::string& path);
  static absl::Status InPlace(const Listener& listener);

  SocketServer(std::vector<Listener> listeners, std::unique_ptr<grpc::Server> server);
  void AcceptLoop();

  std::vector<Listener> listeners_;
  const std::unique_ptr<grpc::Server> server_;
  const UniqueFd stop_;  // eventfd
  std::thread thread_;
};

}  // namespace coffer::csi
