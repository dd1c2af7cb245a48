#include "keystore/auth/jwt_keys.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/auth/jwt_key.h"

namespace coffer::keystore {
namespace {

constexpr std::size_t kMaxKeys = 100;

struct PemDeleter {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(char* text) const { OPENSSL_free(text); }
  void operator()(unsigned char* bytes) const { OPENSSL_free(bytes); }
};

// The public key in one PEM block; null where it isn't a valid one.
EvpKey KeyOf(std::string_view block, const unsigned char* der, long size) {
  if (block == "PUBLIC KEY") return EvpKey(d2i_PUBKEY(nullptr, &der, size));
  if (block == "RSA PUBLIC KEY") return EvpKey(d2i_PublicKey(EVP_PKEY_RSA, nullptr, &der, size));
  const std::unique_ptr<X509, PemDeleter> certificate(d2i_X509(nullptr, &der, size));
  return EvpKey(certificate == nullptr ? nullptr : X509_get_pubkey(certificate.get()));
}

absl::Status ReadPem(std::string_view text, std::vector<std::unique_ptr<JwtKey>>* keys) {
  const std::unique_ptr<BIO, PemDeleter> bio(
      BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  const std::size_t before = keys->size();
  while (true) {
    char *name = nullptr, *header = nullptr;
    unsigned char* data = nullptr;
    long size = 0;
    const bool found = PEM_read_bio(bio.get(), &name, &header, &data, &size) == 1;
    ERR_clear_error();
    if (!found) break;
    const std::unique_ptr<char, PemDeleter> owned_name(name), owned_header(header);
    const std::unique_ptr<unsigned char, PemDeleter> owned_data(data);
    const std::string_view block = name;
    if (block.ends_with("PRIVATE KEY")) {
      OPENSSL_cleanse(data, static_cast<std::size_t>(size));
      return absl::InvalidArgumentError("it holds a private key: give the public one");
    }
    if (block != "PUBLIC KEY" && block != "RSA PUBLIC KEY" && block != "CERTIFICATE") {
      return absl::InvalidArgumentError(StrCat("it holds a PEM block \"", block.substr(0, 40),
                                               "\": give a public key or a certificate"));
    }
    EvpKey key = KeyOf(block, data, size);
    ERR_clear_error();
    if (key == nullptr) {
      return absl::InvalidArgumentError(StrCat("its ", block, " block can't be read"));
    }
    ASSIGN_OR_RETURN(std::unique_ptr<JwtKey> made, JwtKey::Make(std::move(key)));
    keys->push_back(std::move(made));
  }
  if (keys->size() > before) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "data does not contain any valid RSA, ECDSA or Ed25519 public keys in PEM");
}

// A key id as a message may show it.
std::string Shown(std::string_view id) {
  const bool plain = std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c < 0x7f; });
  return plain && id.size() <= 100 ? StrCat("\"", id, "\"") : "that isn't plain text";
}

absl::Status Refused(const auto&... pieces) {
  return absl::PermissionDeniedError(StrCat("permission denied: the JWT is refused: ", pieces...));
}

}  // namespace

JwtKeySet::JwtKeySet(std::vector<std::unique_ptr<JwtKey>> keys) : keys_(std::move(keys)) {}
JwtKeySet::~JwtKeySet() = default;

absl::StatusOr<std::shared_ptr<const JwtKeySet>> JwtKeySet::FromPem(
    const std::vector<std::string>& texts) {
  std::vector<std::unique_ptr<JwtKey>> keys;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const absl::Status status = ReadPem(texts[i], &keys);
    if (!status.ok()) {
      return absl::InvalidArgumentError(StrCat("public key ", i + 1, ": ", Message(status)));
    }
  }
  if (keys.size() > kMaxKeys) {
    return absl::InvalidArgumentError(StrCat("more than ", kMaxKeys, " public keys"));
  }
  return std::shared_ptr<const JwtKeySet>(new JwtKeySet(std::move(keys)));
}

absl::StatusOr<std::shared_ptr<const JwtKeySet>> JwtKeySet::FromJwks(std::string_view document) {
  ASSIGN_OR_RETURN(const Json set, ParseJson(document));
  if (!set.is_object() || !set.contains("keys") || !set.at("keys").is_array()) {
    return absl::InvalidArgumentError("not a JWK set: it has no list \"keys\"");
  }
  std::vector<std::unique_ptr<JwtKey>> keys;
  for (const Json& jwk : set.at("keys")) {
    absl::StatusOr<std::unique_ptr<JwtKey>> key = JwtKey::FromJwk(jwk);
    if (key.ok() && keys.size() < kMaxKeys) keys.push_back(*std::move(key));
  }
  if (keys.empty()) {
    return absl::InvalidArgumentError("the JWK set holds no RSA, ECDSA or Ed25519 key for signatures");
  }
  return std::shared_ptr<const JwtKeySet>(new JwtKeySet(std::move(keys)));
}

bool JwtKeySet::Knows(const Jwt& jwt) const {
  if (jwt.key_id.empty()) return true;
  return std::any_of(keys_.begin(), keys_.end(), [&](const auto& key) {
    return key->id().empty() || key->id() == jwt.key_id;
  });
}

absl::Status JwtKeySet::Verify(const Jwt& jwt) const {
  const JwtAlgorithm* algorithm = FindJwtAlgorithm(jwt.algorithm);
  if (algorithm == nullptr) {
    return Refused("its algorithm isn't accepted: it must be one of RS256, RS384, RS512, PS256, "
                   "PS384, PS512, ES256, ES384, ES512, EdDSA");
  }
  if (!Knows(jwt)) return Refused("it is signed by an unknown key, with the id ", Shown(jwt.key_id));
  bool fits = false;
  for (const std::unique_ptr<JwtKey>& key : keys_) {
    if (!jwt.key_id.empty() && !key->id().empty() && key->id() != jwt.key_id) continue;
    if (!key->Fits(*algorithm)) continue;
    fits = true;
    if (key->Verify(*algorithm, jwt.signing_input, jwt.signature.span())) return absl::OkStatus();
  }
  if (!fits) return Refused("no configured key fits its algorithm, ", algorithm->name);
  return Refused("its signature is wrong, or of a key that isn't configured");
}

}  // namespace coffer::keystore
