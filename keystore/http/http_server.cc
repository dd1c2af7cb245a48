#include "keystore/http/http_server.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/http/connection.h"

namespace coffer::keystore {
namespace {

using asio::ip::tcp;
using Acceptor = asio::basic_socket_acceptor<tcp, Executor>;
using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                         asio::wait_traits<std::chrono::steady_clock>, Executor>;
using ErrorCode = boost::system::error_code;
constexpr asio::use_awaitable_t<Executor> kAwait{};

constexpr int kBacklog = 1024;
constexpr auto kLongestTick = std::chrono::milliseconds(500);
// How long to wait when the process has no descriptor left for another connection.
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

struct HostAndPort {
  std::string host, port;
};

absl::StatusOr<HostAndPort> ParseAddress(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  std::string_view host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (colon == address.npos || colon + 1 == address.size()) {
    return absl::InvalidArgumentError(
        StrCat("listener: the address \"", address, "\" is not host:port"));
  }
  return HostAndPort{std::string(host), std::string(address.substr(colon + 1))};
}

struct Listener {
  Listener(asio::io_context& context, ListenerOptions given)
      : options(std::move(given)), acceptor(context) {}

  const ListenerOptions options;
  Acceptor acceptor;
  std::mutex mutex;  // of tls
  std::shared_ptr<asio::ssl::context> tls;

  std::shared_ptr<asio::ssl::context> current_tls() {
    std::lock_guard lock(mutex);
    return tls;
  }

  absl::Status LoadCertificates() {
    if (!options.tls) return absl::OkStatus();
    ASSIGN_OR_RETURN(SslContext context, MakeTlsContext(*options.tls));
    auto loaded = std::make_shared<asio::ssl::context>(context.release());
    std::lock_guard lock(mutex);
    tls = std::move(loaded);
    return absl::OkStatus();
  }
};

}  // namespace

struct HttpServer::State {
  struct Thread {
    Worker worker;
    asio::executor_work_guard<Executor> work{worker.context.get_executor()};
    Timer tick{worker.context};
    std::thread thread;
  };

  State(Handler given_handler, ServerOptions options)
      : handler(std::move(given_handler)), max_connections(options.max_connections) {
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    const int count = options.threads > 0 ? options.threads : std::max(cores, 1);
    for (int i = 0; i < count; ++i) threads.push_back(std::make_unique<Thread>());
  }

  Task<void> Accept(Listener& listener);
  Task<void> Serve(Worker& worker, Listener& listener, Socket socket);
  void Tick(Thread& thread);
  void Ended();

  const Handler handler;
  const std::size_t max_connections;
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<std::unique_ptr<Listener>> listeners;
  std::chrono::nanoseconds tick = kLongestTick;
  std::size_t next_thread = 0;  // of the accepting thread
  bool started = false;

