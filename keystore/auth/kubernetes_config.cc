#include "keystore/auth/kubernetes_config.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "absl/strings/numbers.h"
#include "common/json_members.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr char kDefaultIssuer[] = "kubernetes/serviceaccount";

absl::Status Wrong(std::string_view field, const auto&... pieces) {
  return absl::InvalidArgumentError(StrCat(field, ": ", pieces...));
}

bool HoldsCertificates(std::string_view pem) {
  BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  int count = 0;
  while (X509* certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr)) {
    X509_free(certificate);
    ++count;
  }
  // Reading ends with "no start line" after the last block, with another error at a broken one.
  const bool clean = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  BIO_free(bio);
  return count > 0 && clean;
}

absl::StatusOr<std::string> CheckedCa(std::string_view field, const Json& document) {
  const std::string_view pem = Trim(TextAt(document, field));
  if (pem.empty() || HoldsCertificates(pem)) return std::string(pem);
  return Wrong(field, "it must be CA certificates in PEM");
}

bool Flag(const Json& document, std::string_view name, bool otherwise) {
  const auto found = document.find(name);
  return found != document.end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

bool IsHostCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("-._:[]").find(c) != std::string_view::npos;
}

bool PortIsRight(std::string_view host_port) {
  const std::size_t colon = host_port.find(':', host_port.rfind(']') + 1);  // npos + 1 is 0
  if (colon == std::string_view::npos) return true;
  int port = 0;
  return absl::SimpleAtoi(ToAbsl(host_port.substr(colon + 1)), &port) && port >= 1 && port <= 65535;
}

}  // namespace

absl::StatusOr<std::string> CheckedUrl(std::string_view field, std::string_view given) {
  std::string url(Trim(given));
  if (url.find("://") == std::string::npos) url.insert(0, "https://");
  while (url.ends_with('/')) url.pop_back();
  const bool https = url.starts_with("https://");
  if (!https && !url.starts_with("http://")) {
    return Wrong(field, "it must be a host, host:port or a URL that starts with https://");
  }
  const std::string_view rest = std::string_view(url).substr(https ? 8 : 7);
  const std::string_view host_port = rest.substr(0, rest.find('/'));
  const std::string_view path = rest.substr(host_port.size());
  if (host_port.empty() || host_port.starts_with(':') ||
      !std::all_of(host_port.begin(), host_port.end(), IsHostCharacter)) {
    return Wrong(field, "its host is missing or holds characters that no host name has");
  }
  if (!PortIsRight(host_port)) return Wrong(field, "its port must be a number from 1 to 65535");
  const auto wrong_in_path = [](char c) {
    return c <= ' ' || c == 0x7f || c == '?' || c == '#' || c == '\\';
  };
  if (std::any_of(path.begin(), path.end(), wrong_in_path)) {
    return Wrong(field, "its path holds a space, \"?\", \"#\" or another character not used there");
  }
  return url;
}

absl::StatusOr<std::shared_ptr<const KubernetesConfig>> KubernetesConfig::Parse(
    const Json& document, const PodFiles& pod_files, const Clock& clock) {
  auto config = std::make_shared<KubernetesConfig>();
  config->validate_issuer = !Flag(document, "disable_iss_validation", true);
  config->issuer = TextAt(document, "issuer");
  if (config->issuer.empty()) config->issuer = kDefaultIssuer;
  config->use_annotations = Flag(document, "use_annotations_as_alias_metadata", false);
  const bool use_pod_files = !Flag(document, "disable_local_ca_jwt", false);
  ASSIGN_OR_RETURN(std::string ca_pem, CheckedCa("kubernetes_ca_cert", document));
  ASSIGN_OR_RETURN(std::string jwks_ca_pem, CheckedCa("jwks_ca_pem", document));
  const std::string_view reviewer = Trim(TextAt(document, "token_reviewer_jwt"));
  if (std::any_of(reviewer.begin(), reviewer.end(), [](char c) { return c <= ' ' || c > '~'; })) {
    return Wrong("token_reviewer_jwt", "a token holds no spaces, line ends or control characters");
  }

  const std::string_view given_host = Trim(TextAt(document, "kubernetes_host"));
  std::string host;
  if (!given_host.empty()) {
    ASSIGN_OR_RETURN(host, CheckedUrl("kubernetes_host", given_host));
    config->api_server = std::make_shared<ApiServer>(host, ca_pem, SecretBytes::CopyOf(reviewer),
                                                     use_pod_files, pod_files);
  }

  std::vector<std::string> pems;
  if (const auto list = document.find("pem_keys"); list != document.end() && list->is_array()) {
    for (const Json& pem : *list) {
      if (pem.is_string()) pems.emplace_back(std::string_view(pem.get_ref<const Json::string_t&>()));
    }
  }
  if (!pems.empty()) {
    ASSIGN_OR_RETURN(config->keys, JwtKeySet::FromPem(pems));
  }

  const std::string_view given_jwks = Trim(TextAt(document, "jwks_url"));
  if (!given_jwks.empty()) {
    ASSIGN_OR_RETURN(std::string jwks_url, CheckedUrl("jwks_url", given_jwks));
    TlsClientOptions tls{.ca_pem = std::move(jwks_ca_pem)};
    std::function<SecretBytes()> bearer = [] { return SecretBytes(); };
    // The API server's own set (/openid/v1/jwks) is behind its CA and for authenticated callers; no
    // other address gets to see the reviewer's token.
    if (!host.empty() && host.starts_with("https://") && jwks_url.starts_with(StrCat(host, "/"))) {
      if (tls.ca_pem.empty()) tls = ApiServer::Tls(ca_pem, use_pod_files, pod_files);
      bearer = [api_server = config->api_server] { return api_server->ReviewerToken(); };
    }
    config->remote_keys = std::make_unique<RemoteKeys>(std::move(jwks_url), MakeStreamTransport(tls),
                                                       std::move(bearer), clock);
  }

  if (config->keys != nullptr && config->remote_keys != nullptr) {
    return absl::InvalidArgumentError("give pem_keys or jwks_url, not both");
  }
  config->token_review = Flag(document, "token_review", !config->checks_keys());
  if (config->token_review && config->api_server == nullptr) {
    return absl::InvalidArgumentError(
        "no host provided: kubernetes_host is needed, or pem_keys or jwks_url without token_review");
  }
  if (!config->token_review && !config->checks_keys()) {
    return absl::InvalidArgumentError(
        "nothing would check a token: give pem_keys or jwks_url, or leave token_review out");
  }
  if (config->use_annotations && config->api_server == nullptr) {
    return absl::InvalidArgumentError(
        "use_annotations_as_alias_metadata needs kubernetes_host: the API server knows the annotations");
  }
  return config;
}

absl::StatusOr<std::shared_ptr<const JwtKeySet>> KubernetesConfig::KeysFor(
    const Jwt& jwt, bool may_block, bool* needs_worker) const {
  if (remote_keys == nullptr) return keys;
  auto fetched = remote_keys->KeysFor(jwt, may_block);
  *needs_worker = fetched.ok() && *fetched == nullptr;
  return fetched;
}

}  // namespace coffer::keystore
