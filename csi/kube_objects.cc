#include "csi/kube_objects.h"

#include <sys/stat.h>

#include <algorithm>

#include "common/json_members.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

constexpr char kStatusApi[] = "/apis/secrets-store.csi.x-k8s.io/v1";
constexpr char kNodeLabel[] = "internal.secrets-store.csi.k8s.io/node-name";
constexpr char kManagedLabel[] = "secrets-store.csi.k8s.io/managed";
constexpr char kStartupTaint[] = "secrets-store.csi.k8s.io/agent-not-ready";
constexpr char kComponent[] = "csi-secrets-store";

SecretString S(std::string_view text) { return SecretString(text); }

Json Owner(const PodVolume& volume) {
  return {{"apiVersion", "v1"},
          {"kind", "Pod"},
          {"name", S(volume.pod)},
          {"uid", S(volume.pod_uid)}};
}

Json Texts(const std::map<std::string, std::string>& texts) {
  Json object = Json::object();
  for (const auto& [name, text] : texts) object[S(name)] = S(text);
  return object;
}

std::string StatusesPath(std::string_view kubernetes_namespace) {
  return StrCat(kStatusApi, "/namespaces/", EncodeUrlPath(kubernetes_namespace),
                "/secretproviderclasspodstatuses");
}

std::string SecretPath(const PodVolume& volume, std::string_view name) {
  return StrCat("/api/v1/namespaces/", EncodeUrlPath(volume.kubernetes_namespace), "/secrets/",
                EncodeUrlPath(name));
}

// The members of `wanted` that `there` lacks or has otherwise, and with `exactly` nulls for what
// `there` has beyond them: a merge patch.
Json Difference(const Json& wanted, const Json& there, bool exactly) {
  Json patch = Json::object();
  for (const auto& [name, value] : wanted.items()) {
    if (!there.is_object() || !there.contains(name) || there[name] != value) patch[name] = value;
  }
  if (!exactly || !there.is_object()) return patch;
  for (const auto& [name, value] : there.items()) {
    if (!wanted.contains(name)) patch[name] = nullptr;
  }
  return patch;
}

}  // namespace

std::string PodStatusName(const PodVolume& volume) {
  return StrCat(volume.pod, "-", volume.kubernetes_namespace, "-", volume.secret_class);
}

