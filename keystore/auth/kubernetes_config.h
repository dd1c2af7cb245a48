// KubernetesConfig: how a Kubernetes auth mount checks tokens. Stored as a JSON object of the fields
// that "config" takes, and parsed once per change into keys and connections.
//
// A token is checked with the keys where pem_keys or jwks_url are given, else by TokenReview. Vault
// asks the API server in both cases; here token_review=true says so.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/json.h"
#include "keystore/auth/jwt_keys.h"
#include "keystore/auth/jwt_remote_keys.h"
#include "keystore/auth/token_review.h"

namespace coffer::keystore {

struct KubernetesConfig {
  // `document`: as stored. InvalidArgument says which field is wrong. `clock` must outlive the result.
  static absl::StatusOr<std::shared_ptr<const KubernetesConfig>> Parse(const Json& document,
                                                                       const PodFiles& pod_files,
                                                                       const Clock& clock);

  // The keys that a JWT is verified with. Null: TokenReview alone decides; or, with `needs_worker`
  // set, they must be fetched first.
  absl::StatusOr<std::shared_ptr<const JwtKeySet>> KeysFor(const Jwt& jwt, bool may_block,
                                                           bool* needs_worker) const;
  bool checks_keys() const { return keys != nullptr || remote_keys != nullptr; }

  std::string issuer;  // what "iss" must be; checked where validate_issuer
  bool validate_issuer = false;
  bool use_annotations = false;
  bool token_review = false;
  std::shared_ptr<const JwtKeySet> keys;     // of pem_keys; null where there are none
  std::unique_ptr<RemoteKeys> remote_keys;   // of jwks_url; likewise
  std::shared_ptr<ApiServer> api_server;     // null where there is no kubernetes_host
};

// "https://host[:port][/path]" of what was given: a host, host:port or URL, without a "/" at the end.
// InvalidArgument names `field`.
absl::StatusOr<std::string> CheckedUrl(std::string_view field, std::string_view given);

}  // namespace coffer::keystore
