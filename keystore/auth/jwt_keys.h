// JwtKeySet: public keys that verify JWTs. Immutable; parsed once and used by every login on any
// thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "keystore/auth/jwt.h"

namespace coffer::keystore {

class JwtKey;

class JwtKeySet {
 public:
  ~JwtKeySet();
  JwtKeySet(const JwtKeySet&) = delete;
  JwtKeySet& operator=(const JwtKeySet&) = delete;

  // Each text holds one or more PEM blocks: PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE (whose dates
  // don't matter). RSA of 2048 bits or more, P-256, P-384, P-521 or Ed25519. InvalidArgument says what
  // is wrong with which text.
  static absl::StatusOr<std::shared_ptr<const JwtKeySet>> FromPem(
      const std::vector<std::string>& texts);
  // A JWK set (RFC 7517 section 5). Keys of other types, for other uses or malformed are left out;
  // InvalidArgument: it isn't a set, or no key is left.
  static absl::StatusOr<std::shared_ptr<const JwtKeySet>> FromJwks(std::string_view document);

  // Whether a key may be the one that signed the JWT, by its id: a JWT without an id may be any key's,
  // and so may a key without one be any JWT's.
  bool Knows(const Jwt& jwt) const;

  // PermissionDenied says why the signature doesn't hold: the algorithm is none of RS256, RS384,
  // RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA; no key fits it; the id is unknown; the
  // signature is wrong.
  absl::Status Verify(const Jwt& jwt) const;

 private:
  explicit JwtKeySet(std::vector<std::unique_ptr<JwtKey>> keys);

  std::vector<std::unique_ptr<JwtKey>> keys_;
};

}  // namespace coffer::keystore