absl::Status WritePodStatus(KubeClient& client, const std::string& node, const PodVolume& volume,
                            absl::Time deadline) {
  std::vector<provider::ObjectVersion> versions = volume.versions;
  std::sort(versions.begin(), versions.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  Json objects = Json::array();
  for (const provider::ObjectVersion& version : versions) {
    objects.push_back({{"id", S(version.id)}, {"version", S(version.version)}});
  }
  const std::string name = PodStatusName(volume);
  Json body = {{"apiVersion", "secrets-store.csi.x-k8s.io/v1"},
               {"kind", "SecretProviderClassPodStatus"},
               {"metadata",
                {{"name", S(name)},
                 {"namespace", S(volume.kubernetes_namespace)},
                 {"labels", {{kNodeLabel, S(node)}}},
                 {"ownerReferences", Json::array({Owner(volume)})}}},
               {"status",
                {{"podName", S(volume.pod)},
                 {"secretProviderClassName", S(volume.secret_class)},
                 {"mounted", true},
                 {"targetPath", S(volume.target)},
                 {"objects", std::move(objects)}}}};
  if (volume.fs_group) body["status"]["fsGroup"] = S(StrCat(*volume.fs_group));
  const std::string folder = StatusesPath(volume.kubernetes_namespace);
  const absl::Status posted = client.Post(folder, body, deadline).status();
  if (!absl::IsAborted(posted)) return posted;
  // Of a pod of that name before.
  if (!volume.fs_group) body["status"]["fsGroup"] = nullptr;  // the patch takes it away
  return client.Patch(StrCat(folder, "/", EncodeUrlPath(name)), body, deadline).status();
}

absl::Status DeletePodStatus(KubeClient& client, const PodVolume& volume, absl::Time deadline) {
  const std::string path = StrCat(StatusesPath(volume.kubernetes_namespace), "/",
                                  EncodeUrlPath(PodStatusName(volume)));
  const absl::StatusOr<Json> there = client.Get(path, deadline);
  if (!there.ok()) return absl::IsNotFound(there.status()) ? absl::OkStatus() : there.status();
  if (TextAt(At(*there, "status"), "targetPath") != volume.target) return absl::OkStatus();
  const Json& metadata = At(*there, "metadata");
  const absl::Status deleted = client.Delete(path, TextAt(metadata, "uid"),
                                             TextAt(metadata, "resourceVersion"), deadline);
  return absl::IsNotFound(deleted) ? absl::OkStatus() : deleted;
}

absl::Status DeleteLeftPodStatuses(KubeClient& client, const std::string& node,
                                   absl::Time deadline) {
  ASSIGN_OR_RETURN(const Json list,
                   client.Get(StrCat(kStatusApi, "/secretproviderclasspodstatuses?labelSelector=",
                                     EncodeUrlQuery(StrCat(kNodeLabel, "=", node))),
                              deadline));
  for (const Json& item : At(list, "items")) {
    const Json& metadata = At(item, "metadata");
    const std::string target(TextAt(At(item, "status"), "targetPath"));
    struct stat facts = {};
    // A mount that nobody serves isn't gone: its volume is published again.
    if (target.empty() || stat(target.c_str(), &facts) == 0 || errno != ENOENT) continue;
    const std::string path = StrCat(StatusesPath(TextAt(metadata, "namespace")), "/",
                                    EncodeUrlPath(TextAt(metadata, "name")));
    // Changed since: it tells of another volume.
    const absl::Status deleted = client.Delete(path, TextAt(metadata, "uid"),
                                               TextAt(metadata, "resourceVersion"), deadline);
    if (!absl::IsNotFound(deleted) && !absl::IsAborted(deleted)) RETURN_IF_ERROR(deleted);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> WriteSecret(KubeClient& client, const PodVolume& volume,
                                 const SecretPayload& secret, absl::Time deadline) {
  const std::string path = SecretPath(volume, secret.object.name);
  Json labels = Texts(secret.object.labels);
  labels[kManagedLabel] = "true";
  const Json annotations = Texts(secret.object.annotations);
  absl::StatusOr<Json> there = client.Get(path, deadline);
  if (absl::IsNotFound(there.status())) {
    const Json body = {{"apiVersion", "v1"},
                       {"kind", "Secret"},
                       {"type", S(secret.object.type)},
                       {"metadata",
                        {{"name", S(secret.object.name)},
                         {"namespace", S(volume.kubernetes_namespace)},
                         {"labels", labels},
                         {"annotations", annotations},
                         {"ownerReferences", Json::array({Owner(volume)})}}},
                       {"data", secret.data}};
    RETURN_IF_ERROR(client.Post(path.substr(0, path.rfind('/')), body, deadline).status());
    return true;
  }
  RETURN_IF_ERROR(there.status());
  const Json& metadata = At(*there, "metadata");
  const std::string name = StrCat("Secret ", volume.kubernetes_namespace, "/", secret.object.name);
  if (TextAt(At(metadata, "labels"), kManagedLabel) != "true") {
    return absl::FailedPreconditionError(
        StrCat(name, " is there and wasn't made by this driver (it has no label ", kManagedLabel,
               "=true): delete it or choose another secretName"));
  }
  if (TextAt(*there, "type") != secret.object.type) {
    return absl::FailedPreconditionError(StrCat(name, " is there with type ", TextAt(*there, "type"),
                                                " and the class says ", secret.object.type,
                                                ", which can't be changed: delete it"));
  }
  Json owners = At(metadata, "ownerReferences");
  if (!owners.is_array()) owners = Json::array();
  const bool owned = std::any_of(owners.begin(), owners.end(), [&](const Json& owner) {
    return TextAt(owner, "uid") == volume.pod_uid;
  });
  Json data = Difference(secret.data, At(*there, "data"), true);
  Json label_changes = Difference(labels, At(metadata, "labels"), false);
  Json annotation_changes = Difference(annotations, At(metadata, "annotations"), false);
  if (owned && data.empty() && label_changes.empty() && annotation_changes.empty()) return false;
  if (!owned) owners.push_back(Owner(volume));
  const Json patch = {{"metadata",
                       {{"resourceVersion", S(TextAt(metadata, "resourceVersion"))},
                        {"labels", std::move(label_changes)},
                        {"annotations", std::move(annotation_changes)},
                        {"ownerReferences", std::move(owners)}}},
                      {"data", std::move(data)}};
  RETURN_IF_ERROR(client.Patch(path, patch, deadline).status());
  return true;
}

absl::Status ReleaseSecret(KubeClient& client, const PodVolume& volume, const std::string& name,
                           absl::Time deadline) {
  const std::string path = SecretPath(volume, name);
  const absl::StatusOr<Json> there = client.Get(path, deadline);
  if (!there.ok()) return absl::IsNotFound(there.status()) ? absl::OkStatus() : there.status();
  const Json& metadata = At(*there, "metadata");
  if (TextAt(At(metadata, "labels"), kManagedLabel) != "true") return absl::OkStatus();
  const Json& owners = At(metadata, "ownerReferences");
  Json others = Json::array();
  for (const Json& owner : owners) {
    if (TextAt(owner, "uid") != volume.pod_uid) others.push_back(owner);
  }
  if (others.size() == owners.size()) return absl::OkStatus();
  const std::string_view version = TextAt(metadata, "resourceVersion");
  if (others.empty()) {  // a conflict means a new owner: looked at again
    const absl::Status deleted = client.Delete(path, TextAt(metadata, "uid"), version, deadline);
    return absl::IsNotFound(deleted) ? absl::OkStatus() : deleted;
  }
  const Json patch = {{"metadata", {{"resourceVersion", S(version)},
                                    {"ownerReferences", std::move(others)}}}};
  return client.Patch(path, patch, deadline).status();
}

absl::Status RemoveStartupTaint(KubeClient& client, const std::string& node, absl::Time deadline) {
  const std::string path = StrCat("/api/v1/nodes/", EncodeUrlPath(node));
  ASSIGN_OR_RETURN(const Json there, client.Get(path, deadline));
  const Json& taints = At(At(there, "spec"), "taints");
  Json others = Json::array();
  for (const Json& taint : taints) {
    if (TextAt(taint, "key") != kStartupTaint) others.push_back(taint);
  }
  if (others.size() == taints.size()) return absl::OkStatus();
  const std::string_view version = TextAt(At(there, "metadata"), "resourceVersion");
  const Json patch = {{"metadata", {{"resourceVersion", S(version)}}},
                      {"spec", {{"taints", std::move(others)}}}};
  RETURN_IF_ERROR(client.Patch(path, patch, deadline).status());
  log::Info("startup taint removed: pods with volumes may come", {{"node", node}});
  return absl::OkStatus();
}

absl::Status WriteEvent(KubeClient& client, const std::string& node, const PodEvent& event,
                        absl::Time deadline) {
  const auto time = [](absl::Time t) {
    return S(absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", t, absl::UTCTimeZone()));
  };
  const std::string folder =
      StrCat("/api/v1/namespaces/", EncodeUrlPath(event.kubernetes_namespace), "/events");
  if (event.count > 1) {
    const Json patch = {{"count", event.count}, {"lastTimestamp", time(event.last)}};
    const absl::Status patched =
        client.Patch(StrCat(folder, "/", EncodeUrlPath(event.name)), patch, deadline).status();
    if (!absl::IsNotFound(patched)) return patched;  // else its hour is over
  }
  const Json body = {{"apiVersion", "v1"},
                     {"kind", "Event"},
                     {"metadata",
                      {{"name", S(event.name)}, {"namespace", S(event.kubernetes_namespace)}}},
                     {"involvedObject",
                      {{"apiVersion", "v1"},
                       {"kind", "Pod"},
                       {"namespace", S(event.kubernetes_namespace)},
                       {"name", S(event.pod)},
                       {"uid", S(event.pod_uid)}}},
                     {"type", event.warning ? "Warning" : "Normal"},
                     {"reason", S(event.reason)},
                     {"message", S(event.message.substr(0, 1000))},
                     {"source", {{"component", kComponent}, {"host", S(node)}}},
                     {"reportingComponent", kComponent},
                     {"reportingInstance", S(node)},
                     {"firstTimestamp", time(event.first)},
                     {"lastTimestamp", time(event.last)},
                     {"count", event.count}};
  const absl::Status posted = client.Post(folder, body, deadline).status();
  return absl::IsAborted(posted) ? absl::OkStatus() : posted;  // written, the answer was lost
}

}  // namespace coffer::csi
