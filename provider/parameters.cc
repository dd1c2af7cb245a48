#include "provider/parameters.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "common/status_macros.h"
#include "common/strings.h"
#include "provider/yaml.h"

namespace coffer::provider {
namespace {

absl::Status Wrong(std::string_view field, std::string_view what) {
  return absl::InvalidArgumentError(StrCat(field, ": ", what));
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

std::string_view WithoutSlashes(std::string_view text) {
  while (text.starts_with('/')) text.remove_prefix(1);
  while (text.ends_with('/')) text.remove_suffix(1);
  return text;
}

bool HasControlCharacter(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

// A path below /v1/ that means what it says: no empty, "." or ".." segment.
absl::Status CheckPath(std::string_view path) {
  if (path.empty()) return absl::InvalidArgumentError("is empty");
  if (HasControlCharacter(path)) return absl::InvalidArgumentError("has a control character in it");
  for (const std::string_view segment : Split(path, '/')) {
    if (segment.empty() || segment == "." || segment == "..") {
      return absl::InvalidArgumentError("has an empty, \".\" or \"..\" part");
    }
  }
  return absl::OkStatus();
}

// The file's name in the volume. No folders, as in vault-csi-provider.
absl::Status CheckObjectName(std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("is missing");
  if (name.find('/') != name.npos) {
    return absl::InvalidArgumentError("must not contain \"/\": it names one file in the volume");
  }
  if (name == "." || name.starts_with("..")) {
    return absl::InvalidArgumentError("must not be \".\" or start with \"..\"");
  }
  if (name.size() > 255) return absl::InvalidArgumentError("is longer than 255 bytes");
  if (HasControlCharacter(name)) return absl::InvalidArgumentError("has a control character in it");
  return absl::OkStatus();
}

absl::StatusOr<bool> ParseBool(std::string_view text) {
  // What Go's strconv.ParseBool takes, as in the provider.
  for (const std::string_view yes : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == yes) return true;
  }
  for (const std::string_view no : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == no) return false;
  }
  return absl::InvalidArgumentError("must be true or false");
}

absl::StatusOr<std::uint32_t> ParseMode(std::string_view text) {
  int base = 10;
  std::string_view digits = text;
  if (text.starts_with("0o")) {
    base = 8;
    digits = text.substr(2);
  } else if (text.size() > 1 && text[0] == '0') {
    base = 8;
    digits = text.substr(1);
  }
  std::uint32_t mode = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), mode, base);
  if (error != std::errc() || end != digits.data() + digits.size() || mode > 0777) {
    return absl::InvalidArgumentError("must be permission bits between 0 and 0777, e.g. 0640");
  }
  return mode;
}

