#include "provider/template.h"

#include <algorithm>
#include <string>

#include "common/json.h"
#include "common/strings.h"

namespace coffer::provider {
namespace {

constexpr std::string_view kOpen = "{{";
constexpr std::string_view kClose = "}}";

// What stands between the braces. False: neither a key nor a text.
bool ParseAction(std::string_view action, TemplatePiece* piece) {
  if (action.starts_with('.') && action.size() > 1) {
    piece->is_key = true;
    piece->text = action.substr(1);
    return action.find_first_of(" \t\r\n\"{}|") == action.npos;
  }
  if (!action.starts_with('"')) return false;
  const absl::StatusOr<Json> text = ParseJson(action);
  if (!text.ok() || !text->is_string()) return false;
  piece->text = std::string_view(text->get_ref<const SecretString&>());
  return true;
}

}  // namespace

absl::StatusOr<std::vector<TemplatePiece>> ParseTemplate(std::string_view text) {
  std::vector<TemplatePiece> pieces;
  for (std::size_t at = 0;;) {
    const std::size_t open = text.find(kOpen, at);
    pieces.push_back({false, std::string(text.substr(at, open - at))});
    if (open == text.npos) return pieces;
    const auto line = std::count(text.begin(), text.begin() + static_cast<long>(open), '\n') + 1;
    // A text in quotes may have braces in it.
    std::size_t close = open + kOpen.size();
    for (bool quoted = false; close < text.size(); ++close) {
      if (text[close] == '\\' && quoted) {
        ++close;
      } else if (text[close] == '"') {
        quoted = !quoted;
      } else if (!quoted && text.substr(close).starts_with(kClose)) {
        break;
      }
    }
    if (close >= text.size()) {
      return absl::InvalidArgumentError(StrCat("line ", line, ": {{ without its }}"));
    }
    TemplatePiece piece;
    const std::size_t start = open + kOpen.size();
    if (!ParseAction(Trim(text.substr(start, close - start)), &piece)) {
      return absl::InvalidArgumentError(
          StrCat("line ", line, ": between {{ and }} stands .key, or a text in double quotes"));
    }
    pieces.push_back(std::move(piece));
    at = close + kClose.size();
  }
}

}  // namespace coffer::provider
