// Flags as Go's flag package reads them, which is what vault's users type: "-name", "--name",
// "-name=value", "-name value"; a switch takes a value only behind "="; the first argument that is no
// flag, or "--", ends them.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace coffer::cli {

enum class FlagType {
  kSwitch,
  kText,
  kTexts,     // may be given more than once
  kInteger,
  kDuration,  // "30s", "1h30m", "5d", or seconds
  kPairs,     // key=value, may be given more than once
  kRefused,   // one of Vault's that isn't supported; the usage says so, and what to do
};

struct Flag {
  std::string_view name;
  FlagType type = FlagType::kSwitch;
  std::string_view usage;
  std::string_view fallback = "";  // as typed; "" is off, 0 or nothing
  std::string_view alias = "";
};

class Flags {
 public:
  // Reads the flags at the head of `args` and leaves the rest in it. InvalidArgument in Go's words; an
  // Aborted status where help was asked for ("-h", "-help").
  static absl::Status Parse(const std::vector<Flag>& known, std::vector<std::string>& args,
                            Flags* flags);

  bool given(std::string_view name) const { return values_.contains(name); }
  bool on(std::string_view name) const;
  // The last value given, or the fallback; valid as long as this object.
  std::string_view text(std::string_view name) const;
  const std::vector<std::string>& texts(std::string_view name) const;
  std::int64_t integer(std::string_view name) const;
  absl::Duration duration(std::string_view name) const;
  std::vector<std::pair<std::string_view, std::string_view>> pairs(std::string_view name) const;

 private:
  absl::Status Set(const Flag& flag, std::string_view value);

  std::map<std::string_view, std::vector<std::string>, std::less<>> values_;  // as typed, checked
  std::map<std::string_view, std::string_view, std::less<>> fallbacks_;
};

}  // namespace coffer::cli
