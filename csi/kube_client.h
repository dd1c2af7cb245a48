// KubeClient: requests to the Kubernetes API server, with the plugin's own identity.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/http_client.h"
#include "common/json.h"
#include "common/kube_config.h"

namespace coffer::csi {

class KubeClient {
 public:
  explicit KubeClient(KubeConfig config);

  // The message of an error says method, path, server and the API server's reason. Aborted: a
  // conflict, OutOfRange: an expired resource version (410). Safe on any thread, all of these.
  absl::StatusOr<Json> Get(std::string_view path, absl::Time deadline);
  absl::StatusOr<Json> Post(std::string_view path, const Json& body, absl::Time deadline);
  // A JSON merge patch (RFC 7386).
  absl::StatusOr<Json> Patch(std::string_view path, const Json& body, absl::Time deadline);
  // Only the object of that uid; of that resource version too, where one is given.
  absl::Status Delete(std::string_view path, std::string_view uid, std::string_view version,
                      absl::Time deadline);

  // Hands each event of a watch to `on_event`, as {"type", "object"}, until the API server ends it
  // (OK) or fails. Errors in the stream become statuses, so 410 is OutOfRange. `on_event` gets null
  // when the watch stands and about once a second; false ends it (Cancelled).
  absl::Status Watch(std::string_view path, const std::function<bool(const Json& event)>& on_event);

  const std::string& server() const { return config_.server; }

 private:
  absl::StatusOr<SecretBytes> Authorization() const;
  absl::StatusOr<Json> Call(std::string_view method, std::string_view path, const Json* body,
                            std::string_view content_type, absl::Time deadline);
  absl::StatusOr<HttpResponse> Send(HttpRequest request, const std::string& what);

  const KubeConfig config_;
  const std::unique_ptr<HttpTransport> transport_;
};

}  // namespace coffer::csi
