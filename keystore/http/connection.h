// Connection: serves the requests of one connection, one after the other, on its worker's thread.
// Includes Asio and coroutines: only for http_server.cc.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "keystore/http/encode.h"
#include "keystore/http/http_server.h"
#include "keystore/http/request_parser.h"

namespace coffer::keystore {

namespace asio = boost::asio;
using Executor = asio::io_context::executor_type;
using Socket = asio::basic_stream_socket<asio::ip::tcp, Executor>;
using TlsStream = asio::ssl::stream<Socket>;
using SteadyTime = std::chrono::steady_clock::time_point;
template <class T>
using Task = asio::awaitable<T, Executor>;

class Connection;
class PendingAnswer;

// What the connections of one thread share; touched by that thread alone, but for Resume.
struct Worker {
  asio::io_context context{1};
  std::list<Connection*> connections;
  SteadyTime now = std::chrono::steady_clock::now();  // as of the latest sweep
  std::string date;                                   // for the Date header, as of the latest sweep
  bool stopping = false;

  // A random UUID, from bytes drawn for many at once.
  std::string NextRequestId();

  // Has the thread go on with a connection whose answer has come, on any thread. Answers that come
  // together, as those to requests that were made durable together, wake it once.
  void Resume(PendingAnswer& answer);

 private:
  void ResumeAll();

  std::array<std::uint8_t, 1024> random_;
  std::size_t random_left_ = 0;
  std::mutex mutex_;  // of answered_
  std::vector<PendingAnswer*> answered_;
  std::vector<PendingAnswer*> resuming_;
};

// What a connection's requests wait for: an answer, which may come on any thread. All but Set() is
// for the connection's thread.
class PendingAnswer {
 public:
  explicit PendingAnswer(Worker& worker) : worker_(worker) {}

  void Reset() { state_.store(kPending, std::memory_order_relaxed); }
  // The mount of `request` may be gone once this returns.
  void Set(const Request& request, absl::StatusOr<Response> response);
  bool ready() const { return state_.load(std::memory_order_acquire) == kReady; }
  // Until it is ready, or StopWaiting().
  Task<void> Wait();
  void StopWaiting();
  // Goes on with what waits, at once; it may end the connection.
  void Go();
  // Once it is ready.
  absl::StatusOr<Response>& response() { return response_; }
  std::string_view mount_type() const { return mount_type_; }

 private:
  using Waiter =
      asio::async_result<asio::use_awaitable_t<Executor>, void()>::handler_type;
  enum State : int { kPending, kWaiting, kReady };

  Worker& worker_;
  std::atomic<int> state_{kPending};
  std::optional<Waiter> waiter_;
  absl::StatusOr<Response> response_{absl::UnknownError("")};
  std::string mount_type_;
};

// Bytes that came in and were not parsed yet, in secret memory; wiped as they are taken.
class ReceiveBuffer {
 public:
  std::string_view unread() const { return bytes_.view().substr(begin_, end_ - begin_); }
  void Take(std::size_t size);
  // Room for at least one more byte and, with `much`, for a good part of a large body.
  std::span<std::uint8_t> Room(bool much);
  void Added(std::size_t size) { end_ += size; }
  // Gives a large buffer back where nothing is unread.
  void Shrink();

 private:
  SecretBytes bytes_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

class Connection {
 public:
  enum class Phase {
    kIdle,       // no byte of the next request is there
    kReceiving,  // has a deadline, as the former
    kHandling,   // its deadline is for the answer to come
    kSending,
  };

  Connection(Worker& worker, const ListenerOptions& options, const HttpServer::Handler& handler)
      : worker_(worker), options_(options), handler_(handler), pending_(worker) {}
  virtual ~Connection() = default;

  Phase phase() const { return phase_; }
  bool expired(SteadyTime now) const { return now >= deadline_; }
  // Its time is over: ends it, or the wait for an answer.
  void Expire();
  // Ends it, unless it waits for an answer: then once that has come. Events are ended with a close
  // frame at the first call, the connection at the second.
  virtual void Close() = 0;

 protected:
  void Enter(Phase phase, absl::Duration limit) {
    phase_ = phase;
    deadline_ = worker_.now + absl::ToChronoNanoseconds(std::min(limit, kForever));
  }
  HttpAnswer::Head HeadFor(const HttpMessage& message, bool keep_alive, bool tls) const;

  static constexpr absl::Duration kForever = absl::Hours(24 * 365);

  Worker& worker_;
  const ListenerOptions& options_;
  const HttpServer::Handler& handler_;
  Phase phase_ = Phase::kReceiving;
  SteadyTime deadline_;
  PendingAnswer pending_;
  std::shared_ptr<EventStream> events_;  // to be sent once the request is answered with them
  std::function<void()> end_events_;     // while they are sent
};

// Sends `events` as WebSocket messages until either side ends. `end` is set, while it lasts, to what
// ends them because the keystore does. For Socket and TlsStream; in event_connection.cc.
template <class Stream>
Task<void> SendEvents(Stream& stream, Worker& worker, EventStream& events,
                      const HttpMessage& message, std::function<void()>& end);

// Over a Socket or a TlsStream.
template <class Stream>
class StreamConnection final : public Connection {
 public:
  StreamConnection(Worker& worker, const ListenerOptions& options,
                   const HttpServer::Handler& handler, Stream stream)
      : Connection(worker, options, handler), stream_(std::move(stream)) {}

  // Serves until the connection ends.
  Task<void> Serve();
  void Close() override;

 private:
  static constexpr bool kTls = std::is_same_v<Stream, TlsStream>;

  Task<bool> Handshake();
  // Waits for more bytes; false when there are none to come.
  Task<bool> Receive(bool much);
  // Sends all; false when the client takes no more.
  Task<bool> Send(std::string_view bytes);
  // What can be sent without waiting.
  std::size_t SendNow(std::string_view bytes);
  // A whole request; false when the connection is of no more use. A refusal is to be answered.
  Task<bool> ReceiveRequest(HttpMessage* message, bool* keep_alive,
                            std::optional<HttpRefusal>* refusal);
  // Has the request handled and writes the answer; false when that took too long, and the answer
  // says so.
  Task<bool> Handle(Request& request, const HttpMessage& message, bool keep_alive);
  // Answers where the request is for the web page.
  bool AnswerPage(const HttpMessage& message, bool keep_alive);
  // One request and its answer; false when the connection is to be closed.
  Task<bool> ServeRequest();
  Task<void> ServeEvents(const HttpMessage& message);
  Task<void> Finish(bool unread);

  Stream stream_;
  std::string remote_address_;
  ReceiveBuffer received_;
  HttpAnswer answer_;
};

extern template class StreamConnection<Socket>;
extern template class StreamConnection<TlsStream>;

}  // namespace coffer::keystore
