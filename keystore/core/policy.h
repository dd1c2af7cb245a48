// Policy and Acl: who may do what. Vault's rules:
// https://developer.hashicorp.com/vault/docs/concepts/policies
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/json.h"
#include "keystore/barrier/parsed_cache.h"
#include "keystore/core/request.h"

namespace coffer::keystore {

// What may be done to a path, as bits.
enum Capability : std::uint32_t {
  kCapabilityDeny = 1u << 0,  // alone: it takes all others away
  kCapabilityCreate = 1u << 1,
  kCapabilityRead = 1u << 2,
  kCapabilityUpdate = 1u << 3,
  kCapabilityDelete = 1u << 4,
  kCapabilityList = 1u << 5,
  kCapabilitySudo = 1u << 6,
  kCapabilityPatch = 1u << 7,
  kCapabilitySubscribe = 1u << 8,  // to events
  kCapabilityRecover = 1u << 9,    // from snapshots: granted and shown, used by nothing here
};

// Bits for a name of the above in lower case, nullopt for another.
std::optional<std::uint32_t> ParseCapability(std::string_view name);
// As sys/capabilities answers: sorted, "deny" alone where it is set or nothing is.
std::vector<std::string> CapabilityNames(std::uint32_t capabilities);

// Lower-case parameter names, each with the values (texts may start and end with "*") that are
// meant; an empty list means all.
using Parameters = std::map<std::string, std::vector<Json>, std::less<>>;

// What one path rule grants.
struct Permissions {
  std::uint32_t capabilities = 0;
  Parameters allowed;                 // empty: all
  Parameters denied;                  // empty: none
  std::vector<std::string> required;  // lower case
  std::vector<std::string> event_types;  // globs, of "subscribe"; all where a rule names none
  absl::Duration min_wrapping_ttl;    // zero: not set
  absl::Duration max_wrapping_ttl;

  // Adds what another policy says of the same path.
  void Merge(const Permissions& other);
  // `wrap_ttl`: of the response, zero where it won't be wrapped.
  bool AllowsWrapping(absl::Duration wrap_ttl) const;
  bool AllowsParameters(const Json& data) const;
  bool AllowsEvent(std::string_view type) const;
};

struct PathRule {
  enum class Match {
    kExact,
    kPrefix,    // written with "*" at the end, which `path` has no more
    kSegments,  // has "+" for whole segments, and perhaps a "*" at the end
  };
  std::string path;
  Match match = Match::kExact;
  Permissions permissions;
};

// One parsed policy.
class Policy {
 public:
  // HCL or JSON. InvalidArgument names the line and what is wrong there.
  static absl::StatusOr<std::shared_ptr<const Policy>> Parse(std::string_view name,
                                                             std::string_view text);

  const std::vector<PathRule>& rules() const { return rules_; }

 private:
  std::vector<PathRule> rules_;
};

// The union of a token's policies.
class Acl {
 public:
  // Null policies grant nothing.
  explicit Acl(const std::vector<std::shared_ptr<const Policy>>& policies, bool root);

  bool root() const { return root_; }
  // Whether `operation` on `path` (no leading "/") with `data` is allowed. A list is asked with the
  // path ending in "/". `wrap_ttl`: of the response, zero where it won't be wrapped.
  bool Allows(Operation operation, std::string_view path, const Json& data,
              absl::Duration wrap_ttl = absl::ZeroDuration()) const;
  bool HasSudo(std::string_view path) const;
  // Whether events of that type about `path` may be seen: "subscribe", and subscribe_event_types.
  bool MaySubscribe(std::string_view path, std::string_view event_type) const;
  // As sys/capabilities answers: sorted names, ["root"] for root, ["deny"] where there are none.
  std::vector<std::string> Capabilities(std::string_view path) const;
  // Whether any rule grants anything at or below `prefix` (ends in "/"): which mounts
  // sys/internal/ui/mounts shows.
  bool GrantsBelow(std::string_view prefix) const;
  // As sys/internal/ui/resultant-acl answers.
  Json Describe() const;

 private:
  struct PrefixRule {
    std::string prefix;
    int parent;  // index of the longest other rule that is a prefix of this one, -1 where none is
    Permissions permissions;
  };
  struct SegmentRule {
    std::string path;            // without the "*"
    bool prefix;                 // had a "*"
    std::size_t first_wildcard;  // offset of the first "+"
    std::size_t wildcards;       // segments that are "+"
    Permissions permissions;

    bool Matches(std::string_view path) const;
    bool MayMatchBelow(std::string_view directory) const;
  };

  // The rule that decides, or null. `list`: the path is also tried without the "/" at its end.
  const Permissions* Find(std::string_view path, bool list) const;
  const Permissions* FindInexact(std::string_view path) const;
  const PrefixRule* LongestPrefix(std::string_view path) const;

  const bool root_;
  absl::flat_hash_map<std::string, Permissions> exact_;
  std::vector<PrefixRule> prefixes_;   // sorted
  std::vector<SegmentRule> segments_;  // the one that decides first
};

// Policies in storage, by name, as their text: "sys/policy/<name>", where "%" and "/" of the name
// stand as %25 and %2F. All `txn`s are of the whole tree.
class PolicyStore {
 public:
  // Lower-cases names, as Vault does.
  // Sorted, then "root", as Vault lists them.
  absl::StatusOr<std::vector<std::string>> List(Txn& txn);
  // The text, or nullopt. "root" has the text "".
  absl::StatusOr<std::optional<std::string>> Get(Txn& txn, std::string_view name);
  // InvalidArgument: "root" and internal ones can't be changed, or the text is wrong.
  absl::Status Put(Txn& txn, std::string_view name, std::string_view text);
  // InvalidArgument: "root", "default" and internal ones can't be deleted. OK where there is no
  // such policy.
  absl::Status Delete(Txn& txn, std::string_view name);
  // Writes the "default" policy at initialisation.
  absl::Status Initialize(Txn& txn);
  // Names that have no policy grant nothing.
  absl::StatusOr<std::shared_ptr<const Acl>> AclFor(Txn& txn,
                                                    const std::vector<std::string>& names);
  void OnSeal();

 private:
  struct CachedAcl {
    std::vector<std::string> tags;  // of the policies, "" for those that are not there
    std::shared_ptr<const Acl> acl;
  };
  ParsedCache<Policy> policies_;
  std::mutex mutex_;
  std::unordered_map<std::string, CachedAcl> acls_;  // by the names, parted by "/"
};

// The policy of wrapping tokens. There is no document of that name: it allows nothing by itself.
inline constexpr std::string_view kWrappingPolicy = "response-wrapping";
// InvalidArgument where one of these, in lower case, is internal: no token is given such a policy
// by a person or an auth method.
absl::Status CheckAssignable(const std::vector<std::string>& policies);

// The name as the store has it: in lower case.
std::string NormalPolicyName(std::string_view name);

// The text of a new keystore's "default" policy.
std::string_view DefaultPolicyText();

}  // namespace coffer::keystore
