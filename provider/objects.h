// Object: one entry of a class's `objects`, checked: what to read, and which files become of it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/glob.h"
#include "common/json.h"
#include "provider/access_rules.h"

namespace coffer::provider {

enum class Encoding { kUtf8, kHex, kBase64 };

// How all keys of a secret, or the parts of a certificate, become one file.
enum class Format { kNone, kEnv, kJson, kYaml, kProperties, kPem, kPkcs12 };

// The keys of the parts of a bundle; "" = the usual ones, and no password.
struct BundleKeys {
  std::string certificate, chain, key, password;
};

// A template's literal text, or the name of a key whose value stands there.
struct TemplatePiece {
  bool is_key = false;
  std::string text;
};

struct FileFacts {
  std::uint32_t mode = 0644;           // permission bits
  std::optional<std::uint32_t> owner;  // unset: who the volume belongs to
  std::optional<std::uint32_t> group;
  AccessRules access;
};

struct Object {
  std::string name;            // its id; the file, unless `place` or `keys` say otherwise
  std::string path;            // below /v1/; segments may be globs, a last "**" all below
  std::string query;           // what came after "?" in secretPath
  std::string key;             // "" = all of it
  std::string method = "GET";  // GET, POST or PUT
  Json args;                   // the request's body, null = none
  Encoding encoding = Encoding::kUtf8;
  std::vector<std::string> keys;  // globs: which keys; empty = all
  Format format = Format::kNone;
  BundleKeys bundle;                    // of pem and pkcs12
  std::vector<TemplatePiece> pieces;    // of the template; empty = none
  std::string place;                    // the file, or the folder of the files; "" = as above
  FileFacts facts;
  bool optional = false;                // no file where the secret or key is absent
  std::optional<std::string> fallback;  // the content where it is absent

  bool many_paths() const { return IsGlob(path); }
  bool bundled() const { return format == Format::kPem || format == Format::kPkcs12; }
  // One file for each key.
  bool file_per_key() const {
    return !keys.empty() && format == Format::kNone && pieces.empty();
  }
};

// The `objects` parameter, a YAML list; `facts` hold where an entry is silent. At least one, names
// all different. InvalidArgument names the field from "spec.parameters.objects" on.
absl::StatusOr<std::vector<Object>> ParseObjects(const std::string& text, const FileFacts& facts);

// What SecretProviderClass parameters have in common; messages are what follows a field's name.
absl::StatusOr<bool> ParseBool(std::string_view text);
// Sets filePermission, owner, group or an access rule. False: another field.
absl::StatusOr<bool> SetFileFact(std::string_view field, std::string_view text, FileFacts* facts);
bool HasControlCharacter(std::string_view text);
// "/" parts, none empty, ".", or, for a file, longer than 255 bytes or starting with "..".
absl::Status CheckPath(std::string_view path);
absl::Status CheckFilePath(std::string_view path);
// The objects that make files, by the files' paths.
using ObjectOfFile = std::map<std::string, std::string, std::less<>>;
// A file that would lie in another one.
struct Clash {
  const ObjectOfFile::value_type& below;
  const ObjectOfFile::value_type& above;
};
std::optional<Clash> FindClash(const ObjectOfFile& files);

}  // namespace coffer::provider
