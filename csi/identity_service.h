// The CSI Identity service.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "proto/csi.grpc.pb.h"

namespace coffer::csi {

class IdentityService final : public ::csi::v1::Identity::CallbackService {
 public:
  // `ready` tells whether volumes can be published; called at each Probe.
  IdentityService(std::string driver_name, std::function<absl::Status()> ready)
      : driver_name_(std::move(driver_name)), ready_(std::move(ready)) {}

  grpc::ServerUnaryReactor* GetPluginInfo(grpc::CallbackServerContext* context,
                                          const ::csi::v1::GetPluginInfoRequest* request,
                                          ::csi::v1::GetPluginInfoResponse* response) override;
  // None: volumes are made by NodePublishVolume alone, so there is no controller.
  grpc::ServerUnaryReactor* GetPluginCapabilities(
      grpc::CallbackServerContext* context, const ::csi::v1::GetPluginCapabilitiesRequest* request,
      ::csi::v1::GetPluginCapabilitiesResponse* response) override;
  grpc::ServerUnaryReactor* Probe(grpc::CallbackServerContext* context,
                                  const ::csi::v1::ProbeRequest* request,
                                  ::csi::v1::ProbeResponse* response) override;

 private:
  const std::string driver_name_;
  const std::function<absl::Status()> ready_;
};

}  // namespace coffer::csi
