#include "csi/pod_tokens.h"

#include "common/http_client.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

constexpr int kLifetimeSeconds = 600;  // the least that the API grants
constexpr absl::Duration kUse = absl::Seconds(480);

Json RequestFor(const std::string& audience, const provider::Pod& pod) {
  Json audiences = Json::array();
  if (!audience.empty()) audiences.push_back(SecretString(audience));
  return {{"apiVersion", "authentication.k8s.io/v1"},
          {"kind", "TokenRequest"},
          {"spec",
           {{"audiences", std::move(audiences)},
            {"expirationSeconds", kLifetimeSeconds},
            {"boundObjectRef",
             {{"apiVersion", "v1"},
              {"kind", "Pod"},
              {"name", SecretString(pod.name)},
              {"uid", SecretString(pod.uid)}}}}}};
}

}  // namespace

absl::Status PodTokens::Complete(const std::string& audience, provider::Pod* pod,
                                 absl::Time deadline) {
  // Without an audience the pod's only token is taken, whichever it is.
  if (pod->tokens.contains(audience) || (audience.empty() && pod->tokens.size() == 1)) {
    return absl::OkStatus();
  }
  const std::string key = StrCat(pod->uid, " ", audience);
  {
    std::lock_guard lock(mutex_);
    std::erase_if(tokens_, [now = clock_.Now()](const auto& t) { return t.second.use_until <= now; });
    if (const auto kept = tokens_.find(key); kept != tokens_.end()) {
      pod->tokens.emplace(audience, kept->second.text.Copy());
      return absl::OkStatus();
    }
  }
  const absl::StatusOr<Json> answer =
      client_.Post(StrCat("/api/v1/namespaces/", EncodeUrlPath(pod->kubernetes_namespace),
                          "/serviceaccounts/", EncodeUrlPath(pod->service_account), "/token"),
                   RequestFor(audience, *pod), deadline);
  if (!answer.ok()) {
    return absl::Status(
        absl::IsNotFound(answer.status()) ? absl::StatusCode::kFailedPrecondition
                                          : answer.status().code(),
        ToAbsl(StrCat("the kubelet sent no token of audience \"", audience, "\" for pod ",
                      pod->kubernetes_namespace, "/", pod->name,
                      ", and the TokenRequest API gave none: ", Message(answer.status()),
                      ": list the audience in the CSIDriver's tokenRequests")));
  }
  const auto status = answer->find("status");
  if (status == answer->end() || !status->is_object() || !status->contains("token") ||
      !(*status)["token"].is_string()) {
    return absl::InternalError("the TokenRequest API's answer has no status.token");
  }
  SecretBytes token = SecretBytes::CopyOf((*status)["token"].get_ref<const SecretString&>());
  std::lock_guard lock(mutex_);
  tokens_.insert_or_assign(key, Token{token.Copy(), clock_.Now() + kUse});
  pod->tokens.emplace(audience, std::move(token));
  return absl::OkStatus();
}

}  // namespace coffer::csi
