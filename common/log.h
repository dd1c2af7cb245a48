// Structured logs to standard error: one line an event, as text or JSON. There is no way to hand a
// SecretBytes or a Json to it.
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/strings.h"

namespace coffer::log {

enum class Level { kDebug, kInfo, kWarning, kError };
enum class Format { kText, kJson };

struct Field {
  Field(std::string_view name, std::string_view text) : key(name), value(text) {}
  Field(std::string_view name, const char* text) : key(name), value(text) {}
  Field(std::string_view name, const std::string& text) : key(name), value(text) {}
  Field(std::string_view name, const absl::Status& status) : key(name), value(status.ToString()) {}
  Field(std::string_view name, std::integral auto number)
      : key(name), value(StrCat(number)) {}

  std::string_view key;
  std::string value;
};

// Called once by main; before it, text at level info. Thread-safe afterwards.
void Configure(Level level, Format format);
// "trace" and "debug", "info" (also ""), "warn", "error" (also "err"); InvalidArgument otherwise.
absl::Status ParseLevel(std::string_view text, Level* level);

void Write(Level level, std::string_view message, std::initializer_list<Field> fields);

inline void Debug(std::string_view message, std::initializer_list<Field> fields = {}) {
  Write(Level::kDebug, message, fields);
}
inline void Info(std::string_view message, std::initializer_list<Field> fields = {}) {
  Write(Level::kInfo, message, fields);
}
inline void Warning(std::string_view message, std::initializer_list<Field> fields = {}) {
  Write(Level::kWarning, message, fields);
}
inline void Error(std::string_view message, std::initializer_list<Field> fields = {}) {
  Write(Level::kError, message, fields);
}

}  // namespace coffer::log
