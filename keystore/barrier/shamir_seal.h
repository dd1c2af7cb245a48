// ShamirSeal: who may open the barrier. Holds the stored root key, encrypted under an unseal key that
// exists only as Shamir shares, and the ceremonies that a quorum of shares performs: unseal, rekey,
// generate-root.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/secret_bytes.h"
#include "keystore/barrier/barrier.h"

namespace coffer::keystore {

// How many shares there are, and how many of them open the keystore.
struct ShareConfig {
  int shares = 0;     // 1..255
  int threshold = 0;  // 2..shares, or 1 of 1
  bool operator==(const ShareConfig&) const = default;
};

// InvalidArgument in Vault's words.
absl::Status CheckShareConfig(const ShareConfig& config);

struct SealStatus {
  bool initialized = false;
  bool sealed = true;
  ShareConfig config;  // zeros before initialisation
  int progress = 0;    // shares given to the unseal under way
  std::string nonce;   // of the unseal under way, else ""
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

// All of it is safe on any thread. "May block" marks what waits for the disk. Errors are
// InvalidArgument for what the caller did wrong; Unavailable while sealed.
class ShamirSeal {
 public:
  // "hvs." and 24 characters: the length of a root token, and so of an OTP.
  static constexpr std::size_t kOtpLength = 28;

  // The barrier must outlive the seal.
  explicit ShamirSeal(Barrier& barrier);
  ~ShamirSeal();

  // Reads the store's seal record while it isn't known.
  absl::StatusOr<SealStatus> status();

  // Makes the keys and returns the shares. `contents` runs on the open barrier and writes what a new
  // keystore holds; whatever happens, the keystore is initialised by one last commit or not at all.
  // Leaves the barrier sealed. May block.
  absl::StatusOr<std::vector<SecretBytes>> Initialize(
      const ShareConfig& config, const std::function<absl::Status()>& contents);

  // Adds one share, hex or base64. The last one needed opens the barrier; wrong ones are refused
  // then, and the progress starts over. Given while unsealed, it changes nothing.
  absl::StatusOr<SealStatus> Unseal(std::string_view share);
  absl::StatusOr<SealStatus> ResetUnseal();
  // Seals the barrier and ends every ceremony.
  void Seal();

  absl::StatusOr<RekeyStatus> rekey_status();
  absl::StatusOr<RekeyStatus> StartRekey(const ShareConfig& config, bool require_verification);
  absl::Status CancelRekey();
  // May block.
  absl::StatusOr<RekeyUpdate> UpdateRekey(std::string_view share, std::string_view nonce);
  absl::StatusOr<VerifyUpdate> verify_status();
  // Drops what was gathered and starts the verification over with a new nonce.
  absl::StatusOr<VerifyUpdate> RestartVerify();
  // Takes the new shares; the last one needed makes them the valid ones. May block.
  absl::StatusOr<VerifyUpdate> UpdateVerify(std::string_view share, std::string_view nonce);

  absl::StatusOr<GenerateRootStatus> generate_root_status();
  // Draws an OTP if `otp` is empty.
  absl::StatusOr<GenerateRootStatus> StartGenerateRoot(std::string_view otp);
  absl::Status CancelGenerateRoot();
  // `make_token` makes and stores the root token. May block.
  absl::StatusOr<GenerateRootStatus> UpdateGenerateRoot(
      std::string_view share, std::string_view nonce,
      const std::function<absl::StatusOr<SecretBytes>()>& make_token);

  Barrier& barrier() { return barrier_; }

 private:
  struct State;
  Barrier& barrier_;
  std::unique_ptr<State> state_;
};

}  // namespace coffer::keystore
