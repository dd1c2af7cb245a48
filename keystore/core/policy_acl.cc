// Acl: finds the rule that decides. An exact path beats all; else the rule whose first "+" or final
// "*" stands furthest right, as Vault's documentation of priority matching lays down.
#include <numeric>

#include "common/strings.h"
#include "keystore/core/policy.h"

namespace coffer::keystore {
namespace {

constexpr std::uint32_t CapabilityFor(Operation operation) {
  switch (operation) {
    case Operation::kRead:
      return kCapabilityRead;
    case Operation::kCreate:
      return kCapabilityCreate;
    case Operation::kUpdate:
      return kCapabilityUpdate;
    case Operation::kPatch:
      return kCapabilityPatch;
    case Operation::kDelete:
      return kCapabilityDelete;
    case Operation::kList:
      return kCapabilityList;
    case Operation::kHelp:
      break;  // needs none
  }
  return 0;
}

bool Grants(const Permissions& permissions) {
  return permissions.capabilities != 0 && (permissions.capabilities & kCapabilityDeny) == 0;
}

// Takes the text up to the next "/" off `rest`; `rest` is nullopt once nothing follows.
std::string_view TakeSegment(std::optional<std::string_view>& rest) {
  const std::size_t end = rest->find('/');
  const std::string_view segment = rest->substr(0, end);
  if (end == std::string_view::npos) {
    rest.reset();
  } else {
    rest->remove_prefix(end + 1);
  }
  return segment;
}

std::size_t CountWildcards(std::string_view path) {
  std::size_t count = 0;
  for (std::optional<std::string_view> rest = path; rest;) {
    count += TakeSegment(rest) == "+" ? 1 : 0;
  }
  return count;
}

std::string_view WithoutSlash(std::string_view path) {
  if (path.ends_with('/')) path.remove_suffix(1);
  return path;
}

// What orders rules that match the same path; the greater decides.
struct Priority {
  std::size_t first_wildcard;
  bool prefix;
  std::size_t wildcards;
  std::string_view path;

