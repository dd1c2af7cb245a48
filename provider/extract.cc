#include "provider/extract.h"

#include <algorithm>

#include "common/status_macros.h"
#include "common/strings.h"
#include "provider/bundle.h"
#include "provider/format.h"

namespace coffer::provider {
namespace {

// The member of that name, or null.
const Json* Member(const Json* object, std::string_view name) {
  if (object == nullptr || !object->is_object()) return nullptr;
  const auto found = object->find(SecretString(name));
  return found == object->end() ? nullptr : &*found;
}

absl::StatusOr<SecretBytes> Decode(std::string_view key, SecretBytes content, Encoding encoding) {
  absl::StatusOr<SecretBytes> decoded = absl::UnknownError("");
  switch (encoding) {
    case Encoding::kUtf8:
      return content;
    case Encoding::kHex:
      decoded = DecodeHex(content.view());
      break;
    case Encoding::kBase64:
      decoded = DecodeBase64(content.view());
      break;
  }
  if (decoded.ok()) return decoded;
  return absl::FailedPreconditionError(StrCat("key \"", key, "\": ", Message(decoded.status())));
}

// The keys and values: of kv version 2 without what surrounds them.
absl::StatusOr<const Json*> SecretOf(const Json& response) {
  const Json* data = Member(&response, "data");
  if (data == nullptr || data->is_null()) return absl::NotFoundError("the answer has no data");
  const Json* nested = Member(data, "data");
  return nested != nullptr && nested->is_object() ? nested : data;
}

absl::Status NoKey(std::string_view key) {
  return absl::NotFoundError(StrCat("key \"", key, "\" does not exist in the secret"));
}

// The value of a key, or, where there is no such key and it has dots, of a key within objects.
const Json* Value(const Json& secret, std::string_view key) {
  if (const Json* value = Member(&secret, key)) return value;
  const Json* value = &secret;
  for (const std::string_view part : Split(key, '.')) value = Member(value, part);
  return value;
}

absl::StatusOr<SecretBytes> FillTemplate(const Json& secret, const Object& object) {
  SecretBytes content;
  for (const TemplatePiece& piece : object.pieces) {
    if (!piece.is_key) {
      content.Append(piece.text);
      continue;
    }
    const Json* value = Value(secret, piece.text);
    if (value == nullptr) return NoKey(piece.text);
    content.Append(ValueText(*value).view());
  }
  return content;
}

// The keys that the object names, all where it names none.
absl::StatusOr<Json> ChosenKeys(const Json& secret, const Object& object) {
  if (!secret.is_object()) return absl::NotFoundError("the answer has no keys");
  if (object.keys.empty()) return secret;
  Json chosen = Json::object();
  for (const auto& [key, value] : secret.items()) {
    const std::string_view name = key;
    const bool wanted =
        std::any_of(object.keys.begin(), object.keys.end(),
                    [&](const std::string& pattern) { return GlobMatches(pattern, name); });
    if (wanted) chosen[key] = value;
  }
  // A key that is named, not described, must be there.
  for (const std::string& pattern : object.keys) {
    if (!IsGlob(pattern) && Member(&chosen, pattern) == nullptr) return NoKey(pattern);
  }
  if (chosen.empty()) return absl::NotFoundError("no key of the secret is one of `keys`");
  return chosen;
}

absl::StatusOr<SecretBytes> ExtractOne(const Json& response, const Json& secret,
                                       const Object& object) {
  if (!object.pieces.empty()) return FillTemplate(secret, object);
  if (object.bundled()) return MakeBundle(secret, object);
  if (object.format != Format::kNone) {
    ASSIGN_OR_RETURN(const Json chosen, ChosenKeys(secret, object));
    return FormatSecret(chosen, object.format);
  }
  if (object.key.empty()) {
    if (Member(&response, "request_id") == nullptr) return DumpJson(response);
    Json stable = response;
    stable["request_id"] = "";
    return DumpJson(stable);
  }
  const Json* value = Member(&secret, object.key);
  if (value == nullptr) return NoKey(object.key);
  return Decode(object.key, ValueText(*value), object.encoding);
}

std::string Joined(std::string_view folder, std::string_view name) {
  return folder.empty() ? std::string(name) : StrCat(folder, "/", name);
}

}  // namespace

std::string OneFile(const Object& object) {
  return object.place.empty() ? object.name : object.place;
}

absl::StatusOr<std::vector<Extracted>> ExtractFiles(const Json& response, const Object& object,
                                                    std::string_view matched) {
  ASSIGN_OR_RETURN(const Json* const secret, SecretOf(response));
  std::vector<Extracted> files;
  if (!object.file_per_key()) {
    ASSIGN_OR_RETURN(SecretBytes content, ExtractOne(response, *secret, object));
    files.push_back(
        {matched.empty() ? OneFile(object) : Joined(object.place, matched), std::move(content)});
    return files;
  }
  ASSIGN_OR_RETURN(const Json chosen, ChosenKeys(*secret, object));
  const std::string folder = matched.empty() ? object.place : Joined(object.place, matched);
  for (const auto& [key, value] : chosen.items()) {
    const std::string_view name = key;
    if (const absl::Status valid = CheckFilePath(name); !valid.ok()) {
      return absl::FailedPreconditionError(
          StrCat("key \"", name.substr(0, 255), "\" can't be a file's name: it ", Message(valid)));
    }
    ASSIGN_OR_RETURN(SecretBytes content, Decode(name, ValueText(value), object.encoding));
    files.push_back({Joined(folder, name), std::move(content)});
  }
  return files;
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
