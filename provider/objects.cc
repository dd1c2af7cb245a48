#include "provider/objects.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "common/go_bool.h"
#include "common/lower_case.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/yaml.h"
#include "provider/extract.h"
#include "provider/template.h"

namespace coffer::provider {
namespace {

constexpr std::string_view kField = "spec.parameters.objects";

absl::Status Wrong(std::string_view field, std::string_view what) {
  return absl::InvalidArgumentError(StrCat(field, ": ", what));
}

absl::Status CheckObjectName(std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("is missing");
  return CheckFilePath(name);
}

template <class Number>
bool ParseNumber(std::string_view digits, int base, Number* number) {
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), *number, base);
  return error == std::errc() && end == digits.data() + digits.size();
}

absl::Status SetMode(std::string_view text, FileFacts* facts) {
  int base = 10;
  std::string_view digits = text;
  if (text.starts_with("0o")) {
    base = 8;
    digits = text.substr(2);
  } else if (text.size() > 1 && text[0] == '0') {
    base = 8;
    digits = text.substr(1);
  }
  if (!ParseNumber(digits, base, &facts->mode) || facts->mode > 0777) {
    return absl::InvalidArgumentError("must be permission bits between 0 and 0777, e.g. 0640");
  }
  return absl::OkStatus();
}

absl::Status SetId(std::string_view text, std::optional<std::uint32_t>* id) {
  std::uint32_t number = 0;
  if (!ParseNumber(text, 10, &number) || number == UINT32_MAX) {
    return absl::InvalidArgumentError("must be a number between 0 and 4294967294");
  }
  *id = number;
  return absl::OkStatus();
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
  RETURN_IF_ERROR(CheckPath(text));
  const std::vector<std::string_view> segments = Split(text, '/');
  if (IsGlob(segments.front())) {
    return absl::InvalidArgumentError("must start with the mount, not with a pattern");
  }
  for (std::size_t i = 0; i + 1 < segments.size(); ++i) {
    if (segments[i].find("**") != std::string_view::npos) {
      return absl::InvalidArgumentError("may have ** as its last part alone");
    }
  }
  return absl::OkStatus();
}

template <class Value>
absl::Status Choose(std::string_view text, const std::map<std::string_view, Value>& choices,
                    std::string_view names, Value* value) {
  const auto found = choices.find(LowerCase(text));
  if (found == choices.end()) return absl::InvalidArgumentError(StrCat("must be ", names));
  *value = found->second;
  return absl::OkStatus();
}

absl::Status SetKeys(const Json& value, Object* object) {
  const auto add = [object](std::string_view key) {
    if (!Trim(key).empty()) object->keys.emplace_back(Trim(key));
  };
  if (value.is_string()) {
    for (const std::string_view key : Split(value.get_ref<const SecretString&>(), ',')) add(key);
  } else if (value.is_array()) {
    for (const Json& key : value) {
      if (!key.is_string()) return absl::InvalidArgumentError("must be a list of texts");
      add(key.get_ref<const SecretString&>());
    }
  }
  if (object->keys.empty()) {
    return absl::InvalidArgumentError("must name keys or patterns: \"*\", or [\"db_*\", user]");
  }
  return absl::OkStatus();
}

absl::Status SetBundle(const Json& value, Object* object) {
  if (!value.is_object()) {
    return absl::InvalidArgumentError("must be a map of certificate, chain, key and password");
  }
  const std::map<std::string_view, std::string*> names = {
      {"certificate", &object->bundle.certificate},
      {"chain", &object->bundle.chain},
      {"key", &object->bundle.key},
      {"password", &object->bundle.password}};
  for (const auto& [name, key] : value.items()) {
    const auto found = names.find(std::string_view(name));
    if (found == names.end()) {
      return absl::InvalidArgumentError(StrCat("has the unknown field ", std::string_view(name),
                                               ": use certificate, chain, key or password"));
    }
    if (!key.is_string() || key.get_ref<const SecretString&>().empty()) {
      return absl::InvalidArgumentError(
          StrCat("must have the name of a key of the secret in ", std::string_view(name)));
    }
    *found->second = std::string_view(key.get_ref<const SecretString&>());
  }
  return absl::OkStatus();
}

