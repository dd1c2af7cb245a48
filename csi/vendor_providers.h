// VendorProviders: other vendors' providers for secrets-store-csi-driver, reached at their sockets
// <folder>/<provider>.sock. What they answer becomes files of our volumes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "csi/volume_context.h"
#include "provider/provider.h"

namespace grpc {
class Channel;
}

namespace coffer::csi {

class VendorProviders {
 public:
  // `folders`: looked through in that order. `most_bytes`: of an answer.
  VendorProviders(std::vector<std::string> folders, int most_bytes)
      : folders_(std::move(folders)), most_bytes_(most_bytes) {}

  // `current`: the versions that the volume holds. FailedPrecondition: no such provider here, or one
  // that writes its files itself; otherwise the provider's own code. `error_type` is the upstream
  // driver's word, or the provider's. Safe on any thread.
  absl::StatusOr<provider::FetchResult> Fetch(const provider::SecretProviderClass& secret_class,
                                              const VolumeContext& context,
                                              const std::string& target,
                                              const std::vector<provider::ObjectVersion>& current,
                                              absl::Time deadline, std::string* error_type);

 private:
  // Channels stay: they connect again by themselves when a provider restarts.
  absl::StatusOr<std::shared_ptr<grpc::Channel>> ChannelTo(const std::string& provider);

  const std::vector<std::string> folders_;
  const int most_bytes_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_;  // by socket
};

}  // namespace coffer::csi