  bool operator>(const Priority& other) const {
    if (first_wildcard != other.first_wildcard) return first_wildcard > other.first_wildcard;
    if (prefix != other.prefix) return other.prefix;
    if (wildcards != other.wildcards) return wildcards < other.wildcards;
    if (path.size() != other.path.size()) return path.size() > other.path.size();
    return path > other.path;
  }
};

Json DescribeRule(const Permissions& permissions) {
  Json rule = {{"capabilities", CapabilityNames(permissions.capabilities)}};
  const auto add = [&rule](const char* name, const Parameters& parameters) {
    if (parameters.empty()) return;
    Json& object = rule[name] = Json::object();
    for (const auto& [parameter, values] : parameters) {
      object[Json::string_t(std::string_view(parameter))] = Json(values);
    }
  };
  add("allowed_parameters", permissions.allowed);
  add("denied_parameters", permissions.denied);
  if (!permissions.required.empty()) rule["required_parameters"] = permissions.required;
  if (!permissions.event_types.empty()) rule["subscribe_event_types"] = permissions.event_types;
  if (permissions.min_wrapping_ttl > absl::ZeroDuration()) {
    rule["min_wrapping_ttl"] = absl::ToInt64Seconds(permissions.min_wrapping_ttl);
  }
  if (permissions.max_wrapping_ttl > absl::ZeroDuration()) {
    rule["max_wrapping_ttl"] = absl::ToInt64Seconds(permissions.max_wrapping_ttl);
  }
  return rule;
}

}  // namespace

Acl::Acl(const std::vector<std::shared_ptr<const Policy>>& policies, bool root) : root_(root) {
  if (root) return;
  std::map<std::string_view, Permissions> prefixes;
  std::map<std::string_view, Permissions> segments;
  for (const auto& policy : policies) {
    if (policy == nullptr) continue;
    for (const PathRule& rule : policy->rules()) {
      const auto add = [&rule](auto& rules) {
        const auto [place, added] = rules.try_emplace(rule.path, rule.permissions);
        if (!added) place->second.Merge(rule.permissions);
      };
      switch (rule.match) {
        case PathRule::Match::kExact:
          add(exact_);
          break;
        case PathRule::Match::kPrefix:
          add(prefixes);
          break;
        case PathRule::Match::kSegments:
          add(segments);
          break;
      }
    }
  }

  for (auto& [prefix, permissions] : prefixes) {
    int parent = static_cast<int>(prefixes_.size()) - 1;
    while (parent >= 0 && !prefix.starts_with(prefixes_[parent].prefix)) {
      parent = prefixes_[parent].parent;
    }
    prefixes_.push_back({std::string(prefix), parent, std::move(permissions)});
  }

  for (auto& [written, permissions] : segments) {
    std::string path(written);
    const bool prefix = path.ends_with('*');
    if (prefix) path.pop_back();
    segments_.push_back({std::move(path), prefix, written.find('+'), 0, std::move(permissions)});
    segments_.back().wildcards = CountWildcards(segments_.back().path);
  }
  const auto priority = [](const SegmentRule& rule) {
    return Priority{rule.first_wildcard, rule.prefix, rule.wildcards, rule.path};
  };
  std::sort(segments_.begin(), segments_.end(),
            [&](const auto& a, const auto& b) { return priority(a) > priority(b); });
}

// Of the prefixes up to `path` in order, the last is either one of `path` or has all of them among
// its own.
const Acl::PrefixRule* Acl::LongestPrefix(std::string_view path) const {
  const auto after =
      std::upper_bound(prefixes_.begin(), prefixes_.end(), path,
                       [](std::string_view a, const PrefixRule& b) { return a < b.prefix; });
  for (int i = static_cast<int>(after - prefixes_.begin()) - 1; i >= 0; i = prefixes_[i].parent) {
    if (path.starts_with(prefixes_[i].prefix)) return &prefixes_[i];
  }
  return nullptr;
}

bool Acl::SegmentRule::Matches(std::string_view asked) const {
  std::optional<std::string_view> ours = path;
  std::optional<std::string_view> theirs = asked;
  while (ours && theirs) {
    const std::string_view our = TakeSegment(ours);
    const std::string_view their = TakeSegment(theirs);
    if (our == "+" || our == their) continue;
    return prefix && !ours && their.starts_with(our);
  }
  return !ours && (prefix || !theirs);
}

bool Acl::SegmentRule::MayMatchBelow(std::string_view directory) const {
  std::optional<std::string_view> ours = path;
  std::optional<std::string_view> theirs = WithoutSlash(directory);
  while (ours && theirs) {
    const std::string_view our = TakeSegment(ours);
    const std::string_view their = TakeSegment(theirs);
    if (our == "+" || our == their) continue;
    return prefix && !ours && their.starts_with(our);
  }
  return ours || prefix || !theirs;
}

const Permissions* Acl::FindInexact(std::string_view path) const {
  const PrefixRule* longest = LongestPrefix(path);
  for (const SegmentRule& rule : segments_) {
    if (!rule.Matches(path)) continue;
    if (longest == nullptr) return &rule.permissions;
    const Priority ours{rule.first_wildcard, rule.prefix, rule.wildcards, rule.path};
    const Priority theirs{longest->prefix.size(), true, 0, longest->prefix};
    return ours > theirs ? &rule.permissions : &longest->permissions;
  }
  return longest == nullptr ? nullptr : &longest->permissions;
}

const Permissions* Acl::Find(std::string_view path, bool list) const {
  while (path.starts_with('/')) path.remove_prefix(1);
  if (const auto found = exact_.find(ToAbsl(path)); found != exact_.end()) return &found->second;
  if (list && path.ends_with('/')) {
    const std::string_view bare = WithoutSlash(path);
    if (const auto found = exact_.find(ToAbsl(bare)); found != exact_.end()) return &found->second;
    if (const Permissions* found = FindInexact(bare)) return found;
  }
  return FindInexact(path);
}

bool Acl::Allows(Operation operation, std::string_view path, const Json& data,
                 absl::Duration wrap_ttl) const {
  if (root_ || operation == Operation::kHelp) return true;
  const bool list = operation == Operation::kList;
  if (list && !path.ends_with('/')) return Allows(operation, StrCat(path, "/"), data, wrap_ttl);
  const Permissions* permissions = Find(path, list);
  if (permissions == nullptr) return false;
  if ((permissions->capabilities & CapabilityFor(operation)) == 0) return false;
  if (!permissions->AllowsWrapping(wrap_ttl)) return false;
  const bool has_parameters = !list && operation != Operation::kDelete;
  return !has_parameters || permissions->AllowsParameters(data);
}

bool Acl::HasSudo(std::string_view path) const {
  if (root_) return true;
  const Permissions* permissions = Find(path, true);
  return permissions != nullptr && (permissions->capabilities & kCapabilitySudo) != 0;
}

bool Acl::MaySubscribe(std::string_view path, std::string_view event_type) const {
  if (root_) return true;
  const Permissions* permissions = Find(path, false);
  return permissions != nullptr && permissions->AllowsEvent(event_type);
}

std::vector<std::string> Acl::Capabilities(std::string_view path) const {
  if (root_) return {"root"};
  const Permissions* permissions = Find(path, true);
  return CapabilityNames(permissions == nullptr ? 0 : permissions->capabilities);
}

bool Acl::GrantsBelow(std::string_view prefix) const {
  if (root_) return true;
  if (const Permissions* permissions = Find(prefix, true)) {
    if (Grants(*permissions)) return true;
  }
  for (const auto& [path, permissions] : exact_) {
    if (std::string_view(path).starts_with(prefix) && Grants(permissions)) return true;
  }
  for (const PrefixRule& rule : prefixes_) {
    if (rule.prefix.starts_with(prefix) && Grants(rule.permissions)) return true;
  }
  return std::any_of(segments_.begin(), segments_.end(), [&](const SegmentRule& rule) {
    return Grants(rule.permissions) && rule.MayMatchBelow(prefix);
  });
}

Json Acl::Describe() const {
  Json answer = {{"root", root_}, {"chroot_namespace", ""}};
  if (root_) return answer;
  Json& exact = answer["exact_paths"] = Json::object();
  for (const auto& [path, permissions] : exact_) {
    exact[Json::string_t(std::string_view(path))] = DescribeRule(permissions);
  }
  Json& glob = answer["glob_paths"] = Json::object();
  for (const PrefixRule& rule : prefixes_) {
    glob[Json::string_t(std::string_view(rule.prefix))] = DescribeRule(rule.permissions);
  }
  for (const SegmentRule& rule : segments_) {
    const std::string path = rule.prefix ? rule.path + "*" : rule.path;
    glob[Json::string_t(std::string_view(path))] = DescribeRule(rule.permissions);
  }
  return answer;
}

}  // namespace coffer::keystore
