// HttpTransport on libcurl. Each call borrows an easy handle, which keeps its own connections, from
// a pool and gives it back; handles share nothing, so threads never wait for one another.
#include "common/http_client.h"

#include <curl/curl.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <mutex>

#include "common/status_macros.h"
#include "common/strings.h"
#include "common/unix_transport.h"
#include "common/url.h"

namespace coffer {
namespace {

constexpr std::size_t kMaxBody = 32 << 20;
constexpr std::size_t kMaxHeaders = 1 << 20;
constexpr std::size_t kMaxIdleHandles = 64;
constexpr absl::Duration kConnectTimeout = absl::Seconds(10);

// libcurl's own buffers hold tokens and secrets too: whatever it gives back is wiped.
void WipingFree(void* block) {
  if (block == nullptr) return;
  explicit_bzero(block, malloc_usable_size(block));
  free(block);
}

void* WipingRealloc(void* block, std::size_t size) {
  void* grown = malloc(size);
  if (grown == nullptr || block == nullptr) return grown;
  memcpy(grown, block, std::min(size, malloc_usable_size(block)));
  WipingFree(block);
  return grown;
}

void InitializeCurl() {
  static const CURLcode code = curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, WipingFree,
                                                    WipingRealloc, strdup, calloc);
  if (code != CURLE_OK) std::abort();
}

// OpenSSL writes to sockets without MSG_NOSIGNAL: while this lives, a SIGPIPE of this thread's own
// making comes to nothing, and the program's handling of the signal stays as it is.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    if (!was_pending_) pthread_sigmask(SIG_BLOCK, &sigpipe_, &old_mask_);
  }
  ~NoSigpipe() {
    if (was_pending_) return;
    const timespec now = {};
    while (sigtimedwait(&sigpipe_, nullptr, &now) == -1 && errno == EINTR) {
    }
    pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;

 private:
  sigset_t sigpipe_, old_mask_;
  bool was_pending_;
};

struct EasyDeleter {
  void operator()(CURL* handle) const {
    const NoSigpipe quiet;
    curl_easy_cleanup(handle);
  }
};
using Easy = std::unique_ptr<CURL, EasyDeleter>;

struct SlistDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// A list of strings for libcurl, which copies them.
class StringList {
 public:
  void Append(const char* text) {
    curl_slist* longer = curl_slist_append(list_.get(), text);
    if (longer == nullptr) std::abort();  // out of memory
    (void)list_.release();
    list_.reset(longer);
  }
  curl_slist* get() const { return list_.get(); }

 private:
  std::unique_ptr<curl_slist, SlistDeleter> list_;
};

// What one transfer collects.
struct Transfer {
  CURL* handle;
  HttpResponse response;
  std::size_t header_bytes = 0;
  bool too_large = false;
};

std::size_t OnHeader(char* data, std::size_t, std::size_t size, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view line = Trim(std::string_view(data, size));
  transfer.header_bytes += size;
  if (transfer.header_bytes > kMaxHeaders) {
    transfer.too_large = true;
    return 0;
  }
  if (line.starts_with("HTTP/")) {  // of the answer, after those of 100 Continue
    transfer.response.headers.clear();
    return size;
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return size;
  transfer.response.headers.push_back({std::string(Trim(line.substr(0, colon))),
                                       SecretBytes::CopyOf(Trim(line.substr(colon + 1)))});
  return size;
}

std::size_t OnBody(char* data, std::size_t, std::size_t size, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  SecretBytes& body = transfer.response.body;
  if (body.empty()) {
    curl_off_t expected = 0;
    curl_easy_getinfo(transfer.handle, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &expected);
    if (expected > 0 && static_cast<std::size_t>(expected) <= kMaxBody) {
      body.Reserve(static_cast<std::size_t>(expected));
    }
  }
  if (body.size() + size > kMaxBody) {
    transfer.too_large = true;
    return 0;
  }
  body.Append(std::string_view(data, size));
  return size;
}

// Errors of TLS itself, which trying again doesn't mend.
bool IsTlsRefusal(CURLcode code, std::string_view detail) {
  switch (code) {
    case CURLE_SSL_CONNECT_ERROR:  // a connection lost in the handshake isn't a refusal
      return detail.find("SSL_ERROR_SYSCALL") == std::string_view::npos &&
             detail.find("reset") == std::string_view::npos;
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_USE_SSL_FAILED:
      return true;
    default:
      return false;
  }
}

std::string_view TlsHint(std::string_view detail) {
  if (detail.find("wrong version number") != std::string_view::npos ||
      detail.find("packet length too long") != std::string_view::npos ||
      detail.find("record layer failure") != std::string_view::npos) {
    return "; does the server speak plain http:// at this address?";
  }
  if (detail.find("self-signed") != std::string_view::npos ||
      detail.find("self signed") != std::string_view::npos ||
      detail.find("unable to get local issuer") != std::string_view::npos) {
    return "; is the CA certificate that signed the server's given?";
  }
  return "";
}

class CurlTransport : public HttpTransport {
 public:
  // `socket`: "", or the Unix socket that all requests go to. `proxy`: "" = of the environment.
  explicit CurlTransport(const TlsClientOptions& tls, std::string socket = "",
                         std::string_view proxy = "")
      : tls_(tls), socket_(std::move(socket)), proxy_(SecretBytes::CopyOf(proxy)) {
    InitializeCurl();
  }

  absl::StatusOr<HttpResponse> Send(const HttpRequest& request) override;

 private:
  Easy Borrow();
  void GiveBack(Easy handle);
  absl::Status SetTls(CURL* handle, std::string* ca_pem) const;

  const TlsClientOptions tls_;
  const std::string socket_;
  const SecretBytes proxy_;  // may have a password
  std::mutex mutex_;
  std::vector<Easy> idle_;  // the last used is taken first: the others' connections may time out
};

Easy CurlTransport::Borrow() {
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      Easy handle = std::move(idle_.back());
      idle_.pop_back();
      curl_easy_reset(handle.get());  // options go, connections stay
      return handle;
    }
  }
  Easy handle(curl_easy_init());
  if (handle == nullptr) std::abort();  // out of memory
  return handle;
}

