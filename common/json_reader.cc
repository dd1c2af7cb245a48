// Reads JSON into secret memory. nlohmann's own reader keeps a copy of the token at hand in plain
// memory, which is where a password would stay; this one copies from the text into the document and
// nowhere else.
//
//   value  = object | array | string | number | "true" | "false" | "null"      RFC 8259
#include <charconv>

#include "common/json.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/utf8.h"

namespace coffer {
namespace {

constexpr int kMaxDepth = 64;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

void AppendUtf8(std::uint32_t code, SecretString* out) {
  const auto tail = [code](int shift) { return static_cast<char>(0x80 | (code >> shift & 0x3f)); };
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out->append({static_cast<char>(0xc0 | code >> 6), tail(0)});
  } else if (code < 0x10000) {
    out->append({static_cast<char>(0xe0 | code >> 12), tail(6), tail(0)});
  } else {
    out->append({static_cast<char>(0xf0 | code >> 18), tail(12), tail(6), tail(0)});
  }
}

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  absl::StatusOr<Json> ReadDocument() {
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;  // a byte order mark
    Json document;
    RETURN_IF_ERROR(ReadValue(0, &document));
    SkipSpace();
    if (at_ < text_.size()) return Wrong();
    return document;
  }

 private:
  // At the byte that can't follow what is before it.
  absl::Status Wrong() const {
    return absl::InvalidArgumentError(StrCat("not valid JSON: wrong at byte ", at_ + 1));
  }

