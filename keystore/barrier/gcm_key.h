// GcmKey: one AES-256-GCM key with its key schedule ready.
#pragma once

#include <openssl/evp.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/secret_bytes.h"
#include "keystore/barrier/context_pool.h"

namespace coffer::keystore {

// Sealed bytes: nonce (12, drawn at random), ciphertext (as long as the plaintext), tag (16).
class GcmKey {
 public:
  static constexpr std::size_t kKeySize = 32;
  static constexpr std::size_t kNonceSize = 12;
  static constexpr std::size_t kTagSize = 16;
  static constexpr std::size_t kOverhead = kNonceSize + kTagSize;
  static constexpr std::size_t kMaxPlaintext = std::size_t{1} << 30;

  // `key` is kKeySize bytes.
  explicit GcmKey(SecretBytes key);

  const SecretBytes& bytes() const { return key_; }

  // Appends the sealed `plaintext` (at most kMaxPlaintext bytes) to `out`. Safe on any thread.
  void Seal(std::string_view associated, std::string_view plaintext, std::string* out) const;
  // DataLoss: `sealed` wasn't made by this key with `associated`. Safe on any thread.
  absl::StatusOr<SecretBytes> Open(std::string_view associated, std::string_view sealed) const;

 private:
  using Contexts = ContextPool<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free>;

  EVP_CIPHER_CTX* NewContext() const;

  const SecretBytes key_;
  mutable Contexts contexts_;
};

}  // namespace coffer::keystore
