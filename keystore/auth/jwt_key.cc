#include "keystore/auth/jwt_key.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include "common/json_members.h"
#include "common/secret_bytes.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/auth/jwt.h"

namespace coffer::keystore {
namespace {

constexpr int kMinRsaBits = 2048;  // RFC 7518 section 3.3

constexpr std::array<JwtAlgorithm, kJwtAlgorithms> kAlgorithms = {{
    {"RS256", "RSA", "SHA256"},
    {"RS384", "RSA", "SHA384"},
    {"RS512", "RSA", "SHA512"},
    {"PS256", "RSA", "SHA256", true},
    {"PS384", "RSA", "SHA384", true},
    {"PS512", "RSA", "SHA512", true},
    {"ES256", "P-256", "SHA256", false, 32},
    {"ES384", "P-384", "SHA384", false, 48},
    {"ES512", "P-521", "SHA512", false, 66},
    {"EdDSA", "Ed25519", nullptr},
}};

struct OsslDeleter {
  void operator()(OSSL_PARAM_BLD* builder) const { OSSL_PARAM_BLD_free(builder); }
  void operator()(OSSL_PARAM* parameters) const { OSSL_PARAM_free(parameters); }
  void operator()(BIGNUM* number) const { BN_free(number); }
  void operator()(ECDSA_SIG* signature) const { ECDSA_SIG_free(signature); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
template <class T>
using Ossl = std::unique_ptr<T, OsslDeleter>;

// Fetched once: a fetch takes locks and is slower than the digest.
const EVP_MD* Digest(const JwtAlgorithm& algorithm) {
  static const auto digests = [] {
    std::array<const EVP_MD*, kJwtAlgorithms> fetched{};
    for (std::size_t i = 0; i < kJwtAlgorithms; ++i) {
      if (kAlgorithms[i].digest == nullptr) continue;
      fetched[i] = EVP_MD_fetch(nullptr, kAlgorithms[i].digest, nullptr);
      if (fetched[i] == nullptr) std::abort();  // every OpenSSL has them
    }
    return fetched;
  }();
  return digests[static_cast<std::size_t>(&algorithm - kAlgorithms.data())];
}

// The type as JwtAlgorithm::key_type, or "" where no algorithm takes the key.
std::string_view TypeOf(EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA: return "RSA";
    case EVP_PKEY_ED25519: return "Ed25519";
    case EVP_PKEY_EC: break;
    default: return "";
  }
  char curve[64];
  if (EVP_PKEY_get_group_name(key, curve, sizeof(curve), nullptr) != 1) return "";
  switch (OBJ_sn2nid(curve)) {
    case NID_X9_62_prime256v1: return "P-256";
    case NID_secp384r1: return "P-384";
    case NID_secp521r1: return "P-521";
    default: return "";
  }
}

// The r and s of RFC 7518 section 3.4, one after the other, as the DER that OpenSSL takes. Empty: of
// the wrong length.
std::vector<std::uint8_t> EcdsaDer(std::span<const std::uint8_t> signature, std::size_t coordinate) {
  if (signature.size() != 2 * coordinate) return {};
  const int size = static_cast<int>(coordinate);
  const Ossl<ECDSA_SIG> pair(ECDSA_SIG_new());
  Ossl<BIGNUM> r(BN_bin2bn(signature.data(), size, nullptr));
  Ossl<BIGNUM> s(BN_bin2bn(signature.data() + coordinate, size, nullptr));
  if (ECDSA_SIG_set0(pair.get(), r.get(), s.get()) != 1) return {};
  (void)r.release();
  (void)s.release();
  std::vector<std::uint8_t> der(static_cast<std::size_t>(i2d_ECDSA_SIG(pair.get(), nullptr)));
  std::uint8_t* end = der.data();
  i2d_ECDSA_SIG(pair.get(), &end);
  return der;
}

absl::StatusOr<SecretBytes> Member(const Json& jwk, std::string_view name) {
  absl::StatusOr<SecretBytes> bytes = DecodeBase64(TextAt(jwk, name));
  if (!bytes.ok() || bytes->empty() || bytes->size() > 2048) {
    return absl::InvalidArgumentError(StrCat("the JWK's member \"", name, "\" is wrong"));
  }
  return bytes;
}

absl::StatusOr<EvpKey> FromParameters(const char* type, OSSL_PARAM_BLD* builder) {
  const Ossl<OSSL_PARAM> parameters(OSSL_PARAM_BLD_to_param(builder));
  const EvpContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError("the JWK isn't a valid public key");
  }
  return EvpKey(key);
}

absl::StatusOr<EvpKey> RsaFromJwk(const Json& jwk) {
  ASSIGN_OR_RETURN(const SecretBytes n, Member(jwk, "n"));
  ASSIGN_OR_RETURN(const SecretBytes e, Member(jwk, "e"));
  const Ossl<BIGNUM> modulus(BN_bin2bn(n.data(), static_cast<int>(n.size()), nullptr));
  const Ossl<BIGNUM> exponent(BN_bin2bn(e.data(), static_cast<int>(e.size()), nullptr));
  const Ossl<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get());
  return FromParameters("RSA", builder.get());
}

absl::StatusOr<EvpKey> EcFromJwk(const Json& jwk) {
  const std::string curve(TextAt(jwk, "crv"));
  ASSIGN_OR_RETURN(const SecretBytes x, Member(jwk, "x"));
  ASSIGN_OR_RETURN(const SecretBytes y, Member(jwk, "y"));
  const bool known = curve == "P-256" || curve == "P-384" || curve == "P-521";
  if (!known || x.size() != y.size()) {
    return absl::InvalidArgumentError("the JWK's curve or point is wrong");
  }
  SecretBytes point = SecretBytes::CopyOf("\x04");  // uncompressed, SEC 1 section 2.3.3
  point.Append(x.view());
  point.Append(y.view());
  const Ossl<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve.c_str(), 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                   point.size());
  return FromParameters("EC", builder.get());
}