absl::StatusOr<std::string> ParseAddress(std::string_view text) {
  const std::size_t scheme_end = text.find("://");
  const std::string scheme = Lower(text.substr(0, std::min(scheme_end, text.size())));
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

absl::Status SetSecretPath(std::string_view text, Object* object) {
  const std::size_t question = text.find('?');
  if (question != text.npos) {
    object->query = text.substr(question + 1);
    text = text.substr(0, question);
    const bool clean = std::all_of(object->query.begin(), object->query.end(), [](char c) {
      return c > 0x20 && c < 0x7f &&
             std::string_view("\"#<>\\^`{|}").find(c) == std::string_view::npos;
    });
    if (!clean) return absl::InvalidArgumentError("has a query that must be percent-encoded");
  }
  while (text.starts_with('/')) text.remove_prefix(1);
  if (text.starts_with("v1/")) text.remove_prefix(3);
  object->path = text;
  return CheckPath(text);
}

absl::StatusOr<Encoding> ParseEncoding(std::string_view text) {
  const std::string lower = Lower(text);
  if (lower == "utf-8" || lower.empty()) return Encoding::kUtf8;
  if (lower == "hex") return Encoding::kHex;
  if (lower == "base64") return Encoding::kBase64;
  return absl::InvalidArgumentError("must be utf-8, hex or base64");
}

// Sets one field of an object from its text; the message is what follows the field's name.
absl::Status SetObjectField(std::string_view key, std::string_view text, Object* object) {
  if (key == "objectName") {
    object->name = text;
  } else if (key == "secretPath") {
    RETURN_IF_ERROR(SetSecretPath(text, object));
  } else if (key == "secretKey") {
    object->key = text;
  } else if (key == "method") {
    for (const char c : text) object->method.push_back(static_cast<char>(c & ~0x20));
    if (object->method != "GET" && object->method != "POST" && object->method != "PUT") {
      return absl::InvalidArgumentError("must be GET, POST or PUT");
    }
  } else if (key == "filePermission") {
    ASSIGN_OR_RETURN(object->mode, ParseMode(text));
  } else if (key == "encoding") {
    ASSIGN_OR_RETURN(object->encoding, ParseEncoding(text));
  } else {
    return absl::InvalidArgumentError(
        "is unknown: use objectName, secretPath, secretKey, secretArgs, method, filePermission or "
        "encoding");
  }
  return absl::OkStatus();
}

absl::StatusOr<Object> ParseObject(const Json& entry, std::string_view field) {
  if (!entry.is_object()) return Wrong(field, "must be a map with objectName and secretPath");
  Object object;
  object.method.clear();
  for (const auto& [name, value] : entry.items()) {
    const std::string key(std::string_view{name});
    const std::string where = StrCat(field, ".", key);
    if (value.is_null()) continue;
    if (key == "secretArgs") {
      if (!value.is_object()) return Wrong(where, "must be a map");
      object.args = value;
      continue;
    }
    if (!value.is_string()) return Wrong(where, "must be text");
    const std::string_view text = value.get_ref<const SecretString&>();
    const absl::Status set = SetObjectField(key, text, &object);
    if (!set.ok()) return Wrong(where, Message(set));
  }
  if (object.method.empty()) object.method = "GET";
  const absl::Status named = CheckObjectName(object.name);
  if (!named.ok()) return Wrong(StrCat(field, ".objectName"), Message(named));
  if (object.path.empty()) return Wrong(StrCat(field, ".secretPath"), "is missing");
  return object;
}

absl::StatusOr<std::vector<Object>> ParseObjects(const std::string& text) {
  constexpr std::string_view kField = "spec.parameters.objects";
  absl::StatusOr<std::vector<Json>> documents = ParseYaml(text, "secretArgs");
  if (!documents.ok()) return Wrong(kField, Message(documents.status()));
  if (documents->empty()) return Wrong(kField, "is missing: name at least one object");
  if (documents->size() > 1 || !documents->front().is_array()) {
    return Wrong(kField, "must be one YAML list");
  }
  std::vector<Object> objects;
  std::set<std::string> names;
  for (const Json& entry : documents->front()) {
    const std::string field = StrCat(kField, "[", objects.size(), "]");
    ASSIGN_OR_RETURN(Object object, ParseObject(entry, field));
    if (!names.insert(object.name).second) {
      return Wrong(StrCat(field, ".objectName"), StrCat("\"", object.name, "\" comes twice"));
    }
    objects.push_back(std::move(object));
  }
  if (objects.empty()) return Wrong(kField, "is an empty list: name at least one object");
  return objects;
}

// Known to vault-csi-provider or the driver, without a meaning here.
constexpr std::array<std::string_view, 3> kIgnored = {
    "providerName", "kubernetesServiceAccountPath", "KubernetesServiceAccountPath"};

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
  std::string objects;
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
      {"roleName", &login.role},
      {"audience", &login.audience},
      {"objects", &objects}};

  for (const auto& [name, value] : secret_class.parameters) {
    const std::string field = StrCat("spec.parameters.", name);
    if (name == "vaultSkipTLSVerify") {
      const absl::StatusOr<bool> skip = ParseBool(value);
      if (!skip.ok()) return Wrong(field, Message(skip.status()));
      login.tls.skip_verify = *skip;
    } else if (const auto found = texts.find(name); found != texts.end()) {
      if (!value.empty()) *found->second = value;
    } else if (std::find(kIgnored.begin(), kIgnored.end(), name) == kIgnored.end()) {
      return Wrong(field, "is unknown: see docs/secret-provider-class.md for what there is");
    }
  }

  if (!kubernetes_mount.empty() && !auth_mount.empty() && kubernetes_mount != auth_mount) {
    return Wrong("spec.parameters.vaultAuthMountPath",
                 "differs from vaultKubernetesMountPath, which means the same: set one");
  }
  if (!kubernetes_mount.empty()) auth_mount = kubernetes_mount;
  if (!auth_mount.empty()) login.auth_mount = auth_mount;
  login.auth_mount = WithoutSlashes(login.auth_mount);
  const absl::Status mount = CheckPath(login.auth_mount);
  if (!mount.ok()) return Wrong("spec.parameters.vaultAuthMountPath", Message(mount));

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
  ASSIGN_OR_RETURN(parsed.objects, ParseObjects(objects));
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
