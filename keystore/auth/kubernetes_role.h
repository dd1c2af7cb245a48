// KubernetesRole: which ServiceAccounts a role lets in, and what tokens they get. Stored as a JSON
// object of the fields that "role/<name>" answers, and parsed once per change.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "keystore/auth/kubernetes_selector.h"
#include "keystore/core/request.h"
#include "keystore/core/token_entry.h"

namespace coffer::keystore {

struct KubernetesRole {
  // `document`: as stored. InvalidArgument says which field is wrong.
  static absl::StatusOr<std::shared_ptr<const KubernetesRole>> Parse(const Json& document);

  bool AllowsName(std::string_view name) const;
  bool AllowsNamespace(std::string_view name_space) const;
  // What the role's token_ fields say, without what a login adds.
  TokenSpec NewToken() const;

  std::vector<std::string> names;        // each may hold "*" for any text
  std::vector<std::string> name_spaces;  // likewise
  std::optional<LabelSelector> selector;  // of namespaces; a namespace may fit either
  std::string audience;                   // "" = any
  bool alias_is_name = false;             // <namespace>/<name>, else the uid
  std::vector<std::string> bound_cidrs;
  std::vector<std::string> policies;
  bool no_default_policy = false;
  absl::Duration ttl, max_ttl, explicit_max_ttl, period;
  std::int64_t num_uses = 0;
  std::string token_type;  // as TokenSpec::type
};

// Whether `text` fits `pattern`, in which "*" stands for any text, also none.
bool FitsGlob(std::string_view pattern, std::string_view text);

// The role `stored` (null: a new one) as changed by a write, checked. `max_lease_ttl`: the mount's.
// InvalidArgument says which field is wrong, in Vault's words where it has them.
absl::StatusOr<Json> ChangedRole(const Json& stored, const Request& request,
                                 absl::Duration max_lease_ttl, std::vector<std::string>* warnings);

// What a read answers.
Json ShownRole(const Json& stored);

}  // namespace coffer::keystore
