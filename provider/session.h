// Session: what one volume holds of a keystore between two fetches. Only the provider looks inside.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "common/http_client.h"
#include "provider/lease.h"
#include "provider/parameters.h"
#include "provider/pod_login.h"

namespace coffer::provider {

class Session {
 public:
  std::string pod;        // its uid; "" = never logged in
  std::string login_key;  // LoginKey of `login`
  Login login;
  std::shared_ptr<HttpTransport> transport;
  std::shared_ptr<PodLogin> pod_login;  // null = holds nothing
  TokenPtr leased_with;                 // whose end is the end of `leases`
  std::map<std::string, Lease> leases;  // by request
  std::string warned;                   // FetchResult's warning, the last time

  bool holds_token() const { return pod_login != nullptr && pod_login->holds(); }
  // When something leased, or the token that it hangs on, needs another fetch.
  std::optional<absl::Time> due() const;
};

}  // namespace coffer::provider
