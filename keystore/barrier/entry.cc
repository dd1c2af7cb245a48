// entry      = kind:u8 term:u32 size:u16 sealed-name [sealed-value]    numbers are big-endian
//   kind     = 1 (value) or 2 (directory: ends with its name)
//   size     = bytes of sealed-name
//   sealed-* = nonce:12 ciphertext tag:16, AES-256-GCM under the data key of `term`
//              associated data: kind:u8 term:u32 part:u8 stored-key, part 1 for the name, 2 the
//              value
#include "keystore/barrier/entry.h"

#include <utility>

#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/barrier/names.h"

namespace coffer::keystore {
namespace {

constexpr std::size_t kHeaderSize = 7;
enum class Part : char { kName = 1, kValue = 2 };

void AppendNumber(std::uint64_t number, int bytes, std::string* out) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out->push_back(static_cast<char>(number >> shift));
  }
}

std::uint32_t ReadNumber(std::string_view bytes) {
  std::uint32_t number = 0;
  for (const char byte : bytes) number = number << 8 | static_cast<std::uint8_t>(byte);
  return number;
}

// The associated data of one part, without an allocation.
class Associated {
 public:
  Associated(EntryKind kind, std::uint32_t term, Part part, std::string_view stored_key)
      : size_(kStart + stored_key.copy(bytes_ + kStart, kMaxKey)) {
    bytes_[0] = static_cast<char>(kind);
    for (int i = 0; i < 4; ++i) bytes_[1 + i] = static_cast<char>(term >> (24 - 8 * i));
    bytes_[5] = static_cast<char>(part);
  }
  std::string_view view() const { return {bytes_, size_}; }

 private:
  static constexpr std::size_t kStart = 6;
  static constexpr std::size_t kMaxKey = sizeof(Names::StoredKey);
  char bytes_[kStart + kMaxKey];
  const std::size_t size_;
};

// What comes before the sealed name, and room for what comes behind.
std::string StartEntry(EntryKind kind, std::uint32_t term, std::size_t name_size,
                       std::size_t value_size) {
  std::string entry;
  entry.reserve(kHeaderSize + name_size + value_size);
  entry.push_back(static_cast<char>(kind));
  AppendNumber(term, 4, &entry);
  AppendNumber(name_size, 2, &entry);
  return entry;
}

std::string SealName(EntryKind kind, const GcmKey& key, std::uint32_t term,
                     std::string_view stored_key, std::string_view name, std::size_t value_size) {
  std::string entry = StartEntry(kind, term, GcmKey::kOverhead + name.size(), value_size);
  key.Seal(Associated(kind, term, Part::kName, stored_key).view(), name, &entry);
  return entry;
}

// `entry` with its value behind it.
std::string WithValue(std::string entry, const GcmKey& key, std::uint32_t term,
                      std::string_view stored_key, std::string_view value) {
  key.Seal(Associated(EntryKind::kValue, term, Part::kValue, stored_key).view(), value, &entry);
  return entry;
}

}  // namespace

absl::StatusOr<Entry> Entry::Parse(std::string_view stored) {
  const auto damaged = [] { return absl::DataLossError("a stored entry is damaged"); };
  if (stored.size() < kHeaderSize) return damaged();
  Entry entry;
  entry.kind = static_cast<EntryKind>(stored[0]);
  entry.term = ReadNumber(stored.substr(1, 4));
  const std::size_t name_size = ReadNumber(stored.substr(5, 2));
  stored.remove_prefix(kHeaderSize);
  if (stored.size() < name_size || name_size < GcmKey::kOverhead) return damaged();
  entry.sealed_name = stored.substr(0, name_size);
  entry.sealed_value = stored.substr(name_size);
  switch (entry.kind) {
    case EntryKind::kValue:
      if (entry.sealed_value.size() < GcmKey::kOverhead) return damaged();
      return entry;
    case EntryKind::kDirectory:
      if (!entry.sealed_value.empty()) return damaged();
      return entry;
  }
  return damaged();
}

absl::StatusOr<SecretBytes> Entry::OpenName(const GcmKey& key, std::string_view stored_key) const {
  return key.Open(Associated(kind, term, Part::kName, stored_key).view(), sealed_name);
}

absl::StatusOr<SecretBytes> Entry::OpenValue(const GcmKey& key, std::string_view stored_key) const {
  return key.Open(Associated(kind, term, Part::kValue, stored_key).view(), sealed_value);
}

std::string SealValueEntry(const GcmKey& key, std::uint32_t term, std::string_view stored_key,
                           std::string_view name, std::string_view value) {
  return WithValue(
      SealName(EntryKind::kValue, key, term, stored_key, name, GcmKey::kOverhead + value.size()),
      key, term, stored_key, value);
}

std::string SealValueAnew(const GcmKey& key, const Entry& replaced, std::string_view stored_key,
                          std::string_view value) {
  std::string entry = StartEntry(EntryKind::kValue, replaced.term, replaced.sealed_name.size(),
                                 GcmKey::kOverhead + value.size());
  entry += replaced.sealed_name;
  return WithValue(std::move(entry), key, replaced.term, stored_key, value);
}

std::string SealDirectoryEntry(const GcmKey& key, std::uint32_t term, std::string_view stored_key,
                               std::string_view name) {
  return SealName(EntryKind::kDirectory, key, term, stored_key, name, 0);
}

}  // namespace coffer::keystore
