#include "provider/class_document.h"

#include <string>

#include "common/json_members.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/yaml.h"

namespace coffer::provider {
namespace {

constexpr std::string_view kGroup = "secrets-store.csi.x-k8s.io/";
constexpr std::string_view kKind = "SecretProviderClass";

absl::Status Wrong(std::string_view field, std::string_view what) {
  return absl::InvalidArgumentError(StrCat(field, ": ", what));
}

bool IsClass(const Json& object) {
  return object.is_object() && TextAt(object, "kind") == kKind &&
         TextAt(object, "apiVersion").starts_with(kGroup);
}

absl::Status CollectClasses(const Json& object, std::vector<SecretProviderClass>* classes) {
  if (object.is_object() && TextAt(object, "kind").ends_with("List") && object.contains("items") &&
      object["items"].is_array()) {
    for (const Json& item : object["items"]) RETURN_IF_ERROR(CollectClasses(item, classes));
    return absl::OkStatus();
  }
  if (!IsClass(object)) return absl::OkStatus();
  ASSIGN_OR_RETURN(SecretProviderClass read, ReadClass(object));
  classes->push_back(std::move(read));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SecretProviderClass> ReadClass(const Json& object) {
  if (!IsClass(object)) {
    return Wrong("kind",
                 StrCat("must be ", kKind, " of the group ", kGroup.substr(0, kGroup.size() - 1)));
  }
  const auto metadata = object.find("metadata");
  if (metadata == object.end() || !metadata->is_object()) return Wrong("metadata", "is missing");
  SecretProviderClass read;
  read.name = TextAt(*metadata, "name");
  if (read.name.empty()) return Wrong("metadata.name", "is missing");
  read.kubernetes_namespace = TextAt(*metadata, "namespace");
  if (read.kubernetes_namespace.empty()) read.kubernetes_namespace = "default";
  read.resource_version = TextAt(*metadata, "resourceVersion");

  // From here on the class has a name, which the error then says.
  const auto wrong = [&read](std::string_view field, std::string_view what) {
    return Wrong(StrCat(kKind, " ", read.kubernetes_namespace, "/", read.name, ": ", field), what);
  };
  const auto spec = object.find("spec");
  if (spec == object.end() || !spec->is_object()) return wrong("spec", "is missing");
  read.provider = TextAt(*spec, "provider");
  if (read.provider.empty()) return wrong("spec.provider", "is missing: use vault or coffer");
  const auto parameters = spec->find("parameters");
  if (parameters == spec->end() || parameters->is_null()) return read;
  if (!parameters->is_object()) return wrong("spec.parameters", "must be a map");
  for (const auto& [name, value] : parameters->items()) {
    if (value.is_null()) continue;
    if (!value.is_string()) {
      return wrong(StrCat("spec.parameters.", std::string_view(name)),
                   "must be text (write lists with |)");
    }
    read.parameters[std::string(std::string_view(name))] =
        std::string_view(value.get_ref<const SecretString&>());
  }
  return read;
}

absl::StatusOr<std::vector<SecretProviderClass>> ReadClasses(std::string_view yaml) {
  ASSIGN_OR_RETURN(const std::vector<Json> documents, ParseYaml(yaml));
  std::vector<SecretProviderClass> classes;
  for (const Json& document : documents) RETURN_IF_ERROR(CollectClasses(document, &classes));
  return classes;
}

}  // namespace coffer::provider
