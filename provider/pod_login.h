// PodLogin: one login of one pod, whose token all of the pod's volumes use that log in alike.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/secret_bytes.h"
#include "provider/keystore_client.h"

namespace coffer::provider {

struct Token {
  SecretBytes secret;
  std::string accessor;    // "" = none: a batch token
  bool renewable = false;
  bool batch = false;      // can't be revoked, ends by itself
  absl::Time taken_at = absl::InfinitePast();  // before that the clock was set back: to be renewed
  absl::Time renew_at = absl::InfiniteFuture();
  absl::Time expires_at = absl::InfiniteFuture();
};
using TokenPtr = std::shared_ptr<Token>;

// The token of a login's `auth`.
TokenPtr TokenOf(const Json& auth, absl::Time now);

// Safe on any thread. A token's times change under the login's lock alone; its secret never.
class PodLogin {
 public:
  using LogIn = std::function<absl::StatusOr<TokenPtr>()>;

  // The token that there is, renewed when two thirds of its time are over; else that of `log_in`,
  // which one thread calls while others wait. `kept` says that it was there before.
  absl::StatusOr<TokenPtr> Get(const KeystoreClient& client, const Clock& clock,
                               absl::Time deadline, const LogIn& log_in, bool* kept);

  // Another token in place of the current one, which ends by itself or at Revoke: what was leased
  // with it is in use until the volumes have read anew. Forgets those that have ended.
  void Replace(TokenPtr token, absl::Time now);

  // A token from before: that which is known already, where it is. The current one is then that
  // which ends last of those that were current.
  TokenPtr Add(Token token, bool current);
  // All tokens; under the lock.
  void ForEach(const std::function<void(const TokenPtr&, bool current)>& token) const;

  TokenPtr current() const;
  absl::Time renew_at() const;        // of the current one
  bool holds() const;                 // any token

  // Gives all tokens back, with what was leased with them. An error: try again later, with what is
  // left. A token that the keystore no longer knows, or never takes back, is fine.
  absl::Status Revoke(const KeystoreClient& client, const Clock& clock, absl::Time deadline);

 private:
  // Whether the current token serves, as it is or (`renewed`) with more time. Under the lock.
  bool Serves(absl::Time now, bool renewed) const;
  // More time for the token, where there is one, or another.
  absl::StatusOr<TokenPtr> Ask(const KeystoreClient& client, const Clock& clock,
                               absl::Time deadline, const LogIn& log_in, const TokenPtr& token);
  bool Renew(const KeystoreClient& client, const Clock& clock, absl::Time deadline,
             const TokenPtr& token);

  mutable std::mutex mutex_;
  std::condition_variable turn_;
  bool asking_ = false;  // one thread asks the keystore
  TokenPtr current_;
  std::vector<TokenPtr> retired_;
};

// Gives one token back, as PodLogin::Revoke does.
absl::Status RevokeToken(const KeystoreClient& client, const SecretBytes& token,
                         absl::Time deadline);

}  // namespace coffer::provider
