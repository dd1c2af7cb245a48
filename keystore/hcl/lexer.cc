// HCL words: identifiers of letters, digits, "_", "-" and "."; "…" strings with Go's escapes;
// <<WORD and <<-WORD heredocs; decimal, hexadecimal and (leading 0) octal numbers; comments from #
// and // to the end of the line and between /* and */. JSON words are those of RFC 8259.
#include "keystore/hcl/lexer.h"

#include <charconv>

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::hcl {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool IsWordPart(char c) { return IsLetter(c) || IsDigit(c) || c == '-' || c == '.'; }

int HexValue(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void AppendUtf8(std::uint32_t rune, Json::string_t& out) {
  const auto tail = [rune](int shift) {
    return static_cast<char>(0x80 | ((rune >> shift) & 0x3f));
  };
  if (rune < 0x80) {
    out += static_cast<char>(rune);
  } else if (rune < 0x800) {
    out += static_cast<char>(0xc0 | (rune >> 6));
    out += tail(0);
  } else if (rune < 0x10000) {
    out += static_cast<char>(0xe0 | (rune >> 12));
    out += tail(6);
    out += tail(0);
  } else {
    out += static_cast<char>(0xf0 | (rune >> 18));
    out += tail(12);
    out += tail(6);
    out += tail(0);
  }
}

bool IsSurrogate(std::uint32_t rune) { return rune >= 0xd800 && rune < 0xe000; }

struct SimpleEscape {
  char name;
  char value;
  bool json;
};
constexpr SimpleEscape kEscapes[] = {{'"', '"', true},   {'\\', '\\', true}, {'b', '\b', true},
                                     {'f', '\f', true},  {'n', '\n', true},  {'r', '\r', true},
                                     {'t', '\t', true},  {'/', '/', true},   {'a', '\a', false},
                                     {'v', '\v', false}, {'\'', '\'', false}};

// -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?, the number of JSON.
bool IsJsonNumber(std::string_view text) {
  std::size_t i = text.starts_with('-') ? 1 : 0;
  const auto digits = [&] {
    const std::size_t start = i;
    while (i < text.size() && IsDigit(text[i])) ++i;
    return i - start;
  };
  const bool zero = i < text.size() && text[i] == '0';
  const std::size_t whole = digits();
  if (whole == 0 || (zero && whole > 1)) return false;
  if (i < text.size() && text[i] == '.') {
    ++i;
    if (digits() == 0) return false;
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (digits() == 0) return false;
  }
  return i == text.size();
}

// The whole of `text` as an integer of the base, with a sign in front if any.
std::optional<std::int64_t> Integer(std::string_view text, int base) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Hexadecimal (0x1f) and octal (0755), which JSON has not.
std::optional<std::int64_t> OtherBase(std::string_view text) {
  const bool negative = text.starts_with('-');
  std::string_view digits = text.substr(negative ? 1 : 0);
  if (digits.size() < 2 || digits[0] != '0') return std::nullopt;
  const bool hex = digits[1] == 'x' || digits[1] == 'X';
  digits.remove_prefix(hex ? 2 : 1);
  if (digits.empty() || HexValue(digits[0]) < 0) return std::nullopt;
  const std::optional<std::int64_t> value = Integer(digits, hex ? 16 : 8);
  if (!value) return std::nullopt;
  return negative ? -*value : *value;
}

constexpr struct {
  char character;
  Token::Kind kind;
} kPunctuation[] = {{'{', Token::Kind::kLeftBrace},   {'}', Token::Kind::kRightBrace},
                    {'[', Token::Kind::kLeftBracket}, {']', Token::Kind::kRightBracket},
                    {'=', Token::Kind::kAssign},      {':', Token::Kind::kColon},
                    {',', Token::Kind::kComma}};

}  // namespace

std::string_view TokenName(Token::Kind kind) {
  switch (kind) {
    case Token::Kind::kEnd:
      return "the end of the text";
    case Token::Kind::kWord:
      return "a word without quotes";
    case Token::Kind::kString:
      return "a string";
    case Token::Kind::kNumber:
      return "a number";
    case Token::Kind::kLeftBrace:
      return "'{'";
    case Token::Kind::kRightBrace:
      return "'}'";
    case Token::Kind::kLeftBracket:
      return "'['";
    case Token::Kind::kRightBracket:
      return "']'";
    case Token::Kind::kAssign:
      return "'='";
    case Token::Kind::kColon:
      return "':'";
    case Token::Kind::kComma:
      return "','";
  }
  return "";
}

char Lexer::Take() {
  const char c = text_[offset_++];
  if (c == '\n') {
    ++at_.line;
    at_.column = 1;
  } else if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) {  // not within a character
    ++at_.column;
  }
  return c;
}

