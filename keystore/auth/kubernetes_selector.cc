#include "keystore/auth/kubernetes_selector.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "common/strings.h"

namespace coffer::keystore {
namespace {

// Thrown within Parse alone, as yaml-cpp's own exceptions are.
struct Wrong {
  std::string what;
};

std::string Text(const YAML::Node& node, std::string_view what) {
  if (!node.IsDefined() || !node.IsScalar()) throw Wrong{StrCat(what, " must be a text")};
  return node.Scalar();
}

}  // namespace

absl::StatusOr<LabelSelector> LabelSelector::Parse(std::string_view text) {
  static const std::map<std::string, Operator, std::less<>> kOperators = {
      {"In", Operator::kIn},
      {"NotIn", Operator::kNotIn},
      {"Exists", Operator::kExists},
      {"DoesNotExist", Operator::kDoesNotExist}};
  LabelSelector selector;
  try {
    const YAML::Node root = YAML::Load(std::string(text));
    if (!root.IsMap()) throw Wrong{"it must be an object"};
    for (const auto& member : root) {
      const std::string name = Text(member.first, "a member's name");
      if (name == "matchLabels" && member.second.IsMap()) {
        for (const auto& label : member.second) {
          selector.requirements_.push_back({Text(label.first, "a label"), Operator::kIn,
                                            {Text(label.second, "a label's value")}});
        }
      } else if (name == "matchExpressions" && member.second.IsSequence()) {
        for (const YAML::Node& expression : member.second) {
          if (!expression.IsMap()) throw Wrong{"an expression must be an object"};
          Requirement requirement{Text(expression["key"], "an expression's key"), {}, {}};
          const auto op = kOperators.find(Text(expression["operator"], "an operator"));
          if (op == kOperators.end()) {
            throw Wrong{"an operator must be In, NotIn, Exists or DoesNotExist"};
          }
          requirement.op = op->second;
          for (const YAML::Node& value : expression["values"]) {
            requirement.values.push_back(Text(value, "a value"));
          }
          const bool wants_values = op->second <= Operator::kNotIn;
          if (wants_values == requirement.values.empty()) {
            throw Wrong{"In and NotIn take values, Exists and DoesNotExist none"};
          }
          selector.requirements_.push_back(std::move(requirement));
        }
      } else {
        throw Wrong{"its members are matchLabels, an object, and matchExpressions, a list"};
      }
    }
  } catch (const Wrong& wrong) {
    return absl::InvalidArgumentError(StrCat(
        "invalid \"bound_service_account_namespace_selector\" configured: ", wrong.what));
  } catch (const YAML::Exception&) {
    return absl::InvalidArgumentError(
        "invalid \"bound_service_account_namespace_selector\" configured: not valid JSON or YAML");
  }
  return selector;
}

bool LabelSelector::Fits(const ApiServer::Texts& labels) const {
  return std::all_of(requirements_.begin(), requirements_.end(), [&](const Requirement& required) {
    const auto label = labels.find(required.key);
    const bool present = label != labels.end();
    const bool listed = present && std::find(required.values.begin(), required.values.end(),
                                             label->second) != required.values.end();
    switch (required.op) {
      case Operator::kIn: return listed;
      case Operator::kNotIn: return !listed;
      case Operator::kExists: return present;
      case Operator::kDoesNotExist: return !present;
    }
    return false;
  });
}

}  // namespace coffer::keystore
