// RemoteKeys: the JWK set at a URL. Kept while it is fresh, fetched again for a key id that it
// doesn't know, but never more often than every few seconds.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/http_client.h"
#include "keystore/auth/jwt_keys.h"

namespace coffer::keystore {

class RemoteKeys {
 public:
  static constexpr absl::Duration kFreshFor = absl::Minutes(10);
  // For so long old keys are used while new ones can't be fetched.
  static constexpr absl::Duration kUsableFor = absl::Hours(24);
  static constexpr absl::Duration kBetweenFetches = absl::Seconds(10);

  // `bearer`: what to send as token with a fetch, or "". The clock must outlive this.
  RemoteKeys(std::string url, std::unique_ptr<HttpTransport> transport,
             std::function<SecretBytes()> bearer, const Clock& clock);

  // The keys to verify `jwt` with. Null: they must be fetched first, and `may_block` is false.
  // Unavailable: they can't be fetched, and there are no usable ones. Safe on any thread.
  absl::StatusOr<std::shared_ptr<const JwtKeySet>> KeysFor(const Jwt& jwt, bool may_block);

 private:
  absl::StatusOr<std::shared_ptr<const JwtKeySet>> Fetch();
  // What to answer without a fetch, or null.
  absl::StatusOr<std::shared_ptr<const JwtKeySet>> Known(const Jwt& jwt);

  const std::string url_;
  const std::unique_ptr<HttpTransport> transport_;
  const std::function<SecretBytes()> bearer_;
  const Clock& clock_;

  std::mutex fetching_;  // one at a time; the others wait for its result
  std::mutex mutex_;     // guards what follows
  std::shared_ptr<const JwtKeySet> keys_;
  absl::Time fetched_ = absl::InfinitePast();
  absl::Time attempted_ = absl::InfinitePast();
  absl::Status last_error_;
};

}  // namespace coffer::keystore
