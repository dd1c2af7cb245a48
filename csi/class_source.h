// Where SecretProviderClasses come from: the API server, or a folder of YAML files where there is
// no cluster.
#pragma once

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "provider/provider.h"

namespace coffer::csi {

class KubeClient;

class ClassSource {
 public:
  virtual ~ClassSource() = default;
  // NotFound: no such class; InvalidArgument: it is there but can't be read, by field;
  // PermissionDenied, Unavailable: the API server's word. Safe on any thread.
  virtual absl::StatusOr<provider::SecretProviderClass> Get(std::string_view kubernetes_namespace,
                                                            std::string_view name,
                                                            absl::Time deadline) = 0;
};

// Every *.yaml, *.yml and *.json file of the folder, several documents a file. What has changed
// since is read again at each Get. FailedPrecondition: two files define the same class.
std::unique_ptr<ClassSource> MakeDirectoryClassSource(std::string_view folder);

// Asks the API server, which `client` (kept by the caller) reaches.
std::unique_ptr<ClassSource> MakeClusterClassSource(KubeClient& client);

}  // namespace coffer::csi
