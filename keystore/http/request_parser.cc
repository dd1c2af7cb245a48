#include "keystore/http/request_parser.h"

#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>

#include "common/strings.h"

namespace coffer::keystore {
namespace {

namespace http = boost::beast::http;
using boost::beast::iequals;
using Text = boost::beast::string_view;

// The most that a Content-Length alone makes us set aside.
constexpr std::uint64_t kTrustedBodySize = 64 * 1024;

std::string_view ToStd(boost::beast::string_view text) { return {text.data(), text.size()}; }

HttpRefusal RefusalFor(const boost::beast::error_code& error, std::uint64_t body_limit) {
  if (error == http::error::body_limit) {
    return {413, StrCat("request body too large: the limit is ", body_limit, " bytes")};
  }
  if (error == http::error::header_limit) {
    return {431, StrCat("request header too large: the limit is ", RequestParser::kMaxHeaderBytes,
                        " bytes")};
  }
  return {400, StrCat("malformed HTTP request: ", error.message())};
}

// Takes the origin off "http://host/path?query", as a target may be given, too (RFC 9112 section
// 3.2.2). False where there is no host in it.
bool TakeOrigin(std::string_view* target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    const std::string_view start = target->substr(0, scheme.size());
    if (!iequals(Text(start.data(), start.size()), Text(scheme.data(), scheme.size()))) continue;
    target->remove_prefix(scheme.size());
    const std::size_t end = std::min(target->find_first_of("/?"), target->size());
    target->remove_prefix(end);
    return end > 0;
  }
  return true;
}

}  // namespace

RequestParser::RequestParser(HttpMessage& message, std::uint64_t body_limit)
    : message_(message), body_limit_(body_limit) {
  eager(true);
  header_limit(kMaxHeaderBytes);
  this->body_limit(body_limit);
}

std::size_t RequestParser::Take(std::string_view bytes, std::optional<HttpRefusal>* refusal) {
  Error error;
  const std::size_t taken = put(boost::asio::const_buffer(bytes.data(), bytes.size()), error);
  if (error && error != http::error::need_more) {
    *refusal = RefusalFor(error, body_limit_);
  } else if (error && bytes.size() - taken >= kMaxHeaderBytes) {
    *refusal = RefusalFor(http::error::header_limit, body_limit_);
  }
  if (!*refusal && header_done_ && http11_ && !host_) {  // RFC 9112 section 3.2
    *refusal = {400, "malformed HTTP request: it has no Host"};
  }
  return taken;
}

void RequestParser::on_request_impl(http::verb, Text method, Text target, int version, Error& error) {
  http11_ = version >= 11;
  header_bytes_ += method.size() + target.size();
  if (header_bytes_ > kMaxHeaderBytes) {
    error = http::error::header_limit;
    return;
  }
  message_.method.assign(method.data(), method.size());
  std::string_view path = ToStd(target);
  if (!TakeOrigin(&path)) {
    error = http::error::bad_target;
    return;
  }
  if (path.size() < target.size() && !path.starts_with('/')) message_.target.Append("/");
  message_.target.Append(path);
}

void RequestParser::on_field_impl(http::field field, Text name, Text value, Error& error) {
  // Trailers come through here too, and count, but say nothing.
  header_bytes_ += name.size() + value.size();
  if (header_bytes_ > kMaxHeaderBytes) {
    error = http::error::header_limit;
    return;
  }
  if (header_done_) return;
  switch (field) {
    case http::field::content_type: message_.content_type.assign(value.data(), value.size()); return;
    case http::field::expect: message_.expect_continue = iequals(value, "100-continue"); return;
    case http::field::host:
      // Two hosts would let a proxy and this server see two different requests.
      if (host_) error = http::error::bad_value;
      host_ = true;
      return;
    case http::field::transfer_encoding:
      // Beast takes any other coding as "no body"; what follows would be read as a request.
      if (!iequals(value, "chunked")) error = http::error::bad_transfer_encoding;
      return;
    case http::field::upgrade: message_.upgrade.assign(value.data(), value.size()); return;
    case http::field::sec_websocket_key:
      message_.websocket_key.assign(value.data(), value.size());
      return;
    case http::field::sec_websocket_version:
      message_.websocket_version.assign(value.data(), value.size());
      return;
    case http::field::authorization: {
      constexpr std::string_view kBearer = "Bearer ";
      if (token_header_ || value.size() <= kBearer.size() ||
          !iequals(value.substr(0, kBearer.size()), Text(kBearer.data(), kBearer.size()))) {
        return;
      }
      message_.token = SecretBytes::CopyOf(Trim(ToStd(value).substr(kBearer.size())));
      return;
    }
    case http::field::unknown: break;
    default: return;
  }
  if (iequals(name, "X-Vault-Token")) {
    if (value.empty()) return;
    token_header_ = true;
    message_.token = SecretBytes::CopyOf(ToStd(value));
  } else if (iequals(name, "X-Vault-Request")) {
    message_.vault_request = iequals(value, "true");
  } else if (iequals(name, "X-Vault-Namespace")) {
    message_.name_space.assign(value.data(), value.size());
  } else if (iequals(name, "X-Vault-Wrap-TTL")) {
    message_.wrap_ttl.assign(value.data(), value.size());
  } else if (iequals(name, "X-Forwarded-For")) {
    if (!message_.forwarded_for.empty()) message_.forwarded_for += ',';
    message_.forwarded_for.append(value.data(), value.size());
  }
}

void RequestParser::on_header_impl(Error&) { header_done_ = true; }

void RequestParser::on_body_init_impl(boost::optional<std::uint64_t> const& content_length,
                                      Error&) {
  if (content_length) message_.body.Reserve(std::min(*content_length, kTrustedBodySize));
}

std::size_t RequestParser::on_body_impl(Text body, Error&) {
  message_.body.Append(ToStd(body));
  return body.size();
}

std::size_t RequestParser::on_chunk_body_impl(std::uint64_t, Text body, Error&) {
  message_.body.Append(ToStd(body));
  return body.size();
}

}  // namespace coffer::keystore
