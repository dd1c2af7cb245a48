// For tests: an HTTP/1.1 server on a loopback port, with or without TLS, that answers with whatever
// bytes a handler gives; and certificates made on the spot.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "absl/strings/match.h"
#include "common/strings.h"
#include "common/unique_fd.h"

namespace coffer {

inline std::string BioText(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  return text;
}

// A key and a certificate, signed by `issuer` or, without one, by itself as a CA.
class TestCertificate {
 public:
  // `names`: "DNS:localhost,IP:127.0.0.1".
  explicit TestCertificate(const std::string& names, const TestCertificate* issuer = nullptr) {
    key_.reset(EVP_EC_gen("P-256"));
    certificate_.reset(X509_new());
    X509* x = certificate_.get();
    X509_set_version(x, X509_VERSION_3);
    static std::atomic<long> last_serial{1};
    const long serial = ++last_serial;
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    const std::string name = StrCat(issuer ? "leaf " : "CA ", serial);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509* signer = issuer ? issuer->certificate_.get() : x;
    X509_set_issuer_name(x, X509_get_subject_name(signer));
    X509_set_pubkey(x, key_.get());
    AddExtension(signer, NID_basic_constraints, issuer ? "CA:FALSE" : "critical,CA:TRUE");
    if (!names.empty()) AddExtension(signer, NID_subject_alt_name, names.c_str());
    X509_sign(x, issuer ? issuer->key_.get() : key_.get(), EVP_sha256());
  }

  X509* certificate() const { return certificate_.get(); }
  EVP_PKEY* key() const { return key_.get(); }
  std::string certificate_pem() const {
    BIO* bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, certificate_.get());
    return BioText(bio);
  }
  std::string key_pem() const {
    BIO* bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key_.get(), nullptr, nullptr, 0, nullptr, nullptr);
    return BioText(bio);
  }

 private:
  void AddExtension(X509* signer, int nid, const char* value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, signer, certificate_.get(), nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value);
    if (extension == nullptr) std::abort();
    X509_add_ext(certificate_.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }

  struct Deleter {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
  };
  std::unique_ptr<EVP_PKEY, Deleter> key_;
  std::unique_ptr<X509, Deleter> certificate_;
};

struct TestHttpRequest {
  std::string head;  // request line and header lines
  std::string body;

  std::string_view method() const { return std::string_view(head).substr(0, head.find(' ')); }
  std::string_view target() const {
    const std::size_t start = head.find(' ') + 1;
    return std::string_view(head).substr(start, head.find(' ', start) - start);
  }
  std::string_view header(std::string_view name) const {
    for (const std::string_view line : Split(head, '\n')) {
      const std::size_t colon = line.find(':');
      if (colon != std::string_view::npos &&
          absl::EqualsIgnoreCase(ToAbsl(line.substr(0, colon)), ToAbsl(name))) {
        return Trim(line.substr(colon + 1));
      }
    }
    return "";
  }
};

// A whole answer, with its Content-Length.
inline std::string TestHttpAnswer(int status, std::string_view body, std::string_view headers = "") {
  return StrCat("HTTP/1.1 ", status, " Some Reason\r\n", headers, "Content-Length: ", body.size(),
                "\r\n\r\n", body);
}

// Stands in an answer where its server pauses, so that what follows comes in a packet of its own.
inline constexpr char kTestHttpPause = '\x1f';

class TestHttpServer {
 public:
  // Answers with raw bytes; an empty string, or what says Connection: close, closes the connection.
  using Handler = std::function<std::string(const TestHttpRequest&)>;

