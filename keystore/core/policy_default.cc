// The "default" policy of a new keystore, in effect Vault's own.
#include "keystore/core/policy.h"

namespace coffer::keystore {

std::string_view DefaultPolicyText() {
  return R"(# What every token may do unless it was made without this policy: look after itself.

# Itself: look up, renew, revoke, ask what it may do.
path "auth/token/lookup-self"        { capabilities = ["read"] }
path "auth/token/renew-self"         { capabilities = ["update"] }
path "auth/token/revoke-self"        { capabilities = ["update"] }
path "sys/capabilities-self"         { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }

# Its leases: both names of renewal, and lookup. Whoever knows the id of a lease holds it.
path "sys/renew"         { capabilities = ["update"] }
path "sys/leases/renew"  { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }

# Its own cubbyhole, which no other token sees.
path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }

# Wrapping what it has, and opening what it was given wrapped.
path "sys/wrapping/wrap"   { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }

# Hashes and random bytes.
path "sys/tools/hash"     { capabilities = ["update"] }
path "sys/tools/hash/*"   { capabilities = ["update"] }
path "sys/tools/random"   { capabilities = ["update"] }
path "sys/tools/random/*" { capabilities = ["update"] }
)";
}

}  // namespace coffer::keystore
