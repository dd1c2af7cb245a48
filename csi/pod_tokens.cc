#include "csi/pod_tokens.h"

#include <set>

#include "common/http_client.h"
#include "common/json_members.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

constexpr int kLifetimeSeconds = 600;  // the least that the API grants
constexpr std::chrono::seconds kUse{480};

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

// Those that the kubelet sent, ended or not.
std::set<std::string> Audiences(const VolumeContext& context) {
  std::set<std::string> audiences;
  for (const auto& [audience, token] : context.pod.tokens) audiences.insert(audience);
  for (const auto& [audience, expiration] : context.expirations) audiences.insert(audience);
  return audiences;
}

}  // namespace

absl::Status PodTokens::Complete(const std::string& audience, VolumeContext* context,
                                 absl::Time deadline) {
  if (!audience.empty()) return Get(audience, context, deadline);
  return Get(provider::DefaultAudience(Audiences(*context)).value_or(""), context, deadline);
}

void PodTokens::CompleteAll(const std::string& audience, VolumeContext* context,
                            absl::Time deadline) {
  std::set<std::string> audiences = Audiences(*context);
  if (!audience.empty()) audiences.insert(audience);
  for (const std::string& each : audiences) {
    const absl::Status got = Get(each, context, deadline);
    if (!got.ok()) log::Warning("another vendor's provider lacks a token", {{"error", got}});
  }
}

absl::Status PodTokens::Get(const std::string& audience, VolumeContext* context,
                            absl::Time deadline) {
  provider::Pod* const pod = &context->pod;
  if (pod->tokens.contains(audience)) return absl::OkStatus();
  const std::string key = StrCat(pod->uid, " ", audience);
  {
    std::lock_guard lock(mutex_);
    std::erase_if(tokens_, [now = now_()](const auto& t) { return t.second.use_until <= now; });
    if (const auto kept = tokens_.find(key); kept != tokens_.end()) {
      pod->tokens.emplace(audience, kept->second.text.Copy());
      context->expirations.insert_or_assign(audience, kept->second.expiration);
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
  const Json& status = At(*answer, "status");
  SecretBytes token = SecretBytes::CopyOf(TextAt(status, "token"));
  if (token.empty()) {
    return absl::InternalError("the TokenRequest API's answer has no status.token");
  }
  std::string expiration(TextAt(status, "expirationTimestamp"));
  std::lock_guard lock(mutex_);
  tokens_.insert_or_assign(key, Token{token.Copy(), expiration, now_() + kUse});
  pod->tokens.emplace(audience, std::move(token));
  context->expirations.insert_or_assign(audience, std::move(expiration));
  return absl::OkStatus();
}

}  // namespace coffer::csi
