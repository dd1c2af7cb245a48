#include "csi/identity_service.h"

#include "common/log.h"
#include "csi/version.h"

namespace coffer::csi {
namespace {

grpc::ServerUnaryReactor* Done(grpc::CallbackServerContext* context) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* IdentityService::GetPluginInfo(
    grpc::CallbackServerContext* context, const ::csi::v1::GetPluginInfoRequest*,
    ::csi::v1::GetPluginInfoResponse* response) {
  response->set_name(driver_name_);
  response->set_vendor_version(kVersion);
  return Done(context);
}

grpc::ServerUnaryReactor* IdentityService::GetPluginCapabilities(
    grpc::CallbackServerContext* context, const ::csi::v1::GetPluginCapabilitiesRequest*,
    ::csi::v1::GetPluginCapabilitiesResponse*) {
  return Done(context);
}

grpc::ServerUnaryReactor* IdentityService::Probe(grpc::CallbackServerContext* context,
                                                 const ::csi::v1::ProbeRequest*,
                                                 ::csi::v1::ProbeResponse* response) {
  const absl::Status ready = ready_();
  if (!ready.ok()) log::Warning("not ready", {{"error", ready}});
  response->mutable_ready()->set_value(ready.ok());
  return Done(context);
}

}  // namespace coffer::csi