absl::StatusOr<EvpKey> Ed25519FromJwk(const Json& jwk) {
  ASSIGN_OR_RETURN(const SecretBytes x, Member(jwk, "x"));
  EvpKey key(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, x.data(), x.size()));
  ERR_clear_error();
  if (key == nullptr || TextAt(jwk, "crv") != "Ed25519") {
    return absl::InvalidArgumentError("the JWK isn't a valid Ed25519 key");
  }
  return key;
}

}  // namespace

const JwtAlgorithm* FindJwtAlgorithm(std::string_view name) {
  for (const JwtAlgorithm& algorithm : kAlgorithms) {
    if (algorithm.name == name) return &algorithm;
  }
  return nullptr;
}

absl::StatusOr<std::unique_ptr<JwtKey>> JwtKey::Make(EvpKey key, std::string id,
                                                     std::string algorithm) {
  const std::string_view type = TypeOf(key.get());
  if (type.empty()) {
    return absl::InvalidArgumentError(
        "the key must be RSA, Ed25519 or on the curve P-256, P-384 or P-521");
  }
  if (type == "RSA" && EVP_PKEY_get_bits(key.get()) < kMinRsaBits) {
    return absl::InvalidArgumentError(StrCat("the RSA key has ", EVP_PKEY_get_bits(key.get()),
                                             " bits: at least ", kMinRsaBits, " are needed"));
  }
  return std::unique_ptr<JwtKey>(
      new JwtKey(std::move(key), type, std::move(id), std::move(algorithm)));
}

