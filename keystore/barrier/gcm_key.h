// GcmKey: one AES-256-GCM key with its key schedule ready. Contexts are kept with the key, not with
// the thread, so that they are wiped with it.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/secret_bytes.h"

struct evp_cipher_ctx_st;

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
  ~GcmKey();
  GcmKey(const GcmKey&) = delete;
  GcmKey& operator=(const GcmKey&) = delete;

  const SecretBytes& bytes() const { return key_; }

  // Appends the sealed `plaintext` (at most kMaxPlaintext bytes) to `out`. Safe on any thread.
  void Seal(std::string_view associated, std::string_view plaintext, std::string* out) const;
  // DataLoss: `sealed` wasn't made by this key with `associated`. Safe on any thread.
  absl::StatusOr<SecretBytes> Open(std::string_view associated, std::string_view sealed) const;

 private:
  class Lease;
  const SecretBytes key_;
  mutable std::mutex mutex_;
  mutable std::vector<evp_cipher_ctx_st*> idle_;
};

}  // namespace coffer::keystore
