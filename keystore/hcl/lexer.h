// Lexer: the words of HCL or JSON text.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "keystore/hcl/hcl.h"

namespace coffer::hcl {

struct Token {
  enum class Kind {
    kEnd,
    kWord,  // an identifier, also true, false, null
    kString,
    kNumber,
    kLeftBrace,
    kRightBrace,
    kLeftBracket,
    kRightBracket,
    kAssign,
    kColon,
    kComma,
  };
  Kind kind = Kind::kEnd;
  Position at;
  std::string_view word;  // of kWord; within the lexer's text
  Json value;             // of kString and kNumber
};

// "'{'", "a string", …: for messages; never what the text holds.
std::string_view TokenName(Token::Kind kind);

class Lexer {
 public:
  // `text` is UTF-8 and outlives the lexer and its tokens.
  Lexer(std::string_view text, bool json) : text_(text), json_(json) {}

  absl::StatusOr<Token> Next();

 private:
  absl::Status SkipSpaceAndComments();
  absl::StatusOr<Json> String();
  absl::Status Escape(Json::string_t& out);
  absl::StatusOr<std::uint32_t> HexDigits(int count);
  absl::StatusOr<Json> Heredoc();
  absl::StatusOr<Json> Number();
  std::string_view Word();

  bool done() const { return offset_ >= text_.size(); }
  char peek(std::size_t ahead = 0) const {
    return offset_ + ahead < text_.size() ? text_[offset_ + ahead] : '\0';
  }
  char Take();
  void Take(std::size_t count) {
    for (; count > 0; --count) Take();
  }

  std::string_view text_;
  const bool json_;
  std::size_t offset_ = 0;
  Position at_;
};

}  // namespace coffer::hcl
