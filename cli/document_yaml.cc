// YAML by hand: yaml-cpp's emitter leaves "true" and "123" unquoted where the value is a text, and
// keeps what it writes in plain memory.
#include "cli/document.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Whether a YAML 1.1 reader would take the plain text for something other than a text.
bool ReadsAsOther(std::string_view text) {
  static constexpr std::string_view kWords[] = {"~",   "null", "true", "false", "yes",
                                                "no",  "on",   "off",  "y",     "n",
                                                "nan", ".nan", "inf",  ".inf",  "<<"};
  if (text.empty() || text == "=") return true;
  std::string_view bare = text;
  if (bare[0] == '+' || bare[0] == '-') bare.remove_prefix(1);
  for (std::string_view word : kWords) {
    if (bare.size() == word.size() &&
        std::equal(bare.begin(), bare.end(), word.begin(),
                   [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; })) {
      return true;
    }
  }
  // Numbers (also 0x1f, 1_000, 1e3, .5, 1:30:00) and dates start with a digit or ".<digit>" and have
  // no character that such forms don't.
  if (bare.empty()) return false;
  if (!IsDigit(bare[0]) && !(bare[0] == '.' && bare.size() > 1 && IsDigit(bare[1]))) return false;
  return bare.find_first_not_of("0123456789abcdefABCDEFoxX_+-.:eETZtz ") == std::string_view::npos;
}

bool HasControl(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
}

// Whether a text can't stand plain in a block: indicators at its start, ": " or " #" inside, spaces
// at its ends.
bool NeedsQuotes(std::string_view text) {
  if (std::string_view("-?:,[]{}#&*!|>'\"%@`").find(text[0]) != std::string_view::npos) {
    const bool indicator_alone = (text[0] == '-' || text[0] == '?' || text[0] == ':') &&
                                 text.size() > 1 && text[1] != ' ';
    if (!indicator_alone || text == "---" || text.starts_with("--- ")) return true;
  }
  return text.front() == ' ' || text.back() == ' ' || text.back() == ':' ||
         text.find(": ") != std::string_view::npos || text.find(" #") != std::string_view::npos;
}

void AppendIndent(int depth, SecretBytes& out) {
  for (int i = 0; i < depth; ++i) out.Append("  ");
}

// Lines as they are, behind "|": kept apart from what a text without control characters needs.
bool FitsLiteral(std::string_view text) {
  if (text.find('\n') == std::string_view::npos || text[0] == ' ' || text[0] == '\n') return false;
  for (std::string_view line : Split(text, '\n')) {
    if (HasControl(line) || (!line.empty() && line.back() == ' ')) return false;
  }
  return true;
}

void AppendLiteral(std::string_view text, int depth, SecretBytes& out) {
  out.Append("|");
  std::size_t ends = 0;
  while (text.ends_with('\n')) {
    text.remove_suffix(1);
    ++ends;
  }
  if (ends != 1) out.Append(ends == 0 ? "-" : "+");
  for (std::string_view line : Split(text, '\n')) {
    out.Append("\n");
    if (line.empty()) continue;
    AppendIndent(std::max(depth, 1), out);
    out.Append(line);
  }
  for (; ends > 1; --ends) out.Append("\n");
}

void AppendText(std::string_view text, int depth, SecretBytes& out) {
  if (!text.empty() && FitsLiteral(text)) return AppendLiteral(text, depth, out);
  if (ReadsAsOther(text) || HasControl(text)) {
    // A JSON string is a YAML double-quoted one.
    return out.Append(DumpJson(Json(Json::string_t(text))).view());
  }
  if (!NeedsQuotes(text)) return out.Append(text);
  out.Append("'");
  for (;;) {
    const std::size_t at = text.find('\'');
    out.Append(text.substr(0, at));
    if (at == std::string_view::npos) break;
    out.Append("''");
    text.remove_prefix(at + 1);
  }
  out.Append("'");
}

void AppendBlock(const Json& value, int depth, SecretBytes& out);

// What stands behind "key:" or "-": on the same line, or a block below it.
void AppendMember(const Json& value, int depth, bool in_list, SecretBytes& out) {
  if (value.is_structured() && !value.empty()) {
    if (in_list) {
      out.Append(" ");
      return AppendBlock(value, depth + 1, out);
    }
    // A list under a key isn't indented further, as Go's yaml prints it.
    const int inner = value.is_array() ? depth : depth + 1;
    out.Append("\n");
    AppendIndent(inner, out);
    return AppendBlock(value, inner, out);
  }
  out.Append(" ");
  if (value.is_string()) {
    AppendText(value.get_ref<const Json::string_t&>(), depth + 1, out);
  } else {
    out.Append(DumpJson(value).view());  // also [] and {}
  }
}

void AppendBlock(const Json& value, int depth, SecretBytes& out) {
  bool first = true;
  for (const auto& [key, member] : value.items()) {
    if (!std::exchange(first, false)) {
      out.Append("\n");
      AppendIndent(depth, out);
    }
    if (value.is_array()) {
      out.Append("-");
    } else {
      AppendText(std::string_view(key), depth, out);
      out.Append(":");
    }
    AppendMember(member, depth, value.is_array(), out);
  }
}

}  // namespace

SecretBytes PrintYaml(const Json& document) {
  SecretBytes out;
  if (document.is_structured() && !document.empty()) {
    AppendBlock(document, 0, out);
  } else if (document.is_string()) {
    AppendText(document.get_ref<const Json::string_t&>(), 0, out);
  } else {
    out.Append(DumpJson(document).view());
  }
  return out;
}

}  // namespace coffer::cli