  // With `tls`, HTTPS with that certificate; with `client_ca`, for clients that show one of its.
  explicit TestHttpServer(Handler handler, const TestCertificate* tls = nullptr,
                          const TestCertificate* client_ca = nullptr,
                          int max_tls_version = TLS1_3_VERSION)
      : handler_(std::move(handler)) {
    if (tls != nullptr) {
      tls_.reset(SSL_CTX_new(TLS_server_method()));
      SSL_CTX_set_security_level(tls_.get(), 0);
      SSL_CTX_set_max_proto_version(tls_.get(), max_tls_version);
      SSL_CTX_set_cipher_list(tls_.get(), "ALL");
      SSL_CTX_use_certificate(tls_.get(), tls->certificate());
      SSL_CTX_use_PrivateKey(tls_.get(), tls->key());
      if (client_ca != nullptr) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(tls_.get()), client_ca->certificate());
        SSL_CTX_set_verify(tls_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
      }
      SSL_CTX_set_tlsext_servername_callback(tls_.get(), OnServerName);
      SSL_CTX_set_tlsext_servername_arg(tls_.get(), this);
    }
    listener_.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        listen(listener_.get(), 128) != 0 ||
        getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      std::abort();
    }
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { Accept(); });
  }

  ~TestHttpServer() {
    stop_ = true;
    shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    for (Connection& connection : connections_) {
      shutdown(connection.fd.get(), SHUT_RDWR);
      connection.thread.join();
    }
  }

  int port() const { return port_; }
  std::string address() const {
    return StrCat(tls_ ? "https" : "http", "://127.0.0.1:", port_);
  }
  // How many connections were ever accepted.
  int connections() const { return accepted_; }
  // How many requests were answered.
  int requests() const { return requests_; }
  // The name in the last TLS handshake's SNI.
  std::string server_name() const {
    std::lock_guard lock(mutex_);
    return server_name_;
  }

 private:
  struct Connection {
    UniqueFd fd;
    std::thread thread;
  };

  static int OnServerName(SSL* ssl, int*, void* self) {
    auto* server = static_cast<TestHttpServer*>(self);
    const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    std::lock_guard lock(server->mutex_);
    server->server_name_ = name ? name : "";
    return SSL_TLSEXT_ERR_OK;
  }

  void Accept() {
    sigset_t sigpipe;  // OpenSSL writes to connections that clients have closed
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, nullptr);
    while (!stop_) {
      UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!fd) continue;
      ++accepted_;
      connections_.push_back({std::move(fd), {}});
      Connection& connection = connections_.back();
      connection.thread = std::thread([this, &connection] { Serve(connection.fd.get()); });
    }
  }

  void Serve(int fd) {
    SSL* ssl = nullptr;
    if (tls_ != nullptr) {
      ssl = SSL_new(tls_.get());
      SSL_set_fd(ssl, fd);
      if (SSL_accept(ssl) != 1) {
        SSL_free(ssl);
        shutdown(fd, SHUT_RDWR);
        return;
      }
    }
    std::string pending;
    while (!stop_) {
      TestHttpRequest request;
      if (!ReadRequest(fd, ssl, &pending, &request)) break;
      ++requests_;
      const std::string answer = handler_(request);
      if (answer.empty() || !WritePieces(fd, ssl, answer) ||
          answer.find("Connection: close\r\n") != std::string::npos) {
        break;
      }
    }
    if (ssl != nullptr) SSL_free(ssl);
    shutdown(fd, SHUT_RDWR);
  }

  static long Read(int fd, SSL* ssl, char* buffer, std::size_t size) {
    return ssl ? SSL_read(ssl, buffer, static_cast<int>(size)) : recv(fd, buffer, size, 0);
  }

  static bool WritePieces(int fd, SSL* ssl, std::string_view text) {
    for (std::size_t pause; (pause = text.find(kTestHttpPause)) != std::string_view::npos;) {
      if (!WriteAll(fd, ssl, text.substr(0, pause))) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      text.remove_prefix(pause + 1);
    }
    return WriteAll(fd, ssl, text);
  }

  static bool WriteAll(int fd, SSL* ssl, std::string_view text) {
    while (!text.empty()) {
      const long wrote = ssl ? SSL_write(ssl, text.data(), static_cast<int>(text.size()))
                             : send(fd, text.data(), text.size(), MSG_NOSIGNAL);
      if (wrote <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(wrote));
    }
    return true;
  }

  static bool ReadRequest(int fd, SSL* ssl, std::string* pending, TestHttpRequest* request) {
    char buffer[16 * 1024];
    std::size_t end;
    while ((end = pending->find("\r\n\r\n")) == std::string::npos) {
      const long got = Read(fd, ssl, buffer, sizeof(buffer));
      if (got <= 0) return false;
      pending->append(buffer, static_cast<std::size_t>(got));
      if (ssl == nullptr && pending->front() == '\x16') {  // a TLS greeting, answered as servers do
        WriteAll(fd, ssl, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        return false;
      }
    }
    request->head = pending->substr(0, end);
    pending->erase(0, end + 4);
    const std::string length(request->header("Content-Length"));
    const std::size_t size = length.empty() ? 0 : std::strtoul(length.c_str(), nullptr, 10);
    while (pending->size() < size) {
      const long got = Read(fd, ssl, buffer, sizeof(buffer));
      if (got <= 0) return false;
      pending->append(buffer, static_cast<std::size_t>(got));
    }
    request->body = pending->substr(0, size);
    pending->erase(0, size);
    return true;
  }

  struct ContextDeleter {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  const Handler handler_;
  std::unique_ptr<SSL_CTX, ContextDeleter> tls_;
  UniqueFd listener_;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<int> accepted_{0}, requests_{0};
  mutable std::mutex mutex_;
  std::string server_name_;
  std::list<Connection> connections_;  // the acceptor's, until it has ended
  std::thread acceptor_;
};

}  // namespace coffer
