#include "keystore/config/listener.h"

#include <charconv>

#include "keystore/config/settings.h"

namespace coffer::keystore {
namespace {

using L = ListenerConfig;

constexpr Setting<L> kTelemetry[] = {
    {"unauthenticated_metrics_access", &L::unauthenticated_metrics_access}};
constexpr Setting<L> kProfiling[] = {{"unauthenticated_pprof_access"}};
constexpr Setting<L> kInFlight[] = {{"unauthenticated_in_flight_requests_access"}};

absl::Status ReadInner(std::span<const Setting<L>> settings, const hcl::Item& item, L& into,
                       std::vector<std::string>& warnings) {
  ASSIGN_OR_RETURN(const auto objects, hcl::PlainBlocks(item));
  for (const hcl::Value* object : objects) {
    RETURN_IF_ERROR(
        ReadSettings(settings, *object, StrCat("\"", item.name(), "\""), into, warnings));
  }
  return absl::OkStatus();
}

constexpr std::string_view kNoProxyProtocol =
    "the PROXY protocol isn't spoken; let the proxy send X-Forwarded-For";

const Setting<L> kSettings[] = {
    {"address", &L::address},
    {"cluster_address", &L::cluster_address},
    {"max_request_size", &L::max_request_size},
    {"max_request_duration", &L::max_request_duration},
    {"require_request_header", &L::require_request_header},
    {"tls_disable", &L::tls_disable},
    {"tls_cert_file", &L::tls_cert_file},
    {"tls_key_file", &L::tls_key_file},
    {"tls_client_ca_file", &L::tls_client_ca_file},
    {"tls_min_version", &L::tls_min_version},
    {"tls_max_version", &L::tls_max_version},
    {"tls_cipher_suites", &L::tls_cipher_suites},
    {"tls_require_and_verify_client_cert", &L::tls_require_and_verify_client_cert},
    {"tls_disable_client_certs", &L::tls_disable_client_certs},
    {"tls_prefer_server_cipher_suites"},
    {"http_read_header_timeout", &L::http_read_header_timeout},
    {"http_read_timeout", &L::http_read_timeout},
    {"http_idle_timeout", &L::http_idle_timeout},
    {"http_write_timeout"},
    {"x_forwarded_for_authorized_addrs", &L::x_forwarded_for_authorized_addrs},
    {"x_forwarded_for_hop_skips", &L::x_forwarded_for_hop_skips},
    {"x_forwarded_for_reject_not_authorized", &L::x_forwarded_for_reject_not_authorized},
    {"x_forwarded_for_reject_not_present", &L::x_forwarded_for_reject_not_present},
    {"x_forwarded_for_client_cert_header", Refused{"client certificates are taken from TLS alone"}},
    {"x_forwarded_for_client_cert_header_decoders",
     Refused{"client certificates are taken from TLS alone"}},
    {"proxy_protocol_behavior", Refused{kNoProxyProtocol}},
    {"proxy_protocol_authorized_addrs", Refused{kNoProxyProtocol}},
    {"chroot_namespace", Refused{"there are no namespaces"}},
    {"telemetry",
     +[](const hcl::Item& item, L& into, std::vector<std::string>& warnings) {
       return ReadInner(kTelemetry, item, into, warnings);
     }},
    {"profiling",
     +[](const hcl::Item& item, L& into, std::vector<std::string>& warnings) {
       return ReadInner(kProfiling, item, into, warnings);
     }},
    {"inflight_requests_logging",
     +[](const hcl::Item& item, L& into, std::vector<std::string>& warnings) {
       return ReadInner(kInFlight, item, into, warnings);
     }},
    {"agent_api"},
    {"proxy_api"},
    {"purpose"},
    {"role"},
    {"cors_enabled"},
    {"cors_allowed_origins"},
    {"cors_allowed_headers"},
    {"custom_response_headers"},
    {"disable_replication_status_endpoints"},
    {"disable_request_limiter"},
    {"max_json_depth"},
    {"max_json_string_value_length"},
    {"max_json_object_entry_count"},
    {"max_json_array_element_count"},
    {"redact_addresses"},
    {"redact_cluster_name"},
    {"redact_version"},
};

// Vault names suites as IANA does, OpenSSL has names of its own.
constexpr struct {
  std::string_view iana;
  std::string_view openssl;
} kCipherSuites[] = {
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
    {"TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256"},
    {"TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384"},
};

absl::StatusOr<std::string> OpensslSuites(std::string_view names) {
  std::string suites;
  for (const std::string_view piece : Split(names, ',')) {
    const std::string_view name = Trim(piece);
    if (name.empty()) continue;
    const auto known = std::find_if(std::begin(kCipherSuites), std::end(kCipherSuites),
                                    [&](const auto& suite) { return suite.iana == name; });
    if (known == std::end(kCipherSuites)) {
      return absl::InvalidArgumentError(
          "tls_cipher_suites holds a name that isn't known; they are as in "
          "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, parted by commas");
    }
    StrAppend(&suites, suites.empty() ? "" : ":", known->openssl);
  }
  return suites;
}

bool IsHostAndPort(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return false;
  const std::string_view host = address.substr(0, colon);
  const std::string_view port = address.substr(colon + 1);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (!bracketed && host.find_first_of(":[]") != std::string_view::npos) return false;
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  return error == std::errc() && end == port.data() + port.size() && number <= 65535;
}

// What doesn't fit together within a listener, "" where all does.
std::string_view WrongWith(const L& listener) {
  if (!IsHostAndPort(listener.address)) {
    return "\"address\" must be host:port, e.g. \"0.0.0.0:8200\" or \"[::]:8200\"";
  }
  if (!listener.cluster_address.empty() && !IsHostAndPort(listener.cluster_address)) {
    return "\"cluster_address\" must be host:port";
  }
  for (const std::string& version : {listener.tls_min_version, listener.tls_max_version}) {
    if (version != "tls12" && version != "tls13") {
      return "\"tls_min_version\" and \"tls_max_version\" must be tls12 or tls13 (older ones "
             "aren't "
             "safe)";
    }
  }
  if (listener.tls_min_version > listener.tls_max_version) {
    return "\"tls_max_version\" is less than \"tls_min_version\"";
  }
  if (listener.tls_require_and_verify_client_cert && listener.tls_disable_client_certs) {
    return "\"tls_require_and_verify_client_cert\" and \"tls_disable_client_certs\" exclude each "
           "other";
  }
  if (!listener.tls_disable && (listener.tls_cert_file.empty() || listener.tls_key_file.empty())) {
    return "\"tls_cert_file\" and \"tls_key_file\" are missing; for a listener without TLS set "
           "tls_disable = true";
  }
  if (listener.max_request_size == 0) return "\"max_request_size\" must be at least 1";
  return "";
}

absl::Status ReadListener(const hcl::Block& block, ServerConfig& config,
                          std::vector<std::string>& warnings) {
  if (*block.label != "tcp") {
    return hcl::ErrorAt(
        block.at, StrCat("there is no listener \"", *block.label, "\"; use listener \"tcp\""));
  }
  L listener;
  RETURN_IF_ERROR(
      ReadSettings<L>(kSettings, *block.object, "listener \"tcp\"", listener, warnings));
  if (const std::string_view wrong = WrongWith(listener); !wrong.empty()) {
    return hcl::ErrorAt(block.at, StrCat("listener \"tcp\": ", wrong));
  }
  absl::StatusOr<std::string> suites = OpensslSuites(listener.tls_cipher_suites);
  if (!suites.ok()) {
    return hcl::ErrorAt(block.at, StrCat("listener \"tcp\": ", Message(suites.status())));
  }
  listener.tls_cipher_suites = *std::move(suites);
  listener.place = hcl::PlaceText(block.at);
  config.listeners.push_back(std::move(listener));
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadListeners(const hcl::Item& item, ServerConfig& config,
                           std::vector<std::string>& warnings) {
  ASSIGN_OR_RETURN(const auto blocks, hcl::LabelledBlocks(item));
  for (const hcl::Block& block : blocks) RETURN_IF_ERROR(ReadListener(block, config, warnings));
  return absl::OkStatus();
}

}  // namespace coffer::keystore
