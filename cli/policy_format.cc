#include "cli/policy_format.h"

#include <vector>

#include "common/strings.h"

namespace coffer::cli {
namespace {

struct Line {
  std::string text;
  std::size_t depth = 0;
  std::size_t equals = 0;  // where the "=" of an assignment stands; 0 for another line
  bool verbatim = false;   // inside a heredoc
  int opened = 0;          // brackets that it opens and doesn't close; negative: the other way
};

// The line without spaces that mean nothing; sets where "=" stands and how brackets change.
absl::StatusOr<Line> Normalize(std::string_view source, bool& in_comment) {
  Line line;
  bool in_text = false, space = false;
  for (std::size_t i = 0; i < source.size(); ++i) {
    const char c = source[i];
    const std::string_view rest = source.substr(i);
    if (in_comment) {
      if (rest.starts_with("*/")) {
        in_comment = false;
        line.text += "*/";
        ++i;
      } else {
        line.text += c;
      }
      continue;
    }
    if (in_text) {
      line.text += c;
      if (c == '\\' && i + 1 < source.size()) line.text += source[++i];
      if (c == '"') in_text = false;
      continue;
    }
    if (c == ' ' || c == '\t' || c == '\r') {
      space = !line.text.empty();
      continue;
    }
    if (std::exchange(space, false)) line.text += ' ';
    if (c == '#' || rest.starts_with("//")) {
      line.text += rest;
      break;
    }
    if (rest.starts_with("/*")) in_comment = true;
    if (c == '"') in_text = true;
    if (c == '{' || c == '[') ++line.opened;
    if (c == '}' || c == ']') --line.opened;
    if (c == '=' && line.equals == 0 && !line.text.empty() && line.opened == 0) {
      if (line.text.back() != ' ') line.text += ' ';
      line.equals = line.text.size();
      space = true;
    }
    line.text += c;
  }
  if (in_text) return absl::InvalidArgumentError("a quote isn't closed");
  line.text = std::string(Trim(line.text));
  return line;
}

// The word that ends a heredoc which the line begins; "" if it begins none.
std::string_view HeredocEnd(std::string_view text) {
  std::size_t at = text.rfind("<<");
  if (at == std::string_view::npos || text.find('"', at) != std::string_view::npos) return {};
  at += text.substr(at).starts_with("<<-") ? 3 : 2;
  return Trim(text.substr(at));
}

void AlignEquals(std::vector<Line>& lines) {
  for (std::size_t first = 0; first < lines.size();) {
    std::size_t last = first, column = 0;
    while (last < lines.size() && lines[last].equals != 0 && lines[last].depth == lines[first].depth) {
      column = std::max(column, lines[last].equals);
      ++last;
      if (lines[last - 1].opened != 0) break;  // a list over several lines ends the run
    }
    for (std::size_t i = first; i < last; ++i) {
      lines[i].text.insert(lines[i].equals, column - lines[i].equals, ' ');
    }
    first = std::max(last, first + 1);
  }
}

}  // namespace

absl::StatusOr<std::string> FormatPolicy(std::string_view source) {
  std::vector<Line> lines;
  std::string heredoc;
  bool in_comment = false;
  int depth = 0;
  std::size_t number = 0;
  for (std::string_view text : Split(source, '\n')) {
    ++number;
    if (!heredoc.empty()) {
      if (Trim(text) == heredoc) heredoc.clear();
      Line line;
      line.text = text;
      line.verbatim = true;
      lines.push_back(std::move(line));
      continue;
    }
    absl::StatusOr<Line> line = Normalize(text, in_comment);
    if (!line.ok()) {
      return absl::InvalidArgumentError(StrCat("line ", number, ": ", Message(line.status())));
    }
    heredoc = HeredocEnd(line->text);
    // A line of closing brackets stands where the line that opened them does.
    const bool closes = line->text.starts_with('}') || line->text.starts_with(']');
    const int shown = depth - (closes ? 1 : 0);
    depth += line->opened;
    if (depth < 0 || shown < 0) {
      return absl::InvalidArgumentError(StrCat("line ", number, ": a bracket closes nothing"));
    }
    line->depth = static_cast<std::size_t>(shown);
    const bool empty_twice = line->text.empty() && (lines.empty() || lines.back().text.empty());
    if (!empty_twice) lines.push_back(*std::move(line));
  }
  if (depth != 0 || in_comment || !heredoc.empty()) {
    return absl::InvalidArgumentError(
        StrCat("line ", number, ": a bracket, comment or heredoc isn't closed at the end"));
  }
  while (!lines.empty() && lines.back().text.empty()) lines.pop_back();
  AlignEquals(lines);

  std::string out;
  for (const Line& line : lines) {
    if (!line.verbatim && !line.text.empty()) out.append(2 * line.depth, ' ');
    StrAppend(&out, line.text, "\n");
  }
  return out;
}

}  // namespace coffer::cli
