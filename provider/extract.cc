#include "provider/extract.h"

#include <string>

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::provider {
namespace {

// The member of that name, or null.
const Json* Member(const Json* object, std::string_view name) {
  if (object == nullptr || !object->is_object()) return nullptr;
  const auto found = object->find(SecretString(name));
  return found == object->end() ? nullptr : &*found;
}

absl::StatusOr<SecretBytes> Decode(SecretBytes content, Encoding encoding) {
  switch (encoding) {
    case Encoding::kHex:
      return DecodeHex(content.view());
    case Encoding::kBase64:
      return DecodeBase64(content.view());
    case Encoding::kUtf8:
      break;
  }
  return content;
}

}  // namespace

absl::StatusOr<SecretBytes> ExtractContent(const Json& response, const Object& object) {
  const Json* data = Member(&response, "data");
  if (data == nullptr || data->is_null()) {
    return absl::NotFoundError("the answer has no data");
  }
  if (object.key.empty()) {
    if (Member(&response, "request_id") == nullptr) return DumpJson(response);
    Json stable = response;
    stable["request_id"] = "";
    return DumpJson(stable);
  }
  const Json* nested = Member(data, "data");
  if (nested != nullptr && nested->is_object()) data = nested;
  const Json* value = Member(data, object.key);
  if (value == nullptr) {
    return absl::NotFoundError(StrCat("key \"", object.key, "\" does not exist in the secret"));
  }
  SecretBytes content = value->is_string()
                            ? SecretBytes::CopyOf(value->get_ref<const SecretString&>())
                            : DumpJson(*value);
  absl::StatusOr<SecretBytes> decoded = Decode(std::move(content), object.encoding);
  if (decoded.ok()) return decoded;
  return absl::FailedPreconditionError(
      StrCat("key \"", object.key, "\": ", Message(decoded.status())));
}

std::string ResponseVersion(const Json& response) {
  const Json* data = Member(&response, "data");
  const Json* nested = Member(data, "data");
  const Json* metadata = Member(data, "metadata");
  const Json* version = Member(metadata, "version");
  const Json* created = Member(metadata, "created_time");
  if (nested == nullptr || version == nullptr || !version->is_number_integer() ||
      created == nullptr || !created->is_string()) {
    return "";
  }
  return StrCat(version->get<std::int64_t>(), "-",
                std::string_view(created->get_ref<const SecretString&>()));
}

}  // namespace coffer::provider
