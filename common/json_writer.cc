#include "common/json_writer.h"

#include <array>
#include <charconv>
#include <cmath>

#include "common/utf8.h"

namespace coffer {
namespace {

// Bytes of a string that stand for themselves.
constexpr auto kPlain = [] {
  std::array<bool, 256> plain{};
  for (int c = 0x20; c < 0x80; ++c) plain[c] = c != '"' && c != '\\';
  return plain;
}();

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

std::string_view DigitsOf(auto number, std::array<char, 32>* room) {
  const char* end = std::to_chars(room->data(), room->data() + room->size(), number).ptr;
  return {room->data(), static_cast<std::size_t>(end - room->data())};
}

template <class Integer>
void AppendInteger(Integer number, SecretBytes* out) {
  std::array<char, 32> room;
  out->Append(DigitsOf(number, &room));
}

// As Go's encoding/json: the fewest digits that are read as the same number, and no exponent from
// 1e-6 to 1e21.
void AppendDouble(double number, SecretBytes* out) {
  if (!std::isfinite(number)) return out->Append("null");
  std::array<char, 32> room;
  const char* end = std::to_chars(room.data(), room.data() + room.size(), std::abs(number),
                                  std::chars_format::scientific).ptr;
  const std::string_view text(room.data(), static_cast<std::size_t>(end - room.data()));
  const std::size_t e = text.find('e');
  int exponent = 0;
  std::from_chars(text.data() + e + (text[e + 1] == '+' ? 2 : 1), end, exponent);
  const std::string_view first = text.substr(0, 1);
  const std::string_view more = text.substr(0, e).substr(e > 1 ? 2 : 1);  // behind the point

  if (std::signbit(number)) out->Append("-");
  if (exponent < -6 || exponent >= 21) {
    out->Append(text.substr(0, e + 2));
    AppendInteger(std::abs(exponent), out);  // without to_chars' leading zero
  } else if (exponent < 0) {
    out->Append("0.");
    out->Append(std::string(static_cast<std::size_t>(-exponent - 1), '0'));
    out->Append(first);
    out->Append(more);
  } else {
    const auto whole = static_cast<std::size_t>(exponent);  // digits of `more` before the point
    out->Append(first);
    out->Append(more.substr(0, whole));
    if (more.size() < whole) out->Append(std::string(whole - more.size(), '0'));
    if (more.size() > whole) {
      out->Append(".");
      out->Append(more.substr(whole));
    }
  }
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

void AppendJsonInteger(std::int64_t number, SecretBytes* out) { AppendInteger(number, out); }

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
    case Json::value_t::number_integer: return AppendInteger(document.get<std::int64_t>(), out);
    case Json::value_t::number_unsigned: return AppendInteger(document.get<std::uint64_t>(), out);
    case Json::value_t::number_float: return AppendDouble(document.get<double>(), out);
    default: return out->Append("null");
  }
}

SecretBytes DumpJson(const Json& document) {
  SecretBytes text;
  AppendJson(document, &text);
  return text;
}

void AppendJsonMembers(const Json& object, SecretBytes* out) {
  for (auto member = object.begin(); member != object.end(); ++member) {
    out->Append(",");
    AppendJsonString(member.key(), out);
    out->Append(":");
    AppendJson(member.value(), out);
  }
}

}  // namespace coffer
