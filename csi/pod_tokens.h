// PodTokens: tokens of pods' ServiceAccounts from the TokenRequest API, for when the kubelet sends
// none (a CSIDriver object without tokenRequests, or without the audience that a class names).
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "common/clock.h"
#include "csi/kube_client.h"
#include "provider/provider.h"

namespace coffer::csi {

class PodTokens {
 public:
  // Both are kept by the caller.
  PodTokens(KubeClient& client, const Clock& clock) : client_(client), clock_(clock) {}

  // Makes sure that `pod` has a token of that audience ("" = the API server's own). Tokens are bound
  // to the pod, live ten minutes and are used again for eight of them. The API server's word
  // otherwise. Safe on any thread.
  absl::Status Complete(const std::string& audience, provider::Pod* pod, absl::Time deadline);

 private:
  struct Token {
    SecretBytes text;
    absl::Time use_until;
  };

  KubeClient& client_;
  const Clock& clock_;
  std::mutex mutex_;
  std::map<std::string, Token> tokens_;  // by pod's uid and audience
};

}  // namespace coffer::csi
