// The parts of the keystore that its configuration decides on.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "keystore/config/config.h"
#include "keystore/core/mount_entry.h"
#include "keystore/http/http_server.h"
#include "keystore/storage/store.h"
#include "keystore/system/metrics_routes.h"

namespace coffer::keystore {

// Errors name the storage's type and folder.
absl::StatusOr<std::unique_ptr<Store>> OpenStore(const StorageConfig& config);

// Of one of the configuration's listeners.
ListenerOptions ListenerOptionsFor(const ServerConfig& server, const ListenerConfig& config);

LeaseTtls LeaseTtlsFor(const ServerConfig& server);

MetricsOptions MetricsOptionsFor(const ServerConfig& server);

// Holds a file with the process's id, which goes with it.
class PidFile {
 public:
  // "": none.
  static absl::StatusOr<std::unique_ptr<PidFile>> Write(const std::string& path);
  ~PidFile();

 private:
  explicit PidFile(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

}  // namespace coffer::keystore
