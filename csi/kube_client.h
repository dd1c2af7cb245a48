// KubeClient: requests to the Kubernetes API server, with the plugin's own identity.
#pragma once

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/http_client.h"
#include "common/json.h"
#include "csi/kube_config.h"

namespace coffer::csi {

class KubeClient {
 public:
  explicit KubeClient(KubeConfig config);

  // GET of an absolute path. The message of an error says path, server and the API server's reason.
  // Safe on any thread.
  absl::StatusOr<Json> Get(std::string_view path, absl::Time deadline);

  const std::string& server() const { return config_.server; }

 private:
  absl::StatusOr<SecretBytes> Authorization() const;

  const KubeConfig config_;
  const std::unique_ptr<HttpTransport> transport_;
};

}  // namespace coffer::csi
