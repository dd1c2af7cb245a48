#include "keystore/barrier/mac_key.h"

#include <openssl/core_names.h>
#include <openssl/params.h>

#include <cstdlib>

namespace coffer::keystore {
namespace {

// For what fails only where memory or the library is broken.
void Must(bool done) {
  if (!done) std::abort();
}

EVP_MAC_CTX* NewContext(const SecretBytes& key) {
  static EVP_MAC* const hmac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  EVP_MAC_CTX* context = EVP_MAC_CTX_new(hmac);
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end()};
  Must(context != nullptr && EVP_MAC_init(context, key.data(), key.size(), parameters) == 1);
  return context;
}

}  // namespace

MacKey::Mac MacKey::Of(std::string_view text) const {
  Mac mac;
  std::size_t size = 0;
  decltype(contexts_)::Lease context(contexts_, [&] { return NewContext(key_); });
  // Without a key: back to where hashing the key ended.
  Must(EVP_MAC_init(context.get(), nullptr, 0, nullptr) == 1 &&
       EVP_MAC_update(context.get(), reinterpret_cast<const std::uint8_t*>(text.data()),
                      text.size()) == 1 &&
       EVP_MAC_final(context.get(), mac.data(), &size, mac.size()) == 1 && size == mac.size());
  return mac;
}

}  // namespace coffer::keystore
