// MacKey: one HMAC-SHA-256 key, hashed into its contexts once.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <string_view>

#include "common/secret_bytes.h"
#include "keystore/barrier/context_pool.h"

namespace coffer::keystore {

class MacKey {
 public:
  static constexpr std::size_t kSize = 32;
  using Mac = std::array<std::uint8_t, 32>;

  explicit MacKey(SecretBytes key) : key_(std::move(key)) {}

  const SecretBytes& bytes() const { return key_; }
  // Safe on any thread.
  Mac Of(std::string_view text) const;

 private:
  const SecretBytes key_;
  mutable ContextPool<EVP_MAC_CTX, EVP_MAC_CTX_free> contexts_;
};

}  // namespace coffer::keystore
