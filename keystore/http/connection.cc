#include "keystore/http/connection.h"

#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>

#include "common/log.h"
#include "common/random.h"
#include "common/strings.h"
#include "keystore/core/core.h"
#include "keystore/core/mount_entry.h"
#include "keystore/http/decode.h"
#include "keystore/http/origin.h"
#include "keystore/http/ui_page.h"

namespace coffer::keystore {
namespace {

using ErrorCode = boost::system::error_code;
constexpr asio::use_awaitable_t<Executor> kAwait{};

constexpr std::size_t kUsualRoom = 4 * 1024;
constexpr std::size_t kMuchRoom = RequestParser::kMaxHeaderBytes + kUsualRoom;
// How long, and how much, a client may go on sending what is not read any more, so that it gets to
// the answer instead of a reset connection.
constexpr absl::Duration kLinger = absl::Seconds(2);
constexpr std::size_t kLingerBytes = std::size_t{64} << 20;

// An IPv4 client of a socket for both is shown as IPv4.
std::string TextOf(const asio::ip::address& address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).to_string();
  }
  return address.to_string();
}

asio::const_buffer ToBuffer(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

}  // namespace

std::string Worker::NextRequestId() {
  constexpr std::size_t kSize = 16;
  if (random_left_ < kSize) {
    FillRandom(random_);
    random_left_ = random_.size();
  }
  std::uint8_t* bytes = random_.data() + (random_left_ -= kSize);
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0f) | 0x40);  // RFC 9562 version 4
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3f) | 0x80);
  std::string id(36, '-');
  std::size_t at = 0;
  for (std::size_t i = 0; i < kSize; ++i) {
    if (at == 8 || at == 13 || at == 18 || at == 23) ++at;
    id[at++] = "0123456789abcdef"[bytes[i] >> 4];
    id[at++] = "0123456789abcdef"[bytes[i] & 15];
  }
  return id;
}

void Worker::Resume(PendingAnswer& answer) {
  {
    std::lock_guard lock(mutex_);
    answered_.push_back(&answer);
    if (answered_.size() > 1) return;  // the thread is on its way
  }
  asio::post(context, [this] { ResumeAll(); });
}

void Worker::ResumeAll() {
  {
    std::lock_guard lock(mutex_);
    resuming_.swap(answered_);
  }
  for (PendingAnswer* answer : resuming_) answer->Go();
  resuming_.clear();
}

void PendingAnswer::Set(const Request& request, absl::StatusOr<Response> response) {
  mount_type_ = request.mount == nullptr ? "" : request.mount->type;
  response_ = std::move(response);
  if (state_.exchange(kReady, std::memory_order_acq_rel) == kWaiting) worker_.Resume(*this);
}

void PendingAnswer::Go() {
  Waiter waiter = std::move(*waiter_);
  waiter_.reset();
  std::move(waiter)();
}

Task<void> PendingAnswer::Wait() {
  co_await asio::async_initiate<const asio::use_awaitable_t<Executor>&, void()>(
      [this](auto&& waiter) {
        waiter_.emplace(std::move(waiter));
        int expected = kPending;
        if (state_.compare_exchange_strong(expected, kWaiting, std::memory_order_acq_rel)) return;
        Waiter ready = std::move(*waiter_);
        waiter_.reset();
        asio::post(std::move(ready));
      },
      kAwait);
}

void PendingAnswer::StopWaiting() {
  int expected = kWaiting;
  if (!state_.compare_exchange_strong(expected, kPending, std::memory_order_acq_rel)) return;
  Waiter waiter = std::move(*waiter_);
  waiter_.reset();
  asio::post(std::move(waiter));
}

void ReceiveBuffer::Take(std::size_t size) {
  OPENSSL_cleanse(bytes_.data() + begin_, size);
  begin_ += size;
  if (begin_ == end_) begin_ = end_ = 0;
}

