// AdminServer: HTTP/1.1 with JSON on a Unix socket of root's, for the command line. One request a
// connection, each on a thread of its own while it lasts: what is asked for may wait for a keystore.
// What the routes say and mean: csi/admin.h.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/json.h"
#include "common/unique_fd.h"
#include "provider/workers.h"

namespace coffer::csi {

class AdminServer {
 public:
  struct Request {
    std::map<std::string, std::string> query;  // of the URL, not decoded
    Json body;                                 // null: none was sent
  };
  using Handler = std::function<absl::StatusOr<Json>(const Request&)>;
  using Routes = std::map<std::string, Handler, std::less<>>;  // by "GET /v1/status"

  // `path`: absolute; a socket left there is replaced, anything else isn't. Whoever connects must be
  // root or the plugin's own user. FailedPrecondition: it can't be listened on.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const std::string& path, Routes routes);
  ~AdminServer();  // waits for what is under way
  // Removes the socket, unless it is another's by now, and takes no more requests; those that have
  // come whole go on.
  void StopListening();

 private:
  AdminServer(std::string path, UniqueFd listener, Routes routes);
  void Run();
  void Serve(int fd) const;
  bool ReadMore(int fd, absl::Time deadline, SecretBytes* text) const;
  SecretBytes AnswerTo(std::string_view head, std::string_view body) const;

  const std::string path_;
  const UniqueFd listener_;
  const Routes routes_;
  dev_t device_ = 0;  // of the socket's file
  ino_t inode_ = 0;
  UniqueFd stop_;  // eventfd
  provider::Workers workers_;
  std::thread thread_;
};

}  // namespace coffer::csi
