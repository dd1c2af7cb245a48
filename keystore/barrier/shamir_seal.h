// ShamirSeal: who may open the barrier. Holds the stored root key, encrypted under an unseal key
// that exists only as Shamir shares, and the ceremonies that a quorum of shares performs: unseal,
// rekey, generate-root.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/secret_bytes.h"
#include "keystore/barrier/barrier.h"
#include "keystore/barrier/shamir.h"

namespace coffer::keystore {

// Where the seal stands.
struct SealStatus {
  bool initialized = false;
  bool sealed = true;
  ShareConfig config;                    // zeros before initialisation
  int progress = 0;                      // shares given to the unseal under way
  std::string nonce;                     // of the unseal under way, else ""
  std::string cluster_name, cluster_id;  // "" while sealed
};

// A ceremony that gathers shares.
struct CeremonyStatus {
  bool started = false;
  std::string nonce;  // "" unless started
  int progress = 0;
  int required = 0;  // shares needed
};

struct RekeyStatus : CeremonyStatus {
  ShareConfig config;  // of the new shares
  bool verification_required = false;
  std::string verification_nonce;  // "" unless the new shares wait for verification
};

struct RekeyUpdate {
  RekeyStatus status;
  bool complete = false;
  std::vector<SecretBytes> shares;  // the new ones, once complete
};

struct VerifyUpdate {
  CeremonyStatus status;
  ShareConfig config;
  bool complete = false;
};

struct GenerateRootStatus : CeremonyStatus {
  bool complete = false;
  SecretBytes otp;            // from Start, if it was made here
  SecretBytes encoded_token;  // base64 without padding of token XOR otp, once complete
};

// All of it is safe on any thread. Errors are InvalidArgument for what the caller did wrong, and
// Unavailable while the barrier is sealed. Sealing the barrier ends what is under way.
class ShamirSeal {
 public:
  // "hvs." and 24 characters: the length of a root token, and so of an OTP.
  static constexpr std::size_t kOtpLength = 28;
  static constexpr absl::Duration kCancelByNonce = absl::Minutes(10);

  // The barrier must outlive the seal, and isn't sealed or unsealed after it.
  // `cluster_name`: what a new keystore is called; empty: "vault-cluster-" and four random bytes.
  explicit ShamirSeal(Barrier& barrier, std::string cluster_name = {});
  ~ShamirSeal();

  // These don't wait for others; they only read the store.

  absl::StatusOr<SealStatus> status();
  // Adds one share, hex or base64. The last one needed opens the barrier; wrong ones are refused
  // then, and the progress starts over. Given while unsealed, it changes nothing.
  absl::StatusOr<SealStatus> Unseal(std::string_view share);
  absl::StatusOr<SealStatus> ResetUnseal();

  // All that follow may wait for the disk.

  // Makes the keys and returns the shares. `contents` runs on the open barrier and writes what a
  // new keystore holds; whatever happens, the keystore is initialised by one last commit or not at
  // all. Leaves the barrier sealed.
  absl::StatusOr<std::vector<SecretBytes>> Initialize(
      const ShareConfig& config, const std::function<absl::Status()>& contents);

  absl::StatusOr<RekeyStatus> rekey_status();
  absl::StatusOr<RekeyStatus> StartRekey(const ShareConfig& config, bool require_verification);
  // In a rekey's first kCancelByNonce only who has its nonce cancels it. None under way: OK.
  absl::Status CancelRekey(std::string_view nonce);
  absl::StatusOr<RekeyUpdate> UpdateRekey(std::string_view share, std::string_view nonce);
  absl::StatusOr<VerifyUpdate> verify_status();
  // Drops what was gathered and starts the verification over with a new nonce.
  absl::StatusOr<VerifyUpdate> RestartVerify();
  // Takes the new shares; the last one needed makes them the valid ones.
  absl::StatusOr<VerifyUpdate> UpdateVerify(std::string_view share, std::string_view nonce);

  absl::StatusOr<GenerateRootStatus> generate_root_status();
  // Draws an OTP if `otp` is empty.
  absl::StatusOr<GenerateRootStatus> StartGenerateRoot(std::string_view otp);
  absl::Status CancelGenerateRoot();
  // `make_token` makes and stores the root token, of kOtpLength characters.
  absl::StatusOr<GenerateRootStatus> UpdateGenerateRoot(
      std::string_view share, std::string_view nonce,
      const std::function<absl::StatusOr<SecretBytes>()>& make_token);

  Barrier& barrier() { return barrier_; }

 private:
  // Shares on their way to a quorum.
  struct Gathering {
    std::string nonce;  // "": not begun
    std::vector<SecretBytes> shares;
  };
  struct Rekey {
    ShareConfig config;  // of the new shares
    bool verification_required;
    absl::Time start;
    Gathering old_shares;
    SecretBytes new_key;  // the new unseal key, while it waits for verification
    Gathering new_shares;
  };
  struct GenerateRoot {
    SecretBytes otp;
    Gathering shares;
  };
  class Record;
  class Ceremony;

  // The stored seal record; InvalidArgument before initialisation.
  absl::StatusOr<Record> ReadRecord();
  // The same for an open barrier only.
  absl::StatusOr<Record> ReadRecordUnsealed();
  // Adds a share to a ceremony on the open barrier. True: it was the last one, and together they
  // are right. `what` ("rekey") is for messages.
  absl::StatusOr<bool> Gather(const Record& record, std::string_view share, std::string_view nonce,
                              std::string_view what, Gathering* gathering);
  absl::Status OpenBarrier(const Record& record, const std::vector<SecretBytes>& shares);
  absl::Status ClearLeftovers();
  absl::Status ReplaceUnsealKey(const SecretBytes& key, const ShareConfig& config);
  RekeyStatus Describe(const Record& record) const;
  VerifyUpdate DescribeVerify() const;

  Barrier& barrier_;
  const std::string cluster_name_;
  std::mutex unseal_mutex_;  // of unseal_
  Gathering unseal_;
  std::mutex ceremony_mutex_;  // of what follows; held while the disk is awaited
  std::optional<Rekey> rekey_;
  std::optional<GenerateRoot> generate_root_;
  std::atomic<bool> stale_{false};  // sealed meanwhile: both are to be forgotten
};

}  // namespace coffer::keystore
