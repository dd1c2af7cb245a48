// TokenEntry: what the keystore keeps of a token. The token itself is not kept, only its SHA-256.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/json.h"

namespace coffer::keystore {

// What to make a token from. Durations of zero mean: not set.
struct TokenSpec {
  std::vector<std::string> policies;  // "default" is added unless no_default_policy
  bool no_default_policy = false;
  absl::Duration ttl;               // zero: the mount's default lease TTL
  absl::Duration max_ttl;           // zero: the mount's maximum
  absl::Duration explicit_max_ttl;  // a limit that renewals can't pass
  absl::Duration period;            // renewable for ever, for this long at a time
  bool renewable = true;
  std::int64_t num_uses = 0;  // 0: unlimited
  std::string display_name;   // "token", "kubernetes-default-vault"
  std::string path;           // what made it: "auth/token/create", "auth/kubernetes/login"
  Json meta;                  // null or an object of strings
  std::vector<std::string> bound_cidrs;
  std::string parent;         // TokenEntry::hash of the parent; "" = orphan
  SecretBytes id;             // chosen by the caller; empty: drawn at random
  std::string type;           // "service", "batch", "default-batch", or "" and others: service
  std::string role;           // the auth/token role that it was made by, or ""
};

// The path of tokens that init and generate-root make.
inline constexpr std::string_view kRootTokenPath = "auth/token/root";

struct TokenEntry {
  std::string hash;      // lower-case hex SHA-256 of the token
  std::string accessor;  // 24 characters of [A-Za-z0-9]
  std::string parent;    // hash of the parent; "" = orphan
  std::vector<std::string> policies;  // sorted, without duplicates
  std::string display_name;
  std::string path;
  Json meta;  // null or an object of strings
  std::string type = "service";
  std::string role;
  std::int64_t num_uses = 0;  // as left now; 0: unlimited; -1: the last one is being used
  absl::Time creation_time;
  absl::Duration creation_ttl;
  absl::Duration period;
  absl::Duration explicit_max_ttl;
  bool renewable = false;
  std::vector<std::string> bound_cidrs;
  absl::Time expire_time = absl::InfiniteFuture();  // InfiniteFuture: never
  absl::Time last_renewal = absl::InfinitePast();   // InfinitePast: never renewed

  bool root() const;  // holds the policy "root"
  // Not stored: the token itself is the entry, encrypted. It has no accessor, can't be renewed or
  // revoked, and ends with its parent.
  bool batch() const { return type == "batch"; }
  bool expires() const { return expire_time != absl::InfiniteFuture(); }
  // For how long it was given when it was made or last renewed; zero: for ever.
  absl::Duration given() const;
};

// Trimmed, in lower case, sorted, without empty ones and duplicates; with "default" if asked. Where
// "root" is among them it stands alone: it allows everything.
std::vector<std::string> CleanPolicies(const std::vector<std::string>& policies, bool add_default);

// The stored form; its grammar stands in token_entry.cc. `hash` is the entry's name in storage.
SecretBytes EncodeToken(const TokenEntry& entry);
absl::StatusOr<std::shared_ptr<const TokenEntry>> DecodeToken(std::string_view hash,
                                                              std::string_view stored);

}  // namespace coffer::keystore
