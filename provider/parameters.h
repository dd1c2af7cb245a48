// The `spec.parameters` of a SecretProviderClass, checked: those of vault-csi-provider, and
// filePermission, owner and group for all objects.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/http_client.h"
#include "provider/objects.h"
#include "provider/provider.h"

namespace coffer::provider {

// Which keystore, and as whom.
struct Login {
  std::string address;          // scheme://host[:port][/prefix], no "/" at the end
  std::string vault_namespace;  // "" = none
  std::string auth_mount;       // no "/" at the ends
  std::string role;
  std::string audience;  // "" = not named: DefaultAudience of the pod's tokens
  TlsClientOptions tls;
};

// One text for all that makes a login what it is: equal texts may share a token.
std::string LoginKey(const Login& login);
std::string TlsKey(const TlsClientOptions& tls);

struct Parameters {
  Login login;
  std::vector<Object> objects;  // at least one, names all different
  bool audit = false;           // each open of a file is told of
  std::vector<std::string> unknown;  // fields that mean nothing, as vault-csi-provider ignores them
};

// InvalidArgument names the class and the field; of `provider: coffer`, an unknown one, too.
absl::StatusOr<Parameters> ParseParameters(const SecretProviderClass& secret_class,
                                           const Defaults& defaults);

}  // namespace coffer::provider
