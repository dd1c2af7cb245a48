#include "keystore/http/json_writer.h"

#include <array>
#include <charconv>
#include <cmath>

namespace coffer::keystore {
namespace {

// Bytes of a string that stand for themselves.
constexpr auto kPlain = [] {
  std::array<bool, 256> plain{};
  for (int c = 0x20; c < 0x80; ++c) plain[c] = c != '"' && c != '\\';
  return plain;
}();

// The length of the well-formed UTF-8 sequence (RFC 3629) at the start of `text`, or 0.
std::size_t Utf8Length(std::string_view text) {
  const auto byte = [&text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const auto continues = [&byte](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i <= to; ++i) {
      if ((byte(i) & 0xc0) != 0x80) return false;
    }
    return true;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return continues(1, 1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    if (!continues(1, 2)) return 0;
    if (lead == 0xe0 && byte(1) < 0xa0) return 0;  // overlong
    if (lead == 0xed && byte(1) > 0x9f) return 0;  // a surrogate
    return 3;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    if (!continues(1, 3)) return 0;
    if (lead == 0xf0 && byte(1) < 0x90) return 0;  // overlong
    if (lead == 0xf4 && byte(1) > 0x8f) return 0;  // above U+10FFFF
    return 4;
  }
  return 0;
}

void AppendEscaped(unsigned char c, SecretBytes* out) {
  switch (c) {
    case '"': return out->Append("\\\"");
    case '\\': return out->Append("\\\\");
    case '\n': return out->Append("\\n");
    case '\r': return out->Append("\\r");
    case '\t': return out->Append("\\t");
    default: {
      constexpr std::string_view kHex = "0123456789abcdef";
      const std::array<char, 6> escape = {'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]};
      return out->Append(std::string_view(escape.data(), escape.size()));
    }
  }
}

template <class Number>
void AppendNumber(Number number, SecretBytes* out) {
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  out->Append(std::string_view(digits.data(), end - digits.data()));
}

}  // namespace

void AppendJsonString(std::string_view text, SecretBytes* out) {
  out->Append("\"");
  std::size_t start = 0;  // of what has not been written yet
  std::size_t i = 0;
  while (i < text.size()) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (kPlain[c]) {
      ++i;
      continue;
    }
    const std::size_t length = c >= 0x80 ? Utf8Length(text.substr(i)) : 0;
    if (length > 0) {
      i += length;
      continue;
    }
    out->Append(text.substr(start, i - start));
    if (c >= 0x80) {
      out->Append("\xef\xbf\xbd");
    } else {
      AppendEscaped(c, out);
    }
    start = ++i;
  }
  out->Append(text.substr(start));
  out->Append("\"");
}

void AppendJsonStrings(const std::vector<std::string>& texts, SecretBytes* out) {
  out->Append("[");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (i > 0) out->Append(",");
    AppendJsonString(texts[i], out);
  }
  out->Append("]");
}

void AppendJsonInteger(std::int64_t number, SecretBytes* out) { AppendNumber(number, out); }

void AppendJson(const Json& document, SecretBytes* out) {
  switch (document.type()) {
    case Json::value_t::object: {
      out->Append("{");
      bool first = true;
      for (auto member = document.begin(); member != document.end(); ++member) {
        if (!first) out->Append(",");
        first = false;
        AppendJsonString(member.key(), out);
        out->Append(":");
        AppendJson(member.value(), out);
      }
      return out->Append("}");
    }
    case Json::value_t::array: {
      out->Append("[");
      bool first = true;
      for (const Json& element : document) {
        if (!first) out->Append(",");
        first = false;
        AppendJson(element, out);
      }
      return out->Append("]");
    }
    case Json::value_t::string:
      return AppendJsonString(*document.get_ptr<const SecretString*>(), out);
    case Json::value_t::boolean: return out->Append(document.get<bool>() ? "true" : "false");
    case Json::value_t::number_integer: return AppendNumber(document.get<std::int64_t>(), out);
    case Json::value_t::number_unsigned: return AppendNumber(document.get<std::uint64_t>(), out);
    case Json::value_t::number_float: {
      const double number = document.get<double>();
      if (std::isfinite(number)) return AppendNumber(number, out);
      return out->Append("null");
    }
    default: return out->Append("null");
  }
}

void AppendJsonMembers(const Json& object, SecretBytes* out) {
  for (auto member = object.begin(); member != object.end(); ++member) {
    out->Append(",");
    AppendJsonString(member.key(), out);
    out->Append(":");
    AppendJson(member.value(), out);
  }
}

}  // namespace coffer::keystore
