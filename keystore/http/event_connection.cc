// Events over a WebSocket (RFC 6455), by Beast, whose header stays in this file.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>

#include "common/strings.h"
#include "keystore/http/connection.h"

namespace coffer::keystore {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using ErrorCode = boost::system::error_code;
using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                         asio::wait_traits<std::chrono::steady_clock>, Executor>;
constexpr asio::use_awaitable_t<Executor> kAwait{};

// A client that answers no ping, or takes nothing, for this long is gone. A ping goes out after half.
constexpr std::chrono::seconds kIdle{60};
constexpr std::chrono::seconds kHandshake{10};
// Clients have nothing to say.
constexpr std::size_t kMostFromClient = 4096;

// What the sending coroutine waits for. Shared with whoever may still wake it.
struct Wake {
  explicit Wake(asio::io_context& context) : timer(context) {}

  // On the connection's thread.
  void Signal() {
    signalled = true;
    timer.cancel();
  }
  Task<void> Wait() {
    while (!signalled) {
      ErrorCode ignored;
      timer.expires_at(std::chrono::steady_clock::time_point::max());
      co_await timer.async_wait(asio::redirect_error(kAwait, ignored));
    }
    signalled = false;
  }

  Timer timer;
  bool signalled = false;
};

http::request<http::empty_body> UpgradeRequest(const HttpMessage& message) {
  http::request<http::empty_body> request(http::verb::get, "/", 11);
  request.set(http::field::host, "keystore");
  request.set(http::field::connection, "upgrade");
  request.set(http::field::upgrade, message.upgrade);
  request.set(http::field::sec_websocket_key, message.websocket_key);
  request.set(http::field::sec_websocket_version, message.websocket_version);
  return request;
}

// Takes what the client sends, which is of no interest but for pings and its closing.
template <class WebSocket>
Task<void> ReadUntilEnd(WebSocket& socket) {
  beast::flat_buffer buffer;
  ErrorCode error;
  while (!error) {
    co_await socket.async_read(buffer, asio::redirect_error(kAwait, error));
    buffer.clear();
  }
}

}  // namespace

template <class Stream>
Task<void> SendEvents(Stream& stream, Worker& worker, EventStream& events,
                      const HttpMessage& message, std::function<void()>& end) {
  websocket::stream<Stream&> socket(stream);
  socket.set_option(websocket::stream_base::timeout{kHandshake, kIdle, true});
  socket.set_option(websocket::stream_base::decorator([](websocket::response_type& response) {
    response.set(http::field::cache_control, "no-store");
  }));
  socket.read_message_max(kMostFromClient);
  ErrorCode error;
  const auto request = UpgradeRequest(message);
  co_await socket.async_accept(request, asio::redirect_error(kAwait, error));
  if (error) co_return;  // Beast has told the client why

  const auto wake = std::make_shared<Wake>(worker.context);
  bool reading = true;
  bool ending = false;
  end = [&ending, wake] {
    ending = true;
    wake->Signal();
  };
  asio::co_spawn(worker.context, ReadUntilEnd(socket), [&reading, wake](std::exception_ptr) {
    reading = false;
    wake->Signal();
  });
  events.SetWake([executor = worker.context.get_executor(), wake] {
    asio::post(executor, [wake] { wake->Signal(); });
  });

  socket.text(true);
  std::optional<EventStream::End> ended;
  while (reading && !error && !ended) {
    if (ending) {
      ended = EventStream::End{1001, "the keystore is ending"};
    } else if (const auto next = events.Next()) {
      co_await socket.async_write(asio::const_buffer(next->data(), next->size()),
                                  asio::redirect_error(kAwait, error));
    } else if (!(ended = events.end())) {
      co_await wake->Wait();
    }
  }
  events.SetWake(nullptr);
  end = nullptr;
  if (reading && ended) {
    const websocket::close_reason reason(static_cast<websocket::close_code>(ended->code),
                                         ended->reason);
    co_await socket.async_close(reason, asio::redirect_error(kAwait, error));
  }
  if (reading) stream.lowest_layer().close(error);
  while (reading) co_await wake->Wait();
}

template Task<void> SendEvents(Socket&, Worker&, EventStream&, const HttpMessage&,
                               std::function<void()>&);
template Task<void> SendEvents(TlsStream&, Worker&, EventStream&, const HttpMessage&,
                               std::function<void()>&);

}  // namespace coffer::keystore
