// HttpTransport on sockets, OpenSSL and Beast's parser: what a daemon that runs as root needs of
// HTTP/1.1 and no more. libcurl brings LDAP, Kerberos, RTMP and SSH with it: 30 libraries and 4 MB.
#include <openssl/ssl.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <cstring>
#include <limits>
#include <mutex>
#include <optional>
#include <span>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "common/http_client.h"
#include "common/proxy.h"
#include "common/status_macros.h"
#include "common/stream.h"
#include "common/strings.h"
#include "common/tls_client.h"
#include "common/url.h"

namespace coffer {
namespace {

namespace http = boost::beast::http;

constexpr std::size_t kMaxBody = 32 << 20;
constexpr std::size_t kMaxHeaders = 256 << 10;
constexpr std::size_t kReadSize = 16 << 10;
constexpr std::size_t kMaxIdle = 64;
constexpr absl::Duration kConnectTimeout = absl::Seconds(10);
// A CA file that is written anew counts within a minute.
constexpr absl::Duration kContextAge = absl::Minutes(1);

// A body read straight into secret memory. It keeps the limit itself: an eager parser of Boost 1.74
// forgets body_limit's error where Content-Length announces too much. Without a limit, on the other
// hand, that parser takes every length for too much where a header comes alone.
struct SecretBody {
  using value_type = SecretBytes;

  class reader {
   public:
    template <bool is_request, class Fields>
    reader(http::header<is_request, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<std::uint64_t>& size, boost::system::error_code& error) {
      error = {};
      if (size && *size > kMaxBody) {
        error = http::error::body_limit;
      } else if (size) {
        body_.Reserve(static_cast<std::size_t>(*size));
      }
    }
    template <class Buffers>
    std::size_t put(const Buffers& buffers, boost::system::error_code& error) {
      error = {};
      std::size_t size = 0;
      for (auto at = boost::asio::buffer_sequence_begin(buffers);
           at != boost::asio::buffer_sequence_end(buffers); ++at) {
        const boost::asio::const_buffer part = *at;
        if (body_.size() + part.size() > kMaxBody) {
          error = http::error::body_limit;
          return size;
        }
        body_.Append(std::string_view(static_cast<const char*>(part.data()), part.size()));
        size += part.size();
      }
      return size;
    }
    void finish(boost::system::error_code& error) { error = {}; }

