#include "common/stream.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <future>
#include <thread>

#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer {
namespace {

// What one of several addresses is given before the next is tried.
constexpr absl::Duration kPerAddress = absl::Seconds(3);

std::string ErrorText(int error) {
  char buffer[128];
  return strerror_r(error, buffer, sizeof(buffer));
}

// Until the socket is ready. DeadlineExceeded.
absl::Status Wait(int fd, short events, absl::Time deadline) {
  for (;;) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return absl::DeadlineExceededError("no time left");
    pollfd waited = {.fd = fd, .events = events, .revents = 0};
    const timespec timeout = absl::ToTimespec(std::min(left, absl::Hours(1)));
    const int ready = ppoll(&waited, 1, &timeout, nullptr);
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return absl::InternalError(StrCat("poll: ", ErrorText(errno)));
  }
}

struct AddressDeleter {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, AddressDeleter>;

absl::StatusOr<Addresses> Resolve(const std::string& host, const std::string& port,
                                  absl::Time deadline) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) == 0) return Addresses(found);
  // Name servers may be slow, and getaddrinfo knows no deadline: a thread asks, and is left alone
  // when it takes too long.
  std::promise<std::pair<int, Addresses>> promise;
  auto answer = promise.get_future();
  std::thread([host, port, promise = std::move(promise)]() mutable {
    addrinfo hints = {};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
    addrinfo* list = nullptr;
    const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
    promise.set_value({error, Addresses(error == 0 ? list : nullptr)});
  }).detach();
  if (answer.wait_for(absl::ToChronoNanoseconds(deadline - absl::Now())) !=
      std::future_status::ready) {
    return absl::DeadlineExceededError("the host name isn't resolved in time");
  }
  auto [error, addresses] = answer.get();
  if (error == 0) return std::move(addresses);
  return absl::UnavailableError("the host name can't be resolved: is the address right?");
}

