// StatusServer: a few pages of text over HTTP/1.1 for Prometheus and the kubelet's probes. One
// thread, one request a connection.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/unique_fd.h"

namespace coffer::csi {

class StatusServer {
 public:
  struct Answer {
    int status = 200;
    std::string text;
  };
  using Pages = std::map<std::string, std::function<Answer()>, std::less<>>;  // by path

  // `address`: ":port" for all of the machine's addresses, "host:port" with a numeric host (IPv6 in
  // brackets) for one. InvalidArgument: neither; FailedPrecondition: taken, unless that is to be
  // waited for, as where another plugin is about to leave it.
  enum class IfTaken { kFail, kWait };
  static absl::StatusOr<std::unique_ptr<StatusServer>> Start(const std::string& address,
                                                             Pages pages,
                                                             IfTaken taken = IfTaken::kFail);
  ~StatusServer();

  int port() const;  // 0: none yet

 private:
  struct Connection {
    UniqueFd fd;
    absl::Time deadline;
    std::string in;   // the request so far
    std::string out;  // what is left of the answer
  };

  StatusServer(UniqueFd listener, std::string address, Pages pages);
  void Run();
  void Accept();
  // False: the connection is done with.
  bool Serve(Connection& connection, short events) const;
  std::string AnswerTo(std::string_view head) const;

  UniqueFd listener_;  // none: the address is taken; the thread's
  const std::string address_;
  const Pages pages_;
  UniqueFd stop_;  // eventfd
  std::vector<Connection> connections_;
  std::thread thread_;
};

}  // namespace coffer::csi