   private:
    value_type& body_;
  };
};

using Parser = http::response_parser<SecretBody, SecretAllocator<char>>;

using ProxyPtr = std::shared_ptr<const Proxy>;

// Whether `proxy` reads the requests themselves: inside of TLS it can't.
bool Reads(const ProxyPtr& proxy, const UrlParts& url) {
  return proxy != nullptr && !SameHttpName(url.scheme, "https");
}

void AppendAuthorization(const Proxy& proxy, SecretBytes* text) {
  if (proxy.authorization.empty()) return;
  text->Append("Proxy-Authorization: ");
  text->Append(proxy.authorization.view());
  text->Append("\r\n");
}

// The request's line, headers and body, as they go out.
absl::StatusOr<SecretBytes> Compose(const HttpRequest& request, const UrlParts& url,
                                    const ProxyPtr& proxy) {
  if (!IsHttpToken(request.method)) return absl::InvalidArgumentError("not an HTTP method");
  const std::string_view target = url.rest.substr(0, url.rest.find('#'));
  SecretBytes text = SecretBytes::CopyOf(StrCat(request.method, " "));
  if (Reads(proxy, url)) text.Append(StrCat(url.scheme, "://", url.host_port));
  text.Append(StrCat(target.starts_with('/') ? "" : "/", target, " HTTP/1.1\r\n"));
  bool has_host = false;
  for (const HttpHeader& header : request.headers) {
    const std::string_view value = header.value.view();
    if (!IsHttpToken(header.name) ||
        value.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
      return absl::InvalidArgumentError(
          "a header's name or value holds a character that isn't allowed there");
    }
    has_host |= SameHttpName(header.name, "Host");
    text.Append(StrCat(header.name, ": "));
    text.Append(value);
    text.Append("\r\n");
  }
  if (!has_host) text.Append(StrCat("Host: ", url.host_port, "\r\n"));
  if (Reads(proxy, url)) AppendAuthorization(*proxy, &text);
  const bool always_body =
      request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
  if (always_body || !request.body.empty()) {
    text.Append(StrCat("Content-Length: ", request.body.size(), "\r\n"));
  }
  text.Append("\r\n");
  text.Append(request.body.view());
  return text;
}

// Some bytes of an answer; while its body is handed on as it comes, with a look up each second.
absl::StatusOr<std::size_t> ReadSome(Stream& stream, std::span<char> buffer,
                                     const HttpRequest& request, bool streaming,
                                     absl::Time deadline) {
  if (!streaming) return stream.Read(buffer, deadline);
  const absl::Time silence_ends = absl::Now() + request.timeout;
  for (;;) {
    const absl::Time now = absl::Now();
    const absl::StatusOr<std::size_t> got =
        stream.Read(buffer, std::min(silence_ends, now + absl::Seconds(1)));
    if (!absl::IsDeadlineExceeded(got.status()) || absl::Now() >= silence_ends) return got;
    if (!request.on_body({})) return absl::CancelledError("ended by the caller");
  }
}

// Reads one answer. `started`: whether any byte of it came; `reusable`: whether the stream is.
absl::StatusOr<HttpResponse> ReadAnswer(Stream& stream, const HttpRequest& request,
                                        absl::Time deadline, bool* started, bool* reusable) {
  SecretBytes unread(kReadSize);  // the bytes from the first that the parser hasn't taken
  std::size_t size = 0;
  std::optional<Parser> parser;
  do {  // again after an interim answer, 100 to 199
    parser.emplace();
    parser->eager(true);
    parser->body_limit(std::numeric_limits<std::uint64_t>::max());
    parser->header_limit(kMaxHeaders);
    if (request.method == "HEAD" || request.method == "CONNECT") parser->skip(true);
    boost::system::error_code error;
    bool streaming = false;
    for (bool more = size == 0; !parser->is_done(); more = true) {
      if (more) {
        if (unread.size() < size + kReadSize) unread.Resize(size + kReadSize);
        ASSIGN_OR_RETURN(
            const std::size_t got,
            ReadSome(stream, {reinterpret_cast<char*>(unread.data()) + size, kReadSize}, request,
                     streaming, deadline));
        *started |= got > 0;
        size += got;
        if (got == 0 && parser->got_some()) {
          parser->put_eof(error);
        } else if (got == 0) {
          error = http::error::end_of_stream;
        }
      }
      if (!error && !parser->is_done()) {
        const std::size_t taken = parser->put(boost::asio::buffer(unread.data(), size), error);
        std::memmove(unread.data(), unread.data() + taken, size - taken);
        size -= taken;
        if (error == http::error::need_more) error = {};
      }
      streaming = request.on_body != nullptr && parser->is_header_done() &&
                  parser->get().result_int() / 100 == 2;
      if (SecretBytes& body = parser->get().body(); streaming && !body.empty()) {
        if (!request.on_body(body.view())) return absl::CancelledError("ended by the caller");
        body.Clear();
      }
      if (error == http::error::body_limit) {
        return absl::ResourceExhaustedError("the answer is larger than 32 MiB");
      }
      if (error == http::error::header_limit) {
        return absl::ResourceExhaustedError("the answer has a header line that is too long");
      }
      if (error == http::error::end_of_stream || error == http::error::partial_message) {
        return absl::UnavailableError("the connection was closed before the answer's end");
      }
      if (error) return absl::UnavailableError(StrCat("not an HTTP answer: ", error.message()));
    }
  } while (parser->get().result_int() / 100 == 1);
  *reusable = parser->keep_alive() && size == 0;
  HttpResponse response;
  response.status = static_cast<int>(parser->get().result_int());
  for (const auto& field : parser->get()) {
    const auto name = field.name_string();
    const auto value = field.value();
    response.headers.push_back({std::string(name.data(), name.size()),
                                SecretBytes::CopyOf(std::string_view(value.data(), value.size()))});
  }
  response.body = std::move(parser->get().body());
  return response;
}

class StreamTransport : public HttpTransport {
 public:
  StreamTransport(const TlsClientOptions& tls, ProxyRules proxies)
      : tls_(tls), proxies_(std::move(proxies)) {}

