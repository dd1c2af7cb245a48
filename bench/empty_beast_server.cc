// The yardstick for kv-v2 reads: a Beast server that reads a request and answers bytes it was given,
// and nothing else. Coroutines, one io_context per thread and connections handed round, as the
// keystore has them; read and write are Beast's own.
//   empty_beast_server PORT THREADS FILE      FILE: the body of every answer
#include <utility>  // Boost 1.74's awaitable.hpp uses std::exchange without it

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <thread>
#include <vector>

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using Executor = asio::io_context::executor_type;
using Stream = beast::basic_stream<tcp, Executor>;
using Task = asio::awaitable<void, Executor>;
constexpr asio::use_awaitable_t<Executor> kAwait{};

Task Serve(Stream stream, const std::string& body) {
  beast::flat_buffer buffer;
  beast::error_code error;
  stream.socket().set_option(tcp::no_delay(true), error);
  for (;;) {
    stream.expires_after(std::chrono::seconds(30));
    http::request<http::string_body> request;
    co_await http::async_read(stream, buffer, request, asio::redirect_error(kAwait, error));
    if (error) co_return;
    http::response<http::string_body> response(http::status::ok, request.version());
    response.set(http::field::cache_control, "no-store");
    response.set(http::field::date, "Tue, 03 Jun 2025 11:40:51 GMT");
    response.set(http::field::content_type, "application/json");
    response.keep_alive(request.keep_alive());
    response.body() = body;
    response.prepare_payload();
    co_await http::async_write(stream, response, asio::redirect_error(kAwait, error));
    if (error || !response.keep_alive()) co_return;
  }
}

Task Accept(tcp::acceptor& acceptor, std::vector<std::unique_ptr<asio::io_context>>& contexts,
            const std::string& body) {
  for (std::size_t next = 0;; next = (next + 1) % contexts.size()) {
    asio::io_context& context = *contexts[next];
    asio::basic_stream_socket<tcp, Executor> socket(context);
    co_await acceptor.async_accept(socket, kAwait);
    asio::co_spawn(context, Serve(Stream(std::move(socket)), body), asio::detached);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: empty_beast_server PORT THREADS FILE\n";
    return 1;
  }
  std::ifstream file(argv[3], std::ios::binary);
  const std::string body{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::unique_ptr<asio::io_context>> contexts;
  for (int i = 0; i < std::atoi(argv[2]); ++i) {
    contexts.push_back(std::make_unique<asio::io_context>(1));
  }
  const auto port = static_cast<unsigned short>(std::atoi(argv[1]));
  tcp::acceptor acceptor(*contexts.front(), {asio::ip::address_v4::loopback(), port});
  asio::co_spawn(*contexts.front(), Accept(acceptor, contexts, body), asio::detached);
  std::vector<std::thread> threads;
  for (auto& context : contexts) {
    threads.emplace_back([&context] {
      const auto work = asio::make_work_guard(*context);
      context->run();
    });
  }
  for (std::thread& thread : threads) thread.join();
}
