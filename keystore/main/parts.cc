#include "keystore/main/parts.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/storage/lmdb_store.h"
#include "keystore/storage/memory_store.h"

namespace coffer::keystore {

absl::StatusOr<std::unique_ptr<Store>> OpenStore(const StorageConfig& config) {
  if (config.type == "inmem") return std::make_unique<MemoryStore>();
  if (config.type == "lmdb") {
    ASSIGN_OR_RETURN(std::unique_ptr<Store> store,
                     LmdbStore::Open({.path = config.path, .map_size = config.map_size}));
    return store;
  }
  return absl::InvalidArgumentError(
      StrCat("storage \"", config.type, "\" is not known: use lmdb or inmem"));
}

ListenerOptions ListenerOptionsFor(const ServerConfig& server, const ListenerConfig& config) {
  ListenerOptions options;
  options.address = config.address;
  if (!config.tls_disable) {
    options.tls = TlsServerOptions{
        .certificate_file = config.tls_cert_file,
        .key_file = config.tls_key_file,
        .client_ca_file = config.tls_client_ca_file,
        .min_version = config.tls_min_version,
        .max_version = config.tls_max_version,
        .cipher_suites = config.tls_cipher_suites,
        .require_client_certificate = config.tls_require_and_verify_client_cert,
    };
  }
  options.max_request_size = config.max_request_size;
  options.header_timeout = config.http_read_header_timeout;
  options.read_timeout = config.http_read_timeout;
  options.idle_timeout = config.http_idle_timeout;
  for (const absl::Duration given :
       {server.default_max_request_duration, config.max_request_duration}) {
    if (given > absl::ZeroDuration()) options.max_request_duration = given;
  }
  options.require_request_header = config.require_request_header;
  options.ui = server.ui;
  options.unauthenticated_metrics_access = config.unauthenticated_metrics_access;
  options.forwarded_for = {
      .authorized = config.x_forwarded_for_authorized_addrs,
      .hop_skips = config.x_forwarded_for_hop_skips,
      .reject_not_authorized = config.x_forwarded_for_reject_not_authorized,
      .reject_not_present = config.x_forwarded_for_reject_not_present,
  };
  return options;
}

LeaseTtls LeaseTtlsFor(const ServerConfig& server) {
  LeaseTtls ttls;
  if (server.max_lease_ttl > absl::ZeroDuration()) ttls.max_ttl = server.max_lease_ttl;
  ttls.default_ttl = server.default_lease_ttl > absl::ZeroDuration()
                         ? server.default_lease_ttl
                         : std::min(ttls.default_ttl, ttls.max_ttl);
  return ttls;
}

MetricsOptions MetricsOptionsFor(const ServerConfig& server) {
  MetricsOptions options;
  if (!server.telemetry) return options;
  if (!server.telemetry->metrics_prefix.empty()) options.prefix = server.telemetry->metrics_prefix;
  options.prometheus = server.telemetry->prometheus_retention_time > absl::ZeroDuration();
  return options;
}

absl::StatusOr<std::unique_ptr<PidFile>> PidFile::Write(const std::string& path) {
  if (path.empty()) return std::unique_ptr<PidFile>();
  std::ofstream file(path, std::ios::trunc);
  file << getpid() << "\n";
  file.close();
  if (!file) {
    return absl::UnavailableError(
        StrCat("can't write the pid_file \"", path, "\": ", std::strerror(errno)));
  }
  return std::unique_ptr<PidFile>(new PidFile(path));
}

PidFile::~PidFile() { unlink(path_.c_str()); }

}  // namespace coffer::keystore
