// coffer-csi-client: calls a CSI node plugin as the kubelet does, for tests, the demo and the
// bench.
//
//   coffer-csi-client --endpoint=unix:///…/csi.sock COMMAND [--flag=value …]
//
//   publish         --volume-id --target --class [--namespace --pod --uid --service-account
//                   --audience --token-file --readonly --access --context=key=value …]
//   unpublish       --volume-id --target
//   publish-many    as publish, --count volumes <target>/<n>, --parallel at a time, --timeout;
//   unpublish-many  prints one JSON object of microseconds. Each volume is another pod's, unless
//                   --uid is given: of --pods (a file of lines "<name> <uid> [<token>]"), or one
//                   that is made up. --classes=N: of class <class>-<n modulo N>
//   probe | info | register
//
// Prints "OK <microseconds>" or "<CODE>: <message>"; the exit code is the gRPC code.
#include <grpcpp/grpcpp.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "proto/csi.grpc.pb.h"
#include "proto/pluginregistration.grpc.pb.h"

namespace {

using std::chrono::microseconds;
using std::chrono::steady_clock;

constexpr char kExpiration[] = "2035-01-01T00:00:00Z";

const char* CodeName(grpc::StatusCode code) {
  static const char* const names[] = {"OK",
                                      "CANCELLED",
                                      "UNKNOWN",
                                      "INVALID_ARGUMENT",
                                      "DEADLINE_EXCEEDED",
                                      "NOT_FOUND",
                                      "ALREADY_EXISTS",
                                      "PERMISSION_DENIED",
                                      "RESOURCE_EXHAUSTED",
                                      "FAILED_PRECONDITION",
                                      "ABORTED",
                                      "OUT_OF_RANGE",
                                      "UNIMPLEMENTED",
                                      "INTERNAL",
                                      "UNAVAILABLE",
                                      "DATA_LOSS",
                                      "UNAUTHENTICATED"};
  return static_cast<std::size_t>(code) < std::size(names) ? names[code] : "?";
}

struct Arguments {
  std::string command;
  std::map<std::string, std::string> flags;
  std::map<std::string, std::string> context;  // --context=key=value, over what is made here

  std::string Get(const std::string& name, const std::string& otherwise = "") const {
    const auto found = flags.find(name);
    return found == flags.end() ? otherwise : found->second;
  }
};

Arguments Parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--", 0) != 0) {
      arguments.command = argument;
      continue;
    }
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(2, equals - 2);
    const std::string value = equals == std::string::npos ? "true" : argument.substr(equals + 1);
    if (name == "context") {
      const std::size_t split = value.find('=');
      arguments.context[value.substr(0, split)] =
          split == std::string::npos ? "" : value.substr(split + 1);
    } else {
      arguments.flags[name] = value;
    }
  }
  return arguments;
}

std::string ReadTrimmed(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    std::fprintf(stderr, "coffer-csi-client: can't read %s\n", path.c_str());
    std::exit(2);
  }
  std::ostringstream text;
  text << file.rdbuf();
  std::string trimmed = text.str();
  while (!trimmed.empty() && (trimmed.back() == '\n' || trimmed.back() == ' ')) trimmed.pop_back();
  return trimmed;
}

csi::v1::NodePublishVolumeRequest PublishRequest(const Arguments& arguments) {
  csi::v1::NodePublishVolumeRequest request;
  request.set_volume_id(arguments.Get("volume-id"));
  request.set_target_path(arguments.Get("target"));
  request.set_readonly(arguments.Get("readonly", "true") == "true");
  const std::string access = arguments.Get("access", "mount");
  if (access == "mount") {
    request.mutable_volume_capability()->mutable_mount()->set_volume_mount_group(
        arguments.Get("group"));
  }
  if (access == "block") request.mutable_volume_capability()->mutable_block();
  if (access != "none") {
    request.mutable_volume_capability()->mutable_access_mode()->set_mode(
        csi::v1::VolumeCapability::AccessMode::SINGLE_NODE_WRITER);
  }
  auto& context = *request.mutable_volume_context();
  context["csi.storage.k8s.io/ephemeral"] = "true";
  context["csi.storage.k8s.io/pod.name"] = arguments.Get("pod", "web");
  context["csi.storage.k8s.io/pod.namespace"] = arguments.Get("namespace", "default");
  context["csi.storage.k8s.io/pod.uid"] =
      arguments.Get("uid", "11111111-2222-3333-4444-555555555555");
  context["csi.storage.k8s.io/serviceAccount.name"] = arguments.Get("service-account", "default");
  if (const std::string token_file = arguments.Get("token-file"); !token_file.empty()) {
    const nlohmann::json tokens = {
        {arguments.Get("audience"),
         {{"token", ReadTrimmed(token_file)}, {"expirationTimestamp", kExpiration}}}};
    // --tokens-in-secrets: as a kubelet from 1.35 on where the CSIDriver asks for it.
    auto& place =
        arguments.Get("tokens-in-secrets") == "true" ? *request.mutable_secrets() : context;
    place["csi.storage.k8s.io/serviceAccount.tokens"] = tokens.dump();
  }
  context["secretProviderClass"] = arguments.Get("class");
  for (const auto& [key, value] : arguments.context) {
    if (value.empty()) {
      context.erase(key);
    } else {
      context[key] = value;
    }
  }
  return request;
}

