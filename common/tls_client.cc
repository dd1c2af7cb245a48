#include "common/tls_client.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <string>

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer {
namespace {

absl::Status TlsSetup(std::string_view what) {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return absl::FailedPreconditionError(
      StrCat("TLS: ", what, reason ? ": " : "", reason ? reason : ""));
}

absl::Status TrustPem(SSL_CTX* context, const std::string& pem) {
  BIO* text = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  int added = 0;
  while (X509* certificate = PEM_read_bio_X509(text, nullptr, nullptr, nullptr)) {
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate);
    X509_free(certificate);
    ++added;
  }
  BIO_free(text);
  if (added == 0) return TlsSetup("the CA certificates given as PEM can't be read");
  ERR_clear_error();  // the end of the text is one
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<SSL_CTX>> MakeTlsClient(const TlsClientOptions& tls) {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
  SSL_CTX* c = context.get();
  SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
  SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                          SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify(c, tls.skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, nullptr);
  ERR_clear_error();
  if (!tls.ca_file.empty() && SSL_CTX_load_verify_file(c, tls.ca_file.c_str()) != 1) {
    return TlsSetup(StrCat("can't read the CA file ", tls.ca_file));
  }
  if (!tls.ca_directory.empty() && SSL_CTX_load_verify_dir(c, tls.ca_directory.c_str()) != 1) {
    return TlsSetup(StrCat("can't read the CA folder ", tls.ca_directory));
  }
  if (!tls.ca_pem.empty()) RETURN_IF_ERROR(TrustPem(c, tls.ca_pem));
  const bool own_ca = !tls.ca_file.empty() || !tls.ca_directory.empty() || !tls.ca_pem.empty();
  if (!own_ca && !tls.skip_verify) SSL_CTX_set_default_verify_paths(c);
  if (!tls.client_certificate_file.empty() &&
      SSL_CTX_use_certificate_chain_file(c, tls.client_certificate_file.c_str()) != 1) {
    return TlsSetup(StrCat("can't read the client certificate ", tls.client_certificate_file));
  }
  if (!tls.client_key_file.empty() &&
      SSL_CTX_use_PrivateKey_file(c, tls.client_key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return TlsSetup(StrCat("can't use the client key ", tls.client_key_file));
  }
  return context;
}

}  // namespace coffer
