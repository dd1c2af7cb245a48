#include "common/random.h"

#include <openssl/rand.h>

#include <array>
#include <cstdlib>

#include "common/strings.h"

namespace coffer {

void FillRandom(std::span<std::uint8_t> bytes) {
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) std::abort();
}

SecretBytes RandomSecret(std::size_t size) {
  SecretBytes secret(size);
  FillRandom(secret.span());
  return secret;
}

std::string RandomUuid() {
  std::array<std::uint8_t, 16> bytes;
  FillRandom(bytes);
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3f) | 0x80);
  const SecretBytes digits = EncodeHex(bytes);
  const std::string_view hex = digits.view();
  return StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-",
                      hex.substr(16, 4), "-", hex.substr(20));
}

SecretBytes RandomBase62(std::size_t length) {
  static constexpr char kAlphabet[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  SecretBytes text;
  text.Reserve(length);
  while (text.size() < length) {
    SecretBytes drawn = RandomSecret(length);
    for (const std::uint8_t byte : drawn.span()) {
      // 248 = 4 * 62: a larger byte would favour the first characters.
      if (byte < 248 && text.size() < length) {
        text.Append(std::string_view(&kAlphabet[byte % 62], 1));
      }
    }
  }
  return text;
}

}  // namespace coffer
