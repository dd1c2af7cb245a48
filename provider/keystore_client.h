// KeystoreClient: the four calls of the Vault HTTP API that a node makes: log in, read, renew,
// revoke. Retries what may pass; turns answers into statuses.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/http_client.h"
#include "common/json.h"
#include "common/secret_bytes.h"
#include "provider/parameters.h"

namespace coffer::provider {

class KeystoreClient {
 public:
  // Both are kept by the caller.
  KeystoreClient(HttpTransport& transport, const Login& login, const Clock& clock)
      : transport_(transport), login_(login), clock_(clock) {}

  // The whole answer as JSON; null where the answer has no body. Lost connections, 5xx, 429 and 412
  // (a standby that lags behind) are tried again a few times, not before Retry-After, as far as the
  // deadline allows. The message of an error says method, path, address and what the keystore said.
  absl::StatusOr<Json> Call(std::string_view method, std::string_view path, std::string_view query,
                            const SecretBytes& token, SecretBytes body, absl::Time deadline) const;

  // POST auth/<mount>/login; the answer's `auth` object.
  absl::StatusOr<Json> LogIn(const SecretBytes& jwt, absl::Time deadline) const;

 private:
  // Follows one redirect, as a standby may answer with, but never from TLS to none: Vault's rules.
  absl::StatusOr<HttpResponse> Send(HttpRequest& request) const;

  HttpTransport& transport_;
  const Login& login_;
  const Clock& clock_;
};

}  // namespace coffer::provider
