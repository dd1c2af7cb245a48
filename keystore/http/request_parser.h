// RequestParser: takes one HTTP/1.1 request (RFC 9112) apart as its bytes come in. Beast knows the
// grammar; this keeps the few parts that matter, without a table of all header fields. Includes
// Beast: only for the listener and the fuzzer.
#pragma once

#include <boost/beast/http/basic_parser.hpp>
#include <cstdint>

#include "keystore/http/http_message.h"

namespace coffer::keystore {

class RequestParser final : public boost::beast::http::basic_parser<true> {
 public:
  // All header fields together, names and values; also the most that a part which must be seen in
  // one piece (a field, a chunk's header) may take.
  static constexpr std::size_t kMaxHeaderBytes = 64 * 1024;

  // `message` is empty, and is filled in; the body may have up to `body_limit` bytes.
  RequestParser(HttpMessage& message, std::uint64_t body_limit);

  // Takes as much of `bytes` as it can and returns how much. With no refusal, and done() false, it
  // must be called again with what it left and more after it. After a refusal the connection is of
  // no use for further requests.
  std::size_t Take(std::string_view bytes, std::optional<HttpRefusal>* refusal);
  bool done() const { return is_done(); }
  // Once the header is there: whether the client will send further requests. Those of HTTP/1.0 are
  // answered one a connection.
  bool persistent() const { return http11_ && keep_alive(); }

 private:
  using Error = boost::beast::error_code;
  using Text = boost::beast::string_view;

  void on_request_impl(boost::beast::http::verb, Text method, Text target, int version,
                       Error& error) override;
  void on_response_impl(int, Text, int, Error&) override {}
  void on_field_impl(boost::beast::http::field field, Text name, Text value,
                     Error& error) override;
  void on_header_impl(Error& error) override;
  void on_body_init_impl(boost::optional<std::uint64_t> const& content_length,
                         Error& error) override;
  std::size_t on_body_impl(Text body, Error& error) override;
  void on_chunk_header_impl(std::uint64_t, Text, Error&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t remain, Text body, Error& error) override;
  void on_finish_impl(Error&) override {}

  HttpMessage& message_;
  const std::uint64_t body_limit_;
  std::size_t header_bytes_ = 0;
  bool http11_ = false;
  bool header_done_ = false;
  bool token_header_ = false;  // X-Vault-Token was there: it wins over Authorization
  bool host_ = false;
};

}  // namespace coffer::keystore
