// The CSI Node service: checks what a request says, hands it to the Publisher on a worker's thread,
// answers with a canonical code.
#pragma once

#include <string>

#include "csi/publisher.h"
#include "proto/csi.grpc.pb.h"
#include "provider/workers.h"

namespace coffer::csi {

// What isn't overridden answers Unimplemented: staging, statistics.
class NodeService final : public ::csi::v1::Node::WithRawCallbackMethod_NodePublishVolume<
                              ::csi::v1::Node::CallbackService> {
 public:
  // All are kept by the caller. Unpublishing has workers of its own: it waits for no keystore, so
  // it mustn't stand in line behind what does.
  NodeService(std::string node_id, Publisher& publisher, provider::Workers& publish_workers,
              provider::Workers& unpublish_workers)
      : node_id_(std::move(node_id)),
        publisher_(publisher),
        publish_workers_(publish_workers),
        unpublish_workers_(unpublish_workers) {}

  // Raw, so that the tokens in what is received can be wiped.
  grpc::ServerUnaryReactor* NodePublishVolume(grpc::CallbackServerContext* context,
                                              const grpc::ByteBuffer* received,
                                              grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* NodeUnpublishVolume(
      grpc::CallbackServerContext* context, const ::csi::v1::NodeUnpublishVolumeRequest* request,
      ::csi::v1::NodeUnpublishVolumeResponse* response) override;
  // The pod's fsGroup comes with the publish, and the kubelet leaves the files' groups alone.
  grpc::ServerUnaryReactor* NodeGetCapabilities(
      grpc::CallbackServerContext* context, const ::csi::v1::NodeGetCapabilitiesRequest* request,
      ::csi::v1::NodeGetCapabilitiesResponse* response) override;
  grpc::ServerUnaryReactor* NodeGetInfo(grpc::CallbackServerContext* context,
                                        const ::csi::v1::NodeGetInfoRequest* request,
                                        ::csi::v1::NodeGetInfoResponse* response) override;

 private:
  // Wipes the request's tokens.
  absl::Status Publish(::csi::v1::NodePublishVolumeRequest& request, absl::Time deadline);

  const std::string node_id_;
  Publisher& publisher_;
  provider::Workers& publish_workers_;
  provider::Workers& unpublish_workers_;
};

}  // namespace coffer::csi
