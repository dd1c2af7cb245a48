// HCL:  document = item*            object = "{" (item [","])* "}"
//       item     = key+ object | key "=" value        key = word | string
//       value    = string | number | word true or false | object | "[" value ("," value)* [","] "]"
// JSON: RFC 8259, the document being an object; a member is an item with one key.
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/hcl/hcl.h"
#include "keystore/hcl/lexer.h"

namespace coffer::hcl {
namespace {

using Kind = Token::Kind;

class Parser {
 public:
  Parser(std::string_view text, bool json) : lexer_(text, json), json_(json) {
    token_.at.line = 0;  // what is before the text isn't on its first line
  }

  absl::StatusOr<Value> Document();

 private:
  absl::Status Advance() {
    previous_ = {token_.kind, token_.at.line};
    ASSIGN_OR_RETURN(token_, lexer_.Next());
    return absl::OkStatus();
  }
  absl::Status Expected(std::string_view what) const {
    return ErrorAt(token_.at, StrCat("expected ", what, ", found ", TokenName(token_.kind)));
  }
  // How messages call the setting whose name is at hand. In HCL a quote that was forgotten or not
  // escaped makes a piece of the value before look like a name, so what stands on the line of a
  // value is not repeated.
  std::string NameShown() const;

  absl::Status HclMembers(Kind end, int depth, std::vector<Item>& members);
  absl::Status JsonMembers(int depth, std::vector<Item>& members);
  absl::StatusOr<Item> HclItem(int depth);
  absl::StatusOr<Value> ParseValue(const std::string& name, int depth);
  absl::StatusOr<Value> Object(int depth);
  absl::StatusOr<Value> List(const std::string& name, int depth);
  absl::StatusOr<Value> WordValue(const std::string& name);
  Key TakeKey() const;

