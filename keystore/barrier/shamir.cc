// share = y:u8* x:u8     y(0) is the secret's byte, for each byte a random polynomial of its own
//   of degree threshold - 1 over GF(2^8) with the polynomial 0x11b; x is 1..255, another in each
//   share
// The layout and the field are Vault's (shamir/shamir.go of its sources), so that its shares fit.
#include "keystore/barrier/shamir.h"

#include <cstdint>
#include <utility>

#include "common/random.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

// The product, in the same time and with the same memory accesses for all operands.
std::uint8_t Multiply(std::uint8_t a, std::uint8_t b) {
  unsigned left = a;
  unsigned product = 0;
  for (int bit = 0; bit < 8; ++bit) {
    product ^= left & (0U - (b >> bit & 1U));
    left = left << 1 ^ (0x11bU & (0U - (left >> 7)));
  }
  return static_cast<std::uint8_t>(product);
}

// a^254, which is 1/a (and 0 for 0).
std::uint8_t Invert(std::uint8_t a) {
  std::uint8_t power = a;
  for (int i = 0; i < 6; ++i) power = Multiply(Multiply(power, power), a);  // a^127
  return Multiply(power, power);
}

}  // namespace

absl::Status CheckShareConfig(const ShareConfig& config) {
  const struct {
    bool wrong;
    std::string_view message;
  } rules[] = {
      {config.shares < 1, "shares must be at least one"},
      {config.threshold < 1, "threshold must be at least one"},
      {config.shares > 1 && config.threshold == 1,
       "threshold must be greater than one for multiple shares"},
      {config.shares > 255, "shares must be less than 256"},
      {config.threshold > 255, "threshold must be less than 256"},
      {config.threshold > config.shares, "threshold cannot be larger than shares"},
  };
  for (const auto& rule : rules) {
    if (rule.wrong) return absl::InvalidArgumentError(ToAbsl(rule.message));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SecretBytes>> SplitSecret(std::span<const std::uint8_t> secret,
                                                     const ShareConfig& config) {
  absl::Status checked = CheckShareConfig(config);
  if (!checked.ok()) return checked;
  std::vector<SecretBytes> shares;
  if (config.shares == 1) {
    shares.push_back(SecretBytes::CopyOf(secret));
    return shares;
  }
  // Coefficient by coefficient, the highest first: each a random byte for each byte of the secret.
  const std::size_t size = secret.size();
  SecretBytes coefficients = RandomSecret(size * (config.threshold - 1));
  for (int x = 1; x <= config.shares; ++x) {
    SecretBytes share(size + 1);
    for (std::size_t i = 0; i < size; ++i) {
      std::uint8_t y = 0;  // Horner's scheme
      for (std::size_t c = i; c < coefficients.size(); c += size) {
        y = Multiply(y, static_cast<std::uint8_t>(x)) ^ coefficients.data()[c];
      }
      share.data()[i] = Multiply(y, static_cast<std::uint8_t>(x)) ^ secret[i];
    }
    share.data()[size] = static_cast<std::uint8_t>(x);
    shares.push_back(std::move(share));
  }
  return shares;
}

absl::StatusOr<SecretBytes> CombineShares(const std::vector<SecretBytes>& shares) {
  if (shares.empty()) return absl::InvalidArgumentError("no shares given");
  if (shares.size() == 1) return shares[0].Copy();
  const std::size_t size = shares[0].size() - 1;
  for (const SecretBytes& share : shares) {
    if (share.size() < 2 || share.size() != size + 1) {
      return absl::InvalidArgumentError("the shares differ in size");
    }
  }
  SecretBytes secret(size);
  for (const SecretBytes& share : shares) {
    // Lagrange's basis polynomial of this share at 0: the product of x_j / (x_j - x_i).
    const std::uint8_t x = share.data()[size];
    std::uint8_t numerator = 1;
    std::uint8_t denominator = 1;
    for (const SecretBytes& other : shares) {
      if (&other == &share) continue;
      numerator = Multiply(numerator, other.data()[size]);
      denominator = Multiply(denominator, other.data()[size] ^ x);
    }
    if (numerator == 0 || denominator == 0) {
      return absl::InvalidArgumentError("a share is there twice, or isn't one");
    }
    const std::uint8_t basis = Multiply(numerator, Invert(denominator));
    for (std::size_t i = 0; i < size; ++i) {
      secret.data()[i] ^= Multiply(basis, share.data()[i]);
    }
  }
  return secret;
}

absl::StatusOr<SecretBytes> DecodeShare(std::string_view text) {
  // 16 bytes are the least and 33 the most that Vault knows. Hex of such sizes is tried first; a
  // base64 text of hex digits alone would decode to something else.
  constexpr std::size_t kLeast = 16;
  constexpr std::size_t kMost = 33;
  absl::StatusOr<SecretBytes> share = DecodeHex(text);
  if (!share.ok() || share->size() < kLeast || share->size() > kMost) share = DecodeBase64(text);
  if (!share.ok()) {
    return absl::InvalidArgumentError("'key' must be a valid hex or base64 string");
  }
  if (share->size() < kLeast) {
    return absl::InvalidArgumentError(StrCat("key is shorter than minimum ", kLeast, " bytes"));
  }
  if (share->size() > kMost) {
    return absl::InvalidArgumentError(StrCat("key is longer than maximum ", kMost, " bytes"));
  }
  return share;
}

}  // namespace coffer::keystore