absl::StatusOr<std::unique_ptr<JwtKey>> JwtKey::FromJwk(const Json& jwk) {
  if (!jwk.is_object()) return absl::InvalidArgumentError("a JWK is an object");
  const std::string_view use = TextAt(jwk, "use");
  if (!use.empty() && use != "sig") return absl::InvalidArgumentError("the JWK isn't for signatures");
  const std::string_view type = TextAt(jwk, "kty");
  absl::StatusOr<EvpKey> key = absl::InvalidArgumentError("a JWK of a type that isn't used");
  if (type == "RSA") key = RsaFromJwk(jwk);
  if (type == "EC") key = EcFromJwk(jwk);
  if (type == "OKP") key = Ed25519FromJwk(jwk);
  if (!key.ok()) return key.status();
  return Make(*std::move(key), std::string(TextAt(jwk, "kid")),
              std::string(TextAt(jwk, "alg")));
}

JwtKey::JwtKey(EvpKey key, std::string_view type, std::string id, std::string algorithm)
    : key_(std::move(key)), type_(type), id_(std::move(id)), algorithm_(std::move(algorithm)) {}

bool JwtKey::Fits(const JwtAlgorithm& algorithm) const {
  return algorithm.key_type == type_ && (algorithm_.empty() || algorithm_ == algorithm.name);
}

EvpContext JwtKey::Borrow(const JwtAlgorithm& algorithm) const {
  {
    std::lock_guard lock(mutex_);
    auto& idle = idle_[static_cast<std::size_t>(&algorithm - kAlgorithms.data())];
    if (!idle.empty()) {
      EvpContext context = std::move(idle.back());
      idle.pop_back();
      return context;
    }
  }
  EvpContext context(EVP_PKEY_CTX_new(key_.get(), nullptr));
  bool ok = context != nullptr && EVP_PKEY_verify_init(context.get()) == 1 &&
            EVP_PKEY_CTX_set_signature_md(context.get(), Digest(algorithm)) == 1;
  if (ok && type_ == "RSA") {
    ok = EVP_PKEY_CTX_set_rsa_padding(
             context.get(), algorithm.pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1;
  }
  if (ok && algorithm.pss) {  // as long as the digest, RFC 7518 section 3.5
    ok = EVP_PKEY_CTX_set_rsa_pss_saltlen(context.get(), RSA_PSS_SALTLEN_DIGEST) == 1;
  }
  return ok ? std::move(context) : nullptr;
}

void JwtKey::GiveBack(const JwtAlgorithm& algorithm, EvpContext context) const {
  std::lock_guard lock(mutex_);
  idle_[static_cast<std::size_t>(&algorithm - kAlgorithms.data())].push_back(std::move(context));
}

bool JwtKey::VerifyText(std::string_view text, std::span<const std::uint8_t> signature) const {
  const Ossl<EVP_MD_CTX> context(EVP_MD_CTX_new());
  return EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key_.get()) == 1 &&
         EVP_DigestVerify(context.get(), signature.data(), signature.size(),
                          reinterpret_cast<const std::uint8_t*>(text.data()), text.size()) == 1;
}

bool JwtKey::Verify(const JwtAlgorithm& algorithm, std::string_view text,
                    std::span<const std::uint8_t> signature) const {
  bool right = false;
  if (algorithm.digest == nullptr) {
    right = VerifyText(text, signature);
  } else if (EvpContext context = Borrow(algorithm)) {
    std::array<std::uint8_t, EVP_MAX_MD_SIZE> digest;
    unsigned int size = 0;
    std::vector<std::uint8_t> der;
    if (algorithm.coordinate > 0) {
      der = EcdsaDer(signature, algorithm.coordinate);
      signature = der;
    }
    right = EVP_Digest(text.data(), text.size(), digest.data(), &size, Digest(algorithm),
                       nullptr) == 1 &&
            EVP_PKEY_verify(context.get(), signature.data(), signature.size(), digest.data(),
                            size) == 1;
    GiveBack(algorithm, std::move(context));
  }
  ERR_clear_error();
  return right;
}

}  // namespace coffer::keystore
