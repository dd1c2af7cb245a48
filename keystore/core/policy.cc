// A policy's text: path blocks, each with capabilities and what else limits them.
//   path "secret/data/+/config" { capabilities = ["read"]  allowed_parameters = { "*" = [] } … }
#include "keystore/core/policy.h"

#include "common/duration.h"
#include "common/lower_case.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/hcl/hcl.h"

namespace coffer::keystore {
namespace {

using hcl::Value;

absl::Status WrongType(const hcl::Item& item, std::string_view wanted) {
  return hcl::ErrorAt(item.value.at, StrCat("\"", item.name(), "\" must be ", wanted, ", not ",
                                            hcl::KindName(item.value.kind)));
}

std::string_view Text(const Value& value) { return value.scalar.get_ref<const Json::string_t&>(); }

absl::StatusOr<std::vector<std::string_view>> Texts(const hcl::Item& item) {
  if (item.value.kind != Value::Kind::kList) return WrongType(item, "a list of strings");
  std::vector<std::string_view> texts;
  for (const Value& element : item.value.list) {
    if (element.kind != Value::Kind::kString) {
      return hcl::ErrorAt(element.at,
                          StrCat("\"", item.name(), "\" must be a list of strings, not ", "of ",
                                 hcl::KindName(element.kind)));
    }
    texts.push_back(Text(element));
  }
  return texts;
}

absl::Status ReadCapabilities(const hcl::Item& item, PathRule& rule) {
  ASSIGN_OR_RETURN(const auto names, Texts(item));
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::optional<std::uint32_t> bit = ParseCapability(names[i]);
    if (!bit) {
      return hcl::ErrorAt(item.value.list[i].at,
                          StrCat("there is no capability \"", names[i],
                                 "\"; they are create, read, update, patch, delete, list, sudo, "
                                 "subscribe, recover, deny"));
    }
    rule.permissions.capabilities |= *bit;
  }
  return absl::OkStatus();
}

// The form that came before capabilities.
absl::Status ReadOldPolicy(const hcl::Item& item, PathRule& rule) {
  constexpr std::uint32_t kReadOld = kCapabilityRead | kCapabilityList;
  constexpr std::uint32_t kWriteOld =
      kReadOld | kCapabilityCreate | kCapabilityUpdate | kCapabilityDelete;
  constexpr struct {
    std::string_view name;
    std::uint32_t capabilities;
  } kOld[] = {{"deny", kCapabilityDeny},
              {"read", kReadOld},
              {"write", kWriteOld},
              {"sudo", kWriteOld | kCapabilitySudo}};
  if (item.value.kind != Value::Kind::kString) return WrongType(item, "a string");
  for (const auto& old : kOld) {
    if (old.name == Text(item.value)) {
      rule.permissions.capabilities |= old.capabilities;
      return absl::OkStatus();
    }
  }
  return hcl::ErrorAt(item.value.at, "\"policy\" must be read, write, sudo or deny");
}

absl::Status ReadParameters(const hcl::Item& item, Parameters& parameters) {
  ASSIGN_OR_RETURN(const auto objects, hcl::PlainBlocks(item));
  for (const Value* object : objects) {
    for (const hcl::Item& member : object->members) {
      if (member.keys.size() > 1 || member.value.kind != Value::Kind::kList) {
        return hcl::ErrorAt(member.at(), StrCat("\"", item.name(), "\" maps names to lists of ",
                                                "values: \"", member.name(), "\" = [ … ]"));
      }
      std::vector<Json>& values = parameters[LowerCase(member.name())];
      for (const Value& element : member.value.list) values.push_back(hcl::ToJson(element));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadDuration(const hcl::Item& item, absl::Duration& duration) {
  if (item.value.kind == Value::Kind::kString) {
    const auto parsed = ParseDuration(Text(item.value));
    if (!parsed.ok()) {
      return hcl::ErrorAt(item.value.at,
                          StrCat("\"", item.name(), "\": ", Message(parsed.status())));
    }
    duration = *parsed;
  } else if (item.value.kind == Value::Kind::kNumber && item.value.scalar.is_number_integer()) {
    duration = absl::Seconds(item.value.scalar.get<std::int64_t>());
  } else {
    return WrongType(item, "a duration (\"1h30m\" or seconds)");
  }
  if (duration >= absl::ZeroDuration()) return absl::OkStatus();
  return hcl::ErrorAt(item.value.at, StrCat("\"", item.name(), "\" can't be negative"));
}

absl::Status ReadSetting(const hcl::Item& item, PathRule& rule) {
  const std::string_view name = item.name();
  if (item.keys.size() > 1) {
    return hcl::ErrorAt(item.keys[1].at, StrCat("\"", name, "\" takes no label"));
  }
  Permissions& permissions = rule.permissions;
  if (name == "capabilities") return ReadCapabilities(item, rule);
  if (name == "policy") return ReadOldPolicy(item, rule);
  if (name == "allowed_parameters") return ReadParameters(item, permissions.allowed);
  if (name == "denied_parameters") return ReadParameters(item, permissions.denied);
  if (name == "min_wrapping_ttl") return ReadDuration(item, permissions.min_wrapping_ttl);
  if (name == "max_wrapping_ttl") return ReadDuration(item, permissions.max_wrapping_ttl);
  if (name == "required_parameters") {
    ASSIGN_OR_RETURN(const auto names, Texts(item));
    for (const std::string_view required : names) {
      permissions.required.push_back(LowerCase(required));
    }
    return absl::OkStatus();
  }
  if (name == "comment") {
    return item.value.kind == Value::Kind::kString ? absl::OkStatus() : WrongType(item, "a string");
  }
  if (name == "subscribe_event_types") {
    ASSIGN_OR_RETURN(const auto types, Texts(item));
    permissions.event_types.assign(types.begin(), types.end());
    return absl::OkStatus();
  }
  // A limit that would not be kept is refused rather than ignored.
  for (const std::string_view limit : {"mfa_methods", "control_group"}) {
    if (name == limit) {
      return hcl::ErrorAt(item.at(), StrCat("\"", name, "\" isn't supported by this keystore"));
    }
  }
  return hcl::ErrorAt(item.at(), StrCat("there is no setting \"", name, "\" in a path block"));
}

// What the "+" and "*" in a path mean.
absl::Status ReadPath(const hcl::Block& block, PathRule& rule) {
  rule.path = *block.label;
  const auto fail = [&](std::string_view why) {
    return hcl::ErrorAt(block.at, StrCat("path \"", *block.label, "\": ", why));
  };
  if (rule.path.find("{{") != std::string::npos) {
    return fail(
        "templated paths ({{identity…}}) aren't supported: name the path, or use + for a "
        "segment");
  }
  if (rule.path.find("+*") != std::string::npos) return fail("\"+*\" isn't allowed: use + or *");
  if (rule.path.starts_with('/')) rule.path.erase(0, 1);
  if (rule.path == "+" || rule.path.starts_with("+/") ||
      rule.path.find("/+") != std::string::npos) {
    rule.match = PathRule::Match::kSegments;
  } else if (rule.path.ends_with('*')) {
    rule.match = PathRule::Match::kPrefix;
    rule.path.pop_back();
  }
  return absl::OkStatus();
}

absl::StatusOr<PathRule> ReadRule(const hcl::Block& block) {
  PathRule rule;
  RETURN_IF_ERROR(ReadPath(block, rule));
  std::vector<std::string_view> seen;
  for (const hcl::Item& item : block.object->members) {
    if (std::find(seen.begin(), seen.end(), item.name()) != seen.end()) {
      return hcl::ErrorAt(item.at(), StrCat("\"", item.name(), "\" is there twice"));
    }
    RETURN_IF_ERROR(ReadSetting(item, rule));
    seen.push_back(item.name());
  }
  Permissions& permissions = rule.permissions;
  if (permissions.max_wrapping_ttl > absl::ZeroDuration() &&
      permissions.max_wrapping_ttl < permissions.min_wrapping_ttl) {
    return hcl::ErrorAt(block.at, "max_wrapping_ttl is less than min_wrapping_ttl");
  }
  if ((permissions.capabilities & kCapabilitySubscribe) == 0) {
    permissions.event_types.clear();  // else they would widen another rule's
  } else if (permissions.event_types.empty()) {
    permissions.event_types = {"*"};
  }
  if ((permissions.capabilities & kCapabilityDeny) != 0) {
    permissions = Permissions{.capabilities = kCapabilityDeny};
  }
  return rule;
}

absl::StatusOr<std::vector<PathRule>> ReadRules(std::string_view text) {
  ASSIGN_OR_RETURN(const Value document, hcl::Parse(text));
  std::vector<PathRule> rules;
  for (const hcl::Item& item : document.members) {
    if (item.name() == "name" && item.keys.size() == 1 && item.value.kind == Value::Kind::kString) {
      continue;  // the name it is stored under counts
    }
    if (item.name() != "path") {
      return hcl::ErrorAt(item.at(), StrCat("there is no setting \"", item.name(),
                                            "\" in a policy; expected path \"…\" { … }"));
    }
    ASSIGN_OR_RETURN(const auto blocks, hcl::LabelledBlocks(item));
    for (const hcl::Block& block : blocks) {
      ASSIGN_OR_RETURN(PathRule rule, ReadRule(block));
      rules.push_back(std::move(rule));
    }
  }
  return rules;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Policy>> Policy::Parse(std::string_view name,
                                                            std::string_view text) {
  absl::StatusOr<std::vector<PathRule>> rules = ReadRules(text);
  if (!rules.ok()) {
    return absl::InvalidArgumentError(
        StrCat("failed to parse policy \"", name, "\": ", Message(rules.status())));
  }
  auto policy = std::make_shared<Policy>();
  policy->rules_ = *std::move(rules);
  return policy;
}

}  // namespace coffer::keystore
