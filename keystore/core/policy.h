// Policy and Acl: who may do what. Vault's rules: https://developer.hashicorp.com/vault/docs/concepts/policies
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "keystore/barrier/parsed_cache.h"
#include "keystore/core/request.h"

namespace coffer::keystore {

// One parsed policy.
class Policy {
 public:
  // HCL or JSON. InvalidArgument names the line and what is wrong there.
  static absl::StatusOr<std::shared_ptr<const Policy>> Parse(std::string_view name,
                                                             std::string_view text);
};

// The union of a token's policies.
class Acl {
 public:
  explicit Acl(const std::vector<std::shared_ptr<const Policy>>& policies, bool root);

  bool root() const;
  // Whether `operation` on `path` (no leading "/") with `data` is allowed. A list is asked with the
  // path ending in "/".
  bool Allows(Operation operation, std::string_view path, const Json& data) const;
  bool HasSudo(std::string_view path) const;
  // As sys/capabilities answers: sorted names, ["root"] for root, ["deny"] where there are none.
  std::vector<std::string> Capabilities(std::string_view path) const;
  // Whether any rule grants anything at or below `prefix`: which mounts sys/internal/ui/mounts shows.
  bool GrantsBelow(std::string_view prefix) const;
};

// Policies in storage, by name. All `txn`s are of the whole tree.
class PolicyStore {
 public:
  // Lower-cases names, as Vault does.
  absl::StatusOr<std::vector<std::string>> List(Txn& txn);  // with "root", sorted
  // The text, or nullopt. "root" has the text "".
  absl::StatusOr<std::optional<std::string>> Get(Txn& txn, std::string_view name);
  // InvalidArgument: "root" can't be changed, or the text is wrong.
  absl::Status Put(Txn& txn, std::string_view name, std::string_view text);
  // InvalidArgument: "root" and "default" can't be deleted.
  absl::Status Delete(Txn& txn, std::string_view name);
  // Writes the "default" policy at initialisation.
  absl::Status Initialize(Txn& txn);
  // Names that have no policy grant nothing.
  absl::StatusOr<std::shared_ptr<const Acl>> AclFor(Txn& txn,
                                                    const std::vector<std::string>& names);
  void OnSeal();
};

}  // namespace coffer::keystore
