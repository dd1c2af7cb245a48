#include "csi/admin_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include "absl/time/clock.h"
#include "common/log.h"
#include "common/lower_case.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "csi/socket_server.h"

namespace coffer::csi {
namespace {

constexpr int kMostAtOnce = 8;
constexpr std::size_t kMostHeadBytes = 8 * 1024;
constexpr std::size_t kMostBodyBytes = 1 << 20;
// What a client may take for its request, and for reading the answer.
constexpr absl::Duration kPatience = absl::Seconds(5);

int HttpStatus(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk: return 200;
    case absl::StatusCode::kInvalidArgument: return 400;
    case absl::StatusCode::kPermissionDenied: return 403;
    case absl::StatusCode::kNotFound: return 404;
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kAlreadyExists: return 409;
    case absl::StatusCode::kFailedPrecondition: return 412;
    case absl::StatusCode::kUnimplemented: return 501;
    case absl::StatusCode::kUnavailable: return 503;
    case absl::StatusCode::kDeadlineExceeded: return 504;
    default: return 500;
  }
}

SecretBytes Encode(const absl::StatusOr<Json>& answer) {
  const SecretBytes body =
      answer.ok() ? DumpJson(*answer)
                  : DumpJson({{"code", absl::StatusCodeToString(answer.status().code())},
                              {"error", SecretString(Message(answer.status()))}});
  SecretBytes text = SecretBytes::CopyOf(
      StrCat("HTTP/1.1 ", HttpStatus(answer.status().code()), answer.ok() ? " OK" : " Error",
             "\r\nContent-Type: application/json\r\nContent-Length: ", body.size(),
             "\r\nConnection: close\r\n\r\n"));
  text.Append(body.view());
  return text;
}

// The size of the body that the head announces; none where that can't be told.
std::optional<std::size_t> BodySize(std::string_view head) {
  std::size_t size = 0;
  for (const std::string_view line : Split(head, '\n')) {
    const std::size_t colon = line.find(':');
    if (colon == line.npos) continue;
    const std::string name = LowerCase(line.substr(0, colon));
    const std::string_view value = Trim(line.substr(colon + 1));
    if (name == "transfer-encoding") return std::nullopt;
    if (name != "content-length") continue;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), size);
    if (error != std::errc() || end != value.data() + value.size()) return std::nullopt;
  }
  return size;
}

// True: it may be read, or written, before `deadline`, and before `stop` (-1: none) can be read.
bool Wait(int fd, short events, absl::Time deadline, int stop = -1) {
  for (;;) {
    pollfd wait[] = {{fd, events, 0}, {stop, POLLIN, 0}};
    const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
    const int ready = poll(wait, 2, static_cast<int>(absl::ToInt64Milliseconds(left)));
    if (ready > 0) return wait[0].revents != 0;
    if (ready == 0 || errno != EINTR) return false;
  }
}

void WriteAll(int fd, std::string_view text) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!text.empty() && Wait(fd, POLLOUT, deadline)) {
    const ssize_t sent = send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) return;
    if (sent > 0) text.remove_prefix(static_cast<std::size_t>(sent));
  }
}

bool MayAsk(int fd) {
  ucred who = {};
  socklen_t size = sizeof(who);
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 &&
         (who.uid == 0 || who.uid == geteuid());
}

}  // namespace

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const std::string& path,
                                                                Routes routes) {
  ASSIGN_OR_RETURN(const std::string checked, SocketPath(path));
  RETURN_IF_ERROR(RemoveStaleSocket(checked));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::copy(checked.begin(), checked.end(), address.sun_path);
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // The process's umask keeps others out until chmod.
  if (!listener ||
      bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      chmod(checked.c_str(), 0600) != 0 || listen(listener.get(), 64) != 0) {
    return absl::FailedPreconditionError(
        StrCat("listening on ", checked, ": ", std::string_view(strerror(errno)),
               ": is its folder there and writable?"));
  }
  return std::unique_ptr<AdminServer>(
      new AdminServer(checked, std::move(listener), std::move(routes)));
}

