#include "keystore/auth/jwt_remote_keys.h"

#include "common/log.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(10);

// Whether `then` is less than `limit` ago; a time in the future, of a clock since set back, isn't.
bool Within(absl::Time then, absl::Time now, absl::Duration limit) {
  return then <= now && now - then < limit;
}

}  // namespace

RemoteKeys::RemoteKeys(std::string url, std::unique_ptr<HttpTransport> transport,
                       std::function<SecretBytes()> bearer, const Clock& clock)
    : url_(std::move(url)),
      transport_(std::move(transport)),
      bearer_(std::move(bearer)),
      clock_(clock) {}

absl::StatusOr<std::shared_ptr<const JwtKeySet>> RemoteKeys::KeysFor(const Jwt& jwt,
                                                                     bool may_block) {
  auto known = Known(jwt);
  if (!known.ok() || *known != nullptr || !may_block) return known;

  std::lock_guard one_fetch(fetching_);
  known = Known(jwt);  // perhaps fetched while we waited
  if (!known.ok() || *known != nullptr) return known;
  auto fetched = Fetch();
  const absl::Time now = clock_.Now();
  std::lock_guard lock(mutex_);
  attempted_ = now;
  if (fetched.ok()) {
    keys_ = *fetched;
    fetched_ = now;
    return keys_;
  }
  last_error_ = fetched.status();
  log::Warning("the JWK set can't be fetched", {{"url", url_}, {"error", last_error_}});
  if (keys_ != nullptr && Within(fetched_, now, kUsableFor)) return keys_;
  keys_ = nullptr;
  return last_error_;
}

absl::StatusOr<std::shared_ptr<const JwtKeySet>> RemoteKeys::Known(const Jwt& jwt) {
  const absl::Time now = clock_.Now();
  std::lock_guard lock(mutex_);
  if (keys_ != nullptr && Within(fetched_, now, kFreshFor) && keys_->Knows(jwt)) return keys_;
  if (!Within(attempted_, now, kBetweenFetches)) return std::shared_ptr<const JwtKeySet>();
  if (keys_ != nullptr) return keys_;  // Verify will say which key it doesn't know
  return last_error_;
}

absl::StatusOr<std::shared_ptr<const JwtKeySet>> RemoteKeys::Fetch() {
  HttpRequest request{.url = url_, .timeout = kTimeout};
  request.headers.push_back({"Accept", SecretBytes::CopyOf("application/json")});
  const SecretBytes bearer = bearer_();
  if (!bearer.empty()) {
    SecretBytes value = SecretBytes::CopyOf("Bearer ");
    value.Append(bearer.view());
    request.headers.push_back({"Authorization", std::move(value)});
  }
  const auto response = transport_->Send(request);
  if (!response.ok()) {
    return absl::UnavailableError(StrCat("fetch the JWK set: ", Message(response.status())));
  }
  if (response->status != 200) {
    return absl::UnavailableError(
        StrCat("fetch the JWK set at ", url_, ": it answered with status ", response->status));
  }
  auto keys = JwtKeySet::FromJwks(response->body.view());
  if (!keys.ok()) {
    return absl::UnavailableError(StrCat("the JWK set at ", url_, ": ", Message(keys.status())));
  }
  return keys;
}

}  // namespace coffer::keystore