absl::StatusOr<UniqueFd> ConnectTo(const addrinfo& address, absl::Time deadline) {
  UniqueFd fd(socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return absl::UnavailableError(ErrorText(errno));
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  int error = connect(fd.get(), address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    RETURN_IF_ERROR(Wait(fd.get(), POLLOUT, deadline));
    socklen_t size = sizeof(error);
    getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  }
  if (error == 0) return fd;
  return absl::UnavailableError(StrCat("can't connect: ", ErrorText(error),
                                       ": is the server running, is the address right?"));
}

// Why the last SSL call of this thread failed.
std::string TlsError(const SSL* ssl) {
  const long verified = SSL_get_verify_result(ssl);
  const unsigned long code = ERR_peek_last_error();
  const char* reason = ERR_reason_error_string(code);
  std::string text = reason == nullptr ? "handshake failed" : reason;
  if (verified != X509_V_OK) text = X509_verify_cert_error_string(verified);
  ERR_clear_error();
  const auto says = [&text](std::string_view words) { return text.find(words) != text.npos; };
  if (says("wrong version number") || says("packet length too long") || says("http request")) {
    text += "; does the server speak plain http:// at this address?";
  } else if (verified != X509_V_OK && (says("self-signed") || says("unable to get local issuer"))) {
    text += "; is the CA certificate that signed the server's given?";
  }
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Stream>> Stream::Connect(const std::string& host,
                                                        const std::string& port,
                                                        absl::Time deadline) {
  ASSIGN_OR_RETURN(const Addresses addresses, Resolve(host, port, deadline));
  absl::Status failed = absl::UnavailableError("the host name has no address");
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    const bool last = address->ai_next == nullptr;
    auto fd = ConnectTo(*address, last ? deadline : std::min(deadline, absl::Now() + kPerAddress));
    if (fd.ok()) return std::unique_ptr<Stream>(new Stream(*std::move(fd)));
    failed = fd.status();
  }
  return failed;
}

Stream::~Stream() {
  if (ssl_ == nullptr || !SSL_is_init_finished(ssl_.get())) return;
  SSL_shutdown(ssl_.get());  // says goodbye, doesn't wait for the answer
  (void)Pump(1, absl::Now() + absl::Milliseconds(1));
  ERR_clear_error();
}

absl::Status Stream::StartTls(SSL_CTX* context, const std::string& name, absl::Time deadline) {
  ssl_.reset(SSL_new(context));
  SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  X509_VERIFY_PARAM* wanted = SSL_get0_param(ssl_.get());
  if (X509_VERIFY_PARAM_set1_ip_asc(wanted, name.c_str()) != 1) {
    SSL_set_tlsext_host_name(ssl_.get(), name.c_str());
    X509_VERIFY_PARAM_set1_host(wanted, name.c_str(), name.size());
  }
  ERR_clear_error();
  for (;;) {
    const int result = SSL_connect(ssl_.get());
    const absl::StatusOr<bool> again = Pump(result, deadline);
    RETURN_IF_ERROR(again.status());
    if (result == 1) return absl::OkStatus();
    if (!*again)
      return absl::UnavailableError("the connection was closed during the TLS handshake");
  }
}

absl::StatusOr<bool> Stream::Pump(int result, absl::Time deadline) {
  const int error = SSL_get_error(ssl_.get(), result);
  const std::string refused = error == SSL_ERROR_SSL ? TlsError(ssl_.get()) : "";
  // First what waits to be sent, be it an alert that says why.
  BIO* out = SSL_get_wbio(ssl_.get());
  char* pending = nullptr;
  if (const long size = BIO_get_mem_data(out, &pending); size > 0) {
    const absl::Status written = WriteRaw({pending, static_cast<std::size_t>(size)}, deadline);
    (void)BIO_reset(out);
    if (refused.empty()) RETURN_IF_ERROR(written);
  }
  if (!refused.empty()) return absl::FailedPreconditionError(StrCat("TLS: ", refused));
  if (error == SSL_ERROR_ZERO_RETURN || error == SSL_ERROR_NONE) return false;
  if (error == SSL_ERROR_WANT_WRITE) return true;
  if (error != SSL_ERROR_WANT_READ) return absl::UnavailableError("the connection was lost");
  char buffer[16 * 1024];
  ASSIGN_OR_RETURN(const std::size_t got, ReadRaw(buffer, deadline));
  if (got == 0) return false;
  BIO_write(SSL_get_rbio(ssl_.get()), buffer, static_cast<int>(got));
  return true;
}

absl::Status Stream::WriteRaw(std::string_view bytes, absl::Time deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      RETURN_IF_ERROR(Wait(fd_.get(), POLLOUT, deadline));
    } else if (errno != EINTR) {
      return absl::UnavailableError(StrCat("the connection was lost: ", ErrorText(errno)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::size_t> Stream::ReadRaw(std::span<char> buffer, absl::Time deadline) {
  for (;;) {
    const ssize_t got = recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno == EAGAIN) {
      RETURN_IF_ERROR(Wait(fd_.get(), POLLIN, deadline));
    } else if (errno != EINTR) {
      return absl::UnavailableError(StrCat("the connection was lost: ", ErrorText(errno)));
    }
  }
}

absl::Status Stream::Write(std::string_view bytes, absl::Time deadline) {
  if (ssl_ == nullptr) return WriteRaw(bytes, deadline);
  while (!bytes.empty()) {
    // A record at a time, so that the memory BIO stays small.
    const auto size = static_cast<int>(std::min<std::size_t>(bytes.size(), 16 * 1024));
    ERR_clear_error();
    const int result = SSL_write(ssl_.get(), bytes.data(), size);
    ASSIGN_OR_RETURN(const bool again, Pump(result, deadline));
    if (result > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(result));
    } else if (!again) {
      return absl::UnavailableError("the connection was closed");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::size_t> Stream::Read(std::span<char> buffer, absl::Time deadline) {
  if (ssl_ == nullptr) return ReadRaw(buffer, deadline);
  for (;;) {
    ERR_clear_error();
    const int result = SSL_read(ssl_.get(), buffer.data(), static_cast<int>(buffer.size()));
    ASSIGN_OR_RETURN(const bool again, Pump(result, deadline));
    if (result > 0) return static_cast<std::size_t>(result);
    if (!again) return 0;
  }
}

bool Stream::Idle() const {
  pollfd waited = {.fd = fd_.get(), .events = POLLIN, .revents = 0};
  return poll(&waited, 1, 0) == 0;
}

}  // namespace coffer
