// TokenStore: makes, finds, renews and revokes tokens, always within the caller's transaction.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "keystore/barrier/parsed_cache.h"
#include "keystore/barrier/txn.h"
#include "keystore/core/mount_entry.h"
#include "keystore/core/token_entry.h"

namespace coffer::keystore {

class TokenStore {
 public:
  explicit TokenStore(const Clock& clock);

  struct Created {
    SecretBytes id;  // "hvs." and 24 or more characters of [A-Za-z0-9]
    std::shared_ptr<const TokenEntry> entry;
    std::vector<std::string> warnings;
  };
  // `mount` gives the default and maximum TTL. All `txn`s here are of the whole tree.
  absl::StatusOr<Created> Create(Txn& txn, TokenSpec spec, const MountEntry& mount);

  // Null where there is no such token, or it has expired.
  absl::StatusOr<std::shared_ptr<const TokenEntry>> Lookup(Txn& txn, std::string_view token);
  absl::StatusOr<std::shared_ptr<const TokenEntry>> LookupHash(Txn& txn, std::string_view hash);
  absl::StatusOr<std::shared_ptr<const TokenEntry>> LookupAccessor(Txn& txn,
                                                                   std::string_view accessor);
  // Counts one use of a token with a limit; the last use revokes it when the transaction commits.
  absl::Status Use(Txn& txn, const TokenEntry& entry);
  // Zero `increment`: as long as at first. InvalidArgument: not renewable.
  absl::StatusOr<std::shared_ptr<const TokenEntry>> Renew(Txn& txn, const TokenEntry& entry,
                                                          absl::Duration increment);
  // Revokes the token and all that descend from it.
  absl::Status Revoke(Txn& txn, std::string_view hash);
  // Revokes the token alone; its children become orphans.
  absl::Status RevokeOrphan(Txn& txn, std::string_view hash);
  absl::StatusOr<std::vector<std::string>> Accessors(Txn& txn);

  // Revokes tokens that have expired, at most `limit`; returns how many. Run again while it returns
  // `limit`.
  absl::StatusOr<std::size_t> RevokeExpired(Txn& txn, std::size_t limit);

  void OnSeal();
};

// Lower-case hex SHA-256.
std::string TokenHash(std::string_view token);

}  // namespace coffer::keystore
