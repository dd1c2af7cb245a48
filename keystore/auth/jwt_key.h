// JwtKey: one public key, with its OpenSSL contexts kept ready, so that a verification costs little
// more than the arithmetic.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"

namespace coffer::keystore {

struct EvpDeleter {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using EvpKey = std::unique_ptr<EVP_PKEY, EvpDeleter>;
using EvpContext = std::unique_ptr<EVP_PKEY_CTX, EvpDeleter>;

// What an "alg" of RFC 7518 section 3.1 and RFC 8037 stands for.
struct JwtAlgorithm {
  std::string_view name;      // "RS256"
  std::string_view key_type;  // "RSA", "P-256", "P-384", "P-521", "Ed25519"
  const char* digest;         // for OpenSSL; null: signs the text itself
  bool pss = false;
  std::size_t coordinate = 0;  // of an elliptic curve, in bytes
};

// Null for anything else: "none", HMAC, encryption.
const JwtAlgorithm* FindJwtAlgorithm(std::string_view name);
inline constexpr std::size_t kJwtAlgorithms = 10;

class JwtKey {
 public:
  // InvalidArgument: a type or size that isn't used. `algorithm`: the only one it may be used with,
  // or "".
  static absl::StatusOr<std::unique_ptr<JwtKey>> Make(EvpKey key, std::string id = {},
                                                      std::string algorithm = {});
  // A JWK, RFC 7517 section 4 with RFC 7518 section 6 and RFC 8037.
  static absl::StatusOr<std::unique_ptr<JwtKey>> FromJwk(const Json& jwk);

  const std::string& id() const { return id_; }
  bool Fits(const JwtAlgorithm& algorithm) const;
  // Whether `signature` over `text` is this key's. The key must fit.
  bool Verify(const JwtAlgorithm& algorithm, std::string_view text,
              std::span<const std::uint8_t> signature) const;

 private:
  JwtKey(EvpKey key, std::string_view type, std::string id, std::string algorithm);
  EvpContext Borrow(const JwtAlgorithm& algorithm) const;
  void GiveBack(const JwtAlgorithm& algorithm, EvpContext context) const;
  bool VerifyText(std::string_view text, std::span<const std::uint8_t> signature) const;

  const EvpKey key_;
  const std::string_view type_;  // as JwtAlgorithm::key_type
  const std::string id_;
  const std::string algorithm_;
  // Contexts that are set up for an algorithm and not in use: as many as threads have used at once.
  mutable std::mutex mutex_;
  mutable std::array<std::vector<EvpContext>, kJwtAlgorithms> idle_;
};

}  // namespace coffer::keystore