void CurlTransport::GiveBack(Easy handle) {
  std::lock_guard lock(mutex_);
  if (idle_.size() < kMaxIdleHandles) idle_.push_back(std::move(handle));
}

// `ca_pem` must outlive the transfer: libcurl doesn't copy it.
absl::Status CurlTransport::SetTls(CURL* handle, std::string* ca_pem) const {
  curl_easy_setopt(handle, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, tls_.skip_verify ? 0L : 1L);
  curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, tls_.skip_verify ? 0L : 2L);
  // A CA file that is written anew counts within a minute.
  curl_easy_setopt(handle, CURLOPT_CA_CACHE_TIMEOUT, 60L);
  if (!tls_.ca_file.empty() || !tls_.ca_pem.empty() || !tls_.ca_directory.empty()) {
    // In place of the system's, both of which libcurl would else go on trusting.
    curl_easy_setopt(handle, CURLOPT_CAINFO, tls_.ca_file.empty() ? nullptr : tls_.ca_file.c_str());
    curl_easy_setopt(handle, CURLOPT_CAPATH,
                     tls_.ca_directory.empty() ? nullptr : tls_.ca_directory.c_str());
  }
  if (!tls_.ca_pem.empty()) {
    *ca_pem = tls_.ca_pem;
    if (!tls_.ca_file.empty()) {  // libcurl takes one or the other
      std::ifstream file(tls_.ca_file);
      if (!file) {
        return absl::FailedPreconditionError(StrCat("can't read the CA file ", tls_.ca_file));
      }
      ca_pem->append("\n").append(std::istreambuf_iterator<char>(file), {});
    }
    curl_blob blob = {ca_pem->data(), ca_pem->size(), CURL_BLOB_NOCOPY};
    curl_easy_setopt(handle, CURLOPT_CAINFO_BLOB, &blob);
  }
  if (!tls_.client_certificate_file.empty()) {
    curl_easy_setopt(handle, CURLOPT_SSLCERT, tls_.client_certificate_file.c_str());
  }
  if (!tls_.client_key_file.empty()) {
    curl_easy_setopt(handle, CURLOPT_SSLKEY, tls_.client_key_file.c_str());
  }
  return absl::OkStatus();
}

// Sets the method, headers and body.
absl::Status SetMessage(CURL* handle, const HttpRequest& request, StringList& headers) {
  if (!IsHttpToken(request.method)) return absl::InvalidArgumentError("not an HTTP method");
  bool has_content_type = false;
  for (const HttpHeader& header : request.headers) {
    if (!IsHttpToken(header.name) ||
        header.value.view().find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
      return absl::InvalidArgumentError(
          "a header's name or value holds a character that isn't allowed there");
    }
    has_content_type |= SameHttpName(header.name, "Content-Type");
    SecretBytes line = SecretBytes::CopyOf(header.name);
    // libcurl takes "Name:" as the wish to leave the header out, "Name;" as an empty one.
    line.Append(header.value.empty() ? ";" : ": ");
    line.Append(header.value.view());
    line.Append(std::string_view("\0", 1));
    headers.Append(reinterpret_cast<const char*>(line.data()));
  }
  // What libcurl would add by itself.
  headers.Append("Expect:");
  if (!has_content_type) headers.Append("Content-Type:");

  const bool always_body =
      request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
  if (!request.body.empty() || always_body) {
    curl_easy_setopt(handle, CURLOPT_POST, 1L);
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS,
                     request.body.empty() ? "" : reinterpret_cast<const char*>(request.body.data()));
  } else if (request.method == "HEAD") {
    curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
  }
  curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  return absl::OkStatus();
}

