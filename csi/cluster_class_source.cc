// SecretProviderClasses from the API server.
#include "common/status_macros.h"
#include "common/strings.h"
#include "csi/class_source.h"
#include "csi/kube_client.h"
#include "provider/class_document.h"

namespace coffer::csi {
namespace {

class ClusterClassSource : public ClassSource {
 public:
  explicit ClusterClassSource(KubeClient& client) : client_(client) {}

  absl::StatusOr<provider::SecretProviderClass> Get(std::string_view kubernetes_namespace,
                                                    std::string_view name,
                                                    absl::Time deadline) override {
    absl::StatusOr<Json> object = client_.Get(
        StrCat("/apis/secrets-store.csi.x-k8s.io/v1/namespaces/",
               EncodeUrlPath(kubernetes_namespace), "/secretproviderclasses/", EncodeUrlPath(name)),
        deadline);
    if (object.ok()) return provider::ReadClass(*object);
    return absl::Status(object.status().code(),
                        ToAbsl(StrCat("SecretProviderClass ", kubernetes_namespace, "/", name, ": ",
                                      Message(object.status()))));
  }

 private:
  KubeClient& client_;
};

}  // namespace

std::unique_ptr<ClassSource> MakeClusterClassSource(KubeClient& client) {
  return std::make_unique<ClusterClassSource>(client);
}

}  // namespace coffer::csi
