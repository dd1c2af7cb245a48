#include "csi/node_service.h"

#include <algorithm>
#include <memory>

#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "csi/grpc_status.h"
#include "csi/received_message.h"
#include "csi/volume_context.h"

namespace coffer::csi {
namespace {

using ::csi::v1::NodePublishVolumeRequest;
using ::csi::v1::NodeUnpublishVolumeRequest;

// The CSI specification's limit for most strings.
constexpr std::size_t kMostIdBytes = 128;
// What a publish may take where the caller sets no deadline; the kubelet gives two minutes.
constexpr absl::Duration kLongestPublish = absl::Seconds(110);

// Ours is a little earlier than the caller's, so that the answer says what took so long.
absl::Time DeadlineOf(const grpc::CallbackServerContext& context, absl::Time now) {
  const absl::Time callers = absl::FromChrono(context.deadline());
  if (callers - now > kLongestPublish) return now + kLongestPublish;
  return callers - std::min((callers - now) / 10, absl::Seconds(1));
}

absl::Status CheckVolumeId(const std::string& id) {
  if (id.empty()) return absl::InvalidArgumentError("volume id is missing");
  if (id.size() > kMostIdBytes) {
    return absl::InvalidArgumentError(StrCat("volume id is longer than ", kMostIdBytes, " bytes"));
  }
  // It becomes a mount's source, which /proc/self/mountinfo shows.
  if (std::any_of(id.begin(), id.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; })) {
    return absl::InvalidArgumentError("volume id has a control character in it");
  }
  return absl::OkStatus();
}

absl::Status CheckPublish(const NodePublishVolumeRequest& request) {
  RETURN_IF_ERROR(CheckVolumeId(request.volume_id()));
  if (request.target_path().empty()) return absl::InvalidArgumentError("target path is missing");
  if (!request.has_volume_capability()) {
    return absl::InvalidArgumentError("volume capability is missing");
  }
  if (!request.volume_capability().has_mount()) {
    return absl::InvalidArgumentError("volume capability: the access type must be mount");
  }
  if (!request.readonly()) {
    return absl::InvalidArgumentError(
        "readonly must be true: set readOnly: true on the pod's csi volume");
  }
  return absl::OkStatus();
}

// What another vendor's provider is sent.
void KeepForVendors(const NodePublishVolumeRequest& request, VolumeContext* context) {
  for (const auto& [name, value] : request.volume_context()) {
    if (name != kTokensKey) context->attributes.emplace(name, value);
  }
  Json secrets = Json::object();
  for (const auto& [name, value] : request.secrets()) {
    if (name != kTokensKey) secrets[SecretString(name)] = SecretString(value);
  }
  if (!secrets.empty()) context->secrets = DumpJson(secrets);
}

absl::StatusOr<VolumeContext> ReadRequest(const NodePublishVolumeRequest& request) {
  RETURN_IF_ERROR(CheckPublish(request));
  ASSIGN_OR_RETURN(VolumeContext context,
                   ReadVolumeContext([&request](const std::string& key) -> std::string_view {
                     const auto found = request.volume_context().find(key);
                     if (found != request.volume_context().end()) return found->second;
                     // Where a CSIDriver says serviceAccountTokenInSecrets (Kubernetes 1.35 and
                     // later).
                     const auto secret = request.secrets().find(key);
                     const bool tokens = key == kTokensKey && secret != request.secrets().end();
                     return tokens ? secret->second : std::string_view();
                   }));
  RETURN_IF_ERROR(
      ReadMountGroup(request.volume_capability().mount().volume_mount_group(), &context));
  KeepForVendors(request, &context);
  return context;
}

// Tokens come as plain strings in the request, which nobody reads again.
void WipeTokens(NodePublishVolumeRequest& request) {
  auto& context = *request.mutable_volume_context();
  if (const auto found = context.find(kTokensKey); found != context.end()) Wipe(&found->second);
  for (auto& [key, value] : *request.mutable_secrets()) Wipe(&value);
}

}  // namespace

absl::Status NodeService::Publish(NodePublishVolumeRequest& request, absl::Time deadline) {
  absl::StatusOr<VolumeContext> context = ReadRequest(request);
  WipeTokens(request);
  RETURN_IF_ERROR(context.status());
  return publisher_.Publish(request.volume_id(), request.target_path(), *context, deadline);
}

grpc::ServerUnaryReactor* NodeService::NodePublishVolume(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* received,
                                                         grpc::ByteBuffer* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Time deadline = DeadlineOf(*context, absl::Now());
  const auto request = std::make_shared<NodePublishVolumeRequest>();
  if (const absl::Status read = ReadAndWipe(*received, request.get()); !read.ok()) {
    reactor->Finish(ToGrpc(read));
    return reactor;
  }
  *response = grpc::ByteBuffer(nullptr, 0);  // a NodePublishVolumeResponse has no fields
  publish_workers_.Submit(
      [this, reactor, request, deadline] { reactor->Finish(ToGrpc(Publish(*request, deadline))); });
  return reactor;
}

grpc::ServerUnaryReactor* NodeService::NodeUnpublishVolume(
    grpc::CallbackServerContext* context, const NodeUnpublishVolumeRequest* request,
    ::csi::v1::NodeUnpublishVolumeResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  unpublish_workers_.Submit([this, reactor, request] {
    absl::Status unpublished = CheckVolumeId(request->volume_id());
    if (unpublished.ok()) {
      unpublished = publisher_.Unpublish(request->volume_id(), request->target_path());
    }
    reactor->Finish(ToGrpc(unpublished));
  });
  return reactor;
}

grpc::ServerUnaryReactor* NodeService::NodeGetCapabilities(
    grpc::CallbackServerContext* context, const ::csi::v1::NodeGetCapabilitiesRequest*,
    ::csi::v1::NodeGetCapabilitiesResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  response->add_capabilities()->mutable_rpc()->set_type(
      ::csi::v1::NodeServiceCapability::RPC::VOLUME_MOUNT_GROUP);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* NodeService::NodeGetInfo(grpc::CallbackServerContext* context,
                                                   const ::csi::v1::NodeGetInfoRequest*,
                                                   ::csi::v1::NodeGetInfoResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  response->set_node_id(node_id_);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace coffer::csi
