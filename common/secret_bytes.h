// SecretBytes: bytes that must not leak. Not copyable by accident, not printable, on locked pages,
// wiped at the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"

namespace coffer {

class SecretBytes {
 public:
  SecretBytes() = default;
  // `size` zero bytes.
  explicit SecretBytes(std::size_t size);
  static SecretBytes CopyOf(std::string_view bytes);
  static SecretBytes CopyOf(std::span<const std::uint8_t> bytes);

  SecretBytes(SecretBytes&& other) noexcept;
  SecretBytes& operator=(SecretBytes&& other) noexcept;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes();

  // The deliberate copy.
  SecretBytes Copy() const { return CopyOf(view()); }

  std::uint8_t* data() { return data_; }
  const std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::span<std::uint8_t> span() { return {data_, size_}; }
  std::span<const std::uint8_t> span() const { return {data_, size_}; }
  // Valid until the bytes are changed, moved from or destroyed.
  std::string_view view() const { return {reinterpret_cast<const char*>(data_), size_}; }

  // Adds to the end; grows by doubling and wipes what it leaves behind.
  void Append(std::string_view bytes) { AppendBytes(bytes.data(), bytes.size()); }
  void Append(std::span<const std::uint8_t> bytes) { AppendBytes(bytes.data(), bytes.size()); }
  // Shortens, or lengthens with zero bytes.
  void Resize(std::size_t size);
  void Reserve(std::size_t capacity);
  void Clear() { Resize(0); }

  // Takes time that depends on the sizes alone.
  bool Equals(std::string_view other) const;

 private:
  void AppendBytes(const void* bytes, std::size_t size) {
    if (size == 0) return;
    if (size > capacity_ - size_) GrowBy(size);
    std::memcpy(data_ + size_, bytes, size);
    size_ += size;
  }
  void GrowBy(std::size_t size);

  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

// Base64 (RFC 4648 section 4, padded) and its URL-safe form (section 5, unpadded); lower-case hex.
SecretBytes EncodeBase64(std::span<const std::uint8_t> bytes);
SecretBytes EncodeBase64Url(std::span<const std::uint8_t> bytes);
SecretBytes EncodeHex(std::span<const std::uint8_t> bytes);
// InvalidArgument on a wrong character, length or padding. Base64 takes padded and unpadded text
// of either alphabet.
absl::StatusOr<SecretBytes> DecodeBase64(std::string_view text);
absl::StatusOr<SecretBytes> DecodeHex(std::string_view text);

// True when both hold the same bytes; time depends on the sizes alone.
bool ConstantTimeEquals(std::string_view a, std::string_view b);

}  // namespace coffer
