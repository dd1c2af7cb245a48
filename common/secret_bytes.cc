#include "common/secret_bytes.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "common/secret_allocator.h"

namespace coffer {
namespace {

// 1 if low <= value <= high, else 0, without a branch; all within 0..255.
constexpr int InRange(int value, int low, int high) {
  return ((low - 1 - value) & (value - high - 1)) >> 31 & 1;
}

// The character of a 6-bit value, by arithmetic: a table look-up would leave its address in the
// cache.
char Base64Character(int value, bool url) {
  const int c62 = url ? '-' : '+';
  const int c63 = url ? '_' : '/';
  return static_cast<char>(InRange(value, 0, 25) * (value + 'A') +
                           InRange(value, 26, 51) * (value - 26 + 'a') +
                           InRange(value, 52, 61) * (value - 52 + '0') +
                           InRange(value, 62, 62) * c62 + InRange(value, 63, 63) * c63);
}

// The 6-bit value of a character of either alphabet, or -1.
int Base64Value(int c) {
  const int found = InRange(c, 'A', 'Z') | InRange(c, 'a', 'z') | InRange(c, '0', '9') |
                    InRange(c, '+', '+') | InRange(c, '/', '/') | InRange(c, '-', '-') |
                    InRange(c, '_', '_');
  const int value = InRange(c, 'A', 'Z') * (c - 'A') + InRange(c, 'a', 'z') * (c - 'a' + 26) +
                    InRange(c, '0', '9') * (c - '0' + 52) +
                    (InRange(c, '+', '+') | InRange(c, '-', '-')) * 62 +
                    (InRange(c, '/', '/') | InRange(c, '_', '_')) * 63;
  return found * value + (found - 1);
}

char HexCharacter(int value) {
  return static_cast<char>(InRange(value, 0, 9) * (value + '0') +
                           InRange(value, 10, 15) * (value - 10 + 'a'));
}

int HexValue(int c) {
  const int found = InRange(c, '0', '9') | InRange(c, 'a', 'f') | InRange(c, 'A', 'F');
  const int value = InRange(c, '0', '9') * (c - '0') + InRange(c, 'a', 'f') * (c - 'a' + 10) +
                    InRange(c, 'A', 'F') * (c - 'A' + 10);
  return found * value + (found - 1);
}

SecretBytes EncodeSixBits(std::span<const std::uint8_t> bytes, bool url) {
  SecretBytes text;
  text.Reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = std::min<std::size_t>(3, bytes.size() - i);
    const int b0 = bytes[i];
    const int b1 = left > 1 ? bytes[i + 1] : 0;
    const int b2 = left > 2 ? bytes[i + 2] : 0;
    char out[4] = {Base64Character(b0 >> 2, url), Base64Character((b0 & 3) << 4 | b1 >> 4, url),
                   Base64Character((b1 & 15) << 2 | b2 >> 6, url), Base64Character(b2 & 63, url)};
    std::size_t count = left + 1;
    if (!url) {
      std::fill(out + count, out + 4, '=');
      count = 4;
    }
    text.Append(std::string_view(out, count));
    OPENSSL_cleanse(out, sizeof(out));
  }
  return text;
}

}  // namespace

SecretBytes::SecretBytes(std::size_t size) { Resize(size); }

SecretBytes SecretBytes::CopyOf(std::string_view bytes) {
  SecretBytes copy;
  copy.Append(bytes);
  return copy;
}

SecretBytes SecretBytes::CopyOf(std::span<const std::uint8_t> bytes) {
  SecretBytes copy;
  copy.Append(bytes);
  return copy;
}

SecretBytes::SecretBytes(SecretBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      capacity_(std::exchange(other.capacity_, 0)) {}

SecretBytes& SecretBytes::operator=(SecretBytes&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(capacity_, other.capacity_);
  return *this;
}

SecretBytes::~SecretBytes() { FreeSecret(data_, capacity_); }

void SecretBytes::GrowBy(std::size_t size) { Reserve(std::max(size_ + size, capacity_ * 2)); }

void SecretBytes::Resize(std::size_t size) {
  if (size > size_) {
    Reserve(size);
    std::memset(data_ + size_, 0, size - size_);
  } else if (size < size_) {
    explicit_bzero(data_ + size, size_ - size);
  }
  size_ = size;
}

void SecretBytes::Reserve(std::size_t capacity) {
  if (capacity <= capacity_) return;
  auto* grown = static_cast<std::uint8_t*>(AllocateSecret(capacity));
  if (size_ > 0) std::memcpy(grown, data_, size_);
  FreeSecret(data_, capacity_);
  data_ = grown;
  capacity_ = capacity;
}

bool SecretBytes::Equals(std::string_view other) const { return ConstantTimeEquals(view(), other); }

SecretBytes EncodeBase64(std::span<const std::uint8_t> bytes) {
  return EncodeSixBits(bytes, /*url=*/false);
}

SecretBytes EncodeBase64Url(std::span<const std::uint8_t> bytes) {
  return EncodeSixBits(bytes, /*url=*/true);
}

SecretBytes EncodeHex(std::span<const std::uint8_t> bytes) {
  SecretBytes text(bytes.size() * 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    text.data()[2 * i] = static_cast<std::uint8_t>(HexCharacter(bytes[i] >> 4));
    text.data()[2 * i + 1] = static_cast<std::uint8_t>(HexCharacter(bytes[i] & 15));
  }
  return text;
}

absl::StatusOr<SecretBytes> DecodeBase64(std::string_view text) {
  if (text.size() % 4 == 0) {
    for (int padding = 0; padding < 2 && text.ends_with('='); ++padding) text.remove_suffix(1);
  }
  if (text.size() % 4 == 1) return absl::InvalidArgumentError("not base64: wrong length");
  SecretBytes bytes;
  bytes.Reserve(text.size() * 3 / 4 + 1);
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const int value = Base64Value(static_cast<unsigned char>(c));
    if (value < 0) return absl::InvalidArgumentError("not base64: wrong character");
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    held += 6;
    if (held >= 8) {
      held -= 8;
      const auto byte = static_cast<std::uint8_t>(bits >> held);
      bytes.Append(std::span(&byte, 1));
    }
  }
  if ((bits & ((1U << held) - 1)) != 0) {
    return absl::InvalidArgumentError("not base64: bits left over at the end");
  }
  return bytes;
}

absl::StatusOr<SecretBytes> DecodeHex(std::string_view text) {
  if (text.size() % 2 != 0) return absl::InvalidArgumentError("not hex: odd length");
  SecretBytes bytes(text.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const int high = HexValue(static_cast<unsigned char>(text[2 * i]));
    const int low = HexValue(static_cast<unsigned char>(text[2 * i + 1]));
    if (high < 0 || low < 0) return absl::InvalidArgumentError("not hex: wrong character");
    bytes.data()[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return bytes;
}

bool ConstantTimeEquals(std::string_view a, std::string_view b) {
  return a.size() == b.size() && (a.empty() || CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace coffer
