// The kubelet's plugin registration, served by the plugin itself: no sidecar.
#pragma once

#include <functional>
#include <string>

#include "proto/pluginregistration.grpc.pb.h"

namespace coffer::csi {

class RegistrationService final : public pluginregistration::Registration::CallbackService {
 public:
  // `endpoint`: the CSI socket's path as the kubelet sees it. `registered`: called when it has
  // registered the plugin.
  RegistrationService(std::string driver_name, std::string endpoint,
                      std::function<void()> registered)
      : driver_name_(std::move(driver_name)),
        endpoint_(std::move(endpoint)),
        registered_(std::move(registered)) {}

  grpc::ServerUnaryReactor* GetInfo(grpc::CallbackServerContext* context,
                                    const pluginregistration::InfoRequest* request,
                                    pluginregistration::PluginInfo* response) override;
  // A refusal is logged; the kubelet tries again by itself.
  grpc::ServerUnaryReactor* NotifyRegistrationStatus(
      grpc::CallbackServerContext* context, const pluginregistration::RegistrationStatus* request,
      pluginregistration::RegistrationStatusResponse* response) override;

 private:
  const std::string driver_name_;
  const std::string endpoint_;
  const std::function<void()> registered_;
};

}  // namespace coffer::csi
