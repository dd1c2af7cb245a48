// ProviderService: Coffer as a provider for the upstream driver, at vault.sock and coffer.sock in its
// providers' folder.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "csi/pod_tokens.h"
#include "csi/steady_time.h"
#include "csi/token_revoker.h"
#include "proto/secretsstore.grpc.pb.h"
#include "provider/provider.h"
#include "provider/workers.h"

namespace coffer::csi {

class ProviderService final : public v1alpha1::CSIDriverProvider::WithRawCallbackMethod_Mount<
                                  v1alpha1::CSIDriverProvider::CallbackService> {
 public:
  // All are kept by the caller. `tokens` may be null: the driver must send them then.
  ProviderService(provider::Provider& provider, TokenRevoker& revoker, provider::Workers& workers,
                  PodTokens* tokens, SteadyNow now = std::chrono::steady_clock::now)
      : provider_(provider),
        revoker_(revoker),
        workers_(workers),
        tokens_(tokens),
        now_(std::move(now)) {}

  grpc::ServerUnaryReactor* Version(grpc::CallbackServerContext* context,
                                    const v1alpha1::VersionRequest* request,
                                    v1alpha1::VersionResponse* response) override;
  // Logs in as the pod, reads, answers with the files and their versions. `received` and
  // `response`: a MountRequest and a MountResponse.
  grpc::ServerUnaryReactor* Mount(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* received,
                                  grpc::ByteBuffer* response) override;

  // Has all tokens given back, but those that something was leased with: pods may use it still, and it
  // ends with its TTL.
  void ForgetTokens();

 private:
  // The driver doesn't say when a volume is gone: a token is kept for the next Mount of the same
  // one, and given back when none came for an hour, or when there are too many.
  struct Kept {
    provider::SessionPtr session;
    SteadyTime used;
  };

  absl::Status MountFor(const v1alpha1::MountRequest& request, absl::Time deadline,
                        v1alpha1::MountResponse* response);
  provider::SessionPtr Take(const std::string& key);
  void Keep(const std::string& key, provider::SessionPtr session);
  void ForgetTokensUsedBefore(SteadyTime time);  // under mutex_

  provider::Provider& provider_;
  TokenRevoker& revoker_;
  provider::Workers& workers_;
  PodTokens* const tokens_;
  const SteadyNow now_;
  std::mutex mutex_;
  std::map<std::string, Kept> kept_;  // by pod's uid and target
};

}  // namespace coffer::csi
