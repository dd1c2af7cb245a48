#include "csi/volume_context.h"

#include <algorithm>
#include <charconv>

#include "common/json.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

absl::Status Wrong(std::string_view key, std::string_view what) {
  return absl::InvalidArgumentError(StrCat("volume context: ", key, " ", what));
}

// The name of a Kubernetes object (RFC 1123 subdomain): it becomes a part of a URL.
absl::StatusOr<std::string> NameAt(std::string_view key, std::string_view name) {
  if (name.empty()) return Wrong(key, "is missing");
  const auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  };
  const bool valid =
      name.size() <= 253 && letter_or_digit(name.front()) && letter_or_digit(name.back()) &&
      std::all_of(name.begin(), name.end(),
                  [&](char c) { return letter_or_digit(c) || c == '-' || c == '.'; });
  if (!valid) return Wrong(key, "is not the name of a Kubernetes object");
  return std::string(name);
}

// {"<audience>": {"token": "…", "expirationTimestamp": "…"}, …}
absl::Status ReadTokens(std::string_view text, VolumeContext* context) {
  if (text.empty()) return absl::OkStatus();
  const absl::StatusOr<Json> tokens = ParseJson(text);
  if (!tokens.ok()) return Wrong(kTokensKey, StrCat("is ", Message(tokens.status())));
  if (!tokens->is_object()) return Wrong(kTokensKey, "must be a JSON object by audience");
  for (const auto& [audience, entry] : tokens->items()) {
    const bool has_token = entry.is_object() && entry.contains("token") &&
                           entry["token"].is_string() &&
                           !entry["token"].get_ref<const SecretString&>().empty();
    if (!has_token) {
      return Wrong(kTokensKey,
                   StrCat("has no token for audience \"", std::string_view(audience), "\""));
    }
    context->pod.tokens.insert_or_assign(
        std::string(std::string_view(audience)),
        SecretBytes::CopyOf(entry["token"].get_ref<const SecretString&>()));
    if (entry.contains("expirationTimestamp") && entry["expirationTimestamp"].is_string()) {
      context->expirations.insert_or_assign(
          std::string(std::string_view(audience)),
          std::string(std::string_view(
              entry["expirationTimestamp"].get_ref<const SecretString&>())));
    }
  }
  return absl::OkStatus();
}

}  // namespace

VolumeContext VolumeContext::Copy() const {
  VolumeContext copy;
  copy.secret_class = secret_class;
  copy.pod.name = pod.name;
  copy.pod.kubernetes_namespace = pod.kubernetes_namespace;
  copy.pod.uid = pod.uid;
  copy.pod.service_account = pod.service_account;
  for (const auto& [audience, token] : pod.tokens) copy.pod.tokens.emplace(audience, token.Copy());
  copy.attributes = attributes;
  copy.expirations = expirations;
  copy.secrets = secrets.Copy();
  copy.fs_group = fs_group;
  return copy;
}

absl::StatusOr<VolumeContext> ReadVolumeContext(
    const std::function<std::string_view(const std::string& key)>& get) {
  VolumeContext context;
  const std::pair<const char*, std::string*> names[] = {
      {"secretProviderClass", &context.secret_class},
      {"csi.storage.k8s.io/pod.name", &context.pod.name},
      {"csi.storage.k8s.io/pod.namespace", &context.pod.kubernetes_namespace},
      {"csi.storage.k8s.io/pod.uid", &context.pod.uid},
      {"csi.storage.k8s.io/serviceAccount.name", &context.pod.service_account}};
  for (const auto& [key, value] : names) {
    ASSIGN_OR_RETURN(*value, NameAt(key, get(key)));
  }
  constexpr char kEphemeral[] = "csi.storage.k8s.io/ephemeral";
  if (const std::string_view ephemeral = get(kEphemeral);
      !ephemeral.empty() && ephemeral != "true") {
    return Wrong(kEphemeral, "must be \"true\": only volumes inside a pod's spec are served");
  }
  RETURN_IF_ERROR(ReadTokens(get(kTokensKey), &context));
  return context;
}

absl::Status ReadMountGroup(std::string_view text, VolumeContext* context) {
  if (text.empty()) return absl::OkStatus();
  std::uint32_t group = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), group);
  if (error != std::errc() || end != text.data() + text.size() || group == UINT32_MAX) {
    return absl::InvalidArgumentError(
        StrCat("volume capability: mount.volume_mount_group \"", text,
               "\" must be a group id between 0 and 4294967294"));
  }
  context->fs_group = group;
  return absl::OkStatus();
}

}  // namespace coffer::csi
