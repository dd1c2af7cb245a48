#include "csi/secret_objects.h"

#include <algorithm>
#include <optional>

#include "common/json_members.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

std::string_view TextOf(const Json& object, std::string_view name) {
  return Trim(TextAt(object, name));
}

constexpr std::string_view kTls = "kubernetes.io/tls";

absl::Status ReadTexts(const Json& object, const char* name, const std::string& field,
                       std::map<std::string, std::string>* texts) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return absl::OkStatus();
  const bool map = found->is_object() && std::all_of(found->begin(), found->end(), [](const Json& v) {
                     return v.is_string();
                   });
  if (!map) return absl::InvalidArgumentError(StrCat(field, ".", name, ": must be a map of texts"));
  for (const auto& [key, value] : found->items()) {
    texts->emplace(std::string_view(key), std::string_view(value.get_ref<const SecretString&>()));
  }
  return absl::OkStatus();
}

absl::StatusOr<SecretObject> ReadObject(const Json& entry, const std::string& field) {
  const auto wrong = [&field](std::string_view name, std::string_view what) {
    return absl::InvalidArgumentError(StrCat(field, name, ": ", what));
  };
  if (!entry.is_object()) return wrong("", "must be a map");
  SecretObject object;
  object.name = TextOf(entry, "secretName");
  if (object.name.empty()) return wrong(".secretName", "is missing");
  if (const std::string_view type = TextOf(entry, "type"); !type.empty()) object.type = type;
  RETURN_IF_ERROR(ReadTexts(entry, "labels", field, &object.labels));
  RETURN_IF_ERROR(ReadTexts(entry, "annotations", field, &object.annotations));
  const auto data = entry.find("data");
  if (data == entry.end() || !data->is_array() || data->empty()) {
    return wrong(".data", "must be a list with objectName and key in each entry");
  }
  for (std::size_t i = 0; i < data->size(); ++i) {
    const Json& item = (*data)[i];
    for (const char* name : {"objectName", "key"}) {
      if (!item.is_object() || TextOf(item, name).empty()) {
        return wrong(StrCat(".data[", i, "].", name), "is missing");
      }
    }
    object.data.emplace_back(TextOf(item, "key"), TextOf(item, "objectName"));
  }
  return object;
}

// The PEM blocks of `text` whose type ends with `type`.
SecretBytes PemBlocks(std::string_view text, std::string_view type) {
  constexpr std::string_view kBegin = "-----BEGIN ";
  SecretBytes blocks;
  for (std::size_t at = text.find(kBegin); at != text.npos; at = text.find(kBegin, at)) {
    const std::size_t name_end = text.find("-----", at + kBegin.size());
    if (name_end == text.npos) break;
    const std::string_view name =
        text.substr(at + kBegin.size(), name_end - at - kBegin.size());
    const std::string end_line = StrCat("-----END ", name, "-----");
    const std::size_t end = text.find(end_line, name_end);
    if (end == text.npos) break;
    if (name.ends_with(type)) {
      blocks.Append(text.substr(at, end + end_line.size() - at));
      blocks.Append("\n");
    }
    at = end + end_line.size();
  }
  return blocks;
}

absl::StatusOr<SecretBytes> Content(const SecretObject& object, const std::string& key,
                                    const provider::File& file) {
  if (object.type != kTls || (key != "tls.crt" && key != "tls.key")) return file.content.Copy();
  const std::string_view type = key == "tls.crt" ? "CERTIFICATE" : "PRIVATE KEY";
  SecretBytes blocks = PemBlocks(file.content.view(), type);
  if (!blocks.empty()) return blocks;
  return absl::InvalidArgumentError(
      StrCat("has no PEM block of type ", type, ", which ", key, " of a Secret of type ", kTls,
             " must be"));
}

absl::StatusOr<Json> Fill(const SecretObject& object, const std::string& field,
                          const std::vector<provider::File>& files) {
  Json data = Json::object();
  for (std::size_t i = 0; i < object.data.size(); ++i) {
    const auto& [key, file_name] = object.data[i];
    const auto file =
        std::find_if(files.begin(), files.end(),
                     [&name = file_name](const provider::File& f) { return f.path == name; });
    absl::StatusOr<SecretBytes> content = absl::InvalidArgumentError("is no file of the volume");
    if (file != files.end()) content = Content(object, key, *file);
    if (!content.ok()) {
      return absl::InvalidArgumentError(StrCat(field, ".data[", i, "].objectName: \"", file_name,
                                               "\" ", Message(content.status())));
    }
    const SecretBytes text = EncodeBase64(content->span());
    data[SecretString(key)] = SecretString(text.view());
  }
  return data;
}

}  // namespace

absl::StatusOr<std::vector<SecretObject>> ReadSecretObjects(const Json& secret_class) {
  std::vector<SecretObject> objects;
  const auto spec = secret_class.find("spec");
  if (spec == secret_class.end() || !spec->is_object()) return objects;
  const auto list = spec->find("secretObjects");
  if (list == spec->end() || list->is_null()) return objects;
  if (!list->is_array()) return absl::InvalidArgumentError("spec.secretObjects: must be a list");
  for (std::size_t i = 0; i < list->size(); ++i) {
    ASSIGN_OR_RETURN(SecretObject object,
                     ReadObject((*list)[i], StrCat("spec.secretObjects[", i, "]")));
    objects.push_back(std::move(object));
  }
  return objects;
}

std::vector<SecretPayload> FillSecretObjects(const std::vector<SecretObject>& objects,
                                             const std::vector<provider::File>& files) {
  std::vector<SecretPayload> payloads;
  for (const SecretObject& object : objects) {
    absl::StatusOr<Json> data =
        Fill(object, StrCat("spec.secretObjects[", payloads.size(), "]"), files);
    payloads.push_back({object, data.status(), data.ok() ? *std::move(data) : Json()});
  }
  return payloads;
}

}  // namespace coffer::csi
