// sanity-kubelet: stands between csi-sanity and coffer-csi and adds what the kubelet adds.
// csi-sanity knows only volumes that a controller has made and publishes them for writing; Coffer's
// are written into a pod's spec, with the pod's facts and token in the volume context and readOnly
// set. So this program makes such volumes where csi-sanity calls CreateVolume, says readonly at
// publish, and hands every Identity and Node call on to the plugin, whose answers go back
// unchanged.
//
//   sanity-kubelet --endpoint=/a.sock --plugin=/csi.sock --token-file=FILE
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "proto/csi.grpc.pb.h"
#include "sanity/controller.grpc.pb.h"

namespace {

using grpc::ServerContext;
using grpc::Status;
using grpc::StatusCode;

// The pod's entries of a volume context.
std::map<std::string, std::string> PodContext(const std::string& token_file) {
  std::ifstream file(token_file);
  std::string token;
  file >> token;
  const nlohmann::json tokens = {{"vault", {{"token", token}}}};
  return {{"csi.storage.k8s.io/ephemeral", "true"},
          {"csi.storage.k8s.io/pod.name", "sanity"},
          {"csi.storage.k8s.io/pod.namespace", "default"},
          {"csi.storage.k8s.io/pod.uid", "0b1a5de0-0000-4000-8000-000000000001"},
          {"csi.storage.k8s.io/serviceAccount.name", "vault"},
          {"csi.storage.k8s.io/serviceAccount.tokens", tokens.dump()}};
}

class Controller final : public csi::v1::Controller::Service {
 public:
  explicit Controller(std::string token_file) : token_file_(std::move(token_file)) {}

  Status CreateVolume(ServerContext*, const csi::v1::CreateVolumeRequest* request,
                      csi::v1::CreateVolumeResponse* response) override {
    if (request->name().empty() || request->volume_capabilities().empty()) {
      return Status(StatusCode::INVALID_ARGUMENT, "name and capabilities are needed");
    }
    std::lock_guard lock(mutex_);
    csi::v1::Volume& volume = volumes_[request->name()];
    const std::int64_t bytes = request->capacity_range().required_bytes();
    if (!volume.volume_id().empty() && volume.capacity_bytes() != bytes) {
      return Status(StatusCode::ALREADY_EXISTS, "with another capacity");
    }
    if (volume.volume_id().empty()) volume.set_volume_id("csi-" + std::to_string(++last_));
    volume.set_capacity_bytes(bytes);
    for (const auto& [key, value] : PodContext(token_file_)) {
      (*volume.mutable_volume_context())[key] = value;
    }
    for (const auto& [key, value] : request->parameters()) {
      (*volume.mutable_volume_context())[key] = value;
    }
    *response->mutable_volume() = volume;
    return Status::OK;
  }

  Status DeleteVolume(ServerContext*, const csi::v1::DeleteVolumeRequest* request,
                      csi::v1::DeleteVolumeResponse*) override {
    if (request->volume_id().empty()) return Status(StatusCode::INVALID_ARGUMENT, "no volume id");
    std::lock_guard lock(mutex_);
    std::erase_if(volumes_, [&](const auto& entry) {
      return entry.second.volume_id() == request->volume_id();
    });
    return Status::OK;
  }

  Status ValidateVolumeCapabilities(
      ServerContext*, const csi::v1::ValidateVolumeCapabilitiesRequest* request,
      csi::v1::ValidateVolumeCapabilitiesResponse* response) override {
    if (request->volume_id().empty() || request->volume_capabilities().empty()) {
      return Status(StatusCode::INVALID_ARGUMENT, "volume id and capabilities are needed");
    }
    std::lock_guard lock(mutex_);
    for (const auto& [name, volume] : volumes_) {
      if (volume.volume_id() != request->volume_id()) continue;
      *response->mutable_confirmed()->mutable_volume_capabilities() =
          request->volume_capabilities();
      return Status::OK;
    }
    return Status(StatusCode::NOT_FOUND, "no such volume");
  }

