#include "csi/status_server.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/time/clock.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

constexpr std::size_t kMostConnections = 32;
constexpr std::size_t kMostHeadBytes = 8 * 1024;
// What a client may take for its request and for reading the answer.
constexpr absl::Duration kPatience = absl::Seconds(5);

// How often an address that is taken is tried again.
constexpr int kRetryMs = 200;

// One try with one family; the error is errno's number.
absl::StatusOr<UniqueFd> Listen(const addrinfo& address) {
  UniqueFd fd(socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1, off = 0;
  if (fd) {
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address.ai_family == AF_INET6) {
      setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    }
    if (bind(fd.get(), address.ai_addr, address.ai_addrlen) == 0 && listen(fd.get(), 64) == 0) {
      return fd;
    }
  }
  return absl::FailedPreconditionError(strerror(errno));
}

absl::StatusOr<UniqueFd> ListenAt(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (colon == address.npos || colon + 1 == address.size() ||
      getaddrinfo(host.empty() ? nullptr : host.c_str(), address.c_str() + colon + 1, &hints,
                  &found) != 0) {
    return absl::InvalidArgumentError(
        StrCat("address \"", address, "\" must be :port or address:port"));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> list(found, freeaddrinfo);
  absl::StatusOr<UniqueFd> listener = absl::FailedPreconditionError("no such address");
  for (const int family : {AF_INET6, AF_INET}) {  // IPv6 takes IPv4 too, where there is IPv6
    for (const addrinfo* a = found; a != nullptr && !listener.ok(); a = a->ai_next) {
      if (a->ai_family == family) listener = Listen(*a);
    }
  }
  if (!listener.ok()) {
    return absl::FailedPreconditionError(
        StrCat("listening on ", address, ": ", Message(listener.status())));
  }
  return listener;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StatusServer>> StatusServer::Start(const std::string& address,
                                                                  Pages pages, IfTaken taken) {
  absl::StatusOr<UniqueFd> listener = ListenAt(address);
  if (absl::IsFailedPrecondition(listener.status()) && taken == IfTaken::kWait) {
    log::Info("health pages wait for their address to be free", {{"cause", listener.status()}});
    listener = UniqueFd();
  }
  RETURN_IF_ERROR(listener.status());
  return std::unique_ptr<StatusServer>(
      new StatusServer(*std::move(listener), address, std::move(pages)));
}

StatusServer::StatusServer(UniqueFd listener, std::string address, Pages pages)
    : listener_(std::move(listener)),
      address_(std::move(address)),
      pages_(std::move(pages)),
      stop_(eventfd(0, EFD_CLOEXEC)),
      thread_([this] { Run(); }) {}

int StatusServer::port() const {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  if (getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

StatusServer::~StatusServer() {
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

void StatusServer::Run() {
  std::vector<pollfd> polled;
  for (;;) {
    if (!listener_) {
      if (absl::StatusOr<UniqueFd> free = ListenAt(address_); free.ok()) listener_ = *std::move(free);
    }
    polled = {{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const Connection& connection : connections_) {
      const short events = connection.out.empty() ? POLLIN : POLLOUT;
      polled.push_back({connection.fd.get(), events, 0});
    }
    poll(polled.data(), polled.size(), !listener_ ? kRetryMs : connections_.empty() ? -1 : 1000);
    if (polled[0].revents != 0) return;
    const absl::Time now = absl::Now();
    for (std::size_t i = connections_.size(); i-- > 0;) {
      Connection& connection = connections_[i];
      const short events = polled[i + 2].revents;
      if (now < connection.deadline && (events == 0 || Serve(connection, events))) continue;
      connections_.erase(connections_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (polled[1].revents != 0) Accept();
  }
}

void StatusServer::Accept() {
  UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!fd || connections_.size() >= kMostConnections) return;
  connections_.push_back({std::move(fd), absl::Now() + kPatience, {}, {}});
}

bool StatusServer::Serve(Connection& connection, short events) const {
  if ((events & POLLIN) != 0) {
    char buffer[2048];
    const ssize_t got = recv(connection.fd.get(), buffer, sizeof(buffer), 0);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    connection.in.append(buffer, static_cast<std::size_t>(got));
    const std::size_t end = connection.in.find("\r\n\r\n");
    if (end == std::string::npos) return connection.in.size() <= kMostHeadBytes;
    connection.out = AnswerTo(std::string_view(connection.in).substr(0, end));
  } else if ((events & POLLOUT) == 0) {
    return false;
  }
  const ssize_t sent =
      send(connection.fd.get(), connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN;
  connection.out.erase(0, static_cast<std::size_t>(sent));
  return !connection.out.empty();
}

std::string StatusServer::AnswerTo(std::string_view head) const {
  const std::string_view line = head.substr(0, head.find("\r\n"));
  const std::vector<std::string_view> words = Split(line, ' ');
  Answer answer{400, "bad request\n"};
  if (words.size() == 3 && words[2].starts_with("HTTP/1.")) {
    const auto page = pages_.find(words[1].substr(0, words[1].find('?')));
    if (words[0] != "GET" && words[0] != "HEAD") {
      answer = {405, "use GET\n"};
    } else if (page == pages_.end()) {
      answer = {404, "not found\n"};
    } else {
      answer = page->second();
    }
  }
  std::string text = StrCat("HTTP/1.1 ", answer.status, answer.status == 200 ? " OK" : " Error",
                            "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n",
                            "Content-Length: ", answer.text.size(), "\r\nConnection: close\r\n\r\n");
  if (!line.starts_with("HEAD ")) text += answer.text;
  return text;
}

}  // namespace coffer::csi
