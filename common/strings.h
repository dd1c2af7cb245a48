// Joins and splits text. Debian builds Abseil with a string_view of its own, which std::string_view
// doesn't convert to: these take the standard one.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/secret_allocator.h"

namespace coffer {

inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToStd(absl::string_view text) { return {text.data(), text.size()}; }

inline std::string_view Message(const absl::Status& status) { return ToStd(status.message()); }

namespace internal {
template <class T>
decltype(auto) ToAlphaNum(const T& value) {
  static_assert(!std::is_same_v<T, SecretString>, "a secret has no place in a plain string");
  if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    return ToAbsl(value);
  } else if constexpr (std::is_same_v<T, char>) {
    return absl::string_view(&value, 1);
  } else {
    return (value);
  }
}
}  // namespace internal

// absl::StrCat and absl::StrAppend.
template <class... Pieces>
std::string StrCat(const Pieces&... pieces) {
  return absl::StrCat(internal::ToAlphaNum(pieces)...);
}
template <class... Pieces>
void StrAppend(std::string* text, const Pieces&... pieces) {
  absl::StrAppend(text, internal::ToAlphaNum(pieces)...);
}

// The pieces between separators, empty ones too: one more than there are separators.
inline std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  pieces.reserve(1 + std::count(text.begin(), text.end(), separator));
  for (std::size_t start = 0;;) {
    const std::size_t end = text.find(separator, start);
    pieces.push_back(text.substr(start, end - start));
    if (end == std::string_view::npos) return pieces;
    start = end + 1;
  }
}

// Without ASCII white space at both ends.
inline std::string_view Trim(std::string_view text) {
  const std::size_t start = text.find_first_not_of(" \t\r\n\v\f");
  if (start == std::string_view::npos) return {};
  return text.substr(start, text.find_last_not_of(" \t\r\n\v\f") - start + 1);
}

}  // namespace coffer
