#include "provider/pod_login.h"

#include <algorithm>
#include <chrono>

#include "common/json_members.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "provider/lease.h"

namespace coffer::provider {
namespace {

// A kept token this close to its end is not started with.
constexpr absl::Duration kMargin = absl::Seconds(5);

// What a login or a renewal says of the token's time.
void SetLifetime(const Json& auth, absl::Time now, Token* token) {
  const absl::Duration ttl = SecondsOf(auth, "lease_duration");
  token->renewable = TrueAt(auth, "renewable");
  token->taken_at = now;
  token->expires_at = ttl == absl::ZeroDuration() ? absl::InfiniteFuture() : now + ttl;
  token->renew_at = ttl == absl::ZeroDuration() ? absl::InfiniteFuture() : now + ttl * 2 / 3;
}

bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

}  // namespace

TokenPtr TokenOf(const Json& auth, absl::Time now) {
  auto token = std::make_shared<Token>();
  token->secret = SecretBytes::CopyOf(TextAt(auth, "client_token"));
  token->accessor = TextAt(auth, "accessor");
  token->batch = TextAt(auth, "token_type") == "batch";
  SetLifetime(auth, now, token.get());
  return token;
}

bool PodLogin::Serves(absl::Time now, bool renewed) const {
  return current_ != nullptr && now + kMargin < current_->expires_at &&
         (renewed || (now < current_->renew_at && now >= current_->taken_at));
}

absl::StatusOr<TokenPtr> PodLogin::Get(const KeystoreClient& client, const Clock& clock,
                                       absl::Time deadline, const LogIn& log_in, bool* kept) {
  std::unique_lock lock(mutex_);
  const absl::Duration left = std::min(deadline - clock.Now(), absl::Hours(1));
  const bool free = turn_.wait_for(lock, absl::ToChronoNanoseconds(left), [&] {
    return !asking_ || Serves(clock.Now(), false);
  });
  *kept = Serves(clock.Now(), false);
  if (*kept) return current_;
  if (!free) return absl::DeadlineExceededError("another login of the pod takes too long");
  const TokenPtr old = Serves(clock.Now(), true) ? current_ : nullptr;
  asking_ = true;
  lock.unlock();
  absl::StatusOr<TokenPtr> token = Ask(client, clock, deadline, log_in, old);
  lock.lock();
  asking_ = false;
  turn_.notify_all();
  *kept = token.ok() && *token == old;
  return token;
}

absl::StatusOr<TokenPtr> PodLogin::Ask(const KeystoreClient& client, const Clock& clock,
                                       absl::Time deadline, const LogIn& log_in,
                                       const TokenPtr& token) {
  if (token != nullptr && Renew(client, clock, deadline, token)) return token;
  ASSIGN_OR_RETURN(TokenPtr made, log_in());
  Replace(made, clock.Now());
  return made;
}

bool PodLogin::Renew(const KeystoreClient& client, const Clock& clock, absl::Time deadline,
                     const TokenPtr& token) {
  if (!token->renewable) return false;
  const absl::StatusOr<Json> answer = client.Call("POST", "auth/token/renew-self", "",
                                                  token->secret, SecretBytes(), deadline);
  const absl::Time now = clock.Now();
  std::lock_guard lock(mutex_);
  // It serves as long as it lasts: what is read with it will tell what ails the keystore.
  if (MayPass(answer.status())) {
    token->renew_at = now + (token->expires_at - now) / 4;
    return now + kMargin < token->expires_at;
  }
  if (!answer.ok()) return false;
  const Json& auth = At(*answer, "auth");
  if (!auth.is_object()) return false;
  const absl::Duration before = token->expires_at - now;
  SetLifetime(auth, now, token.get());
  // Near its longest time a renewal no longer lengthens anything: then it's time for a new one.
  return token->expires_at - now > before || before > absl::Minutes(1);
}

void PodLogin::Replace(TokenPtr token, absl::Time now) {
  std::lock_guard lock(mutex_);
  if (current_ != nullptr) retired_.push_back(std::move(current_));
  std::erase_if(retired_, [now](const TokenPtr& old) { return old->expires_at <= now; });
  current_ = std::move(token);
}

TokenPtr PodLogin::Add(Token token, bool current) {
  std::lock_guard lock(mutex_);
  const auto known = [&token](const TokenPtr& other) {
    return other != nullptr && other->secret.Equals(token.secret.view());
  };
  if (known(current_)) return current_;
  const auto old = std::find_if(retired_.begin(), retired_.end(), known);
  if (old != retired_.end()) return *old;
  auto added = std::make_shared<Token>(std::move(token));
  if (current && (current_ == nullptr || current_->expires_at < added->expires_at)) {
    if (current_ != nullptr) retired_.push_back(std::move(current_));
    current_ = added;
  } else {
    retired_.push_back(added);
  }
  return added;
}

void PodLogin::ForEach(const std::function<void(const TokenPtr&, bool current)>& token) const {
  std::lock_guard lock(mutex_);
  if (current_ != nullptr) token(current_, true);
  for (const TokenPtr& old : retired_) token(old, false);
}

bool PodLogin::holds() const {
  std::lock_guard lock(mutex_);
  return current_ != nullptr || !retired_.empty();
}

TokenPtr PodLogin::current() const {
  std::lock_guard lock(mutex_);
  return current_;
}

absl::Time PodLogin::renew_at() const {
  std::lock_guard lock(mutex_);
  return current_ == nullptr ? absl::InfiniteFuture() : current_->renew_at;
}

absl::Status PodLogin::Revoke(const KeystoreClient& client, const Clock& clock,
                              absl::Time deadline) {
  for (;;) {
    TokenPtr token;
    {
      std::lock_guard lock(mutex_);
      const absl::Time now = clock.Now();
      std::erase_if(retired_, [now](const TokenPtr& old) { return old->expires_at <= now; });
      token = !retired_.empty() ? retired_.back() : current_;
      if (token == nullptr) return absl::OkStatus();
    }
    if (!token->batch && clock.Now() < token->expires_at) {
      RETURN_IF_ERROR(RevokeToken(client, token->secret, deadline));
    }
    std::lock_guard lock(mutex_);
    std::erase(retired_, token);
    if (current_ == token) current_ = nullptr;
  }
}

absl::Status RevokeToken(const KeystoreClient& client, const SecretBytes& token,
                         absl::Time deadline) {
  const absl::Status revoked =
      client.Call("POST", "auth/token/revoke-self", "", token, SecretBytes(), deadline).status();
  // Refused means that the keystore doesn't know the token any longer.
  if (absl::IsPermissionDenied(revoked)) return absl::OkStatus();
  if (absl::IsInvalidArgument(revoked) || absl::IsNotFound(revoked)) {  // nor will it at any time
    log::Warning("token not revoked: it ends by itself", {{"error", revoked}});
    return absl::OkStatus();
  }
  return revoked;
}

}  // namespace coffer::provider
