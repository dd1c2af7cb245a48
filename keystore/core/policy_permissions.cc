// Permissions: how rules for one path add up, and which parameters they let through.
#include "common/glob.h"
#include "common/lower_case.h"
#include "common/strings.h"
#include "keystore/core/policy.h"

namespace coffer::keystore {
namespace {

constexpr struct {
  std::string_view name;
  std::uint32_t bit;
} kCapabilities[] = {  // sorted
    {"create", kCapabilityCreate},   {"delete", kCapabilityDelete},       {"deny", kCapabilityDeny},
    {"list", kCapabilityList},       {"patch", kCapabilityPatch},         {"read", kCapabilityRead},
    {"recover", kCapabilityRecover}, {"subscribe", kCapabilitySubscribe}, {"sudo", kCapabilitySudo},
    {"update", kCapabilityUpdate}};

// Values add up; a list that is empty means every value and stays so.
void MergeParameters(const Parameters& from, Parameters& into) {
  for (const auto& [name, values] : from) {
    const auto [place, added] = into.try_emplace(name, values);
    if (added || place->second.empty()) continue;
    if (values.empty()) {
      place->second.clear();
    } else {
      place->second.insert(place->second.end(), values.begin(), values.end());
    }
  }
}

// "abc", "abc*", "*abc", "*abc*"; "*" alone is itself, as in Vault.
bool ValueMatches(std::string_view glob, std::string_view text) {
  if (glob.size() < 2) return glob == text;
  const bool open_start = glob.front() == '*';
  const bool open_end = glob.back() == '*';
  if (open_start && open_end) {
    return text.find(glob.substr(1, glob.size() - 2)) != std::string_view::npos;
  }
  if (open_start) return text.ends_with(glob.substr(1));
  if (open_end) return text.starts_with(glob.substr(0, glob.size() - 1));
  return glob == text;
}

bool TextListed(std::string_view text, const std::vector<Json>& values) {
  return std::any_of(values.begin(), values.end(), [text](const Json& value) {
    return value.is_string() && ValueMatches(value.get_ref<const Json::string_t&>(), text);
  });
}

bool Listed(const Json& given, const std::vector<Json>& values) {
  if (given.is_string()) return TextListed(given.get_ref<const Json::string_t&>(), values);
  return std::find(values.begin(), values.end(), given) != values.end();
}

// How many of the elements of a list, or of the pieces of a text parted by commas, are listed.
struct Count {
  std::size_t all = 0;
  std::size_t listed = 0;
};
Count CountListed(const Json& given, const std::vector<Json>& values) {
  Count count;
  if (given.is_array()) {
    for (const Json& element : given) count.listed += Listed(element, values) ? 1 : 0;
    count.all = given.size();
  } else if (given.is_string()) {
    const std::string_view text = given.get_ref<const Json::string_t&>();
    for (const std::string_view piece : Split(text, ',')) {
      count.listed += TextListed(Trim(piece), values) ? 1 : 0;
      ++count.all;
    }
  }
  return count;
}

// What is a list must be listed as a whole, or each element of it. As most list parameters may be
// given as a text parted by commas, and a policy doesn't know types, texts are taken so too.
bool ValueAllowed(const Json& given, const std::vector<Json>& values) {
  if (values.empty() || Listed(given, values)) return true;
  if (!given.is_array() && !given.is_string()) return false;
  const Count count = CountListed(given, values);
  return count.listed == count.all;
}

// One listed element is enough.
bool ValueDenied(const Json& given, const std::vector<Json>& values) {
  return values.empty() || Listed(given, values) || CountListed(given, values).listed > 0;
}

// The entry for a parameter as the request spells it.
const std::vector<Json>* FindParameter(const Parameters& parameters, std::string_view name) {
  const auto found = HasUpperCase(name) ? parameters.find(LowerCase(name)) : parameters.find(name);
  return found == parameters.end() ? nullptr : &found->second;
}

}  // namespace

std::optional<std::uint32_t> ParseCapability(std::string_view name) {
  for (const auto& capability : kCapabilities) {
    if (capability.name == name) return capability.bit;
  }
  return std::nullopt;
}

std::vector<std::string> CapabilityNames(std::uint32_t capabilities) {
  if (capabilities == 0 || (capabilities & kCapabilityDeny) != 0) return {"deny"};
  std::vector<std::string> names;
  for (const auto& capability : kCapabilities) {
    if ((capabilities & capability.bit) != 0) names.emplace_back(capability.name);
  }
  return names;
}

void Permissions::Merge(const Permissions& other) {
  if ((capabilities & kCapabilityDeny) != 0) return;
  if ((other.capabilities & kCapabilityDeny) != 0) {
    *this = Permissions{.capabilities = kCapabilityDeny};
    return;
  }
  capabilities |= other.capabilities;
  MergeParameters(other.allowed, allowed);
  MergeParameters(other.denied, denied);
  for (const std::string& name : other.required) {
    if (std::find(required.begin(), required.end(), name) == required.end()) {
      required.push_back(name);
    }
  }
  event_types.insert(event_types.end(), other.event_types.begin(), other.event_types.end());
  // Of two limits the shorter, for the minimum too.
  const auto shorter = [](absl::Duration a, absl::Duration b) {
    if (a == absl::ZeroDuration() || b == absl::ZeroDuration()) return std::max(a, b);
    return std::min(a, b);
  };
  min_wrapping_ttl = shorter(min_wrapping_ttl, other.min_wrapping_ttl);
  max_wrapping_ttl = shorter(max_wrapping_ttl, other.max_wrapping_ttl);
}

bool Permissions::AllowsWrapping(absl::Duration wrap_ttl) const {
  const bool limited =
      min_wrapping_ttl > absl::ZeroDuration() || max_wrapping_ttl > absl::ZeroDuration();
  if (!limited) return true;
  return wrap_ttl > absl::ZeroDuration() && wrap_ttl >= min_wrapping_ttl &&
         (max_wrapping_ttl == absl::ZeroDuration() || wrap_ttl <= max_wrapping_ttl);
}

bool Permissions::AllowsEvent(std::string_view type) const {
  return (capabilities & kCapabilitySubscribe) != 0 &&
         std::any_of(event_types.begin(), event_types.end(), [type](const std::string& pattern) {
           return coffer::GlobMatches(pattern, type);
         });
}

bool Permissions::AllowsParameters(const Json& data) const {
  for (const std::string& name : required) {
    if (!data.is_object() || !data.contains(std::string_view(name))) return false;
  }
  if (!data.is_object() || data.empty()) return true;
  if (!denied.empty()) {
    if (denied.contains("*")) return false;
    for (const auto& [name, value] : data.items()) {
      const auto* values = FindParameter(denied, name);
      if (values != nullptr && ValueDenied(value, *values)) return false;
    }
  }
  if (allowed.empty()) return true;
  const bool others = allowed.contains("*");
  for (const auto& [name, value] : data.items()) {
    // "*" alone lets every parameter through, whatever its own list says.
    const auto* values = allowed.size() == 1 && others ? nullptr : FindParameter(allowed, name);
    if (values == nullptr ? !others : !ValueAllowed(value, *values)) return false;
  }
  return true;
}

}  // namespace coffer::keystore
