// Where SecretProviderClasses come from: the API server, or a folder of YAML files where there is
// no cluster.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "csi/secret_objects.h"
#include "csi/steady_time.h"
#include "provider/provider.h"

namespace coffer::csi {

class KubeClient;

// A SecretProviderClass as the node plugin needs it: what the provider reads, and spec.secretObjects.
struct ClassObject : provider::SecretProviderClass {
  std::vector<SecretObject> secret_objects;
};

// Of the API server's JSON. InvalidArgument names the field.
absl::StatusOr<ClassObject> ReadClassObject(const Json& object);

class ClassSource {
 public:
  virtual ~ClassSource() = default;
  // NotFound: no such class; InvalidArgument: it is there but can't be read, by field;
  // PermissionDenied, Unavailable: the API server's word. Safe on any thread.
  virtual absl::StatusOr<ClassObject> Get(std::string_view kubernetes_namespace,
                                          std::string_view name, absl::Time deadline) = 0;
  // Unavailable: no class can be had at all, and why.
  virtual absl::Status Ready() { return absl::OkStatus(); }
};

// Every *.yaml, *.yml and *.json file of the folder, several documents a file. What has changed
// since is read again at each Get. FailedPrecondition: two files define the same class; a second one
// that was written in place is noticed once anything else changes.
std::unique_ptr<ClassSource> MakeDirectoryClassSource(std::string_view folder);

// The API server's, which `client` (kept by the caller) reaches: each class is asked for once, and
// kept up to date by a watch from then on, so that publishing asks nobody and works while the API
// server is away. One that nobody has asked for in an hour, so that no pod here uses it, is dropped.
// Where the plugin may not watch, each Get asks.
std::unique_ptr<ClassSource> MakeClusterClassSource(
    KubeClient& client, SteadyNow now = std::chrono::steady_clock::now);

}  // namespace coffer::csi
