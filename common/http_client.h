// HttpTransport: one HTTP request and its whole answer. The only way in which Coffer's clients (the
// command line, the provider, TokenReview, JWKS) talk to servers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/secret_bytes.h"

namespace coffer {

struct HttpHeader {
  std::string name;   // compared without regard to case
  SecretBytes value;  // may be a token
};

struct HttpRequest {
  std::string method = "GET";  // any token of RFC 9110 section 9, e.g. LIST
  std::string url;             // http:// or https://, already percent-encoded
  std::vector<HttpHeader> headers;
  SecretBytes body;  // sent when not empty, and always with POST, PUT and PATCH
  absl::Duration timeout = absl::Seconds(60);
  // Where set (of stream transports alone), the body of a 2xx answer goes here as it comes, and
  // `timeout` is the longest silence rather than the longest call. Called with nothing about once a
  // second; false ends the call with Cancelled.
  std::function<bool(std::string_view)> on_body;
};

struct HttpResponse {
  int status = 0;  // 100..599
  std::vector<HttpHeader> headers;
  SecretBytes body;

  // The first header of that name, or "".
  std::string_view header(std::string_view name) const;
};

// What a TLS client checks and shows. Empty paths mean the system's defaults.
struct TlsClientOptions {
  std::string ca_file;      // PEM bundle
  std::string ca_directory; // hashed PEM files
  std::string ca_pem;       // PEM text, in addition to ca_file
  std::string client_certificate_file;
  std::string client_key_file;
  std::string server_name;  // for SNI and verification in place of the URL's host
  bool skip_verify = false;
};

class HttpTransport {
 public:
  virtual ~HttpTransport() = default;
  // Sends and waits. Any status code is an answer, not an error; redirects aren't followed.
  // Unavailable: no connection, connection lost; DeadlineExceeded: timeout; FailedPrecondition: TLS
  // refused (the message says why); ResourceExhausted: an answer over 32 MiB. Messages name the
  // method, scheme, host and path, never headers, query or body. Safe on any thread.
  virtual absl::StatusOr<HttpResponse> Send(const HttpRequest& request) = 0;
};

// libcurl; keeps connections open between calls, takes proxies from the environment as curl does.
std::unique_ptr<HttpTransport> MakeCurlTransport(const TlsClientOptions& tls);

// Sockets, OpenSSL and Beast's parser, for daemons: the same, without the libraries that libcurl
// loads (LDAP, Kerberos, RTMP, SSH); proxies are common/proxy.h's; one CA store for all connections.
std::unique_ptr<HttpTransport> MakeStreamTransport(const TlsClientOptions& tls);

// The same two, with all requests through the proxy [http://][user:password@]host[:port], whatever
// the environment says.
std::unique_ptr<HttpTransport> MakeCurlTransportThrough(std::string_view proxy,
                                                        const TlsClientOptions& tls);
std::unique_ptr<HttpTransport> MakeStreamTransportThrough(std::string_view proxy,
                                                          const TlsClientOptions& tls);

// Percent-encodes all but unreserved characters (RFC 3986 section 2.3) and, for a path, "/".
std::string EncodeUrlPath(std::string_view path);
std::string EncodeUrlQuery(std::string_view text);

}  // namespace coffer
