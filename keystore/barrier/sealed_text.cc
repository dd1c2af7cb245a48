// sealed-text = term:u32 nonce:12 ciphertext tag:16, AES-256-GCM under the data key of `term`
//   associated data: kind:u8 (3: no kind of a stored entry) term:u32 purpose; numbers are big-endian
#include "keystore/barrier/sealed_text.h"

#include <string>

namespace coffer::keystore {
namespace {

constexpr std::size_t kTermSize = 4;
constexpr char kKind = 3;

std::string Associated(std::string_view term, std::string_view purpose) {
  std::string associated(1, kKind);
  associated += term;
  associated += purpose;
  return associated;
}

}  // namespace

SecretBytes SealText(const GcmKey& key, std::uint32_t term, std::string_view purpose,
                     std::string_view text) {
  std::string sealed;
  sealed.reserve(kTermSize + GcmKey::kOverhead + text.size());
  for (int shift = 24; shift >= 0; shift -= 8) sealed.push_back(static_cast<char>(term >> shift));
  key.Seal(Associated(sealed, purpose), text, &sealed);
  return SecretBytes::CopyOf(sealed);
}

std::optional<std::uint32_t> TermOfText(std::string_view sealed) {
  if (sealed.size() < kTermSize + GcmKey::kOverhead) return std::nullopt;
  std::uint32_t term = 0;
  for (const char byte : sealed.substr(0, kTermSize)) {
    term = term << 8 | static_cast<std::uint8_t>(byte);
  }
  return term;
}

absl::StatusOr<SecretBytes> OpenText(const GcmKey& key, std::string_view purpose,
                                     std::string_view sealed) {
  absl::StatusOr<SecretBytes> text =
      key.Open(Associated(sealed.substr(0, kTermSize), purpose), sealed.substr(kTermSize));
  if (text.ok()) return text;
  return absl::InvalidArgumentError("it wasn't sealed by this keystore, or was changed since");
}

}  // namespace coffer::keystore