// The requests of many volumes.
class Requests {
 public:
  explicit Requests(const Arguments& arguments) : arguments_(arguments) {
    std::ifstream file(arguments.Get("pods"));
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      Pod pod;
      words >> pod.name >> pod.uid >> pod.token;
      pods_.push_back(pod);
    }
    pattern_ = PublishRequest(arguments);
  }

  csi::v1::NodePublishVolumeRequest Of(std::size_t i) const {
    csi::v1::NodePublishVolumeRequest request = pattern_;
    auto& context = *request.mutable_volume_context();
    request.set_volume_id("csi-" + std::to_string(i));
    if (const int classes = std::stoi(arguments_.Get("classes", "0")); classes > 0) {
      context["secretProviderClass"] +=
          "-" + std::to_string(i % static_cast<std::size_t>(classes));
    }
    if (!pods_.empty()) {
      const Pod& pod = pods_[i % pods_.size()];
      context["csi.storage.k8s.io/pod.name"] = pod.name;
      context["csi.storage.k8s.io/pod.uid"] = pod.uid;
      if (!pod.token.empty()) {
        context["csi.storage.k8s.io/serviceAccount.tokens"] =
            nlohmann::json{{arguments_.Get("audience"),
                            {{"token", pod.token}, {"expirationTimestamp", kExpiration}}}}
                .dump();
      }
    } else if (arguments_.Get("uid").empty()) {
      context["csi.storage.k8s.io/pod.uid"] += "-" + std::to_string(i);
    }
    return request;
  }

 private:
  struct Pod {
    std::string name, uid, token;
  };

  const Arguments& arguments_;
  std::vector<Pod> pods_;
  csi::v1::NodePublishVolumeRequest pattern_;
};

class Client {
 public:
  explicit Client(const Arguments& arguments) : arguments_(arguments) {
    std::string endpoint = arguments.Get("endpoint");
    if (endpoint.rfind("unix://", 0) == 0) endpoint.erase(5, 2);
    channel_ = grpc::CreateChannel(endpoint, grpc::InsecureChannelCredentials());
    node_ = csi::v1::Node::NewStub(channel_);
  }

  grpc::Status Publish(const csi::v1::NodePublishVolumeRequest& request) {
    csi::v1::NodePublishVolumeResponse response;
    return node_->NodePublishVolume(Context().get(), request, &response);
  }

  grpc::Status Unpublish(const std::string& volume_id, const std::string& target) {
    csi::v1::NodeUnpublishVolumeRequest request;
    request.set_volume_id(volume_id);
    request.set_target_path(target);
    csi::v1::NodeUnpublishVolumeResponse response;
    return node_->NodeUnpublishVolume(Context().get(), request, &response);
  }

  grpc::Status Probe() {
    csi::v1::ProbeResponse response;
    const auto status = csi::v1::Identity::NewStub(channel_)->Probe(Context().get(), {}, &response);
    if (status.ok()) std::printf("ready: %s\n", response.ready().value() ? "true" : "false");
    return status;
  }

  grpc::Status Info() {
    csi::v1::GetPluginInfoResponse plugin;
    grpc::Status status =
        csi::v1::Identity::NewStub(channel_)->GetPluginInfo(Context().get(), {}, &plugin);
    if (!status.ok()) return status;
    csi::v1::NodeGetInfoResponse node;
    status = node_->NodeGetInfo(Context().get(), {}, &node);
    if (status.ok()) {
      std::printf("name: %s\nversion: %s\nnode: %s\n", plugin.name().c_str(),
                  plugin.vendor_version().c_str(), node.node_id().c_str());
    }
    return status;
  }

