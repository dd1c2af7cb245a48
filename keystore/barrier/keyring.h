// Keyring: every key behind the barrier: data keys by term, the names key, and the root key that
// encrypts them all in the store. Immutable: a change makes another keyring.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "keystore/barrier/gcm_key.h"
#include "keystore/barrier/names.h"

namespace coffer::keystore {

// Where the store keeps what isn't part of the tree. Stored keys of the tree are longer.
inline constexpr std::string_view kSealRecord = "seal";
inline constexpr std::string_view kKeyringRecord = "keyring";
std::string UsageRecord(std::uint32_t term);

struct DataKey {
  DataKey(std::uint32_t number, absl::Time installed, SecretBytes bytes)
      : term(number), install_time(installed), key(std::move(bytes)) {}

  const std::uint32_t term;
  const absl::Time install_time;
  const GcmKey key;
  // Encryptions made, and how many of them the stored usage record allows for: after a crash those
  // count as made.
  std::atomic<std::uint64_t> encryptions{0};
  std::atomic<std::uint64_t> reserved{0};
  std::atomic<bool> reserving{false};
};

class Keyring {
 public:
  // New keys. `now`: when the first data key is installed.
  static std::shared_ptr<const Keyring> Create(absl::Time now);
  // DataLoss: `record` isn't what Record() of a keyring with this root key was.
  static absl::StatusOr<std::shared_ptr<const Keyring>> Open(SecretBytes root_key,
                                                             std::string_view record);

  // As this one, and with a new data key, or under another root key.
  std::shared_ptr<const Keyring> WithNewTerm(absl::Time now) const;
  std::shared_ptr<const Keyring> WithRootKey(SecretBytes root_key) const;

  // What the store holds; the same bytes each time.
  const std::string& record() const { return record_; }
  // Counts the changes since Create().
  std::uint64_t generation() const { return generation_; }

  // Null where there is no such term.
  const DataKey* Find(std::uint32_t term) const;
  DataKey& newest() const { return *keys_.rbegin()->second; }
  // Shared by all that come of one Create() or Open().
  Names& names() const { return *names_; }
  const GcmKey& root_key() const { return *root_key_; }

  // The usage record of the newest term: that `encryptions` count as made.
  std::string UsageOf(std::uint64_t encryptions) const;
  // Counts what an earlier process may have encrypted. DataLoss: `usage` isn't such a record.
  absl::Status Resume(std::string_view usage) const;

 private:
  Keyring() = default;
  void Seal();  // makes record_

  std::shared_ptr<const GcmKey> root_key_;
  std::shared_ptr<Names> names_;
  std::map<std::uint32_t, std::shared_ptr<DataKey>> keys_;  // by term
  std::uint64_t generation_ = 0;
  std::string record_;
};

}  // namespace coffer::keystore
