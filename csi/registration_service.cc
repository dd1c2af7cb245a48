#include "csi/registration_service.h"

#include "common/log.h"

namespace coffer::csi {

grpc::ServerUnaryReactor* RegistrationService::GetInfo(grpc::CallbackServerContext* context,
                                                       const pluginregistration::InfoRequest*,
                                                       pluginregistration::PluginInfo* response) {
  response->set_type("CSIPlugin");
  response->set_name(driver_name_);
  response->set_endpoint(endpoint_);
  response->add_supported_versions("1.0.0");
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* RegistrationService::NotifyRegistrationStatus(
    grpc::CallbackServerContext* context, const pluginregistration::RegistrationStatus* request,
    pluginregistration::RegistrationStatusResponse*) {
  if (request->plugin_registered()) {
    log::Info("registered with the kubelet", {{"driver", driver_name_}});
    registered_();
  } else {
    log::Error("the kubelet refused the registration; if another driver has this name on the node, "
               "uninstall it or give this one another (--driver-name, csi.driverName in the chart)",
               {{"driver", driver_name_}, {"error", request->error()}});
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace coffer::csi
