// SecretProviderClasses of the kinds that vault-csi-provider documents, whole, as a cluster has
// them: each is read, fetched from a server that speaks Vault's answers, and yields the files that
// its documentation promises.
#include <map>
#include <mutex>

#include "common/http_client_test_server.h"
#include "provider/class_document.h"
#include "provider/parameters.h"

namespace coffer::provider {
namespace {

struct Vault {
  std::mutex mutex;
  std::map<std::string, int> calls;  // "METHOD path body"
  std::string login;                 // mount, role, namespace, JWT
  TestHttpServer server{[this](const TestHttpRequest& request) { return Answer(request); }};

  std::string Answer(const TestHttpRequest& request) {
    std::lock_guard lock(mutex);
    const std::string target(request.target());
    if (target.ends_with("/login")) {
      const Json body = *ParseJson(request.body);
      const auto text = [&body](const char* name) {
        return std::string(std::string_view(body[name].get_ref<const SecretString&>()));
      };
      login = StrCat(target.substr(4), " ", text("role"), " ", text("jwt"), " ",
                     request.header("X-Vault-Namespace"));
      return TestHttpAnswer(200, R"({"auth":{"client_token":"hvs.t","lease_duration":3600}})");
    }
    const std::string call = StrCat(request.method(), " ", target, request.body.empty() ? "" : " ",
                                    request.body);
    const int times = ++calls[call];
    static const auto* answers = new std::map<std::string, std::string>{
        {"GET /v1/secret/data/db-pass",
         R"({"data":{"data":{"password":"db-secret-password"},"metadata":{"version":1}}})"},
        {"GET /v1/secret/data/kv1",
         R"({"data":{"data":{"bar1":"hello1","nested":{"a":1}},"metadata":{"version":1}}})"},
        {"GET /v1/secret/data/kv2", R"({"data":{"data":{"bar2":"aGVsbG8y"},"metadata":{}}})"},
        {"GET /v1/kv/app", R"({"lease_duration":2764800,"data":{"bar":"one"}})"},
        {R"(PUT /v1/pki/issue/example-dot-com {"common_name":"test.example.com","ttl":"24h"})",
         R"({"request_id":"r","lease_id":"","data":{"certificate":"CERT","private_key":"KEY"}})"},
        {R"(POST /v1/transit/random {"bytes":4,"format":"hex"})",
         R"({"data":{"random_bytes":"68657921"}})"},
    };
    if (target == "/v1/database/creds/db-app") {
      return TestHttpAnswer(200, StrCat(R"({"lease_id":"l","lease_duration":3600,"data":)",
                                        R"({"username":"v-)", times, R"(","password":"p-)", times,
                                        R"("}})"));
    }
    const auto found = answers->find(call);
    return found == answers->end() ? TestHttpAnswer(404, R"({"errors":[]})")
                                   : TestHttpAnswer(200, found->second);
  }
};

struct Example {
  const char* what;
  std::string_view spec;  // of the class; ADDRESS stands for the server's
  std::map<std::string, std::string> files;
  std::map<std::string, std::uint32_t> modes = {};  // where not 0644
  std::string_view login = "auth/kubernetes/login app vault-jwt ";
  std::string_view version = "v1";
};

