// The Kubernetes objects that tell of volumes, as secrets-store-csi-driver writes them: one
// SecretProviderClassPodStatus a volume, Secrets of spec.secretObjects, Events on pods. Each function
// does one write, whatever is there before.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "csi/kube_client.h"
#include "csi/secret_objects.h"
#include "provider/provider.h"

namespace coffer::csi {

// A volume's pod, and what is in the volume.
struct PodVolume {
  std::string kubernetes_namespace;
  std::string pod;
  std::string pod_uid;
  std::string secret_class;
  std::string target;
  std::vector<provider::ObjectVersion> versions;
  std::optional<std::uint32_t> fs_group = std::nullopt;
};

// <pod>-<namespace>-<class>
std::string PodStatusName(const PodVolume& volume);

// Makes the status or brings it up to date.
absl::Status WritePodStatus(KubeClient& client, const std::string& node, const PodVolume& volume,
                            absl::Time deadline);
// OK where it isn't there or tells of another volume by now: that of a pod of the same name, as
// StatefulSets have, which takes the object over as it is. Aborted: changed meanwhile; try again.
absl::Status DeletePodStatus(KubeClient& client, const PodVolume& volume, absl::Time deadline);
// Deletes this node's statuses of volumes whose target isn't there any longer.
absl::Status DeleteLeftPodStatuses(KubeClient& client, const std::string& node,
                                   absl::Time deadline);

// Makes the Secret or brings it up to date, owned by the pod among others. FailedPrecondition: it is
// there, but not ours, or of another type. True: something was written.
absl::StatusOr<bool> WriteSecret(KubeClient& client, const PodVolume& volume,
                                 const SecretPayload& secret, absl::Time deadline);
// Takes the pod from the Secret's owners; the last one takes the Secret with it.
absl::Status ReleaseSecret(KubeClient& client, const PodVolume& volume, const std::string& name,
                           absl::Time deadline);

// Takes the taint secrets-store.csi.k8s.io/agent-not-ready from the node. Aborted: its taints changed
// meanwhile; try again. OK where there is none.
absl::Status RemoveStartupTaint(KubeClient& client, const std::string& node, absl::Time deadline);

struct PodEvent {
  std::string name;  // of the Event object
  std::string kubernetes_namespace;
  std::string pod;
  std::string pod_uid;
  bool warning = false;
  std::string reason;
  std::string message;
  absl::Time first;
  absl::Time last;
  int count = 1;
};
// Makes the Event, or where it is there raises its count.
absl::Status WriteEvent(KubeClient& client, const std::string& node, const PodEvent& event,
                        absl::Time deadline);

}  // namespace coffer::csi
