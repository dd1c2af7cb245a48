// ApiServer: what a login asks the Kubernetes API server: whose a token is (TokenReview), and the
// labels and annotations of namespaces and ServiceAccounts. Directly, never through a proxy.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/http_client.h"

namespace coffer::keystore {

// What the kubelet puts into every pod.
struct PodFiles {
  std::string token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
  std::string ca = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
};

// A ServiceAccount as the API server knows it.
struct ReviewedAccount {
  std::string name;
  std::string name_space;
  std::string uid;
};

class ApiServer {
 public:
  // `host`: "https://10.0.0.1:443". `ca_pem`: "" = the pod's CA file, else the system's CAs.
  // `reviewer_token`: empty = the pod's own, read anew for each call, else the client's.
  ApiServer(std::string host, std::string ca_pem, SecretBytes reviewer_token, bool use_pod_files,
            PodFiles pod_files);

  // Whose `token` is. `audiences`: it must be meant for one of them; none = the API server. Waits.
  // PermissionDenied: it isn't valid, or no ServiceAccount's, or the reviewer may not ask;
  // Unavailable: the API server can't be reached or answers nonsense.
  absl::StatusOr<ReviewedAccount> Review(std::string_view token,
                                         const std::vector<std::string>& audiences);

  using Texts = std::map<std::string, std::string, std::less<>>;
  // With the reviewer's token; FailedPrecondition where there is none. Wait.
  absl::StatusOr<Texts> NamespaceLabels(std::string_view name_space);
  absl::StatusOr<Texts> AccountAnnotations(std::string_view name_space, std::string_view name);

  // The configured or the pod's own token; empty where there is neither.
  SecretBytes ReviewerToken() const;
  // The TLS options towards the API server.
  static TlsClientOptions Tls(std::string ca_pem, bool use_pod_files, const PodFiles& pod_files);

 private:
  absl::StatusOr<HttpResponse> Send(std::string method, std::string path, std::string_view bearer,
                                    SecretBytes body);
  absl::StatusOr<Texts> MetadataOf(std::string path, std::string_view member,
                                   std::string_view what);

  const std::string host_;
  const SecretBytes reviewer_token_;
  const bool use_pod_files_;
  const PodFiles pod_files_;
  const std::unique_ptr<HttpTransport> transport_;
};

}  // namespace coffer::keystore
