// JWT (RFC 7519) in the compact form of JWS (RFC 7515): what a token says. Whether that is true is
// for JwtKeySet (jwt_keys.h) or the issuer to say.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/json.h"
#include "common/secret_bytes.h"

namespace coffer::keystore {

inline constexpr std::size_t kMaxJwtSize = 16 * 1024;
// How far the issuer's clock and ours may differ; Vault's.
inline constexpr absl::Duration kJwtLeeway = absl::Seconds(60);

struct Jwt {
  std::string algorithm;           // "alg", never empty
  std::string key_id;              // "kid", "" where there is none
  Json claims;                     // an object
  std::string_view signing_input;  // of the text that was parsed
  SecretBytes signature;           // may be empty
};

// base64url(header) "." base64url(claims) "." base64url(signature), without padding. The views
// point into `text`. PermissionDenied: not that, larger than kMaxJwtSize, or it needs an extension
// ("crit").
absl::StatusOr<Jwt> ParseJwt(std::string_view text);

// "aud", a text or a list of texts; none where it is absent. PermissionDenied: something else.
absl::StatusOr<std::vector<std::string>> Audiences(const Json& claims);

struct ClaimRules {
  absl::Time now;
  std::string_view audience;              // one of "aud"; "" = any or none
  std::optional<std::string_view> issuer;  // "iss"
};

// Checks "exp", "nbf" and "iat" (each may be absent: tokens of Secrets have none) and the rules.
// PermissionDenied says which claim is wrong.
absl::Status CheckClaims(const Json& claims, const ClaimRules& rules);

}  // namespace coffer::keystore
