// Another vendor's provider, in this process but over its socket; and Coffer as one, asked through
// the same client that the upstream driver's protocol has here.
#include <grpcpp/grpcpp.h>
#include <sys/stat.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "common/http_client_test_server.h"
#include "csi/provider_service.h"
#include "csi/socket_server.h"
#include "csi/vendor_providers.h"

namespace coffer::csi {
namespace {

namespace fs = std::filesystem;

class FakeVendor final : public v1alpha1::CSIDriverProvider::Service {
 public:
  grpc::Status Mount(grpc::ServerContext*, const v1alpha1::MountRequest* request,
                     v1alpha1::MountResponse* response) override {
    last = *request;
    if (!status.ok()) return status;
    *response = answer;
    return grpc::Status::OK;
  }
  grpc::Status status;
  v1alpha1::MountRequest last;
  v1alpha1::MountResponse answer;
};

struct Folder {
  Folder() {
    char name[] = "/tmp/coffer-vendor.XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { fs::remove_all(path); }
  std::string path;
};

VolumeContext Context() {
  VolumeContext context{.secret_class = "c",
                        .pod = {.name = "web",
                                .kubernetes_namespace = "shop",
                                .uid = "u",
                                .service_account = "vault"},
                        .attributes = {{"secretProviderClass", "c"},
                                       {"csi.storage.k8s.io/pod.name", "web"},
                                       {"csi.storage.k8s.io/pod.namespace", "shop"},
                                       {"csi.storage.k8s.io/pod.uid", "u"},
                                       {"csi.storage.k8s.io/serviceAccount.name", "vault"}},
                        .expirations = {{"", "2026-01-01T00:00:00Z"}}};
  context.pod.tokens.emplace("", SecretBytes::CopyOf("jwt"));
  return context;
}

provider::SecretProviderClass Class(const std::string& provider,
                                    std::map<std::string, std::string> parameters = {{"p", "v"}}) {
  provider::SecretProviderClass secret_class;
  secret_class.name = "c";
  secret_class.kubernetes_namespace = "shop";
  secret_class.provider = provider;
  secret_class.parameters = std::move(parameters);
  return secret_class;
}

absl::Time Soon() { return absl::Now() + absl::Seconds(10); }

TEST_CASE("a vendor's provider is asked as the upstream driver asks, and its files are taken") {
  Folder first, second;
  FakeVendor vendor;
  const auto server = SocketServer::Start({second.path + "/azure.sock"}, {&vendor});
  REQUIRE(server.ok());
  VendorProviders vendors({first.path, second.path}, 4 << 20);
  for (const auto& [path, mode] : {std::pair("b/key", 0600), std::pair("a", 0444)}) {
    v1alpha1::File* file = vendor.answer.add_files();
    file->set_path(path);
    file->set_mode(mode);
    file->set_contents(StrCat("content of ", path));
  }
  v1alpha1::ObjectVersion* version = vendor.answer.add_object_version();
  version->set_id("secret/a");
  version->set_version("2");
  VolumeContext context = Context();
  context.secrets = SecretBytes::CopyOf(R"({"clientid":"x"})");
  std::string error_type;
  const auto fetched =
      vendors.Fetch(Class("azure"), context, "/t", {{"secret/a", "1"}}, Soon(), &error_type);
  REQUIRE(fetched.status() == absl::OkStatus());
  REQUIRE(fetched->files.size() == 2);
  CHECK(fetched->files[0].path == "a");
  CHECK(fetched->files[0].content.view() == "content of a");
  CHECK(fetched->files[1].mode == 0600);
  CHECK(fetched->versions.front().version == "2");
  CHECK(vendor.last.target_path() == "/t");
  CHECK(vendor.last.permission() == "420");
  CHECK(vendor.last.secrets() == R"({"clientid":"x"})");
  CHECK(vendor.last.current_object_version(0).version() == "1");
  const auto attributes = ParseJson(vendor.last.attributes());
  REQUIRE(attributes.ok());
  CHECK((*attributes)["p"] == "v");
  CHECK((*attributes)["csi.storage.k8s.io/pod.name"] == "web");
  CHECK((*attributes)["csi.storage.k8s.io/serviceAccount.tokens"] ==
        R"({"":{"expirationTimestamp":"2026-01-01T00:00:00Z","token":"jwt"}})");
}

TEST_CASE("what a vendor's provider answers wrongly, or not at all, is an error with its word") {
  Folder folder;
  FakeVendor vendor;
  VendorProviders vendors({folder.path}, 1 << 20);
  std::string error_type;
  const auto fetch = [&](const std::string& name) {
    return vendors.Fetch(Class(name), Context(), "/t", {}, Soon(), &error_type).status();
  };
  for (const char* name : {"../etc/x", "", "a.b", "a-name-of-more-than-thirty-characters"}) {
    CHECK(absl::IsInvalidArgument(fetch(name)));
  }
  const absl::Status missing = fetch("gcp");
  CHECK(absl::IsFailedPrecondition(missing));
  CHECK(error_type == "FailedToLookupProviderGRPCClient");
  CHECK_THAT(std::string(Message(missing)),
             Catch::Contains("there is no socket " + folder.path + "/gcp.sock"));

  const auto server = SocketServer::Start({folder.path + "/gcp.sock"}, {&vendor});
  REQUIRE(server.ok());
  CHECK_THAT(std::string(Message(fetch("gcp"))), Catch::Contains("answered no files"));
  CHECK(error_type == "GRPCProviderError");
  vendor.answer.mutable_error()->set_code("Throttled");
  CHECK(absl::IsUnavailable(fetch("gcp")));
  CHECK(error_type == "Throttled");
  vendor.answer.Clear();
  vendor.answer.add_files()->set_mode(01777);
  CHECK(absl::IsInternal(fetch("gcp")));
  vendor.answer.mutable_files(0)->set_mode(0);
  vendor.answer.mutable_files(0)->set_contents(std::string(2 << 20, 'x'));
  CHECK(absl::IsResourceExhausted(fetch("gcp")));
  vendor.status = grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "no identity");
  const absl::Status denied = fetch("gcp");
  CHECK(absl::IsPermissionDenied(denied));
  CHECK_THAT(std::string(Message(denied)),
             Catch::Contains("SecretProviderClass shop/c: spec.provider: \"gcp\" failed: no identity"));
}

TEST_CASE("a provider that is started anew is found again") {
  Folder folder;
  FakeVendor vendor;
  vendor.answer.add_files()->set_path("f");
  VendorProviders vendors({folder.path}, 1 << 20);
  std::string error_type;
  for (int i = 0; i < 3; ++i) {
    const auto server = SocketServer::Start({folder.path + "/gcp.sock"}, {&vendor});
    REQUIRE(server.ok());
    absl::Status status = absl::UnavailableError("");
    for (int tries = 0; tries < 100 && absl::IsUnavailable(status); ++tries) {
      status = vendors.Fetch(Class("gcp"), Context(), "/t", {}, Soon(), &error_type).status();
      if (!status.ok()) absl::SleepFor(absl::Milliseconds(50));
    }
    CHECK(status == absl::OkStatus());
  }
}

TEST_CASE("Coffer is a provider for the upstream driver: one login, files, versions, errors") {
  std::atomic<int> logins{0}, revoked{0}, status{200};
  TestHttpServer keystore([&](const TestHttpRequest& request) {
    if (request.target().ends_with("/revoke-self")) {
      ++revoked;
      return TestHttpAnswer(204, "");
    }
    if (request.target().find("/database/") != std::string_view::npos) {
      return TestHttpAnswer(200, R"({"lease_id":"l","lease_duration":3600,"renewable":true,
          "data":{"p":"secret"}})");
    }
    if (request.target().ends_with("/login")) {
      ++logins;
      return TestHttpAnswer(200, R"({"auth":{"client_token":"hvs.x","lease_duration":3600}})");
    }
    return TestHttpAnswer(status, R"({"data":{"data":{"p":"secret"},"metadata":
        {"version":7,"created_time":"2026-01-01T00:00:00Z"}}})");
  });
  SystemClock clock;
  provider::Workers workers{4};
  provider::Provider provider{clock, workers, provider::Provider::Options()};
  TokenRevoker revoker{clock, provider};
  SteadyTime now;
  ProviderService service(provider, revoker, workers, nullptr, [&now] { return now; });
  Folder folder;
  const auto server =
      SocketServer::Start({folder.path + "/vault.sock", folder.path + "/coffer.sock"}, {&service});
  REQUIRE(server.ok());
  VendorProviders driver({folder.path}, 4 << 20);
  std::string error_type;
  const auto mount = [&](const std::string& name,
                         std::map<std::string, std::string> parameters = {}) {
    parameters.insert({{"vaultAddress", keystore.address()},
                       {"roleName", "r"},
                       {"objects", "- {objectName: p, secretPath: kv/data/a, secretKey: p, "
                                   "filePermission: 0400}"}});
    return driver.Fetch(Class(name, std::move(parameters)), Context(), "/t", {}, Soon(),
                        &error_type);
  };
  for (const char* name : {"vault", "coffer"}) {
    const auto fetched = mount(name);
    REQUIRE(fetched.status() == absl::OkStatus());
    REQUIRE(fetched->files.size() == 1);
    CHECK(fetched->files[0].content.view() == "secret");
    CHECK(fetched->files[0].mode == 0400);
    CHECK_THAT(fetched->versions[0].version, Catch::StartsWith("7"));
  }
  CHECK(logins == 1);
  // The driver sends what the pod's volumeAttributes say beyond the class, too.
  CHECK(mount("vault", {{"volumeAttributeOfThePod", "x"}}).ok());
  // What that driver's volumes can't keep isn't left out in silence.
  for (const auto& rule : {std::pair("audit", "opens"), std::pair("allowUIDs", "1000"),
                           std::pair("owner", "1000"), std::pair("group", "1000")}) {
    const absl::Status refused = mount("vault", {{rule.first, rule.second}}).status();
    CHECK(absl::IsFailedPrecondition(refused));
    CHECK_THAT(std::string(Message(refused)), Catch::Contains("let Coffer's driver serve it"));
  }
  status = 404;
  const absl::Status missing = mount("vault").status();
  CHECK(absl::IsNotFound(missing));
  CHECK_THAT(std::string(Message(missing)), Catch::Contains("SecretProviderClass shop/c"));

  // Tokens are given back when they weren't used for long, and at the end.
  status = 200;
  const auto mount_for = [&](const std::string& uid, const std::string& path) {
    VolumeContext pod = Context();
    pod.pod.uid = uid;
    pod.attributes["csi.storage.k8s.io/pod.uid"] = uid;
    return driver
        .Fetch(Class("vault", {{"vaultAddress", keystore.address()},
                               {"roleName", "r"},
                               {"objects", StrCat("- {objectName: p, secretPath: ", path,
                                                  ", secretKey: p}")}}),
               pod, "/t", {}, Soon(), &error_type)
        .status();
  };
  const auto drained = [&] { return revoker.Drain(absl::Now() + absl::Seconds(60)); };
  REQUIRE(mount_for("leased", "database/creds/a") == absl::OkStatus());
  CHECK(drained());
  CHECK(revoked == 0);
  now += std::chrono::minutes(61);
  REQUIRE(mount_for("new", "kv/data/a") == absl::OkStatus());
  CHECK(drained());
  CHECK(revoked == 1);
  service.ForgetTokens();
  CHECK(drained());
  CHECK(revoked == 2);  // what was leased may be in use

  grpc::ClientContext call;
  v1alpha1::VersionResponse version;
  const auto channel = grpc::CreateChannel(StrCat("unix:", folder.path, "/vault.sock"),
                                           grpc::InsecureChannelCredentials());
  REQUIRE(v1alpha1::CSIDriverProvider::NewStub(channel)->Version(&call, {}, &version).ok());
  CHECK(version.version() == "v1alpha1");
  CHECK(version.runtime_name() == "coffer-csi");
}

}  // namespace
}  // namespace coffer::csi
