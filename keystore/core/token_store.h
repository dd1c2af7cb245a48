// TokenStore: makes, finds, renews and revokes tokens, always within the caller's transaction.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "keystore/barrier/parsed_cache.h"
#include "keystore/barrier/txn.h"
#include "keystore/core/mount_entry.h"
#include "keystore/core/token_entry.h"
#include "keystore/core/token_store_ttl.h"

namespace coffer::keystore {

class TokenStore {
 public:
  explicit TokenStore(const Clock& clock, LeaseTtls ttls = {}) : clock_(clock), ttls_(ttls) {}
  const LeaseTtls& ttls() const { return ttls_; }

  struct Created {
    SecretBytes id;  // "hvs." and 24 or more characters of [A-Za-z0-9]; "hvb." and base64url
    std::shared_ptr<const TokenEntry> entry;
    std::vector<std::string> warnings;
  };
  // `mount` gives the default and maximum TTL. All `txn`s here are of the whole tree.
  // InvalidArgument: the id is taken, the parent is gone, a root token or internal policy from an
  // auth method, a batch token with what it can't have, a type that there isn't.
  absl::StatusOr<Created> Create(Txn& txn, TokenSpec spec, const MountEntry& mount);

  // Null where there is no such token, or it has expired or is used up.
  absl::StatusOr<std::shared_ptr<const TokenEntry>> Lookup(Txn& txn, std::string_view token);
  // Of a service token.
  absl::StatusOr<std::shared_ptr<const TokenEntry>> LookupHash(Txn& txn, std::string_view hash);
  // The token of `entry` as it is now, or null, as Lookup.
  absl::StatusOr<std::shared_ptr<const TokenEntry>> LookupAgain(
      Txn& txn, const std::shared_ptr<const TokenEntry>& entry);
  absl::StatusOr<std::shared_ptr<const TokenEntry>> LookupAccessor(Txn& txn,
                                                                   std::string_view accessor);
  // Counts one use of a token with a limit. The last use ends it with this transaction: no later one
  // finds it, while the request that is under way still has its entry and its cubbyhole; the next
  // RevokeExpired takes away what is left of it.
  absl::Status Use(Txn& txn, const TokenEntry& entry);

  struct Renewed {
    std::shared_ptr<const TokenEntry> entry;
    std::vector<std::string> warnings;
  };
  // `terms`: what Backend::RenewalTerms of the method that made it says; `mount`: that method's.
  // Zero `increment`: as long as the terms say. InvalidArgument: gone, or not renewable; Internal:
  // past its limit.
  absl::StatusOr<Renewed> Renew(Txn& txn, const TokenEntry& entry, TtlTerms terms,
                                const MountEntry& mount, absl::Duration increment);
  // Revokes the token and all that descend from it.
  absl::Status Revoke(Txn& txn, std::string_view hash);
  // Revokes the token alone; its children become orphans.
  absl::Status RevokeOrphan(Txn& txn, std::string_view hash);
  // Notes that all tokens whose path is `prefix` (ends in "/") or below it are to be revoked with
  // their trees, other than those of init and generate-root. Core does it once this is committed,
  // and after a crash goes on: Response::revokes.
  absl::Status RevokeBelow(Txn& txn, std::string_view prefix);
  struct Noted {
    std::string name;
    std::string prefix;
  };
  // What RevokeBelow noted and Forget hasn't taken away.
  absl::StatusOr<std::vector<Noted>> ToRevoke(Txn& txn);
  absl::Status Forget(Txn& txn, const Noted& noted);
  // Unavailable while a prefix at, above or below `path` (ends in "/") is noted: tokens that are
  // made there now would be revoked with the old ones.
  absl::Status CheckNotRevoking(Txn& txn, std::string_view path);
  absl::StatusOr<std::vector<std::string>> HashesBelow(Txn& txn, std::string_view prefix);

  // Of all tokens, also those that have expired and wait for RevokeExpired; sorted.
  absl::StatusOr<std::vector<std::string>> Accessors(Txn& txn);

  // Revokes tokens that have expired, with their trees, at most `limit` (trees count once); returns
  // how many. Run again while it returns `limit`.
  absl::StatusOr<std::size_t> RevokeExpired(Txn& txn, std::size_t limit);

  // The storage that belongs to a token and goes with it.
  static Txn Cubbyhole(const Txn& txn, std::string_view hash);

  void OnSeal();

 private:
  // By `terms`, within what the mount allows now.
  absl::StatusOr<Ttl> TtlOn(const MountEntry& mount, TtlTerms terms) const;
  absl::StatusOr<std::shared_ptr<const TokenEntry>> Load(Txn& txn, std::string_view hash);
  absl::Status Rewrite(Txn& txn, const TokenEntry& before, const TokenEntry& after);
  absl::Status Erase(Txn& txn, const TokenEntry& entry);
  // token_batch.cc
  absl::StatusOr<SecretBytes> SealBatch(Txn& txn, const TokenEntry& entry);
  std::shared_ptr<const TokenEntry> OpenBatch(Txn& txn, std::string_view token);

  const Clock& clock_;
  const LeaseTtls ttls_;
  ParsedCache<TokenEntry> cache_;
  std::mutex batch_mutex_;  // of batch_
  // Batch tokens that were opened, by their hash: a token never changes.
  absl::flat_hash_map<std::string, std::shared_ptr<const TokenEntry>> batch_;
};

bool IsBatchToken(std::string_view token);
// InvalidArgument where `entry` never is: a batch token, one that was made so, or that lives for
// ever.
absl::Status CheckRenewable(const TokenEntry& entry);
// InvalidArgument for a batch token: "batch tokens cannot be revoked".
absl::Status CheckNotBatch(const TokenEntry& entry, std::string_view can_not);

// Lower-case hex SHA-256.
std::string TokenHash(std::string_view token);

}  // namespace coffer::keystore
