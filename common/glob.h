// Patterns in which "*" stands for any text and "?" for one byte.
#pragma once

#include <string_view>

namespace coffer {

inline bool IsGlob(std::string_view text) { return text.find_first_of("*?") != text.npos; }

// Takes time in proportion to the product of the sizes, at worst.
inline bool GlobMatches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0;
  std::size_t star = pattern.npos, from = 0;  // the latest "*", and what it has not eaten
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++from;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace coffer