  Status ControllerGetCapabilities(ServerContext*, const csi::v1::ControllerGetCapabilitiesRequest*,
                                   csi::v1::ControllerGetCapabilitiesResponse* response) override {
    response->add_capabilities()->mutable_rpc()->set_type(
        csi::v1::ControllerServiceCapability::RPC::CREATE_DELETE_VOLUME);
    return Status::OK;
  }

 private:
  const std::string token_file_;
  std::mutex mutex_;
  std::map<std::string, csi::v1::Volume> volumes_;  // by name
  int last_ = 0;
};

class Identity final : public csi::v1::Identity::Service {
 public:
  explicit Identity(const std::shared_ptr<grpc::Channel>& plugin)
      : plugin_(csi::v1::Identity::NewStub(plugin)) {}

  Status GetPluginInfo(ServerContext*, const csi::v1::GetPluginInfoRequest* request,
                       csi::v1::GetPluginInfoResponse* response) override {
    grpc::ClientContext context;
    return plugin_->GetPluginInfo(&context, *request, response);
  }
  Status GetPluginCapabilities(ServerContext*, const csi::v1::GetPluginCapabilitiesRequest* request,
                               csi::v1::GetPluginCapabilitiesResponse* response) override {
    grpc::ClientContext context;
    const Status status = plugin_->GetPluginCapabilities(&context, *request, response);
    response->add_capabilities()->mutable_service()->set_type(
        csi::v1::PluginCapability::Service::CONTROLLER_SERVICE);
    return status;
  }
  Status Probe(ServerContext*, const csi::v1::ProbeRequest* request,
               csi::v1::ProbeResponse* response) override {
    grpc::ClientContext context;
    return plugin_->Probe(&context, *request, response);
  }

 private:
  const std::unique_ptr<csi::v1::Identity::Stub> plugin_;
};

// Hands a Node call on.
#define FORWARD(call)                                                \
  Status call(ServerContext*, const csi::v1::call##Request* request, \
              csi::v1::call##Response* response) override {          \
    grpc::ClientContext context;                                     \
    return plugin_->call(&context, *request, response);              \
  }

class Node final : public csi::v1::Node::Service {
 public:
  explicit Node(const std::shared_ptr<grpc::Channel>& plugin)
      : plugin_(csi::v1::Node::NewStub(plugin)) {}

  Status NodePublishVolume(ServerContext*, const csi::v1::NodePublishVolumeRequest* request,
                           csi::v1::NodePublishVolumeResponse* response) override {
    csi::v1::NodePublishVolumeRequest with_readonly = *request;
    with_readonly.set_readonly(true);
    grpc::ClientContext context;
    return plugin_->NodePublishVolume(&context, with_readonly, response);
  }
  FORWARD(NodeUnpublishVolume)
  FORWARD(NodeStageVolume)
  FORWARD(NodeUnstageVolume)
  FORWARD(NodeGetVolumeStats)
  FORWARD(NodeGetCapabilities)
  FORWARD(NodeGetInfo)

 private:
  const std::unique_ptr<csi::v1::Node::Stub> plugin_;
};

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> flags;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::size_t equals = argument.find('=');
    if (argument.rfind("--", 0) == 0 && equals != std::string::npos) {
      flags[argument.substr(2, equals - 2)] = argument.substr(equals + 1);
    }
  }
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);

  const auto plugin =
      grpc::CreateChannel("unix:" + flags["plugin"], grpc::InsecureChannelCredentials());
  Identity identity(plugin);
  Controller controller(flags["token-file"]);
  Node node(plugin);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + flags["endpoint"], grpc::InsecureServerCredentials());
  builder.RegisterService(&identity);
  builder.RegisterService(&controller);
  builder.RegisterService(&node);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    std::fprintf(stderr, "sanity-kubelet: can't listen on %s\n", flags["endpoint"].c_str());
    return 1;
  }
  int signal_number = 0;
  sigwait(&stop, &signal_number);
  server->Shutdown();
  return 0;
}
