// Session: what one volume holds of a keystore between two fetches. Only the provider looks inside.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "common/json.h"
#include "common/secret_bytes.h"
#include "provider/parameters.h"

namespace coffer::provider {

// A response that came with a lease: asking again would make new credentials, so it is used until
// two thirds of its time are over.
struct Leased {
  Json response;
  absl::Time use_until;
};

class Session {
 public:
  std::string login_key;  // "" = never logged in
  Login login;
  std::shared_ptr<HttpTransport> transport;
  SecretBytes token;  // empty = none
  absl::Time renew_at = absl::InfinitePast();
  absl::Time expires_at = absl::InfinitePast();
  bool renewable = false;
  std::map<std::string, Leased> leased;  // by request

  // After the token is gone, or is to be forgotten.
  void Forget();
  // When something leased, or the token that it hangs on, needs another fetch.
  std::optional<absl::Time> due() const;
};

}  // namespace coffer::provider
