#include "csi/event_connection.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/ssl.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>

#include "common/status_macros.h"
#include "common/strings.h"
#include "common/url.h"

namespace coffer::csi {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using ErrorCode = boost::system::error_code;
using Tls = beast::ssl_stream<beast::tcp_stream>;

constexpr std::chrono::seconds kConnect{10};
// A keystore that answers no ping for this long is gone.
constexpr std::chrono::seconds kIdle{60};
constexpr std::size_t kMostBytes = 1 << 20;

absl::Status Failed(std::string_view what, const ErrorCode& error) {
  return absl::UnavailableError(StrCat(what, ": ", error.message()));
}

absl::Status SetUpTls(const TlsClientOptions& tls, asio::ssl::context& context) {
  struct Step {
    std::string_view what;
    bool wanted;
    std::function<void(ErrorCode&)> run;
  };
  const bool own_ca = !tls.ca_file.empty() || !tls.ca_directory.empty() || !tls.ca_pem.empty();
  const Step steps[] = {
      {"CA file", !tls.ca_file.empty(),
       [&](ErrorCode& error) { context.load_verify_file(tls.ca_file, error); }},
      {"CA folder", !tls.ca_directory.empty(),
       [&](ErrorCode& error) { context.add_verify_path(tls.ca_directory, error); }},
      {"CA certificates", !tls.ca_pem.empty(),
       [&](ErrorCode& error) {
         context.add_certificate_authority(asio::buffer(tls.ca_pem), error);
       }},
      {"system's CAs", !own_ca && !tls.skip_verify,
       [&](ErrorCode& error) { context.set_default_verify_paths(error); }},
      {"client certificate", !tls.client_certificate_file.empty(),
       [&](ErrorCode& error) {
         context.use_certificate_chain_file(tls.client_certificate_file, error);
       }},
      {"client key", !tls.client_key_file.empty(), [&](ErrorCode& error) {
         context.use_private_key_file(tls.client_key_file, asio::ssl::context::pem, error);
       }}};
  for (const Step& step : steps) {
    ErrorCode error;
    if (step.wanted) step.run(error);
    if (error) {
      return absl::FailedPreconditionError(
          StrCat("TLS: can't use the ", step.what, ": ", error.message()));
    }
  }
  context.set_verify_mode(tls.skip_verify ? asio::ssl::verify_none : asio::ssl::verify_peer);
  return absl::OkStatus();
}

struct Subscription {
  std::string host_port;
  std::string target;
  const SecretBytes& token;
  const std::string& vault_namespace;
  const std::function<void()>& on_open;
  const std::function<void(std::string_view)>& on_message;
};

template <class WebSocket>
asio::awaitable<absl::Status> Receive(WebSocket& socket, const Subscription& subscription) {
  ErrorCode error;
  socket.set_option(websocket::stream_base::timeout{kConnect, kIdle, true});
  socket.read_message_max(kMostBytes);
  socket.set_option(
      websocket::stream_base::decorator([&subscription](websocket::request_type& request) {
        const std::string_view token = subscription.token.view();
        request.set("X-Vault-Request", "true");
        request.set("X-Vault-Token", beast::string_view(token.data(), token.size()));
        if (!subscription.vault_namespace.empty()) {
          request.set("X-Vault-Namespace", subscription.vault_namespace);
        }
      }));
  co_await socket.async_handshake(subscription.host_port, subscription.target,
                                  asio::redirect_error(asio::use_awaitable, error));
  // Beast doesn't show the answer then.
  if (error == websocket::error::upgrade_declined) {
    co_return absl::FailedPreconditionError("the keystore declined the WebSocket");
  }
  if (error) co_return Failed("subscribing", error);
  subscription.on_open();
  for (beast::flat_buffer buffer;; buffer.clear()) {
    co_await socket.async_read(buffer, asio::redirect_error(asio::use_awaitable, error));
    if (error == websocket::error::closed) {
      const auto& reason = socket.reason();
      co_return absl::UnavailableError(
          StrCat("the keystore ended it: ", reason.code, " ",
                 std::string_view(reason.reason.data(), reason.reason.size())));
    }
    if (error) co_return Failed("receiving", error);
    subscription.on_message({static_cast<const char*>(buffer.data().data()), buffer.size()});
  }
}

asio::awaitable<absl::Status> Subscribe(asio::io_context& context, const provider::Login& login,
                                        const UrlParts& url, const Subscription& subscription) {
  ErrorCode error;
  std::string host(url.host);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  const bool tls = url.scheme == "https";
  const std::string port = url.port.empty() ? (tls ? "443" : "80") : std::string(url.port);
  asio::ip::tcp::resolver resolver(context);
  const auto found = co_await resolver.async_resolve(host, port,
                                              asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return Failed(StrCat("resolving ", host), error);

  asio::ssl::context tls_context(asio::ssl::context::tls_client);
  if (!tls) {
    websocket::stream<beast::tcp_stream> socket(context);
    socket.next_layer().expires_after(kConnect);
    co_await socket.next_layer().async_connect(found,
                                              asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return Failed("connecting", error);
    socket.next_layer().expires_never();
    co_return co_await Receive(socket, subscription);
  }
  if (absl::Status ready = SetUpTls(login.tls, tls_context); !ready.ok()) co_return ready;
  websocket::stream<Tls> socket(context, tls_context);
  beast::tcp_stream& connection = socket.next_layer().next_layer();
  connection.expires_after(kConnect);
  co_await connection.async_connect(found,
                                              asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return Failed("connecting", error);
  const std::string name = login.tls.server_name.empty() ? host : login.tls.server_name;
  SSL_set_tlsext_host_name(socket.next_layer().native_handle(), name.c_str());
  if (!login.tls.skip_verify) {
    socket.next_layer().set_verify_callback(asio::ssl::host_name_verification(name), error);
  }
  co_await socket.next_layer().async_handshake(asio::ssl::stream_base::client,
                                              asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return Failed("TLS", error);
  connection.expires_never();
  co_return co_await Receive(socket, subscription);
}

}  // namespace

struct EventConnection::State {
  asio::io_context context{1};
};

EventConnection::EventConnection() : state_(std::make_unique<State>()) {}
EventConnection::~EventConnection() = default;

absl::Status EventConnection::Run(const provider::Login& login, const SecretBytes& token,
                                  std::string_view type, const std::function<void()>& on_open,
                                  const std::function<void(std::string_view)>& on_message) {
  ASSIGN_OR_RETURN(const UrlParts url, ParseUrl(login.address));
  std::string prefix(url.path);
  while (prefix.ends_with('/')) prefix.pop_back();
  const Subscription subscription{
      .host_port = std::string(url.host_port),
      .target = StrCat(prefix, "/v1/sys/events/subscribe/", type, "?json=true"),
      .token = token,
      .vault_namespace = login.vault_namespace,
      .on_open = on_open,
      .on_message = on_message};
  absl::Status status = absl::CancelledError("stopped");
  asio::co_spawn(state_->context, Subscribe(state_->context, login, url, subscription),
                 [&status](std::exception_ptr failed, absl::Status ended) {
                   status = failed ? absl::InternalError("the WebSocket failed") : ended;
                 });
  state_->context.run();
  return status;
}

void EventConnection::Stop() { state_->context.stop(); }

}  // namespace coffer::csi