  Lexer lexer_;
  const bool json_;
  Token token_;
  struct {
    Kind kind = Kind::kEnd;
    int line = 0;
  } previous_;
};

constexpr std::size_t kMaxKeys = 3;

absl::StatusOr<Value> Parser::Document() {
  RETURN_IF_ERROR(Advance());
  Value document;
  document.kind = Value::Kind::kObject;
  if (!json_) {
    RETURN_IF_ERROR(HclMembers(Kind::kEnd, 0, document.members));
    return document;
  }
  ASSIGN_OR_RETURN(document, Object(1));
  if (token_.kind != Kind::kEnd) return Expected("the end of the JSON text");
  return document;
}

Key Parser::TakeKey() const {
  if (token_.kind == Kind::kWord) return {std::string(token_.word), token_.at};
  return {std::string(std::string_view(token_.value.get_ref<const Json::string_t&>())), token_.at};
}

std::string Parser::NameShown() const {
  const bool after_value = previous_.line == token_.at.line && previous_.kind != Kind::kLeftBrace &&
                           previous_.kind != Kind::kComma;
  return after_value ? "this name" : StrCat("\"", TakeKey().text, "\"");
}

absl::Status Parser::HclMembers(Kind end, int depth, std::vector<Item>& members) {
  while (token_.kind != end) {
    ASSIGN_OR_RETURN(Item item, HclItem(depth));
    members.push_back(std::move(item));
    if (end == Kind::kRightBrace && token_.kind == Kind::kComma) RETURN_IF_ERROR(Advance());
  }
  return absl::OkStatus();
}

absl::StatusOr<Item> Parser::HclItem(int depth) {
  Item item;
  std::string name;
  while (token_.kind == Kind::kWord || token_.kind == Kind::kString) {
    if (item.keys.size() == kMaxKeys) return Expected(StrCat("'{' after the labels of ", name));
    if (item.keys.empty()) name = NameShown();
    item.keys.push_back(TakeKey());
    RETURN_IF_ERROR(Advance());
  }
  if (item.keys.empty()) {
    return Expected(depth == 0 ? "the name of a setting or block" : "a name or '}'");
  }
  if (token_.kind == Kind::kAssign && item.keys.size() == 1) {
    RETURN_IF_ERROR(Advance());
    ASSIGN_OR_RETURN(item.value, ParseValue(name, depth + 1));
    return item;
  }
  if (token_.kind != Kind::kLeftBrace) {
    return Expected(item.keys.size() == 1 ? StrCat("'=' or '{' after ", name)
                                          : StrCat("'{' after the label of ", name));
  }
  ASSIGN_OR_RETURN(item.value, Object(depth + 1));
  return item;
}

absl::Status Parser::JsonMembers(int depth, std::vector<Item>& members) {
  if (token_.kind == Kind::kRightBrace) return absl::OkStatus();
  while (true) {
    if (token_.kind != Kind::kString) return Expected("a name in quotes");
    Item item;
    item.keys.push_back(TakeKey());
    const std::string name = StrCat("\"", item.name(), "\"");
    RETURN_IF_ERROR(Advance());
    if (token_.kind != Kind::kColon) return Expected("':' after the name");
    RETURN_IF_ERROR(Advance());
    ASSIGN_OR_RETURN(item.value, ParseValue(name, depth + 1));
    members.push_back(std::move(item));
    if (token_.kind == Kind::kRightBrace) return absl::OkStatus();
    if (token_.kind != Kind::kComma)
      return Expected(StrCat("',' or '}' after the value of ", name));
    RETURN_IF_ERROR(Advance());
  }
}

absl::StatusOr<Value> Parser::Object(int depth) {
  if (depth > kMaxDepth) {
    return ErrorAt(token_.at, StrCat("nested deeper than ", kMaxDepth, " levels"));
  }
  Value value;
  value.kind = Value::Kind::kObject;
  value.at = token_.at;
  if (token_.kind != Kind::kLeftBrace) return Expected("'{'");
  RETURN_IF_ERROR(Advance());
  RETURN_IF_ERROR(json_ ? JsonMembers(depth, value.members)
                        : HclMembers(Kind::kRightBrace, depth, value.members));
  RETURN_IF_ERROR(Advance());
  return value;
}

absl::StatusOr<Value> Parser::List(const std::string& name, int depth) {
  if (depth > kMaxDepth) {
    return ErrorAt(token_.at, StrCat("nested deeper than ", kMaxDepth, " levels"));
  }
  Value value;
  value.kind = Value::Kind::kList;
  value.at = token_.at;
  RETURN_IF_ERROR(Advance());
  while (token_.kind != Kind::kRightBracket || (json_ && !value.list.empty())) {
    ASSIGN_OR_RETURN(Value element, ParseValue(name, depth + 1));
    value.list.push_back(std::move(element));
    if (token_.kind == Kind::kRightBracket) break;
    if (token_.kind != Kind::kComma) {
      return Expected(StrCat("',' or ']' in the list of ", name));
    }
    RETURN_IF_ERROR(Advance());
  }
  RETURN_IF_ERROR(Advance());
  return value;
}

absl::StatusOr<Value> Parser::WordValue(const std::string& name) {
  Value value;
  value.at = token_.at;
  if (token_.word == "true" || token_.word == "false") {
    value.kind = Value::Kind::kBoolean;
    value.scalar = token_.word == "true";
  } else if (!json_ || token_.word != "null") {
    return ErrorAt(token_.at, StrCat("expected a value for ", name,
                                     ", found a word (strings need \"quotes\")"));
  }
  RETURN_IF_ERROR(Advance());
  return value;
}

absl::StatusOr<Value> Parser::ParseValue(const std::string& name, int depth) {
  switch (token_.kind) {
    case Kind::kLeftBrace:
      return Object(depth);
    case Kind::kLeftBracket:
      return List(name, depth);
    case Kind::kWord:
      return WordValue(name);
    case Kind::kString:
    case Kind::kNumber: {
      Value value;
      value.kind = token_.kind == Kind::kString ? Value::Kind::kString : Value::Kind::kNumber;
      value.at = token_.at;
      value.scalar = std::move(token_.value);
      RETURN_IF_ERROR(Advance());
      return value;
    }
    default:
      return Expected(StrCat("a value for ", name));
  }
}

// The number of bytes of the character at the start of `text`, 0 where it is not UTF-8.
std::size_t CharacterSize(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const std::size_t size = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what is beyond Unicode.
  if (byte(0) == 0xe0 && byte(1) < 0xa0) return 0;
  if (byte(0) == 0xed && byte(1) > 0x9f) return 0;
  if (byte(0) == 0xf0 && byte(1) < 0x90) return 0;
  if (byte(0) == 0xf4 && byte(1) > 0x8f) return 0;
  return size;
}

absl::Status CheckCharacters(std::string_view text) {
  Position at;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t size = CharacterSize(text.substr(i));
    if (size == 0) return ErrorAt(at, "not UTF-8 text");
    if (text[i] == '\0') return ErrorAt(at, "a zero byte");
    if (text[i] == '\n') {
      ++at.line;
      at.column = 1;
    } else {
      ++at.column;
    }
    i += size;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Value> Parse(std::string_view text) {
  if (text.size() > kMaxTextSize) {
    return absl::InvalidArgumentError(
        StrCat("the text has ", text.size(), " bytes; at most ", kMaxTextSize, " are taken"));
  }
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // byte order mark
  RETURN_IF_ERROR(CheckCharacters(text));
  return Parser(text, Trim(text).starts_with('{')).Document();
}

}  // namespace coffer::hcl
