// Stream: one TCP or TLS connection, each of whose calls ends by a deadline. For HttpTransport.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/unique_fd.h"

namespace coffer {

class Stream {
 public:
  // `host`: a name or an address without brackets. Unavailable: not resolved, not connected;
  // DeadlineExceeded.
  static absl::StatusOr<std::unique_ptr<Stream>> Connect(const std::string& host,
                                                         const std::string& port,
                                                         absl::Time deadline);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // TLS from here on, for a server of that name, which SNI names and, as far as `context` verifies,
  // the certificate must have. FailedPrecondition: TLS refused, and why.
  absl::Status StartTls(SSL_CTX* context, const std::string& name, absl::Time deadline);

  absl::Status Write(std::string_view bytes, absl::Time deadline);
  // At least one byte, or 0 at the end.
  absl::StatusOr<std::size_t> Read(std::span<char> buffer, absl::Time deadline);

  // Whether it may be used again: open, and silent since the last answer.
  bool Idle() const;

 private:
  struct SslDeleter {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  explicit Stream(UniqueFd fd) : fd_(std::move(fd)) {}
  absl::Status WriteRaw(std::string_view bytes, absl::Time deadline);
  absl::StatusOr<std::size_t> ReadRaw(std::span<char> buffer, absl::Time deadline);
  // One step of an SSL call that returned `result`: sends what it made, reads what it waits for.
  // True: call again. OK and false: it is done, or the end was reached.
  absl::StatusOr<bool> Pump(int result, absl::Time deadline);

  UniqueFd fd_;
  std::unique_ptr<SSL, SslDeleter> ssl_;  // over memory BIOs, so that no write raises SIGPIPE
};

}  // namespace coffer