absl::Status Lexer::SkipSpaceAndComments() {
  while (!done()) {
    const char c = peek();
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      Take();
    } else if (!json_ && (c == '#' || (c == '/' && peek(1) == '/'))) {
      while (!done() && peek() != '\n') Take();
    } else if (!json_ && c == '/' && peek(1) == '*') {
      const Position start = at_;
      const std::size_t end = text_.find("*/", offset_ + 2);
      if (end == std::string_view::npos) {
        return ErrorAt(start, "the comment that starts here has no end: expected */");
      }
      Take(end + 2 - offset_);
    } else {
      break;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Token> Lexer::Next() {
  RETURN_IF_ERROR(SkipSpaceAndComments());
  Token token;
  token.at = at_;
  if (done()) return token;
  const char c = peek();
  for (const auto& mark : kPunctuation) {
    if (mark.character == c) {
      Take();
      token.kind = mark.kind;
      return token;
    }
  }
  if (c == '"') {
    token.kind = Token::Kind::kString;
    ASSIGN_OR_RETURN(token.value, String());
  } else if (!json_ && c == '<' && peek(1) == '<') {
    token.kind = Token::Kind::kString;
    ASSIGN_OR_RETURN(token.value, Heredoc());
  } else if (IsDigit(c) || c == '-' || (!json_ && c == '.' && IsDigit(peek(1)))) {
    token.kind = Token::Kind::kNumber;
    ASSIGN_OR_RETURN(token.value, Number());
  } else if (IsLetter(c)) {
    token.kind = Token::Kind::kWord;
    token.word = Word();
  } else {
    return ErrorAt(at_, "a character that has no meaning here (strings need \"quotes\")");
  }
  return token;
}

std::string_view Lexer::Word() {
  const std::size_t start = offset_;
  while (!done() && IsWordPart(peek())) Take();
  return text_.substr(start, offset_ - start);
}

absl::StatusOr<Json> Lexer::String() {
  const Position start = at_;
  Json value = Json::string_t();
  auto& out = value.get_ref<Json::string_t&>();
  Take();
  while (true) {
    if (done()) return ErrorAt(start, "the string that starts here has no end: expected '\"'");
    const char c = peek();
    if (c == '\n' || (json_ && static_cast<unsigned char>(c) < 0x20)) {
      return ErrorAt(start, c == '\n' ? "the string that starts here isn't closed on its line"
                                      : "a control character in the string that starts here");
    }
    Take();
    if (c == '"') return value;
    if (c == '\\') {
      RETURN_IF_ERROR(Escape(out));
    } else {
      out += c;
    }
  }
}

absl::StatusOr<std::uint32_t> Lexer::HexDigits(int count) {
  std::uint32_t value = 0;
  for (int i = 0; i < count; ++i) {
    const int digit = HexValue(peek());
    if (digit < 0) {
      return ErrorAt(at_, StrCat("expected ", count, " hexadecimal digits in the escape"));
    }
    value = value << 4 | static_cast<std::uint32_t>(digit);
    Take();
  }
  return value;
}

// After the backslash.
absl::Status Lexer::Escape(Json::string_t& out) {
  const Position start = at_;
  const char name = peek();
  for (const SimpleEscape& escape : kEscapes) {
    if (name == escape.name && (escape.json || !json_)) {
      Take();
      out += escape.value;
      return absl::OkStatus();
    }
  }
  if (name != 'u' && (json_ || name != 'U')) {
    return ErrorAt(start, "an escape that isn't known (use \\\\ for a backslash)");
  }
  Take();
  ASSIGN_OR_RETURN(std::uint32_t rune, HexDigits(name == 'u' ? 4 : 8));
  if (json_ && IsSurrogate(rune) && rune < 0xdc00 && peek() == '\\' && peek(1) == 'u') {
    Take(2);
    ASSIGN_OR_RETURN(const std::uint32_t low, HexDigits(4));
    if (!IsSurrogate(low) || low < 0xdc00) return ErrorAt(start, "half of a surrogate pair");
    rune = 0x10000 + ((rune - 0xd800) << 10) + (low - 0xdc00);
  }
  if (IsSurrogate(rune) || rune > 0x10ffff) {
    return ErrorAt(start, "an escape that is no character");
  }
  AppendUtf8(rune, out);
  return absl::OkStatus();
}

// "<<" ["-"] WORD newline lines… WORD. With "-", what indents the last WORD is taken off every
// line, where all of them have it.
absl::StatusOr<Json> Lexer::Heredoc() {
  const Position start = at_;
  Take(2);
  const bool indented = peek() == '-';
  if (indented) Take();
  const std::string_view marker = Word();
  if (peek() == '\r') Take();
  if (marker.empty() || peek() != '\n') {
    return ErrorAt(start, "expected a word and the end of the line after <<");
  }
  Take();

  std::vector<std::string_view> lines;
  std::string_view indent;
  while (true) {
    if (done()) {
      return ErrorAt(start, StrCat("the text that starts here has no end: expected ", marker,
                                   " on a line of its own"));
    }
    const std::size_t end = std::min(text_.find('\n', offset_), text_.size());
    const std::string_view line = text_.substr(offset_, end - offset_);
    if (Trim(line) == marker) {
      indent = line.substr(0, line.find(marker));
      Take(indent.size() + marker.size());
      break;
    }
    lines.push_back(line);
    Take(std::min(end + 1, text_.size()) - offset_);
  }

  const bool strip = indented && std::all_of(lines.begin(), lines.end(),
                                             [&](auto line) { return line.starts_with(indent); });
  Json value = Json::string_t();
  auto& out = value.get_ref<Json::string_t&>();
  for (const std::string_view line : lines) {
    out += line.substr(strip ? indent.size() : 0);
    out += '\n';
  }
  return value;
}

absl::StatusOr<Json> Lexer::Number() {
  const Position start = at_;
  const std::size_t from = offset_;
  Take();
  while (!done()) {
    const char c = peek();
    const char before = text_[offset_ - 1];
    const bool sign = (c == '+' || c == '-') && (before == 'e' || before == 'E');
    if (!sign && !IsDigit(c) && !IsLetter(c) && c != '.') break;
    Take();
  }
  const std::string_view text = text_.substr(from, offset_ - from);
  if (!json_) {
    if (const auto value = OtherBase(text)) return Json(*value);
  }
  if (!IsJsonNumber(text)) return ErrorAt(start, "not a number (strings need \"quotes\")");
  if (text.find_first_of(".eE") == std::string_view::npos) {
    if (const auto value = Integer(text, 10)) return Json(*value);
    return ErrorAt(start, "a number that is out of range");
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return ErrorAt(start, "a number that is out of range");
  return Json(value);
}

}  // namespace coffer::hcl
