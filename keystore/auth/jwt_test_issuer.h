// For tests and the fuzzer: keys made on the spot, and JWTs signed with them.
#pragma once

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "common/json.h"
#include "common/secret_bytes.h"
#include "common/strings.h"
#include "keystore/auth/jwt_key.h"

namespace coffer::keystore {

inline std::string Base64UrlText(std::string_view bytes) {
  return std::string(EncodeBase64Url(SecretBytes::CopyOf(bytes).span()).view());
}

class TestIssuer {
 public:
  // "RSA" (of `bits`), "P-256", "P-384", "P-521" or "Ed25519".
  explicit TestIssuer(std::string_view type, std::string id = {}, unsigned bits = 2048)
      : type_(type), id_(std::move(id)) {
    if (type == "RSA") {
      key_.reset(EVP_RSA_gen(bits));
    } else if (type == "Ed25519") {
      key_.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
    } else {
      key_.reset(EVP_EC_gen(type_.c_str()));
    }
    if (key_ == nullptr) std::abort();
  }

  EVP_PKEY* key() const { return key_.get(); }

  std::string PublicPem() const {
    BIO* bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(bio, key_.get());
    return Take(bio);
  }
  std::string PrivatePem() const {
    BIO* bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key_.get(), nullptr, nullptr, 0, nullptr, nullptr);
    return Take(bio);
  }

  Json Jwk() const {
    Json jwk = {{"use", "sig"}};
    if (!id_.empty()) jwk["kid"] = id_;
    if (type_ == "RSA") {
      jwk.update({{"kty", "RSA"}, {"n", Number("n", 0)}, {"e", Number("e", 0)}});
    } else if (type_ == "Ed25519") {
      std::string raw(32, '\0');
      std::size_t size = raw.size();
      EVP_PKEY_get_raw_public_key(key_.get(), reinterpret_cast<unsigned char*>(raw.data()), &size);
      jwk.update({{"kty", "OKP"}, {"crv", "Ed25519"}, {"x", Base64UrlText(raw)}});
    } else {
      const int size = Coordinate();
      jwk.update({{"kty", "EC"}, {"crv", type_}, {"x", Number(OSSL_PKEY_PARAM_EC_PUB_X, size)},
                  {"y", Number(OSSL_PKEY_PARAM_EC_PUB_Y, size)}});
    }
    return jwk;
  }

  // A signed JWT; null `claims` are none, `header` is added to (or stands in place of) "alg" and "kid".
  std::string Sign(std::string_view algorithm, const Json& claims,
                   const Json& header = Json::object()) const {
    Json whole = {{"alg", algorithm}};
    if (!id_.empty()) whole["kid"] = id_;
    whole.update(header);
    const std::string input = StrCat(Base64UrlText(DumpJson(whole).view()), ".",
                                     Base64UrlText(claims.is_null() ? "{}" : DumpJson(claims).view()));
    return StrCat(input, ".", Base64UrlText(Signature(algorithm, input)));
  }

 private:
  static std::string Take(BIO* bio) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    std::string text(data, static_cast<std::size_t>(size));
    BIO_free(bio);
    return text;
  }

  int Coordinate() const { return type_ == "P-256" ? 32 : type_ == "P-384" ? 48 : 66; }

  std::string Number(const char* name, int size) const {
    BIGNUM* number = nullptr;
    if (EVP_PKEY_get_bn_param(key_.get(), name, &number) != 1) std::abort();
    if (size == 0) size = BN_num_bytes(number);
    std::string bytes(static_cast<std::size_t>(size), '\0');
    BN_bn2binpad(number, reinterpret_cast<unsigned char*>(bytes.data()), size);
    BN_free(number);
    return Base64UrlText(bytes);
  }

  std::string Signature(std::string_view algorithm, std::string_view input) const {
    const EVP_MD* digest = algorithm.ends_with("512")   ? EVP_sha512()
                           : algorithm.ends_with("384") ? EVP_sha384()
                                                        : EVP_sha256();
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    EVP_PKEY_CTX* options = nullptr;
    EVP_DigestSignInit(context, &options, type_ == "Ed25519" ? nullptr : digest, nullptr,
                       key_.get());
    if (algorithm.starts_with("PS")) {
      EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING);
      EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST);
    }
    const auto* text = reinterpret_cast<const unsigned char*>(input.data());
    std::size_t size = 0;
    EVP_DigestSign(context, nullptr, &size, text, input.size());
    std::vector<unsigned char> signature(size);
    EVP_DigestSign(context, signature.data(), &size, text, input.size());
    EVP_MD_CTX_free(context);
    if (type_.starts_with("P-")) {
      const unsigned char* der = signature.data();
      ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &der, static_cast<long>(size));
      const int coordinate = Coordinate();
      std::vector<unsigned char> raw(2 * static_cast<std::size_t>(coordinate));
      BN_bn2binpad(ECDSA_SIG_get0_r(pair), raw.data(), coordinate);
      BN_bn2binpad(ECDSA_SIG_get0_s(pair), raw.data() + coordinate, coordinate);
      ECDSA_SIG_free(pair);
      signature = raw;
      size = raw.size();
    }
    return std::string(reinterpret_cast<const char*>(signature.data()), size);
  }

  const std::string type_;
  const std::string id_;
  EvpKey key_;
};

}  // namespace coffer::keystore
