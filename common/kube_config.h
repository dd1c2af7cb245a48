// How to reach the API server: a kubeconfig file, or what every pod finds in its own file system.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/http_client.h"
#include "common/secret_bytes.h"
#include "common/unique_fd.h"

namespace coffer {

struct KubeConfig {
  std::string server;  // https://host:port[/prefix], no "/" at the end
  TlsClientOptions tls;
  SecretBytes proxy;  // proxy-url, which goes before the environment's; may have a password
  SecretBytes token;       // or
  std::string token_file;  // read again at each request, since it is renewed in place
  // Certificates that the file holds in itself, as memory files that `tls` names by
  // /proc/self/fd/N: keys don't touch the disk.
  std::vector<UniqueFd> inline_files;
};

// The current context of a kubeconfig. InvalidArgument names the field; `exec`, auth providers, and
// proxies that aren't spoken to over http:// are refused.
absl::StatusOr<KubeConfig> LoadKubeConfig(const std::string& path);

// KUBERNETES_SERVICE_HOST and _PORT, and the ServiceAccount's files in `folder`.
// FailedPrecondition: not in a cluster.
absl::StatusOr<KubeConfig> InClusterConfig(
    std::string_view folder = "/var/run/secrets/kubernetes.io/serviceaccount");

}  // namespace coffer