// Sets one field of an object from its text; the message is what follows the field's name.
absl::Status SetObjectField(std::string_view key, std::string_view text, Object* object) {
  using FieldSetter = absl::Status (*)(std::string_view, Object*);
  static const auto* setters = new std::map<std::string_view, FieldSetter>{
      {"objectName",
       [](std::string_view text, Object* object) {
         object->name = text;
         return absl::OkStatus();
       }},
      {"secretPath", SetSecretPath},
      {"secretKey",
       [](std::string_view text, Object* object) {
         object->key = text;
         return absl::OkStatus();
       }},
      {"method",
       [](std::string_view text, Object* object) {
         return Choose<std::string>(text, {{"get", "GET"}, {"post", "POST"}, {"put", "PUT"}},
                                    "GET, POST or PUT", &object->method);
       }},
      {"encoding",
       [](std::string_view text, Object* object) {
         return Choose<Encoding>(text,
                                 {{"", Encoding::kUtf8},
                                  {"utf-8", Encoding::kUtf8},
                                  {"hex", Encoding::kHex},
                                  {"base64", Encoding::kBase64}},
                                 "utf-8, hex or base64", &object->encoding);
       }},
      {"format",
       [](std::string_view text, Object* object) {
         return Choose<Format>(text,
                               {{"env", Format::kEnv},
                                {"json", Format::kJson},
                                {"yaml", Format::kYaml},
                                {"properties", Format::kProperties},
                                {"pem", Format::kPem},
                                {"pkcs12", Format::kPkcs12}},
                               "env, json, yaml, properties, pem or pkcs12", &object->format);
       }},
      {"template",
       [](std::string_view text, Object* object) -> absl::Status {
         ASSIGN_OR_RETURN(object->pieces, ParseTemplate(text));
         return absl::OkStatus();
       }},
      {"path",
       [](std::string_view text, Object* object) {
         object->place = text;
         return CheckFilePath(text);
       }},
      {"optional",
       [](std::string_view text, Object* object) -> absl::Status {
         ASSIGN_OR_RETURN(object->optional, ParseBool(text));
         return absl::OkStatus();
       }},
      {"default", [](std::string_view text, Object* object) {
         object->fallback = text;
         return absl::OkStatus();
       }}};
  const auto found = setters->find(key);
  if (found != setters->end()) return found->second(text, object);
  ASSIGN_OR_RETURN(const bool fact, SetFileFact(key, text, &object->facts));
  if (fact) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "is unknown: use objectName, secretPath, secretKey, secretArgs, method, encoding, keys, "
      "format, bundle, template, path, filePermission, owner, group, allowUIDs, allowExecutables, "
      "readOnce, availableFor, canary, optional or default");
}

// A list of allowUIDs or allowExecutables, as the text that the class's own parameter would be.
absl::Status SetAllowed(std::string_view key, const Json& list, Object* object) {
  std::string text;
  for (const Json& entry : list) {
    if (!entry.is_string() ||
        entry.get_ref<const SecretString&>().find(',') != SecretString::npos) {
      return absl::InvalidArgumentError("must be a list of texts without commas");
    }
    StrAppend(&text, text.empty() ? "" : ",",
              std::string_view(entry.get_ref<const SecretString&>()));
  }
  return SetObjectField(key, text, object);
}

bool HasNames(const BundleKeys& keys) {
  return !(keys.certificate + keys.chain + keys.key + keys.password).empty();
}

// Which fields exclude each other.
absl::Status CheckTogether(const Object& object, std::string_view field) {
  const bool formatted = object.format != Format::kNone;
  const bool templated = !object.pieces.empty();
  struct Rule {
    bool broken;
    std::string_view field;
    std::string_view what;
  };
  const Rule rules[] = {
      {!object.key.empty() && !object.keys.empty(), "keys", "and secretKey exclude each other"},
      {formatted && templated, "template", "and format exclude each other"},
      {!object.key.empty() && (formatted || templated), "secretKey",
       "is for a file of one key: name keys for format, and in the template itself"},
      {!object.keys.empty() && templated, "keys", "and template exclude each other"},
      {!object.keys.empty() && object.bundled(), "keys",
       "is for all keys of a secret: name those of pem and pkcs12 in bundle"},
      {HasNames(object.bundle) && !object.bundled(), "bundle", "is for format pem or pkcs12"},
      {!object.bundle.password.empty() && object.format != Format::kPkcs12, "bundle.password",
       "is for format pkcs12"},
      {object.encoding != Encoding::kUtf8 && (formatted || templated), "encoding",
       "is for files of one key"},
      {object.fallback && (object.many_paths() || object.file_per_key()), "default",
       "is for one file: this object makes as many as it finds"},
      {object.fallback && object.optional, "default",
       "and optional exclude each other: either there is no file or it holds the default"},
      {object.many_paths() && object.method != "GET", "method",
       "must be GET where secretPath has a pattern"},
      {object.many_paths() && !object.args.is_null(), "secretArgs",
       "has no meaning where secretPath has a pattern"},
  };
  for (const Rule& rule : rules) {
    if (rule.broken) return Wrong(StrCat(field, ".", rule.field), rule.what);
  }
  return absl::OkStatus();
}