  std::mutex mutex;
  std::condition_variable changed;
  std::size_t connections = 0;
  int accepting = 0;
};

// Runs on the first thread; hands connections round, so that few busy ones are spread evenly.
Task<void> HttpServer::State::Accept(Listener& listener) {
  Worker& own = threads.front()->worker;
  while (!own.stopping) {
    Worker& worker = threads[next_thread]->worker;
    Socket socket(worker.context);
    ErrorCode error;
    co_await listener.acceptor.async_accept(socket, asio::redirect_error(kAwait, error));
    if (own.stopping) break;
    if (error) {
      if (error == asio::error::connection_aborted) continue;
      log::Error("can't accept a connection",
                 {{"listener", listener.options.address}, {"error", error.message()}});
      Timer pause(own.context, kAcceptPause);
      co_await pause.async_wait(asio::redirect_error(kAwait, error));
      continue;
    }
    {
      std::lock_guard lock(mutex);
      if (connections >= max_connections) continue;
      ++connections;
    }
    next_thread = (next_thread + 1) % threads.size();
    asio::co_spawn(worker.context, Serve(worker, listener, std::move(socket)),
                   [this](std::exception_ptr) { Ended(); });
  }
  std::lock_guard lock(mutex);
  --accepting;
  changed.notify_all();
}

Task<void> HttpServer::State::Serve(Worker& worker, Listener& listener, Socket socket) {
  if (worker.stopping) co_return;
  if (const std::shared_ptr<asio::ssl::context> tls = listener.current_tls()) {
    StreamConnection<TlsStream> connection(worker, listener.options, handler,
                                           TlsStream(std::move(socket), *tls));
    co_await connection.Serve();
  } else {
    StreamConnection<Socket> connection(worker, listener.options, handler, std::move(socket));
    co_await connection.Serve();
  }
}

void HttpServer::State::Ended() {
  std::lock_guard lock(mutex);
  --connections;
  changed.notify_all();
}

// One timer a thread, in place of one or two a request: closes what is past its deadline.
void HttpServer::State::Tick(Thread& thread) {
  Worker& worker = thread.worker;
  worker.now = std::chrono::steady_clock::now();
  worker.date = HttpDate(absl::Now());
  for (Connection* connection : worker.connections) {
    if (connection->expired(worker.now)) connection->Expire();
  }
  thread.tick.expires_after(tick);
  thread.tick.async_wait([this, &thread](const ErrorCode& error) {
    if (!error) Tick(thread);
  });
}

HttpServer::HttpServer(Handler handler, ServerOptions options)
    : state_(std::make_unique<State>(std::move(handler), options)) {}

HttpServer::~HttpServer() { Stop(absl::ZeroDuration()); }

absl::StatusOr<std::string> HttpServer::Listen(ListenerOptions options) {
  ASSIGN_OR_RETURN(const HostAndPort parsed, ParseAddress(options.address));
  asio::io_context& context = state_->threads.front()->worker.context;
  auto listener = std::make_unique<Listener>(context, std::move(options));
  const ListenerOptions& kept = listener->options;
  RETURN_IF_ERROR(listener->LoadCertificates());

  ErrorCode error;
  tcp::resolver resolver(context);
  const auto found = resolver.resolve(parsed.host, parsed.port, tcp::resolver::passive, error);
  if (error || found.empty()) {
    return absl::InvalidArgumentError(
        StrCat("listener: can't resolve the address \"", kept.address, "\": ", error.message()));
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  Acceptor& acceptor = listener->acceptor;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(kBacklog, error);
  if (error) {
    return absl::UnavailableError(
        StrCat("listener: can't listen on \"", kept.address, "\": ", error.message()));
  }
  for (const absl::Duration limit : {kept.header_timeout, kept.read_timeout, kept.idle_timeout,
                                     kept.max_request_duration}) {
    state_->tick = std::min(state_->tick, absl::ToChronoNanoseconds(limit / 4));
  }
  const tcp::endpoint bound = acceptor.local_endpoint();
  const std::string host = bound.address().to_string();
  state_->listeners.push_back(std::move(listener));
  return bound.address().is_v6() ? StrCat("[", host, "]:", bound.port())
                                 : StrCat(host, ":", bound.port());
}

void HttpServer::Start() {
  state_->started = true;
  state_->accepting = static_cast<int>(state_->listeners.size());
  for (const auto& thread : state_->threads) state_->Tick(*thread);
  for (const auto& listener : state_->listeners) {
    asio::co_spawn(state_->threads.front()->worker.context, state_->Accept(*listener),
                   asio::detached);
  }
  for (const auto& thread : state_->threads) {
    thread->thread = std::thread([&context = thread->worker.context] { context.run(); });
  }
}

absl::Status HttpServer::ReloadCertificates() {
  absl::Status status;
  for (const auto& listener : state_->listeners) status.Update(listener->LoadCertificates());
  return status;
}

void HttpServer::Stop(absl::Duration grace) {
  State& state = *state_;
  if (!std::exchange(state.started, false)) return;
  // Each thread is told to stop before the acceptors close, so that none serves what comes after.
  for (const auto& thread : state.threads) {
    asio::post(thread->worker.context, [&worker = thread->worker] {
      worker.stopping = true;
      for (Connection* connection : worker.connections) {
        if (connection->phase() == Connection::Phase::kIdle) connection->Close();
      }
    });
  }
  asio::post(state.threads.front()->worker.context, [&state] {
    for (const auto& listener : state.listeners) {
      ErrorCode ignored;
      listener->acceptor.close(ignored);
    }
  });
  const auto ended = [&state] { return state.connections == 0 && state.accepting == 0; };
  {
    std::unique_lock lock(state.mutex);
    state.changed.wait_for(lock, absl::ToChronoNanoseconds(grace), ended);
  }
  for (const auto& thread : state.threads) {
    asio::post(thread->worker.context, [&worker = thread->worker] {
      for (Connection* connection : worker.connections) connection->Close();
    });
  }
  {
    std::unique_lock lock(state.mutex);
    state.changed.wait(lock, ended);
  }
  for (const auto& thread : state.threads) {
    thread->worker.context.stop();
    thread->thread.join();
  }
}

}  // namespace coffer::keystore