AdminServer::AdminServer(std::string path, UniqueFd listener, Routes routes)
    : path_(std::move(path)),
      listener_(std::move(listener)),
      routes_(std::move(routes)),
      stop_(eventfd(0, EFD_CLOEXEC)),
      workers_(kMostAtOnce) {
  struct stat facts = {};
  if (lstat(path_.c_str(), &facts) == 0) {
    device_ = facts.st_dev;
    inode_ = facts.st_ino;
  }
  thread_ = std::thread([this] { Run(); });
}

AdminServer::~AdminServer() { StopListening(); }

void AdminServer::StopListening() {
  if (!thread_.joinable()) return;
  struct stat facts = {};
  if (lstat(path_.c_str(), &facts) == 0 && facts.st_dev == device_ && facts.st_ino == inode_) {
    unlink(path_.c_str());
  }
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

void AdminServer::Run() {
  for (;;) {
    pollfd wait[] = {{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    poll(wait, 2, -1);
    if (wait[0].revents != 0) return;
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) continue;
    if (!MayAsk(fd.get())) {
      log::Warning("the admin socket: somebody who isn't root was sent away");
      continue;
    }
    auto shared = std::make_shared<UniqueFd>(std::move(fd));
    workers_.Submit([this, shared] { Serve(shared->get()); });
  }
}

bool AdminServer::ReadMore(int fd, absl::Time deadline, SecretBytes* text) const {
  char buffer[4096];
  if (!Wait(fd, POLLIN, deadline, stop_.get())) return false;
  const ssize_t got = recv(fd, buffer, sizeof(buffer), 0);
  if (got <= 0) return false;
  text->Append(std::string_view(buffer, static_cast<std::size_t>(got)));
  explicit_bzero(buffer, static_cast<std::size_t>(got));
  return true;
}

void AdminServer::Serve(int fd) const {
  const absl::Time deadline = absl::Now() + kPatience;
  SecretBytes text;
  std::size_t head = std::string_view::npos;
  while ((head = text.view().find("\r\n\r\n")) == std::string_view::npos) {
    if (text.size() > kMostHeadBytes || !ReadMore(fd, deadline, &text)) return;
  }
  const std::optional<std::size_t> size = BodySize(text.view().substr(0, head));
  if (!size || *size > kMostBodyBytes) {
    WriteAll(fd, Encode(absl::InvalidArgumentError(
                            "a request needs a Content-Length of at most 1 MiB"))
                     .view());
    return;
  }
  while (text.size() < head + 4 + *size) {
    if (!ReadMore(fd, deadline, &text)) return;
  }
  WriteAll(fd, AnswerTo(text.view().substr(0, head), text.view().substr(head + 4, *size)).view());
}

SecretBytes AdminServer::AnswerTo(std::string_view head, std::string_view body) const {
  const std::vector<std::string_view> words = Split(head.substr(0, head.find("\r\n")), ' ');
  if (words.size() != 3 || !words[2].starts_with("HTTP/1.")) {
    return Encode(absl::InvalidArgumentError("this is no HTTP/1.1 request"));
  }
  const std::size_t mark = words[1].find('?');
  const auto route = routes_.find(StrCat(words[0], " ", words[1].substr(0, mark)));
  if (route == routes_.end()) {
    return Encode(absl::NotFoundError(StrCat("there is no ", words[0], " ", words[1])));
  }
  Request request;
  if (mark != words[1].npos) {
    for (const std::string_view pair : Split(words[1].substr(mark + 1), '&')) {
      const std::size_t equals = std::min(pair.find('='), pair.size());
      request.query.emplace(pair.substr(0, equals),
                            pair.substr(std::min(equals + 1, pair.size())));
    }
  }
  if (!body.empty()) {
    absl::StatusOr<Json> parsed = ParseJson(body);
    if (!parsed.ok()) {
      return Encode(absl::InvalidArgumentError(StrCat("the body is ", Message(parsed.status()))));
    }
    request.body = *std::move(parsed);
  }
  return Encode(route->second(request));
}

}  // namespace coffer::csi
