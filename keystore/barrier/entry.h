// Entry: one stored value or directory, encrypted. Its name and its value open separately, so that
// a list needn't decrypt values and a read needn't decrypt names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/secret_bytes.h"
#include "keystore/barrier/gcm_key.h"

namespace coffer::keystore {

enum class EntryKind : std::uint8_t { kValue = 1, kDirectory = 2 };

// A parsed entry; views of the stored bytes.
struct Entry {
  EntryKind kind = EntryKind::kValue;
  std::uint32_t term = 0;
  std::string_view sealed_name;
  std::string_view sealed_value;  // empty for a directory

  // DataLoss: no entry.
  static absl::StatusOr<Entry> Parse(std::string_view stored);

  // DataLoss: not what was stored under `stored_key` with the data key of `term`.
  absl::StatusOr<SecretBytes> OpenName(const GcmKey& key, std::string_view stored_key) const;
  absl::StatusOr<SecretBytes> OpenValue(const GcmKey& key, std::string_view stored_key) const;

  // The value's nonce.
  std::string_view tag() const { return sealed_value.substr(0, GcmKey::kNonceSize); }
};

// A directory's name ends in "/". Makes two encryptions for a value, one for a directory.
inline constexpr std::size_t kMaxNameSize = 65'535 - GcmKey::kOverhead;
std::string SealValueEntry(const GcmKey& key, std::uint32_t term, std::string_view stored_key,
                           std::string_view name, std::string_view value);
// With the name as sealed in the entry that is replaced, which `key` encrypted: makes one
// encryption.
std::string SealValueAnew(const GcmKey& key, const Entry& replaced, std::string_view stored_key,
                          std::string_view value);
std::string SealDirectoryEntry(const GcmKey& key, std::uint32_t term, std::string_view stored_key,
                               std::string_view name);

}  // namespace coffer::keystore
