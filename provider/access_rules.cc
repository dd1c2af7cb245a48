#include "provider/access_rules.h"

#include <charconv>

#include "common/duration.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "provider/objects.h"

namespace coffer::provider {
namespace {

constexpr std::size_t kMostEntries = 100;
constexpr std::size_t kLongestPath = 1024;

absl::StatusOr<std::vector<std::string_view>> ParseList(std::string_view text,
                                                        std::string_view example) {
  text = Trim(text);
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  std::vector<std::string_view> entries;
  for (std::string_view entry : Split(text, ',')) {
    entry = Trim(entry);
    const bool quoted = entry.size() >= 2 && entry.front() == entry.back() &&
                        (entry.front() == '"' || entry.front() == '\'');
    if (quoted) entry = entry.substr(1, entry.size() - 2);
    if (!entry.empty()) entries.push_back(entry);
  }
  // An empty list would let everyone in: surely not what it was written for.
  if (entries.empty() || entries.size() > kMostEntries) {
    return absl::InvalidArgumentError(
        StrCat("must be a list of 1 to ", kMostEntries, " entries, e.g. ", example));
  }
  return entries;
}

absl::Status SetUids(std::string_view text, AccessRules* rules) {
  ASSIGN_OR_RETURN(const auto entries, ParseList(text, "[1000]"));
  rules->allow_uids.clear();
  for (const std::string_view entry : entries) {
    std::uint32_t uid = 0;
    const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), uid);
    if (error != std::errc() || end != entry.data() + entry.size() || uid == UINT32_MAX) {
      return absl::InvalidArgumentError(
          StrCat("must be numbers between 0 and 4294967294: \"", entry, "\" is none"));
    }
    rules->allow_uids.push_back(uid);
  }
  return absl::OkStatus();
}

absl::Status SetExecutables(std::string_view text, AccessRules* rules) {
  ASSIGN_OR_RETURN(const auto entries, ParseList(text, "[/usr/bin/app]"));
  rules->allow_executables.clear();
  for (const std::string_view entry : entries) {
    if (!entry.starts_with('/') || entry.ends_with('/') || entry.size() > kLongestPath ||
        HasControlCharacter(entry)) {
      return absl::InvalidArgumentError(
          StrCat("must be absolute paths of files: \"", entry, "\" is none"));
    }
    rules->allow_executables.emplace_back(entry);
  }
  return absl::OkStatus();
}

absl::Status SetAvailable(std::string_view text, AccessRules* rules) {
  const absl::StatusOr<absl::Duration> duration = ParseDuration(text);
  if (!duration.ok() || *duration <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("must be a duration above zero, e.g. 30s or 5m");
  }
  rules->available_for = *duration;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<bool> SetAccessRule(std::string_view field, std::string_view text,
                                   AccessRules* rules) {
  if (field == "allowUIDs") {
    RETURN_IF_ERROR(SetUids(text, rules));
  } else if (field == "allowExecutables") {
    RETURN_IF_ERROR(SetExecutables(text, rules));
  } else if (field == "readOnce") {
    ASSIGN_OR_RETURN(rules->read_once, ParseBool(text));
  } else if (field == "canary") {
    ASSIGN_OR_RETURN(rules->canary, ParseBool(text));
  } else if (field == "availableFor") {
    RETURN_IF_ERROR(SetAvailable(text, rules));
  } else {
    return false;
  }
  return true;
}

}  // namespace coffer::provider