absl::StatusOr<Object> ParseObject(const Json& entry, std::string_view field,
                                   const FileFacts& facts) {
  if (!entry.is_object()) return Wrong(field, "must be a map with objectName and secretPath");
  Object object;
  object.facts = facts;
  for (const auto& [name, value] : entry.items()) {
    const std::string key(std::string_view{name});
    const std::string where = StrCat(field, ".", key);
    if (value.is_null()) continue;
    if (key == "secretArgs") {
      if (!value.is_object()) return Wrong(where, "must be a map");
      object.args = value;
      continue;
    }
    absl::Status set;
    if (key == "keys") {
      set = SetKeys(value, &object);
    } else if (key == "bundle") {
      set = SetBundle(value, &object);
    } else if (value.is_array() && key.starts_with("allow")) {
      set = SetAllowed(key, value, &object);
    } else if (!value.is_string()) {
      set = absl::InvalidArgumentError("must be text");
    } else {
      set = SetObjectField(key, value.get_ref<const SecretString&>(), &object);
    }
    if (!set.ok()) return Wrong(where, Message(set));
  }
  const absl::Status named = CheckObjectName(object.name);
  if (!named.ok()) return Wrong(StrCat(field, ".objectName"), Message(named));
  if (object.path.empty()) return Wrong(StrCat(field, ".secretPath"), "is missing");
  RETURN_IF_ERROR(CheckTogether(object, field));
  return object;
}

}  // namespace

bool HasControlCharacter(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

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

absl::Status CheckFilePath(std::string_view path) {
  RETURN_IF_ERROR(CheckPath(path));
  for (const std::string_view segment : Split(path, '/')) {
    if (segment.starts_with("..")) {
      return absl::InvalidArgumentError("must not have a part that starts with \"..\"");
    }
    if (segment.size() > 255) {
      return absl::InvalidArgumentError("has a part that is longer than 255 bytes");
    }
  }
  if (path.size() > 4000) return absl::InvalidArgumentError("is longer than 4000 bytes");
  return absl::OkStatus();
}

absl::StatusOr<bool> ParseBool(std::string_view text) {
  if (const std::optional<bool> parsed = ParseGoBool(text)) return *parsed;
  return absl::InvalidArgumentError("must be true or false");
}

absl::StatusOr<bool> SetFileFact(std::string_view field, std::string_view text, FileFacts* facts) {
  if (field == "filePermission") {
    RETURN_IF_ERROR(SetMode(text, facts));
  } else if (field == "owner") {
    RETURN_IF_ERROR(SetId(text, &facts->owner));
  } else if (field == "group") {
    RETURN_IF_ERROR(SetId(text, &facts->group));
  } else {
    return SetAccessRule(field, text, &facts->access);
  }
  return true;
}

std::optional<Clash> FindClash(const ObjectOfFile& files) {
  for (const ObjectOfFile::value_type& file : files) {
    const std::string_view path = file.first;
    for (auto slash = path.find('/'); slash != path.npos; slash = path.find('/', slash + 1)) {
      const auto above = files.find(path.substr(0, slash));
      if (above != files.end()) return Clash{file, *above};
    }
  }
  return std::nullopt;
}

absl::StatusOr<std::vector<Object>> ParseObjects(const std::string& text, const FileFacts& facts) {
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
    ASSIGN_OR_RETURN(Object object, ParseObject(entry, field, facts));
    if (!names.insert(object.name).second) {
      return Wrong(StrCat(field, ".objectName"), StrCat("\"", object.name, "\" comes twice"));
    }
    objects.push_back(std::move(object));
  }
  if (objects.empty()) return Wrong(kField, "is an empty list: name at least one object");
  ObjectOfFile files;  // as far as they are known before anything is read
  for (const Object& object : objects) {
    const bool known = !object.many_paths() && !object.file_per_key() && !object.optional;
    if (known) files.emplace(OneFile(object), object.name);
  }
  if (const auto clash = FindClash(files)) {
    return Wrong(kField,
                 StrCat("\"", clash->below.second, "\" can't make ", clash->below.first, ": ",
                        clash->above.first, " is the file of \"", clash->above.second, "\""));
  }
  return objects;
}

}  // namespace coffer::provider