  // 0 at the end, where a NUL could not stand either.
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void SkipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' ||
                                  text_[at_] == '\t')) {
      ++at_;
    }
  }

  absl::Status Expect(std::string_view word) {
    for (const char c : word) {
      if (Peek() != c) return Wrong();
      ++at_;
    }
    return absl::OkStatus();
  }

  absl::Status ReadWord(std::string_view word, Json meaning, Json* out) {
    *out = std::move(meaning);
    return Expect(word);
  }

  // `depth`: how many objects and arrays this one is in.
  absl::Status ReadValue(int depth, Json* out) {
    SkipSpace();
    switch (Peek()) {
      case '{': return ReadObject(depth + 1, out);
      case '[': return ReadArray(depth + 1, out);
      case '"':
        *out = SecretString();
        return ReadString(out->get_ptr<SecretString*>());
      case 't': return ReadWord("true", true, out);
      case 'f': return ReadWord("false", false, out);
      case 'n': return ReadWord("null", nullptr, out);
      default: return ReadNumber(out);
    }
  }

  static absl::Status CheckDepth(int depth) {
    if (depth <= kMaxDepth) return absl::OkStatus();
    return absl::InvalidArgumentError(
        StrCat("not valid JSON: nested deeper than ", kMaxDepth, " levels"));
  }

  // After "{" or a member: whether there is another. The first may be missing, a later one not.
  absl::StatusOr<bool> More(bool first, char end) {
    SkipSpace();
    if (Peek() == end) {
      ++at_;
      return false;
    }
    if (!first) {
      RETURN_IF_ERROR(Expect(","));
      SkipSpace();
    }
    return true;
  }

  absl::Status ReadObject(int depth, Json* out) {
    RETURN_IF_ERROR(CheckDepth(depth));
    ++at_;
    *out = Json::object();
    auto& members = *out->get_ptr<Json::object_t*>();
    for (bool first = true;; first = false) {
      ASSIGN_OR_RETURN(const bool more, More(first, '}'));
      if (!more) return absl::OkStatus();
      SecretString name;
      RETURN_IF_ERROR(ReadString(&name));
      SkipSpace();
      RETURN_IF_ERROR(Expect(":"));
      // Of members with one name the last counts.
      RETURN_IF_ERROR(ReadValue(depth, &members[std::move(name)]));
    }
  }

  absl::Status ReadArray(int depth, Json* out) {
    RETURN_IF_ERROR(CheckDepth(depth));
    ++at_;
    *out = Json::array();
    auto& elements = *out->get_ptr<Json::array_t*>();
    for (bool first = true;; first = false) {
      ASSIGN_OR_RETURN(const bool more, More(first, ']'));
      if (!more) return absl::OkStatus();
      elements.emplace_back();
      RETURN_IF_ERROR(ReadValue(depth, &elements.back()));
    }
  }

  // Into an empty string.
  absl::Status ReadString(SecretString* out) {
    RETURN_IF_ERROR(Expect("\""));
    for (;;) {
      const std::size_t start = at_;
      while (at_ < text_.size()) {
        const auto c = static_cast<unsigned char>(text_[at_]);
        if (c == '"' || c == '\\' || c < 0x20) break;
        const std::size_t length = c < 0x80 ? 1 : Utf8Length(text_.substr(at_));
        if (length == 0) return Wrong();
        at_ += length;
      }
      out->append(text_.substr(start, at_ - start));
      const char c = Peek();
      if (c == '"') {
        ++at_;
        return absl::OkStatus();
      }
      if (c != '\\') return Wrong();  // a control character, or the end
      ++at_;
      RETURN_IF_ERROR(ReadEscape(out));
    }
  }

  absl::Status ReadEscape(SecretString* out) {
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    const char c = Peek();
    if (c != 'u') {
      const std::size_t found = kNames.find(c);
      if (found == kNames.npos) return Wrong();
      ++at_;
      out->push_back(kMeanings[found]);
      return absl::OkStatus();
    }
    ++at_;
    ASSIGN_OR_RETURN(std::uint32_t code, ReadHex());
    if (code >= 0xd800 && code <= 0xdbff) {  // the first of a surrogate pair
      RETURN_IF_ERROR(Expect("\\u"));
      ASSIGN_OR_RETURN(const std::uint32_t second, ReadHex());
      if (second < 0xdc00 || second > 0xdfff) return Wrong();
      code = 0x10000 + ((code - 0xd800) << 10) + (second - 0xdc00);
    } else if (code >= 0xdc00 && code <= 0xdfff) {
      return Wrong();
    }
    AppendUtf8(code, out);
    return absl::OkStatus();
  }

  absl::StatusOr<std::uint32_t> ReadHex() {
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = Peek();
      const int digit = IsDigit(c)               ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return Wrong();
      code = code << 4 | static_cast<std::uint32_t>(digit);
      ++at_;
    }
    return code;
  }

  absl::Status SkipDigits() {
    if (!IsDigit(Peek())) return Wrong();
    while (IsDigit(Peek())) ++at_;
    return absl::OkStatus();
  }

  // An integer where it is written as one and has 64 bits, else a double.
  absl::Status ReadNumber(Json* out) {
    const char* first = text_.data() + at_;
    const bool negative = Peek() == '-';
    if (negative) ++at_;
    if (Peek() == '0') {
      ++at_;
    } else {
      RETURN_IF_ERROR(SkipDigits());
    }
    bool integer = true;
    if (Peek() == '.') {
      integer = false;
      ++at_;
      RETURN_IF_ERROR(SkipDigits());
    }
    if (Peek() == 'e' || Peek() == 'E') {
      integer = false;
      ++at_;
      if (Peek() == '+' || Peek() == '-') ++at_;
      RETURN_IF_ERROR(SkipDigits());
    }
    const char* last = text_.data() + at_;
    if (integer && negative && Convert<std::int64_t>(first, last, out)) return absl::OkStatus();
    if (integer && !negative && Convert<std::uint64_t>(first, last, out)) return absl::OkStatus();
    if (Convert<double>(first, last, out)) return absl::OkStatus();
    return absl::InvalidArgumentError("not valid JSON: a number is out of range");
  }

  template <class Number>
  static bool Convert(const char* first, const char* last, Json* out) {
    Number number = 0;
    if (std::from_chars(first, last, number).ec != std::errc()) return false;
    *out = number;
    return true;
  }

  const std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text) { return JsonReader(text).ReadDocument(); }

}  // namespace coffer
