#include "provider/format.h"

#include <algorithm>
#include <set>

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::provider {
namespace {

bool IsNameByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

std::string EnvName(std::string_view key) {
  std::string name(key);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !IsNameByte(c); }, '_');
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) name.insert(0, "_");
  return name;
}

void AppendEnvValue(std::string_view value, SecretBytes* out) {
  const bool bare = std::all_of(value.begin(), value.end(), [](char c) {
    return IsNameByte(c) || std::string_view("./:@%+,=-").find(c) != std::string_view::npos;
  });
  if (bare) return out->Append(value);
  const bool single = value.find('\'') == value.npos;
  const std::string_view quote = single ? "'" : "\"";
  out->Append(quote);
  for (const char& c : value) {
    if (!single && std::string_view("\\\"$`").find(c) != std::string_view::npos) out->Append("\\");
    out->Append(std::string_view(&c, 1));
  }
  out->Append(quote);
}

// One code point of UTF-8 off the front; a byte that isn't UTF-8 stands for itself, as Latin-1.
std::uint32_t TakeCodePoint(std::string_view* text) {
  const auto first = static_cast<unsigned char>(text->front());
  const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
  std::uint32_t point = size == 1 ? first : first & (0x7fu >> size);
  if (size > text->size()) {
    text->remove_prefix(1);
    return first;
  }
  for (std::size_t i = 1; i < size; ++i) {
    point = point << 6 | (static_cast<unsigned char>((*text)[i]) & 0x3f);
  }
  text->remove_prefix(size);
  return point;
}

void AppendUnicode(std::uint32_t unit, SecretBytes* out) {
  char text[6] = {'\\', 'u'};
  for (int i = 0; i < 4; ++i) text[2 + i] = "0123456789abcdef"[unit >> (12 - 4 * i) & 15];
  out->Append(std::string_view(text, sizeof(text)));
}

void AppendProperty(std::string_view text, bool key, SecretBytes* out) {
  for (bool first = true; !text.empty(); first = false) {
    const std::uint32_t point = TakeCodePoint(&text);
    if (point == '\n') {
      out->Append("\\n");
    } else if (point == '\r') {
      out->Append("\\r");
    } else if (point == '\t') {
      out->Append("\\t");
    } else if (point >= 0x10000) {
      AppendUnicode(0xd800 + ((point - 0x10000) >> 10), out);
      AppendUnicode(0xdc00 + ((point - 0x10000) & 0x3ff), out);
    } else if (point < 0x20 || point > 0x7e) {
      AppendUnicode(point, out);
    } else {
      const char c = static_cast<char>(point);
      const bool escaped = c == '\\' || (c == ' ' && (key || first)) ||
                           (key && std::string_view("=:#!").find(c) != std::string_view::npos);
      if (escaped) out->Append("\\");
      out->Append(std::string_view(&c, 1));
    }
  }
}

absl::Status AppendEnv(const Json& data, SecretBytes* out) {
  std::set<std::string> names;
  for (const auto& [key, value] : data.items()) {
    const std::string name = EnvName(std::string_view(key));
    if (!names.insert(name).second) {
      return absl::FailedPreconditionError(StrCat(
          "two keys would be called ", name, " in an env file: choose the keys with `keys`"));
    }
    const SecretBytes text = ValueText(value);
    if (text.view().find('\0') != std::string_view::npos) {
      return absl::FailedPreconditionError(
          StrCat("key \"", std::string_view(key), "\" has a NUL in it, which env files can't have"));
    }
    out->Append(name);
    out->Append("=");
    AppendEnvValue(text.view(), out);
    out->Append("\n");
  }
  return absl::OkStatus();
}

}  // namespace

SecretBytes ValueText(const Json& value) {
  return value.is_string() ? SecretBytes::CopyOf(value.get_ref<const SecretString&>())
                           : DumpJson(value);
}

absl::StatusOr<SecretBytes> FormatSecret(const Json& data, Format format) {
  if (format == Format::kJson || format == Format::kNone) return DumpJson(data);
  SecretBytes out;
  if (format == Format::kEnv) {
    RETURN_IF_ERROR(AppendEnv(data, &out));
    return out;
  }
  for (const auto& [key, value] : data.items()) {
    if (format == Format::kYaml) {
      out.Append(DumpJson(Json(key)).view());
      out.Append(": ");
      out.Append(DumpJson(value).view());
    } else {
      AppendProperty(key, true, &out);
      out.Append("=");
      AppendProperty(ValueText(value).view(), false, &out);
    }
    out.Append("\n");
  }
  if (data.empty() && format == Format::kYaml) out.Append("{}\n");
  return out;
}

}  // namespace coffer::provider
