// spec.secretObjects of a SecretProviderClass: which files of a volume are copied into Kubernetes
// Secrets, and what these then hold.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "provider/provider.h"

namespace coffer::csi {

struct SecretObject {
  std::string name;
  std::string type = "Opaque";
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> annotations;
  std::vector<std::pair<std::string, std::string>> data;  // key in the Secret, file of the volume
};

// Of a whole SecretProviderClass object; none where it has none. InvalidArgument names the field.
absl::StatusOr<std::vector<SecretObject>> ReadSecretObjects(const Json& secret_class);

// One Secret's content, or why there is none, by field.
struct SecretPayload {
  SecretObject object;
  absl::Status status;
  Json data;  // base64 by key
};

// Of type kubernetes.io/tls the key tls.crt takes a file's certificates and tls.key its private key,
// as in the upstream driver, so that both may come from one PEM bundle.
std::vector<SecretPayload> FillSecretObjects(const std::vector<SecretObject>& objects,
                                             const std::vector<provider::File>& files);

}  // namespace coffer::csi