const Example kExamples[] = {
    {"one secret of kv version 2", R"(
  provider: vault
  parameters:
    vaultAddress: "ADDRESS"
    roleName: "app"
    objects: |
      - objectName: "db-password"
        secretPath: "secret/data/db-pass"
        secretKey: "password"
)",
     {{"db-password", "db-secret-password"}}},
    {"dynamic database credentials, whose user and password belong together", R"(
  provider: vault
  parameters:
    vaultAddress: ADDRESS
    roleName: 'app'
    objects: |
      - objectName: "dbUsername"
        secretPath: "database/creds/db-app"
        secretKey: "username"
      - objectName: "dbPassword"
        secretPath: "database/creds/db-app"
        secretKey: "password"
)",
     {{"dbUsername", "v-1"}, {"dbPassword", "p-1"}}, {}, "auth/kubernetes/login app vault-jwt ",
     "v1alpha1"},
    {"the same as environment variables through a Secret", R"(
  provider: vault
  secretObjects:
  - data:
    - key: username
      objectName: dbUsername
    - key: password
      objectName: dbPassword
    secretName: vault-db-creds-secret
    type: Opaque
  parameters:
    vaultAddress: ADDRESS
    roleName: 'app'
    objects: |
      - objectName: "dbUsername"
        secretPath: "database/creds/db-app"
        secretKey: "username"
      - objectName: "dbPassword"
        secretPath: "database/creds/db-app"
        secretKey: "password"
)",
     {{"dbUsername", "v-1"}, {"dbPassword", "p-1"}}},
    {"the whole response of a certificate's issue", R"(
  provider: vault
  parameters:
    vaultAddress: ADDRESS
    roleName: app
    audience: "vault"
    # no secretKey: the response as JSON
    objects: |
      - objectName: "certs"
        secretPath: "pki/issue/example-dot-com"
        secretArgs:
          common_name: "test.example.com"
          ttl: "24h"
        method: "PUT"
)",
     {{"certs",
       R"({"data":{"certificate":"CERT","private_key":"KEY"},"lease_id":"","request_id":""})"}},
     {}, "auth/kubernetes/login app vault-jwt "},
    {"permissions and encodings", R"(
  provider: vault
  parameters:
    vaultAddress: ADDRESS
    roleName: app
    objects: |
      - objectName: "secret-1"
        secretPath: "secret/data/kv1"
        secretKey: "bar1"
        filePermission: 0624
      - objectName: "secret-2"
        secretPath: "/secret/data/kv2"
        secretKey: "bar2"
        encoding: "base64"
        filePermission: 0400
      - objectName: random
        secretPath: v1/transit/random
        method: POST
        secretArgs:
          bytes: 4
          format: hex
        secretKey: random_bytes
        encoding: hex
      - objectName: nested
        secretPath: secret/data/kv1
        secretKey: nested
)",
     {{"secret-1", "hello1"}, {"secret-2", "hello2"}, {"random", "hey!"}, {"nested", R"({"a":1})"}},
     {{"secret-1", 0624}, {"secret-2", 0400}}},
    {"a namespace, and an older parameter for the auth mount", R"(
  provider: vault
  parameters:
    vaultAddress: ADDRESS
    vaultNamespace: "acceptance"
    vaultKubernetesMountPath: "my-kubernetes"
    vaultSkipTLSVerify: "true"
    roleName: "app"
    objects: |
      - secretPath: "kv/app"
        objectName: "bar"
        secretKey: "bar"
)",
     {{"bar", "one"}}, {}, "auth/my-kubernetes/login app vault-jwt acceptance"},
    {"the jwt auth method with an audience of its own", R"(
  provider: vault
  parameters:
    vaultAddress: ADDRESS
    roleName: "app"
    vaultAuthMountPath: "jwt"
    audience: "vault"
    objects: |
      - objectName: "secret-1"
        secretPath: "secret/data/kv1"
        secretKey: "bar1"
        filePermission: 0644
)",
     {{"secret-1", "hello1"}}, {}, "auth/jwt/login app vault-jwt "},
    {"the auth block, and a file in a folder", R"(
  provider: vault
  parameters:
    vaultAddress: ADDRESS
    roleName: "app"
    auth: |-
      type: jwt # or kubernetes
      mouthPath: jwt
    objects: |
      - objectName: "app/secret-1"
        secretPath: "secret/data/kv1"
        secretKey: "bar1"
)",
     {{"app/secret-1", "hello1"}}, {}, "auth/jwt/login app vault-jwt "},
};

std::string Document(const Example& example, const std::string& address) {
  std::string spec(example.spec);
  spec.replace(spec.find("ADDRESS"), 7, address);
  return StrCat("apiVersion: secrets-store.csi.x-k8s.io/", example.version,
                "\nkind: SecretProviderClass\nmetadata:\n  name: example\nspec:", spec);
}

TEST_CASE("vault-csi-provider's documented classes yield the documented files") {
  for (const Example& example : kExamples) {
    INFO(example.what);
    Vault vault;
    const auto classes = ReadClasses(Document(example, vault.server.address()));
    INFO(classes.status());
    REQUIRE(classes.ok());
    REQUIRE(classes->size() == 1);
    ManualClock clock;
    Workers workers(4, absl::Milliseconds(50));
    Provider provider(clock, workers, {});
    const SessionPtr session = NewSession();
    Pod pod{.name = "web", .kubernetes_namespace = "default", .uid = "u", .service_account = "app"};
    pod.tokens.emplace("", SecretBytes::CopyOf("pod-jwt"));
    pod.tokens.emplace("vault", SecretBytes::CopyOf("vault-jwt"));
    const auto fetched =
        provider.Fetch(classes->front(), pod, *session, clock.Now() + absl::Seconds(120));
    INFO(fetched.status());
    REQUIRE(fetched.ok());
    std::map<std::string, std::string> files;
    for (const File& file : fetched->files) {
      files[file.path] = file.content.view();
      const auto mode = example.modes.find(file.path);
      CHECK(file.mode == (mode == example.modes.end() ? 0644u : mode->second));
    }
    CHECK(files == example.files);
    CHECK(fetched->versions.size() == files.size());
    CHECK(vault.login == example.login);
    for (const auto& [call, times] : vault.calls) CHECK(times == 1);
  }
}

}  // namespace
}  // namespace coffer::provider
