// LabelSelector: which sets of labels are meant, in Kubernetes' terms.
// https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/label-selector/
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "keystore/auth/token_review.h"

namespace coffer::keystore {

class LabelSelector {
 public:
  // A YAML (so also a JSON) object: {matchLabels: {key: value}, matchExpressions: [{key, operator: In |
  // NotIn | Exists | DoesNotExist, values}]}. An empty one means everything. InvalidArgument says what
  // is wrong; unlike Vault, also where a member is unknown, for what is misspelt would let more in.
  static absl::StatusOr<LabelSelector> Parse(std::string_view text);

  bool Fits(const ApiServer::Texts& labels) const;

 private:
  enum class Operator { kIn, kNotIn, kExists, kDoesNotExist };
  struct Requirement {
    std::string key;
    Operator op;
    std::vector<std::string> values;
  };
  std::vector<Requirement> requirements_;  // all must hold
};

}  // namespace coffer::keystore
