// The keystore's configuration: Vault's HCL or JSON, from files and folders, as one struct.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coffer::keystore {

struct StorageConfig {
  std::string type;                                  // "lmdb" or "inmem"
  std::string path;                                  // of "lmdb": the folder
  std::uint64_t map_size = std::uint64_t{64} << 30;  // of "lmdb": bytes, its largest size
};

struct ListenerConfig {
  std::string place;  // "FILE: line 3, column 10", or the flag that gives it
  std::string type = "tcp";
  std::string address = "127.0.0.1:8200";  // "host:port" or "[v6]:port"; port 0: a free one
  std::string cluster_address;
  std::uint64_t max_request_size = std::uint64_t{32} << 20;  // bytes of a body
  // Zero where it isn't given here or as default_max_request_duration: the default, 90 s.
  absl::Duration max_request_duration;
  bool require_request_header = false;  // refuse requests without X-Vault-Request: true

  bool tls_disable = false;
  std::string tls_cert_file;  // both there unless tls_disable
  std::string tls_key_file;
  std::string tls_client_ca_file;
  std::string tls_min_version = "tls12";  // "tls12" or "tls13"
  std::string tls_max_version = "tls13";
  std::string
      tls_cipher_suites;  // OpenSSL's names for TLS 1.2, parted by ":"; "" = OpenSSL's choice
  bool tls_require_and_verify_client_cert = false;
  bool tls_disable_client_certs = false;

  absl::Duration http_read_header_timeout = absl::Seconds(10);
  absl::Duration http_read_timeout = absl::Seconds(30);
  absl::Duration http_idle_timeout = absl::Minutes(5);

  // X-Forwarded-For is believed of these CIDRs or addresses; empty: of nobody.
  std::vector<std::string> x_forwarded_for_authorized_addrs;
  std::uint64_t x_forwarded_for_hop_skips = 0;
  bool x_forwarded_for_reject_not_authorized = true;
  bool x_forwarded_for_reject_not_present = true;

  bool unauthenticated_metrics_access = false;
};

struct TelemetryConfig {
  absl::Duration prometheus_retention_time = absl::Hours(24);  // zero: no metrics
  bool disable_hostname = false;
  std::string metrics_prefix;
};

struct ServerConfig {
  std::optional<StorageConfig> storage;
  std::vector<ListenerConfig> listeners;
  std::optional<TelemetryConfig> telemetry;
  bool ui = false;
  bool disable_mlock = false;
  std::string api_addr;
  std::string cluster_addr;
  std::string cluster_name;
  std::string log_level;   // "trace", "debug", "info", "warn", "error"; "" = not given
  std::string log_format;  // "standard", "json"; "" = not given
  std::string pid_file;
  std::string plugin_directory;
  // Zero: not given.
  absl::Duration default_lease_ttl;
  absl::Duration max_lease_ttl;
  absl::Duration default_max_request_duration;

  // Settings of Vault that were given and have no effect here, each with file and line.
  std::vector<std::string> warnings;
};

// One text. `file` is its name in messages. InvalidArgument: "FILE: line 3, column 7: …" names the
// key, never its value.
absl::StatusOr<ServerConfig> ParseServerConfig(std::string_view file, std::string_view text);

// Adds what another file says, as Vault does: listeners are all kept; storage, telemetry and texts
// of the later file count; switches that are on in one are on; of two durations the longer counts.
void MergeServerConfig(ServerConfig from, ServerConfig* into);

// InvalidArgument: what is missing or doesn't fit together across files.
absl::Status CheckServerConfig(const ServerConfig& config);

// The files, and the *.hcl and *.json files of the folders (in order of their names), merged and
// checked. NotFound, PermissionDenied: a file can't be read; a folder holds no such file.
absl::StatusOr<ServerConfig> LoadServerConfig(const std::vector<std::string>& paths);

// "512", "32MB" (1000s), "64MiB" (1024s), "10k" … of bytes, case doesn't matter.
absl::StatusOr<std::uint64_t> ParseSize(std::string_view text);

}  // namespace coffer::keystore