std::span<std::uint8_t> ReceiveBuffer::Room(bool much) {
  const std::size_t wanted = much ? kMuchRoom : kUsualRoom;
  if (bytes_.size() < wanted) bytes_.Resize(wanted);
  if (end_ == bytes_.size() && begin_ > 0) {
    std::memmove(bytes_.data(), bytes_.data() + begin_, end_ - begin_);
    OPENSSL_cleanse(bytes_.data() + (end_ - begin_), begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == bytes_.size()) bytes_.Resize(kMuchRoom);
  return bytes_.span().subspan(end_);
}

void ReceiveBuffer::Shrink() {
  if (end_ > 0 || bytes_.size() <= kUsualRoom) return;
  bytes_ = SecretBytes();
}

HttpAnswer::Head Connection::HeadFor(const HttpMessage& message, bool keep_alive, bool tls) const {
  return {.date = worker_.date,
          .keep_alive = keep_alive,
          .head_only = message.method == "HEAD",
          .tls = tls};
}

void Connection::Expire() {
  if (phase_ == Phase::kHandling) {
    pending_.StopWaiting();
  } else {
    Close();
  }
}

template <class Stream>
void StreamConnection<Stream>::Close() {
  if (const auto end = std::exchange(end_events_, nullptr)) return end();
  ErrorCode ignored;
  stream_.lowest_layer().close(ignored);
}

template <class Stream>
Task<bool> StreamConnection<Stream>::Handshake() {
  if constexpr (kTls) {
    ErrorCode error;
    co_await stream_.async_handshake(asio::ssl::stream_base::server,
                                     asio::redirect_error(kAwait, error));
    if (error) {
      log::Debug("TLS handshake failed",
                 {{"remote_address", remote_address_}, {"error", error.message()}});
      if (error.value() == static_cast<int>(ERR_PACK(ERR_LIB_SSL, 0, SSL_R_HTTP_REQUEST))) {
        answer_.WriteError({400, "Client sent an HTTP request to an HTTPS server."},
                           {.date = worker_.date, .keep_alive = false});
        co_await asio::async_write(stream_.next_layer(), ToBuffer(answer_.view()),
                                   asio::redirect_error(kAwait, error));
      }
      co_return false;
    }
  }
  co_return true;
}

template <class Stream>
Task<bool> StreamConnection<Stream>::Receive(bool much) {
  const std::span<std::uint8_t> room = received_.Room(much);
  ErrorCode error;
  const std::size_t size = co_await stream_.async_read_some(
      asio::mutable_buffer(room.data(), room.size()), asio::redirect_error(kAwait, error));
  received_.Added(size);
  co_return !error;
}

template <class Stream>
std::size_t StreamConnection<Stream>::SendNow(std::string_view bytes) {
  if constexpr (kTls) {
    return 0;
  } else {
    ErrorCode error;  // a real one comes again when the rest is sent
    return stream_.write_some(ToBuffer(bytes), error);
  }
}

template <class Stream>
Task<bool> StreamConnection<Stream>::Send(std::string_view bytes) {
  Enter(Phase::kSending, options_.idle_timeout);
  ErrorCode error;
  co_await asio::async_write(stream_, ToBuffer(bytes), asio::redirect_error(kAwait, error));
  co_return !error;
}

template <class Stream>
Task<bool> StreamConnection<Stream>::ReceiveRequest(HttpMessage* message, bool* keep_alive,
                                                    std::optional<HttpRefusal>* refusal) {
  RequestParser parser(*message, options_.max_request_size);
  bool in_header = true;
  for (;;) {
    if (!received_.unread().empty()) {
      if (phase_ == Phase::kIdle) Enter(Phase::kReceiving, options_.header_timeout);
      received_.Take(parser.Take(received_.unread(), refusal));
      if (*refusal) co_return true;
      if (parser.done()) break;
      if (in_header && parser.is_header_done()) {
        in_header = false;
        Enter(Phase::kReceiving, options_.read_timeout);
        if (message->expect_continue) {
          const bool sent = co_await Send("HTTP/1.1 100 Continue\r\n\r\n");
          if (!sent) co_return false;
          Enter(Phase::kReceiving, options_.read_timeout);
        }
      }
    }
    const bool received = co_await Receive(/*much=*/!in_header);
    if (!received) co_return false;
  }
  *keep_alive = parser.persistent();
  co_return true;
}

template <class Stream>
Task<bool> StreamConnection<Stream>::Handle(Request& request, const HttpMessage& message,
                                            bool keep_alive) {
  request.id = worker_.NextRequestId();
  Enter(Phase::kHandling, options_.max_request_duration);
  pending_.Reset();
  const auto answered = [this, &request](absl::StatusOr<Response> response) {
    pending_.Set(request, std::move(response));
  };
  static_assert(sizeof(answered) <= 2 * sizeof(void*), "so that std::function allocates nothing");
  handler_(request, answered);
  if (!pending_.ready()) co_await pending_.Wait();
  if (!pending_.ready()) {
    answer_.WriteError({503, StrCat("the request took longer than max_request_duration, ",
                                    absl::FormatDuration(options_.max_request_duration))},
                       HeadFor(message, /*keep_alive=*/false, kTls));
    co_return false;
  }
  absl::StatusOr<Response>& response = pending_.response();
  const HttpAnswer::Head head = HeadFor(message, keep_alive && !worker_.stopping, kTls);
  if (response.ok() && response->events != nullptr) {
    if (!message.websocket_key.empty()) {
      events_ = std::move(response->events);
    } else {
      answer_.WriteError({400, "events are sent over a WebSocket: ask for one"}, head);
    }
  } else if (response.ok()) {
    answer_.Write(request, *response, pending_.mount_type(), head);
  } else {
    answer_.WriteError({HttpStatusFor(response.status()), std::string(Message(response.status()))},
                       head);
  }
  response = absl::UnknownError("");  // wiped now, not with the next request
  co_return true;
}

template <class Stream>
bool StreamConnection<Stream>::AnswerPage(const HttpMessage& message, bool keep_alive) {
  if (!options_.ui) return false;
  const std::optional<UiPage> page = FindUiPage(message.method, message.target.view());
  if (!page) return false;
  const HttpAnswer::Head head = HeadFor(message, keep_alive && !worker_.stopping, kTls);
  if (page->asset == nullptr) {
    answer_.WritePage("text/plain", "", page->location, head);
  } else {
    answer_.WritePage(page->asset->content_type, page->asset->content, {}, head);
  }
  return true;
}

template <class Stream>
Task<bool> StreamConnection<Stream>::ServeRequest() {
  HttpMessage message;
  bool keep_alive = false;
  std::optional<HttpRefusal> refusal;
  const bool received = co_await ReceiveRequest(&message, &keep_alive, &refusal);
  if (!received) co_return false;
  const bool malformed = refusal.has_value();

  Request request;
  request.remote_address = remote_address_;
  request.metrics_for_all = options_.unauthenticated_metrics_access;
  if (!refusal) refusal = CheckOrigin(options_, message, &request.remote_address);
  const bool page = !refusal && AnswerPage(message, keep_alive);
  if (!refusal && !page) refusal = DecodeRequest(message, &request);
  bool in_time = true;
  if (page) {
    // It is there already.
  } else if (refusal) {
    answer_.WriteError(*refusal, HeadFor(message, keep_alive && !worker_.stopping, kTls));
  } else {
    message.body = SecretBytes();  // decoded
    in_time = co_await Handle(request, message, keep_alive);
    if (events_ != nullptr) {
      co_await ServeEvents(message);
      co_return false;
    }
  }

  const std::size_t sent = SendNow(answer_.view());
  bool all_sent = sent == answer_.view().size();
  if (!all_sent) all_sent = co_await Send(answer_.view().substr(sent));
  answer_.Clear();
  if (!in_time) {
    // The handler still has the request.
    Enter(Phase::kHandling, kForever);
    while (!pending_.ready()) co_await pending_.Wait();
  }
  if (!all_sent || !in_time) co_return false;
  keep_alive = keep_alive && !worker_.stopping;
  if (!keep_alive) co_await Finish(/*unread=*/malformed);
  co_return keep_alive;
}

template <class Stream>
Task<void> StreamConnection<Stream>::ServeEvents(const HttpMessage& message) {
  received_.Shrink();
  Enter(Phase::kIdle, kForever);  // the WebSocket has time limits of its own
  if (!worker_.stopping && received_.unread().empty()) {
    co_await SendEvents(stream_, worker_, *events_, message, end_events_);
  }
  end_events_ = nullptr;
  events_ = nullptr;
}

template <class Stream>
Task<void> StreamConnection<Stream>::Finish(bool unread) {
  Enter(Phase::kReceiving, kLinger);
  ErrorCode error;
  if constexpr (kTls) {
    // Tells the client that nothing was cut off; waits for it to say the same.
    if (!unread) co_await stream_.async_shutdown(asio::redirect_error(kAwait, error));
  }
  stream_.lowest_layer().shutdown(asio::socket_base::shutdown_send, error);
  if (!unread || error) co_return;
  Socket& socket = static_cast<Socket&>(stream_.lowest_layer());
  for (std::size_t total = 0; total < kLingerBytes;) {
    received_.Take(received_.unread().size());
    const std::span<std::uint8_t> room = received_.Room(/*much=*/true);
    const std::size_t size = co_await socket.async_read_some(
        asio::mutable_buffer(room.data(), room.size()), asio::redirect_error(kAwait, error));
    if (error) co_return;
    received_.Added(size);
    total += size;
  }
}

template <class Stream>
Task<void> StreamConnection<Stream>::Serve() {
  const auto place = worker_.connections.insert(worker_.connections.end(), this);
  Enter(Phase::kReceiving, options_.header_timeout);
  ErrorCode error;
  remote_address_ = TextOf(stream_.lowest_layer().remote_endpoint(error).address());
  stream_.lowest_layer().set_option(asio::ip::tcp::no_delay(true), error);
  // So that SendNow() sends what it can without waiting.
  if constexpr (!kTls) stream_.non_blocking(true, error);

  bool more = co_await Handshake();
  while (more) {
    more = co_await ServeRequest();
    if (!more || worker_.stopping) break;
    received_.Shrink();
    Enter(Phase::kIdle, options_.idle_timeout);
  }
  worker_.connections.erase(place);
}

template class StreamConnection<Socket>;
template class StreamConnection<TlsStream>;

}  // namespace coffer::keystore
