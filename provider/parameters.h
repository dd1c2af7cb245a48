// The `spec.parameters` of a SecretProviderClass, checked: those of vault-csi-provider.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/http_client.h"
#include "common/json.h"
#include "provider/provider.h"

namespace coffer::provider {

// Which keystore, and as whom.
struct Login {
  std::string address;          // scheme://host[:port][/prefix], no "/" at the end
  std::string vault_namespace;  // "" = none
  std::string auth_mount;       // no "/" at the ends
  std::string role;
  std::string audience;  // "" = not named: the pod's only token
  TlsClientOptions tls;
};

// One text for all that makes a login what it is: equal texts may share a token.
std::string LoginKey(const Login& login);
std::string TlsKey(const TlsClientOptions& tls);

enum class Encoding { kUtf8, kHex, kBase64 };

// One entry of `objects`.
struct Object {
  std::string name;            // the file
  std::string path;            // below /v1/
  std::string query;           // what came after "?" in secretPath
  std::string key;             // "" = the whole response as JSON
  std::string method = "GET";  // GET, POST or PUT
  Json args;                   // the request's body, null = none
  std::uint32_t mode = 0644;
  Encoding encoding = Encoding::kUtf8;
};

struct Parameters {
  Login login;
  std::vector<Object> objects;  // at least one, names all different
};

// InvalidArgument names the class and the field.
absl::StatusOr<Parameters> ParseParameters(const SecretProviderClass& secret_class,
                                           const Defaults& defaults);

}  // namespace coffer::provider
