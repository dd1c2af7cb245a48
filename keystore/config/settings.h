// Settings: a block of the configuration as a table of names and members of a struct. Types,
// errors, warnings and the merging of files follow from the members' types.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/hcl/hcl.h"

namespace coffer::keystore {

// A setting of Vault that means nothing here: a warning.
struct NoEffect {};
// A setting of Vault that would be missed if it were ignored: an error that says what to do.
struct Refused {
  std::string_view advice;
};
// A block within the block. Reads it (perhaps several) into the struct.
template <class T>
using ReadBlocks = absl::Status (*)(const hcl::Item& item, T& into,
                                    std::vector<std::string>& warnings);

template <class T>
struct Setting {
  std::string_view name;
  std::variant<NoEffect, Refused, bool T::*, std::string T::*, absl::Duration T::*,
               std::uint64_t T::*, std::vector<std::string> T::*, ReadBlocks<T>>
      place = NoEffect();
};

// A value as the type. InvalidArgument names position and key. Booleans also "true", "1", 0, …;
// durations "1h30m" or seconds; sizes and counts as ParseSize; lists also texts parted by commas.
absl::Status ReadValue(const hcl::Item& item, bool& value);
absl::Status ReadValue(const hcl::Item& item, std::string& value);
absl::Status ReadValue(const hcl::Item& item, absl::Duration& value);
absl::Status ReadValue(const hcl::Item& item, std::uint64_t& value);
absl::Status ReadValue(const hcl::Item& item, std::vector<std::string>& value);

absl::Status UnknownSetting(const hcl::Item& item, std::string_view where);
absl::Status RefusedSetting(const hcl::Item& item, std::string_view advice);
std::string NoEffectWarning(const hcl::Item& item);

// Reads one block. `where` names it in messages: "the configuration", "listener \"tcp\"".
template <class T>
absl::Status ReadSettings(std::span<const Setting<T>> settings, const hcl::Value& object,
                          std::string_view where, T& into, std::vector<std::string>& warnings) {
  std::vector<std::string_view> seen;
  for (const hcl::Item& item : object.members) {
    const auto found = std::find_if(settings.begin(), settings.end(),
                                    [&](const auto& s) { return s.name == item.name(); });
    if (found == settings.end()) return UnknownSetting(item, where);
    const bool block = std::holds_alternative<ReadBlocks<T>>(found->place);
    if (!block && std::find(seen.begin(), seen.end(), item.name()) != seen.end()) {
      return hcl::ErrorAt(item.at(), StrCat("\"", item.name(), "\" is there twice"));
    }
    seen.push_back(item.name());
    RETURN_IF_ERROR(std::visit(
        [&]<class P>(const P& place) -> absl::Status {
          if constexpr (std::is_same_v<P, NoEffect>) {
            warnings.push_back(NoEffectWarning(item));
            return absl::OkStatus();
          } else if constexpr (std::is_same_v<P, Refused>) {
            return RefusedSetting(item, place.advice);
          } else if constexpr (std::is_same_v<P, ReadBlocks<T>>) {
            return place(item, into, warnings);
          } else {
            return ReadValue(item, into.*place);
          }
        },
        found->place));
  }
  return absl::OkStatus();
}

// What `from` has set, over `into`: later texts count, one switch that is on is enough, the longer
// duration counts.
template <class T>
void MergeSettings(std::span<const Setting<T>> settings, const T& from, T& into) {
  for (const Setting<T>& setting : settings) {
    if (const auto* text = std::get_if<std::string T::*>(&setting.place)) {
      if (!(from.**text).empty()) into.** text = from.**text;
    } else if (const auto* flag = std::get_if<bool T::*>(&setting.place)) {
      into.** flag = into.**flag || from.**flag;
    } else if (const auto* duration = std::get_if<absl::Duration T::*>(&setting.place)) {
      into.** duration = std::max(into.**duration, from.**duration);
    }
  }
}

}  // namespace coffer::keystore
