// HttpServer: listens, and serves HTTP/1.1 connections: one io_context and thread per core, one
// coroutine per connection, which stays on its thread for life.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "keystore/core/request.h"
#include "keystore/core/response.h"
#include "keystore/http/tls.h"

namespace coffer::keystore {

// Whose X-Forwarded-For says where a request comes from; Vault's rules:
// https://developer.hashicorp.com/vault/docs/configuration/listener/tcp
struct ForwardedForOptions {
  std::vector<std::string> authorized;  // CIDRs or addresses; empty: nobody's, it is ignored
  std::uint64_t hop_skips = 0;          // entries to skip from the end
  bool reject_not_authorized = true;    // connections from elsewhere
  bool reject_not_present = true;       // requests without it
};

struct ListenerOptions {
  std::string address = "127.0.0.1:8200";  // "host:port" or "[v6]:port"; port 0: a free one
  std::optional<TlsServerOptions> tls;
  std::uint64_t max_request_size = std::uint64_t{32} << 20;  // bytes of a body
  // From the first byte (of a connection's first request: from the connection) to the header's end;
  // from there to the body's end; between requests, and for an answer to be taken. Kept to within a
  // second.
  absl::Duration header_timeout = absl::Seconds(10);
  absl::Duration read_timeout = absl::Seconds(30);
  absl::Duration idle_timeout = absl::Minutes(5);
  // For the handler to answer; then the client is told so, and the connection ends once it has.
  absl::Duration max_request_duration = absl::Seconds(90);
  bool require_request_header = false;  // refuse requests without X-Vault-Request: true
  bool ui = false;                        // serve the web page below /ui/
  bool unauthenticated_metrics_access = false;  // sys/metrics without a token, and sealed
  ForwardedForOptions forwarded_for;
};

struct ServerOptions {
  int threads = 0;                      // 0: one per core
  std::size_t max_connections = 10'000;  // one more is closed at once
};

class HttpServer {
 public:
  // Answers exactly once, from any thread, perhaps before it returns; see Core::Handle. Called on
  // the connection's thread, which it mustn't block. The request's mount lives until then.
  using Answer = std::function<void(absl::StatusOr<Response>)>;
  using Handler = std::function<void(Request&, Answer)>;

  HttpServer(Handler handler, ServerOptions options);
  ~HttpServer();  // as Stop, at once

  // Before Start. The address bound, "127.0.0.1:8200"; connections queue until Start.
  absl::StatusOr<std::string> Listen(ListenerOptions options);
  void Start();

  // Reads the certificate files again, for connections made from now on. Where that fails for a
  // listener it goes on with what it has. Safe on any thread.
  absl::Status ReloadCertificates();

  // Takes no more connections and requests, and lets those under way finish: for `grace`, then what
  // waits for a client is cut off. Returns when nothing is under way.
  void Stop(absl::Duration grace);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace coffer::keystore
