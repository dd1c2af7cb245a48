#include "keystore/http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cstring>

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

// The first reason, which the others follow from; the queue is left empty.
std::string TakeReason() {
  const unsigned long code = ERR_peek_error();
  ERR_clear_error();
  if (ERR_SYSTEM_ERROR(code)) return std::strerror(ERR_GET_REASON(code));
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "unknown reason" : reason;
}

absl::Status Wrong(std::string_view option, std::string_view value) {
  return absl::InvalidArgumentError(
      StrCat("TLS: can't use ", option, " \"", value, "\": ", TakeReason()));
}

absl::StatusOr<int> ParseVersion(std::string_view option, std::string_view text) {
  if (text == "tls12") return TLS1_2_VERSION;
  if (text == "tls13") return TLS1_3_VERSION;
  return absl::InvalidArgumentError(
      StrCat("TLS: ", option, " is \"", text, "\": it must be tls12 or tls13"));
}

// A key under a passphrase fails to load; OpenSSL would ask on the terminal.
int NoPassphrase(char*, int, int, void*) { return 0; }

}  // namespace

void SslContextFree::operator()(ssl_ctx_st* context) const { SSL_CTX_free(context); }

absl::StatusOr<SslContext> MakeTlsContext(const TlsServerOptions& options) {
  ASSIGN_OR_RETURN(const int min_version, ParseVersion("tls_min_version", options.min_version));
  ASSIGN_OR_RETURN(const int max_version, ParseVersion("tls_max_version", options.max_version));
  ERR_clear_error();
  SslContext context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError(StrCat("TLS: ", TakeReason()));
  SSL_CTX* raw = context.get();

  SSL_CTX_set_min_proto_version(raw, min_version);
  SSL_CTX_set_max_proto_version(raw, max_version);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE);
  // Idle connections give their buffers back; those hold decrypted requests, so they are wiped.
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_options(raw, SSL_OP_CLEANSE_PLAINTEXT);
  SSL_CTX_set_default_passwd_cb(raw, NoPassphrase);

  if (SSL_CTX_use_certificate_chain_file(raw, options.certificate_file.c_str()) != 1) {
    return Wrong("tls_cert_file", options.certificate_file);
  }
  if (SSL_CTX_use_PrivateKey_file(raw, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(raw) != 1) {
    return Wrong("tls_key_file", options.key_file);
  }
  if (!options.cipher_suites.empty() &&
      SSL_CTX_set_cipher_list(raw, options.cipher_suites.c_str()) != 1) {
    return Wrong("tls_cipher_suites", options.cipher_suites);
  }
  if (!options.client_ca_file.empty()) {
    STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(options.client_ca_file.c_str());
    if (names == nullptr ||
        SSL_CTX_load_verify_file(raw, options.client_ca_file.c_str()) != 1) {
      sk_X509_NAME_pop_free(names, X509_NAME_free);
      return Wrong("tls_client_ca_file", options.client_ca_file);
    }
    SSL_CTX_set_client_CA_list(raw, names);
  } else if (options.require_client_certificate) {
    SSL_CTX_set_default_verify_paths(raw);
  }
  if (options.require_client_certificate) {
    SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    // Sessions of clients that have shown a certificate are bound to this (SSL_CTX_set_verify(3)).
    constexpr unsigned char kSessionId[] = "coffer-keystore";
    SSL_CTX_set_session_id_context(raw, kSessionId, sizeof(kSessionId) - 1);
  }
  return context;
}

}  // namespace coffer::keystore