  absl::StatusOr<HttpResponse> Send(const HttpRequest& request) override;

 private:
  struct IdleStream {
    std::string server;  // scheme and authority
    std::unique_ptr<Stream> stream;
  };

  // A connection that is there, or null.
  std::unique_ptr<Stream> Borrow(const std::string& server);
  void GiveBack(const std::string& server, std::unique_ptr<Stream> stream);
  absl::StatusOr<std::unique_ptr<Stream>> Open(const UrlParts& url, const ProxyPtr& proxy,
                                               absl::Time deadline);
  absl::StatusOr<std::shared_ptr<SSL_CTX>> TlsContext();
  absl::StatusOr<HttpResponse> Exchange(const HttpRequest& request, const UrlParts& url,
                                        absl::Time deadline);

  const TlsClientOptions tls_;
  const ProxyRules proxies_;
  std::mutex mutex_;
  std::vector<IdleStream> idle_;  // the last used last
  std::shared_ptr<SSL_CTX> context_;
  absl::Time context_made_ = absl::InfinitePast();
};

std::unique_ptr<Stream> StreamTransport::Borrow(const std::string& server) {
  std::lock_guard lock(mutex_);
  for (std::size_t i = idle_.size(); i-- > 0;) {
    if (idle_[i].server != server) continue;
    std::unique_ptr<Stream> stream = std::move(idle_[i].stream);
    idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(i));
    if (stream->Idle()) return stream;  // else the server has closed it meanwhile
  }
  return nullptr;
}

void StreamTransport::GiveBack(const std::string& server, std::unique_ptr<Stream> stream) {
  std::lock_guard lock(mutex_);
  if (idle_.size() >= kMaxIdle) idle_.erase(idle_.begin());
  idle_.push_back({server, std::move(stream)});
}

absl::StatusOr<std::shared_ptr<SSL_CTX>> StreamTransport::TlsContext() {
  std::lock_guard lock(mutex_);
  if (context_ == nullptr || absl::Now() - context_made_ > kContextAge) {
    ASSIGN_OR_RETURN(context_, MakeTlsClient(tls_));
    context_made_ = absl::Now();
  }
  return context_;
}

// Has the proxy connect the stream to a server.
absl::Status Tunnel(Stream& stream, const Proxy& proxy, const std::string& server,
                    absl::Time deadline) {
  SecretBytes text =
      SecretBytes::CopyOf(StrCat("CONNECT ", server, " HTTP/1.1\r\nHost: ", server, "\r\n"));
  AppendAuthorization(proxy, &text);
  text.Append("\r\n");
  RETURN_IF_ERROR(stream.Write(text.view(), deadline));
  bool started = false, reusable = false;
  ASSIGN_OR_RETURN(const HttpResponse answer,
                   ReadAnswer(stream, {.method = "CONNECT"}, deadline, &started, &reusable));
  if (answer.status / 100 == 2) return absl::OkStatus();
  const std::string refused = StrCat("it answers HTTP ", answer.status, " to CONNECT ", server);
  return answer.status >= 500 ? absl::UnavailableError(refused)
                              : absl::FailedPreconditionError(refused);
}

absl::StatusOr<std::unique_ptr<Stream>> StreamTransport::Open(const UrlParts& url,
                                                              const ProxyPtr& proxy,
                                                              absl::Time deadline) {
  const bool tls = SameHttpName(url.scheme, "https");
  std::string host(url.host);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const std::string port(!url.port.empty() ? url.port : tls ? "443" : "80");
  int number = 0;
  if (!absl::SimpleAtoi(port, &number) || number < 1 || number > 65535) {
    return absl::InvalidArgumentError("the address isn't a valid URL: its port is wrong");
  }
  std::shared_ptr<SSL_CTX> context;
  if (tls) {
    ASSIGN_OR_RETURN(context, TlsContext());
  }
  const absl::Time connected_by = std::min(deadline, absl::Now() + kConnectTimeout);
  absl::StatusOr<std::unique_ptr<Stream>> stream =
      proxy == nullptr ? Stream::Connect(host, port, connected_by)
                       : Stream::Connect(proxy->host, proxy->port, connected_by);
  absl::Status opened = stream.status();
  if (opened.ok() && proxy != nullptr && tls) {
    const std::string name = url.port.empty() ? StrCat(url.host, ":", port) : std::string(url.host_port);
    opened = Tunnel(**stream, *proxy, name, connected_by);
  }
  if (absl::IsDeadlineExceeded(opened)) return absl::DeadlineExceededError("no connection");
  if (!opened.ok() && proxy != nullptr) {
    return absl::Status(opened.code(), ToAbsl(StrCat("through the proxy ", proxy->address(), ": ",
                                                     Message(opened))));
  }
  RETURN_IF_ERROR(opened);
  if (tls) {
    RETURN_IF_ERROR((*stream)->StartTls(
        context.get(), tls_.server_name.empty() ? host : tls_.server_name, connected_by));
  }
  return stream;
}

absl::StatusOr<HttpResponse> StreamTransport::Exchange(const HttpRequest& request,
                                                       const UrlParts& url, absl::Time deadline) {
  ASSIGN_OR_RETURN(const ProxyPtr proxy, proxies_.For(url));
  ASSIGN_OR_RETURN(const SecretBytes text, Compose(request, url, proxy));
  const std::string server = StrCat(url.scheme, "://", url.host_port);
  for (;;) {
    std::unique_ptr<Stream> stream = Borrow(server);
    const bool kept = stream != nullptr;
    if (!kept) {
      ASSIGN_OR_RETURN(stream, Open(url, proxy, deadline));
    }
    bool started = false, reusable = false;
    const absl::Status written = stream->Write(text.view(), deadline);
    // A server that refuses a body may answer and close before it has all of it.
    absl::StatusOr<HttpResponse> answer =
        written.ok() || absl::IsUnavailable(written)
            ? ReadAnswer(*stream, request, deadline, &started, &reusable)
            : absl::StatusOr<HttpResponse>(written);
    reusable &= written.ok();
    if (answer.ok() && reusable) GiveBack(server, std::move(stream));
    // A kept connection may end just when it is used again: then a new one is tried.
    if (answer.ok() || !kept || started || !absl::IsUnavailable(answer.status())) return answer;
  }
}

absl::StatusOr<HttpResponse> StreamTransport::Send(const HttpRequest& request) {
  ASSIGN_OR_RETURN(const UrlParts url, ParseUrl(request.url));
  const absl::Time deadline = absl::Now() + request.timeout;
  absl::StatusOr<HttpResponse> answer = Exchange(request, url, deadline);
  if (answer.ok() || absl::IsInvalidArgument(answer.status())) return answer;
  std::string why(Message(answer.status()));
  if (absl::IsDeadlineExceeded(answer.status())) {
    const bool connected = why != "no connection";
    why = StrCat(connected ? "no answer" : why, " within ",
                 absl::FormatDuration(connected ? request.timeout
                                                : std::min(request.timeout, kConnectTimeout)));
  }
  return absl::Status(answer.status().code(), ToAbsl(StrCat(request.method, " ", url.scheme, "://",
                                                            url.host_port, url.path, ": ", why)));
}

}  // namespace

std::unique_ptr<HttpTransport> MakeStreamTransport(const TlsClientOptions& tls) {
  return std::make_unique<StreamTransport>(tls, ProxyRules::FromEnvironment());
}

std::unique_ptr<HttpTransport> MakeStreamTransportThrough(std::string_view proxy,
                                                          const TlsClientOptions& tls) {
  return std::make_unique<StreamTransport>(tls, ProxyRules::Through("proxy-url", proxy));
}

}  // namespace coffer
