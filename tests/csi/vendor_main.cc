// coffer-test-vendor: a vendor's provider for the tests, which answers what a file says.
//
//   coffer-test-vendor SOCKET ANSWER REQUESTS
//
//   ANSWER, read at each Mount:   {"status": gRPC code, "message", "error": code,
//                                  "files": [{"path", "mode", "contents"}],
//                                  "versions": [{"id", "version"}]}
//   REQUESTS gets a JSON line each: {"attributes", "secrets", "target_path", "permission",
//                                    "versions": [{"id", "version"}]}
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "proto/secretsstore.grpc.pb.h"

namespace {

using nlohmann::json;

class Vendor final : public v1alpha1::CSIDriverProvider::Service {
 public:
  Vendor(std::string answer, std::string requests)
      : answer_(std::move(answer)), requests_(std::move(requests)) {}

  grpc::Status Version(grpc::ServerContext*, const v1alpha1::VersionRequest*,
                       v1alpha1::VersionResponse* response) override {
    response->set_version("v1alpha1");
    response->set_runtime_name("bank");
    return grpc::Status::OK;
  }

  grpc::Status Mount(grpc::ServerContext*, const v1alpha1::MountRequest* request,
                     v1alpha1::MountResponse* response) override {
    json seen = {{"attributes", json::parse(request->attributes())},
                 {"secrets", json::parse(request->secrets())},
                 {"target_path", request->target_path()},
                 {"permission", request->permission()},
                 {"versions", json::array()}};
    for (const auto& version : request->current_object_version()) {
      seen["versions"].push_back({{"id", version.id()}, {"version", version.version()}});
    }
    std::ofstream(requests_, std::ios::app) << seen.dump() << std::endl;

    const json answer = json::parse(std::ifstream(answer_));
    response->mutable_error()->set_code(answer.value("error", ""));
    for (const json& file : answer.value("files", json::array())) {
      v1alpha1::File* added = response->add_files();
      added->set_path(file["path"]);
      added->set_mode(file["mode"]);
      added->set_contents(file["contents"].get<std::string>());
    }
    for (const json& version : answer.value("versions", json::array())) {
      v1alpha1::ObjectVersion* added = response->add_object_version();
      added->set_id(version["id"]);
      added->set_version(version["version"]);
    }
    return {static_cast<grpc::StatusCode>(answer.value("status", 0)), answer.value("message", "")};
  }

 private:
  const std::string answer_;
  const std::string requests_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: coffer-test-vendor SOCKET ANSWER REQUESTS\n");
    return 2;
  }
  Vendor vendor(argv[2], argv[3]);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + std::string(argv[1]), grpc::InsecureServerCredentials());
  builder.RegisterService(&vendor);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  server->Wait();
}