  // What the kubelet does with a socket that appears in its plugins_registry.
  grpc::Status Register() {
    const auto stub = pluginregistration::Registration::NewStub(channel_);
    pluginregistration::PluginInfo info;
    grpc::Status status = stub->GetInfo(Context().get(), {}, &info);
    if (!status.ok()) return status;
    std::printf("type: %s\nname: %s\nendpoint: %s\nversions: %s\n", info.type().c_str(),
                info.name().c_str(), info.endpoint().c_str(),
                info.supported_versions_size() > 0 ? info.supported_versions(0).c_str() : "");
    pluginregistration::RegistrationStatus registered;
    registered.set_plugin_registered(true);
    pluginregistration::RegistrationStatusResponse response;
    return stub->NotifyRegistrationStatus(Context().get(), registered, &response);
  }

  // `call` for volume 0..count-1, `parallel` at a time; all microseconds, and the first error.
  grpc::Status Many(bool publish) {
    const int count = std::stoi(arguments_.Get("count", "110"));
    const int parallel = std::stoi(arguments_.Get("parallel", "1"));
    const std::string root = arguments_.Get("target");
    const Requests many(arguments_);
    std::vector<std::int64_t> times(static_cast<std::size_t>(count));
    std::atomic<int> next{0}, failed{0};
    std::mutex mutex;
    grpc::Status first_error;
    const auto started = steady_clock::now();
    std::vector<std::thread> threads;
    for (int t = 0; t < parallel; ++t) {
      threads.emplace_back([&] {
        for (int i = next++; i < count; i = next++) {
          csi::v1::NodePublishVolumeRequest request = many.Of(static_cast<std::size_t>(i));
          const std::string folder = root + "/" + std::to_string(i);
          mkdir(folder.c_str(), 0750);  // the kubelet makes the folder above the target
          request.set_target_path(folder + "/mount");
          const auto start = steady_clock::now();
          const grpc::Status status =
              publish ? Publish(request) : Unpublish(request.volume_id(), request.target_path());
          times[static_cast<std::size_t>(i)] =
              std::chrono::duration_cast<microseconds>(steady_clock::now() - start).count();
          if (!status.ok()) {
            ++failed;
            std::lock_guard lock(mutex);
            if (first_error.ok()) first_error = status;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    const auto total = std::chrono::duration_cast<microseconds>(steady_clock::now() - started);
    std::sort(times.begin(), times.end());
    const nlohmann::json result = {{"count", count},
                                   {"parallel", parallel},
                                   {"failed", failed.load()},
                                   {"total_us", total.count()},
                                   {"median_us", times[times.size() / 2]},
                                   {"p99_us", times[times.size() * 99 / 100]},
                                   {"max_us", times.back()}};
    std::printf("%s\n", result.dump().c_str());
    return first_error;
  }

 private:
  std::unique_ptr<grpc::ClientContext> Context() const {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(std::stoi(arguments_.Get("timeout", "120"))));
    return context;
  }

  const Arguments& arguments_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<csi::v1::Node::Stub> node_;
};

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = Parse(argc, argv);
  Client client(arguments);
  const auto start = steady_clock::now();
  grpc::Status status(grpc::StatusCode::UNIMPLEMENTED, "no such command: " + arguments.command);
  if (arguments.command == "publish") {
    status = client.Publish(PublishRequest(arguments));
  } else if (arguments.command == "unpublish") {
    status = client.Unpublish(arguments.Get("volume-id"), arguments.Get("target"));
  } else if (arguments.command == "publish-many") {
    status = client.Many(true);
  } else if (arguments.command == "unpublish-many") {
    status = client.Many(false);
  } else if (arguments.command == "probe") {
    status = client.Probe();
  } else if (arguments.command == "info") {
    status = client.Info();
  } else if (arguments.command == "register") {
    status = client.Register();
  }
  const auto time = std::chrono::duration_cast<microseconds>(steady_clock::now() - start);
  if (status.ok()) {
    std::printf("OK %lld\n", static_cast<long long>(time.count()));
  } else {
    std::printf("%s: %s\n", CodeName(status.error_code()), status.error_message().c_str());
  }
  return status.error_code();
}
