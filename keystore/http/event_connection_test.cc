// Events from the real server to a WebSocket client, over TCP on loopback.
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/websocket.hpp>
#include <catch2/catch.hpp>
#include <deque>
#include <mutex>
#include <thread>

#include "absl/time/clock.h"
#include "common/http_client.h"
#include "common/strings.h"
#include "keystore/http/http_server.h"

namespace coffer::keystore {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;

class TestStream : public EventStream {
 public:
  std::shared_ptr<const SecretBytes> Next() override {
    std::lock_guard lock(mutex_);
    if (waiting_.empty()) return nullptr;
    auto next = std::move(waiting_.front());
    waiting_.pop_front();
    return next;
  }
  std::optional<End> end() const override {
    std::lock_guard lock(mutex_);
    return end_;
  }
  void SetWake(std::function<void()> wake) override {
    std::lock_guard lock(mutex_);
    wake_ = std::move(wake);
    if (wake_) wake_();
  }
  void Add(std::string_view message) {
    std::lock_guard lock(mutex_);
    waiting_.push_back(std::make_shared<const SecretBytes>(SecretBytes::CopyOf(message)));
    if (wake_) wake_();
  }
  void Stop(End end) {
    std::lock_guard lock(mutex_);
    end_ = std::move(end);
    if (wake_) wake_();
  }

 private:
  mutable std::mutex mutex_;
  std::deque<std::shared_ptr<const SecretBytes>> waiting_;
  std::optional<End> end_;
  std::function<void()> wake_;
};

struct Fixture {
  Fixture() {
    address = server.Listen({.address = "127.0.0.1:0"}).value();
    server.Start();
  }
  std::shared_ptr<TestStream> stream = std::make_shared<TestStream>();
  HttpServer server{[this](Request& request, HttpServer::Answer answer) {
                      if (request.token.view() != "t") {
                        return answer(absl::PermissionDeniedError("permission denied"));
                      }
                      Response response;
                      response.events = stream;
                      answer(std::move(response));
                    },
                    {.threads = 2}};
  std::string address;
};

struct Client {
  explicit Client(const Fixture& f, const char* token = "t") {
    const std::size_t colon = f.address.rfind(':');
    socket.next_layer().connect(
        {asio::ip::make_address("127.0.0.1"),
         static_cast<std::uint16_t>(std::stoi(f.address.substr(colon + 1)))});
    socket.set_option(websocket::stream_base::decorator([token](websocket::request_type& request) {
      request.set("X-Vault-Token", token);
    }));
    boost::system::error_code refused;
    socket.handshake("h", "/v1/sys/events/subscribe/kv*?json=true", refused);
    open = !refused;
  }
  // The next message, or "" and `closed`.
  std::string Read() {
    beast::flat_buffer buffer;
    boost::system::error_code error;
    socket.read(buffer, error);
    if (error) closed = StrCat(socket.reason().code, " ", std::string(socket.reason().reason.c_str()));
    return beast::buffers_to_string(buffer.data());
  }
  asio::io_context context;
  websocket::stream<asio::ip::tcp::socket> socket{context};
  bool open = false;
  std::string closed;
};

TEST_CASE("events reach the client as they come, and pings are answered") {
  Fixture f;
  f.stream->Add("first");
  Client client(f);
  REQUIRE(client.open);
  CHECK(client.Read() == "first");
  bool pong = false;
  client.socket.control_callback([&pong](websocket::frame_type kind, auto) {
    pong = pong || kind == websocket::frame_type::pong;
  });
  client.socket.ping("p");
  client.socket.write(asio::buffer(std::string_view("what a client says is of no interest")));
  absl::SleepFor(absl::Milliseconds(50));
  for (int i = 0; i < 200; ++i) f.stream->Add(StrCat("event ", i));
  for (int i = 0; i < 200; ++i) CHECK(client.Read() == StrCat("event ", i));
  CHECK(pong);
  const std::string large(300'000, 'x');
  f.stream->Add(large);
  CHECK(client.Read() == large);
  client.socket.close(websocket::close_code::normal);
}

TEST_CASE("the end of the events is the close frame's code and reason") {
  Fixture f;
  Client client(f);
  f.stream->Stop({1008, "the token was revoked"});
  CHECK(client.Read().empty());
  CHECK(client.closed == "1008 the token was revoked");
}

TEST_CASE("a keystore that stops says so, and waits for nobody") {
  Fixture f;
  Client polite(f);
  Client silent(f);  // reads nothing, so answers no close frame
  std::string closed;
  std::thread reader([&] {
    polite.Read();
    closed = polite.closed;
  });
  const absl::Time start = absl::Now();
  f.server.Stop(absl::Seconds(1));
  CHECK(absl::Now() - start < absl::Seconds(5));
  reader.join();
  CHECK(closed == "1001 the keystore is ending");
}

TEST_CASE("a client that goes away is forgotten") {
  Fixture f;
  {
    Client client(f);
    REQUIRE(client.open);
  }
  for (int i = 0; i < 500 && f.stream.use_count() > 1; ++i) absl::SleepFor(absl::Milliseconds(10));
  CHECK(f.stream.use_count() == 1);
}

TEST_CASE("without a WebSocket, or the right to it, there are errors as ever") {
  Fixture f;
  const auto transport = MakeCurlTransport({});
  HttpRequest request;
  request.url = StrCat("http://", f.address, "/v1/sys/events/subscribe/x?json=true");
  request.headers.push_back({"X-Vault-Token", SecretBytes::CopyOf("t")});
  const auto response = transport->Send(request);
  REQUIRE(response.ok());
  CHECK(response->status == 400);
  CHECK(response->body.view() == "{\"errors\":[\"events are sent over a WebSocket: ask for one\"]}\n");
  request.headers[0].value = SecretBytes::CopyOf("other");
  CHECK(transport->Send(request)->status == 403);
  CHECK_FALSE(Client(f, "other").open);
}

}  // namespace
}  // namespace coffer::keystore
