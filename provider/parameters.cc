#include "provider/parameters.h"

#include <algorithm>
#include <array>

#include "common/lower_case.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/yaml.h"

namespace coffer::provider {
namespace {

absl::Status Wrong(std::string_view field, std::string_view what) {
  return absl::InvalidArgumentError(StrCat(field, ": ", what));
}

std::string_view WithoutSlashes(std::string_view text) {
  while (text.starts_with('/')) text.remove_prefix(1);
  while (text.ends_with('/')) text.remove_suffix(1);
  return text;
}

absl::StatusOr<std::string> ParseAddress(std::string_view text) {
  const std::size_t scheme_end = text.find("://");
  const std::string scheme = LowerCase(text.substr(0, std::min(scheme_end, text.size())));
  if (scheme_end == text.npos || (scheme != "http" && scheme != "https")) {
    return absl::InvalidArgumentError("must be an http:// or https:// URL");
  }
  std::string_view rest = text.substr(scheme_end + 3);
  while (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.empty() || rest.starts_with('/') || rest.starts_with(':')) {
    return absl::InvalidArgumentError("has no host");
  }
  if (rest.find_first_of(" ?#@\\\"<>") != rest.npos || HasControlCharacter(rest)) {
    return absl::InvalidArgumentError("must be scheme, host, port and path alone");
  }
  return StrCat(scheme, "://", rest);
}

// Known to vault-csi-provider or the driver, without a meaning here; the last two are the node
// plugin's (csi/rotation_rule.h).
constexpr std::array<std::string_view, 5> kIgnored = {
    "providerName", "kubernetesServiceAccountPath", "KubernetesServiceAccountPath", "rotation",
    "rotationInterval"};

// The `auth` block of vault-csi-provider, which spells mountPath so: {type: jwt, mouthPath: jwt}.
// The mount, or "".
absl::StatusOr<std::string> ReadAuth(const std::string& text, std::vector<std::string>* unknown) {
  const std::string field = "spec.parameters.auth";
  const absl::StatusOr<std::vector<Json>> documents = ParseYaml(text);
  if (!documents.ok()) return Wrong(field, Message(documents.status()));
  if (documents->size() != 1 || !documents->front().is_object()) {
    return Wrong(field, "must be a YAML map with type and mouthPath");
  }
  std::map<std::string, std::string> texts = {{"type", ""}, {"mouthPath", ""}, {"mountPath", ""}};
  for (const auto& [name, value] : documents->front().items()) {
    const std::string key(std::string_view{name});
    const auto found = texts.find(key);
    if (found == texts.end()) {
      if (key != "aws" && key != "jwt" && key != "k8s") unknown->push_back(StrCat(field, ".", key));
      continue;
    }
    if (value.is_null()) continue;
    if (!value.is_string()) return Wrong(StrCat(field, ".", key), "must be text");
    found->second = std::string_view(value.get_ref<const SecretString&>());
  }
  if (texts["type"] != "kubernetes" && texts["type"] != "jwt") {
    return Wrong(StrCat(field, ".type"),
                 "must be kubernetes or jwt: pods log in with their ServiceAccount's token, not "
                 "with roles of AWS or anything else");
  }
  if (texts["mouthPath"].empty()) return texts["mountPath"];
  if (!texts["mountPath"].empty() && texts["mountPath"] != texts["mouthPath"]) {
    return Wrong(StrCat(field, ".mouthPath"),
                 "differs from mountPath, which means the same: set one");
  }
  return texts["mouthPath"];
}

absl::StatusOr<Parameters> Parse(const SecretProviderClass& secret_class,
                                 const Defaults& defaults) {
  Parameters parsed;
  Login& login = parsed.login;
  login = {.address = defaults.address,
           .vault_namespace = defaults.vault_namespace,
           .auth_mount = defaults.auth_mount,
           .role = "",
           .audience = "",
           .tls = defaults.tls};
  std::string kubernetes_mount;
  std::string auth_mount;
  std::string auth;
  std::string objects;
  FileFacts facts;
  const std::map<std::string_view, std::string*> texts = {
      {"vaultAddress", &login.address},
      {"vaultNamespace", &login.vault_namespace},
      {"vaultCAPem", &login.tls.ca_pem},
      {"vaultCACertPath", &login.tls.ca_file},
      {"vaultCADirectory", &login.tls.ca_directory},
      {"vaultTLSServerName", &login.tls.server_name},
      {"vaultTLSClientCertPath", &login.tls.client_certificate_file},
      {"vaultTLSClientKeyPath", &login.tls.client_key_file},
      {"vaultKubernetesMountPath", &kubernetes_mount},
      {"vaultAuthMountPath", &auth_mount},
      {"auth", &auth},
      {"roleName", &login.role},
      {"audience", &login.audience},
      {"objects", &objects}};

  // Whom a class trusts isn't added to whom the plugin trusts by default.
  const auto given = [&secret_class](const char* name) {
    const auto found = secret_class.parameters.find(name);
    return found != secret_class.parameters.end() && !found->second.empty();
  };
  if (given("vaultCAPem") || given("vaultCACertPath") || given("vaultCADirectory")) {
    login.tls.ca_pem = login.tls.ca_file = login.tls.ca_directory = "";
  }

  for (const auto& [name, value] : secret_class.parameters) {
    const std::string field = StrCat("spec.parameters.", name);
    if (name == "vaultSkipTLSVerify") {
      const absl::StatusOr<bool> skip = ParseBool(value);
      if (!skip.ok()) return Wrong(field, Message(skip.status()));
      login.tls.skip_verify = *skip;
    } else if (name == "audit") {
      if (value != "opens" && value != "off" && !value.empty()) {
        return Wrong(field, "must be opens or off");
      }
      parsed.audit = value == "opens";
    } else if (const auto found = texts.find(name); found != texts.end()) {
      if (!value.empty()) *found->second = value;
    } else if (const auto fact = SetFileFact(name, value, &facts); !fact.ok() || *fact) {
      if (!fact.ok()) return Wrong(field, Message(fact.status()));
    } else if (std::find(kIgnored.begin(), kIgnored.end(), name) == kIgnored.end()) {
      parsed.unknown.push_back(field);
    }
  }
  std::string own_mount;  // goes before the parameters that were there first
  if (!auth.empty()) {
    ASSIGN_OR_RETURN(own_mount, ReadAuth(auth, &parsed.unknown));
  }
  if (secret_class.provider == "coffer" && !parsed.unknown.empty()) {
    return Wrong(parsed.unknown.front(),
                 "is unknown: see docs/secret-provider-class.md for what there is");
  }

  // As in Vault's clients, a file goes before a folder.
  if (!login.tls.ca_file.empty() || !login.tls.ca_pem.empty()) login.tls.ca_directory = "";

  if (!kubernetes_mount.empty() && !auth_mount.empty() && kubernetes_mount != auth_mount) {
    return Wrong("spec.parameters.vaultAuthMountPath",
                 "differs from vaultKubernetesMountPath, which means the same: set one");
  }
  for (const std::string& mount : {own_mount, kubernetes_mount, auth_mount}) {
    if (mount.empty()) continue;
    login.auth_mount = mount;
    break;
  }
  login.auth_mount = WithoutSlashes(login.auth_mount);
  const absl::Status mount = CheckPath(login.auth_mount);
  if (!mount.ok()) {
    return Wrong(own_mount.empty() ? "spec.parameters.vaultAuthMountPath"
                                   : "spec.parameters.auth.mouthPath",
                 Message(mount));
  }

  absl::StatusOr<std::string> address = ParseAddress(login.address);
  if (!address.ok()) return Wrong("spec.parameters.vaultAddress", Message(address.status()));
  login.address = *std::move(address);
  if (login.role.empty()) return Wrong("spec.parameters.roleName", "is missing");
  if (HasControlCharacter(login.vault_namespace)) {
    return Wrong("spec.parameters.vaultNamespace", "has a control character in it");
  }
  if (login.tls.client_certificate_file.empty() != login.tls.client_key_file.empty()) {
    return Wrong("spec.parameters.vaultTLSClientCertPath",
                 "and vaultTLSClientKeyPath belong together: set both");
  }
  ASSIGN_OR_RETURN(parsed.objects, ParseObjects(objects, facts));
  return parsed;
}

}  // namespace

std::string TlsKey(const TlsClientOptions& tls) {
  std::string key;
  for (const std::string* part :
       {&tls.ca_file, &tls.ca_directory, &tls.ca_pem, &tls.client_certificate_file,
        &tls.client_key_file, &tls.server_name}) {
    StrAppend(&key, part->size(), ":", *part);
  }
  StrAppend(&key, tls.skip_verify ? "skip" : "verify");
  return key;
}

std::string LoginKey(const Login& login) {
  std::string key;
  for (const std::string* part :
       {&login.address, &login.vault_namespace, &login.auth_mount, &login.role, &login.audience}) {
    StrAppend(&key, part->size(), ":", *part);
  }
  return StrCat(key, TlsKey(login.tls));
}

absl::StatusOr<Parameters> ParseParameters(const SecretProviderClass& secret_class,
                                           const Defaults& defaults) {
  absl::StatusOr<Parameters> parsed = Parse(secret_class, defaults);
  if (parsed.ok()) return parsed;
  return absl::Status(parsed.status().code(),
                      ToAbsl(StrCat("SecretProviderClass ", secret_class.kubernetes_namespace, "/",
                                    secret_class.name, ": ", Message(parsed.status()))));
}

}  // namespace coffer::provider