absl::Status TransferError(const HttpRequest& request, const UrlParts& url, const Transfer& transfer,
                           CURLcode code, const char* error_buffer) {
  const std::string what =
      StrCat(request.method, " ", url.scheme, "://", url.host_port, url.path, ": ");
  std::string_view detail = Trim(error_buffer);
  if (detail.empty()) detail = curl_easy_strerror(code);
  long os_error = 0;
  curl_easy_getinfo(transfer.handle, CURLINFO_OS_ERRNO, &os_error);
  if (transfer.too_large) {
    return absl::ResourceExhaustedError(StrCat(what, "the answer is larger than 32 MiB"));
  }
  if (code == CURLE_OPERATION_TIMEDOUT) {
    curl_off_t connected = 0;
    curl_easy_getinfo(transfer.handle, CURLINFO_PRETRANSFER_TIME_T, &connected);
    const absl::Duration limit =
        connected > 0 ? request.timeout : std::min(request.timeout, kConnectTimeout);
    return absl::DeadlineExceededError(StrCat(what, connected > 0 ? "no answer" : "no connection",
                                              " within ", absl::FormatDuration(limit)));
  }
  if (IsTlsRefusal(code, detail)) {
    return absl::FailedPreconditionError(StrCat(what, "TLS: ", detail, TlsHint(detail)));
  }
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return absl::UnavailableError(
          StrCat(what, "the host name can't be resolved: is the address right?"));
    case CURLE_COULDNT_CONNECT: {
      char buffer[128];
      const std::string_view reason =
          os_error != 0 ? strerror_r(static_cast<int>(os_error), buffer, sizeof(buffer)) : detail;
      return absl::UnavailableError(
          StrCat(what, "can't connect: ", reason, ": is the server running, is the address right?"));
    }
    case CURLE_URL_MALFORMAT:
      return absl::InvalidArgumentError(StrCat(what, "the address isn't a valid URL"));
    case CURLE_OUT_OF_MEMORY:
      return absl::ResourceExhaustedError(
          StrCat(what, "out of memory, or the answer has a header line over 100 KB"));
    default:
      return absl::UnavailableError(StrCat(what, detail));
  }
}

absl::StatusOr<HttpResponse> CurlTransport::Send(const HttpRequest& request) {
  ASSIGN_OR_RETURN(const UrlParts url, ParseUrl(request.url));
  Easy handle = Borrow();
  CURL* curl = handle.get();
  Transfer transfer{curl};
  StringList headers, connect_to;
  std::string ca_pem, rewritten;
  char error_buffer[CURL_ERROR_SIZE] = "";

  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error_buffer);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
  if (!socket_.empty()) {
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_.c_str());
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
  }
  if (!proxy_.empty()) {
    curl_easy_setopt(curl, CURLOPT_PROXY, std::string(proxy_.view()).c_str());
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "");
  }
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, OnHeader);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, OnBody);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  if (request.timeout != absl::InfiniteDuration()) {
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
                     static_cast<long>(std::clamp<std::int64_t>(
                         absl::ToInt64Milliseconds(request.timeout), 1, 1'000'000'000)));
  }
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(absl::ToInt64Milliseconds(kConnectTimeout)));

  absl::Status status = SetMessage(curl, request, headers);
  if (status.ok() && SameHttpName(url.scheme, "https")) {
    status = SetTls(curl, &ca_pem);
    if (!tls_.server_name.empty()) {
      // libcurl names in SNI, and verifies, the URL's host: that becomes the server name, while the
      // connection and the Host header go on naming the real one.
      const std::string_view port = url.port.empty() ? "443" : url.port;
      rewritten = StrCat("https://", tls_.server_name, ":", port, url.rest);
      connect_to.Append(
          StrCat(tls_.server_name, ":", port, ":", url.host, ":", port).c_str());
      curl_easy_setopt(curl, CURLOPT_CONNECT_TO, connect_to.get());
      const auto is_host = [](const HttpHeader& h) { return SameHttpName(h.name, "Host"); };
      if (std::none_of(request.headers.begin(), request.headers.end(), is_host)) {
        headers.Append(StrCat("Host: ", url.host_port).c_str());
      }
    }
  }
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_URL,
                   rewritten.empty() ? request.url.c_str() : rewritten.c_str());
  if (status.ok()) {
    const NoSigpipe quiet;
    const CURLcode code = curl_easy_perform(curl);
    if (code != CURLE_OK) status = TransferError(request, url, transfer, code, error_buffer);
  }
  long http_status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http_status);
  curl_easy_reset(curl);  // forgets what pointed into this frame
  GiveBack(std::move(handle));
  RETURN_IF_ERROR(status);
  transfer.response.status = static_cast<int>(http_status);
  return std::move(transfer.response);
}

}  // namespace

std::unique_ptr<HttpTransport> MakeCurlTransport(const TlsClientOptions& tls) {
  return std::make_unique<CurlTransport>(tls);
}

std::unique_ptr<HttpTransport> MakeCurlTransportThrough(std::string_view proxy,
                                                        const TlsClientOptions& tls) {
  return std::make_unique<CurlTransport>(tls, "", proxy);
}

std::unique_ptr<HttpTransport> MakeUnixTransport(const std::string& path) {
  return std::make_unique<CurlTransport>(TlsClientOptions(), path);
}

}  // namespace coffer
