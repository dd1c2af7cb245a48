#include "cli/values.h"

#include "absl/time/time.h"
#include "common/duration.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr std::size_t kLineWidth = 78;

void Append(const Json& value, SecretBytes& out) {
  if (value.is_null()) return out.Append("<nil>");
  if (value.is_string()) return out.Append(value.get_ref<const Json::string_t&>());
  if (!value.is_structured()) return out.Append(DumpJson(value).view());
  out.Append(value.is_array() ? "[" : "map[");
  bool first = true;
  for (const auto& [key, member] : value.items()) {
    if (!std::exchange(first, false)) out.Append(" ");
    if (value.is_object()) {
      out.Append(key);
      out.Append(":");
    }
    Append(member, out);
  }
  out.Append("]");
}

bool LooksLikeDuration(std::string_view key) {
  for (std::string_view word : {"period", "ttl", "duration"}) {
    if (key == word) return true;
    if (key.ends_with(word) && key[key.size() - word.size() - 1] == '_') return true;
  }
  return key == "lease_max" || key == "ttl_max";
}

}  // namespace

const Json& At(const Json& object, std::string_view name) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(name);
  return found == object.end() ? kNull : *found;
}

std::string_view TextAt(const Json& object, std::string_view name) {
  const Json& member = At(object, name);
  return member.is_string() ? std::string_view(member.get_ref<const Json::string_t&>()) : "";
}

std::int64_t IntegerAt(const Json& object, std::string_view name) {
  const Json& member = At(object, name);
  return member.is_number() ? member.get<std::int64_t>() : 0;
}

bool TrueAt(const Json& object, std::string_view name) {
  const Json& member = At(object, name);
  return member.is_boolean() && member.get<bool>();
}

SecretBytes PrintValue(const Json& value) {
  SecretBytes out;
  Append(value, out);
  return out;
}

SecretBytes PrintValueOf(std::string_view key, const Json& value) {
  if (value.is_number_integer() && LooksLikeDuration(key)) {
    return SecretBytes::CopyOf(PrintSeconds(value.get<std::int64_t>()));
  }
  return PrintValue(value);
}

SecretBytes PrintQuoted(const Json& list) {
  SecretBytes out;
  out.Append("[");
  for (const Json& item : list) {
    if (out.size() > 1) out.Append(" ");
    out.Append(DumpJson(item).view());
  }
  out.Append("]");
  return out;
}

std::string PrintSeconds(std::int64_t seconds) {
  std::string text = FormatGoDuration(absl::Seconds(seconds));
  if (text.ends_with("m0s")) text.resize(text.size() - 2);
  if (const std::size_t at = text.find("h0m"); at != std::string::npos) text.erase(at + 1, 2);
  return text;
}

std::string Wrapped(std::string_view text, std::size_t indent) {
  std::string out;
  std::size_t column = 0;
  for (std::string_view line : Split(text, '\n')) {
    if (!out.empty()) out += '\n';
    column = 0;
    for (std::string_view word : Split(line, ' ')) {
      if (word.empty()) continue;
      if (column != 0 && column + 1 + word.size() > kLineWidth - indent) {
        out += '\n';
        column = 0;
      }
      out.append(column == 0 ? indent : 1, ' ').append(word);
      column += word.size() + (column == 0 ? 0 : 1);
    }
  }
  return out;
}

std::string_view SanitizePath(std::string_view path) {
  path = Trim(path);
  while (path.starts_with('/')) path.remove_prefix(1);
  while (path.ends_with('/')) path.remove_suffix(1);
  return path;
}

std::string WithSlash(std::string_view path) {
  path = Trim(path);
  return path.empty() || path.ends_with('/') ? std::string(path) : StrCat(path, "/");
}

}  // namespace coffer::cli
