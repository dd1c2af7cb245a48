#include "cli/values.h"

#include "absl/time/time.h"
#include "common/duration.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr std::size_t kLineWidth = 78;

void Append(const Json& value, SecretBytes& out) {
  if (value.is_null()) return out.Append("<nil>");
  if (value.is_string()) return out.Append(value.get_ref<const Json::string_t&>());
  if (!value.is_structured()) return out.Append(DumpJson(value).view());
  out.Append(value.is_array() ? "[" : "map[");
  bool first = true;
  for (const auto& [key, member] : value.items()) {
    if (!std::exchange(first, false)) out.Append(" ");
    if (value.is_object()) {
      out.Append(key);
      out.Append(":");
    }
    Append(member, out);
  }
  out.Append("]");
}

bool LooksLikeDuration(std::string_view key) {
  for (std::string_view word : {"period", "ttl", "duration"}) {
    if (key == word) return true;
    if (key.ends_with(word) && key[key.size() - word.size() - 1] == '_') return true;
  }
  return key == "lease_max" || key == "ttl_max";
}

// Where lines end so that the squares of the space left at their ends add up to the least, the last
// line's aside: as vault's texts break, which people compare.
std::vector<std::size_t> LineEnds(const std::vector<std::string_view>& words, std::size_t width) {
  constexpr std::size_t kTooLong = 100'000;
  const std::size_t count = words.size();
  std::vector<std::size_t> cost(count + 1, 0), next(count + 1, count);
  for (std::size_t begin = count; begin-- > 0;) {
    std::size_t length = words[begin].size(), best = SIZE_MAX;
    for (std::size_t end = begin + 1; end <= count; ++end) {
      const std::size_t left = length > width ? length - width : width - length;
      const bool last = end == count && length <= width;
      const std::size_t sum =
          last ? 0 : left * left + cost[end] + (length > width ? kTooLong : 0);
      if (last || sum < best) {
        best = sum;
        next[begin] = end;
      }
      if (length > width) break;
      if (end < count) length += 1 + words[end].size();
    }
    cost[begin] = best;
  }
  std::vector<std::size_t> ends;
  for (std::size_t at = 0; at < count;) ends.push_back(at = next[at]);
  return ends;
}

}  // namespace

SecretBytes PrintValue(const Json& value) {
  SecretBytes out;
  Append(value, out);
  return out;
}

SecretBytes PrintValueOf(std::string_view key, const Json& value) {
  if (value.is_number_integer() && LooksLikeDuration(key)) {
    return SecretBytes::CopyOf(PrintSeconds(value.get<std::int64_t>()));
  }
  return PrintValue(value);
}

SecretBytes PrintQuoted(const Json& list) {
  SecretBytes out;
  out.Append("[");
  for (const Json& item : list) {
    if (out.size() > 1) out.Append(" ");
    out.Append(DumpJson(item).view());
  }
  out.Append("]");
  return out;
}

std::string PrintSeconds(std::int64_t seconds) {
  return FormatBriefDuration(absl::Seconds(seconds));
}

std::string Wrapped(std::string_view text, std::size_t indent) {
  const std::size_t width = kLineWidth - indent;
  std::string out;
  bool first = true;
  for (std::string_view paragraph : Split(text, '\n')) {
    if (!std::exchange(first, false)) out += '\n';
    std::vector<std::string_view> words;
    for (std::string_view word : Split(paragraph, ' ')) {
      if (!word.empty()) words.push_back(word);
    }
    std::size_t begin = 0;
    for (std::size_t end : LineEnds(words, width)) {
      if (begin > 0) out += '\n';
      for (std::size_t i = begin; i < end; ++i) {
        out.append(i == begin ? indent : 1, ' ').append(words[i]);
      }
      begin = end;
    }
  }
  return out;
}

std::string_view SanitizePath(std::string_view path) {
  path = Trim(path);
  while (path.starts_with('/')) path.remove_prefix(1);
  while (path.ends_with('/')) path.remove_suffix(1);
  return path;
}

std::string WithSlash(std::string_view path) {
  path = Trim(path);
  return path.empty() || path.ends_with('/') ? std::string(path) : StrCat(path, "/");
}

}  // namespace coffer::cli
