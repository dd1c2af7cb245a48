// PodTokens: tokens of pods' ServiceAccounts from the TokenRequest API, for when the kubelet sends
// none (a CSIDriver object without tokenRequests, or without the audience that a class names).
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "csi/kube_client.h"
#include "csi/steady_time.h"
#include "csi/volume_context.h"

namespace coffer::csi {

class PodTokens {
 public:
  // `client` is kept by the caller.
  explicit PodTokens(KubeClient& client, SteadyNow now = std::chrono::steady_clock::now)
      : client_(client), now_(std::move(now)) {}

  // Makes sure that the pod has the token that a class with that `audience` logs in with. "" = not
  // named: the audience is chosen among those that the kubelet sent, also of tokens that have ended
  // and were dropped, else the API server's own. Tokens are bound to the pod, live ten minutes and
  // are used again for eight of them. The API server's word otherwise. Safe on any thread.
  absl::Status Complete(const std::string& audience, VolumeContext* context, absl::Time deadline);
  // For another vendor's class: the tokens of all audiences that the kubelet sent, and of the named
  // one, as far as they are granted. Which it needs its provider knows.
  void CompleteAll(const std::string& audience, VolumeContext* context, absl::Time deadline);

 private:
  struct Token {
    SecretBytes text;
    std::string expiration;
    SteadyTime use_until;
  };

  absl::Status Get(const std::string& audience, VolumeContext* context, absl::Time deadline);

  KubeClient& client_;
  const SteadyNow now_;
  std::mutex mutex_;
  std::map<std::string, Token> tokens_;  // by pod's uid and audience
};

}  // namespace coffer::csi
