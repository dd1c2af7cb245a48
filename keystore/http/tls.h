// The server's side of TLS: Vault's listener options made into an OpenSSL context.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

struct ssl_ctx_st;

namespace coffer::keystore {

struct TlsServerOptions {
  std::string certificate_file;  // PEM: the server's certificate, then its chain
  std::string key_file;          // PEM, without a passphrase
  std::string client_ca_file;    // PEM bundle; "" with require_client_certificate: the system's
  std::string min_version = "tls12";  // "tls12" or "tls13"
  std::string max_version = "tls13";
  std::string cipher_suites;  // OpenSSL's names for TLS 1.2, parted by ":"; "" = OpenSSL's choice
  bool require_client_certificate = false;
};

struct SslContextFree {
  void operator()(ssl_ctx_st* context) const;
};
using SslContext = std::unique_ptr<ssl_ctx_st, SslContextFree>;

// InvalidArgument names the file or option that is wrong, and why.
absl::StatusOr<SslContext> MakeTlsContext(const TlsServerOptions& options);

}  // namespace coffer::keystore
