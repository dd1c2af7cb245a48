// Initialisation and unsealing; rekey.cc and generate_root.cc hold the other ceremonies.
#include "keystore/barrier/shamir_seal.h"

#include <algorithm>
#include <utility>

#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/barrier/ceremony.h"
#include "keystore/barrier/keyring.h"
#include "keystore/barrier/seal_record.h"

namespace coffer::keystore {
namespace {

// Behind the barrier: {"name": ..., "id": ...}.
constexpr std::string_view kClusterPath = "seal/cluster";
constexpr std::size_t kClusterSuffix = 4;  // bytes

bool Holds(const std::vector<SecretBytes>& shares, const SecretBytes& share) {
  bool found = false;
  for (const SecretBytes& held : shares) found |= held.Equals(share.view());
  return found;
}

absl::Status WrongSize() {
  return absl::InvalidArgumentError("key has another length than this keystore's shares");
}

}  // namespace

ShamirSeal::ShamirSeal(Barrier& barrier, std::string cluster_name)
    : barrier_(barrier), cluster_name_(std::move(cluster_name)) {
  barrier_.OnSeal([this] {
    Ceremony::Sealed(*this);
    std::lock_guard lock(unseal_mutex_);
    unseal_ = {};
  });
}

ShamirSeal::~ShamirSeal() = default;

absl::StatusOr<ShamirSeal::Record> ShamirSeal::ReadRecord() {
  ASSIGN_OR_RETURN(const std::unique_ptr<StoreTxn> txn, barrier_.store().Begin());
  ASSIGN_OR_RETURN(const auto stored, txn->Get(kSealRecord));
  if (!stored) return absl::InvalidArgumentError("Vault is not initialized");
  return Record::Parse(*stored);
}

absl::StatusOr<ShamirSeal::Record> ShamirSeal::ReadRecordUnsealed() {
  ASSIGN_OR_RETURN(Record record, ReadRecord());
  if (barrier_.sealed()) return absl::UnavailableError("Vault is sealed");
  return record;
}

absl::StatusOr<SealStatus> ShamirSeal::status() {
  SealStatus status;
  const absl::StatusOr<Record> record = ReadRecord();
  if (absl::IsInvalidArgument(record.status())) return status;
  if (!record.ok()) return record.status();
  status.initialized = true;
  status.config = record->config();
  {
    std::lock_guard lock(unseal_mutex_);
    status.progress = static_cast<int>(unseal_.shares.size());
    status.nonce = unseal_.nonce;
  }
  auto txn = barrier_.Begin();
  if (absl::IsUnavailable(txn.status()) && barrier_.sealed()) return status;
  if (!txn.ok()) return txn.status();
  status.sealed = false;
  ASSIGN_OR_RETURN(const std::optional<Json> cluster, (*txn)->root().GetJson(kClusterPath));
  if (cluster) {
    status.cluster_name = cluster->value("name", SecretString());
    status.cluster_id = cluster->value("id", SecretString());
  }
  return status;
}

absl::StatusOr<std::vector<SecretBytes>> ShamirSeal::Initialize(
    const ShareConfig& config, const std::function<absl::Status()>& contents) {
  const absl::Status checked = CheckShareConfig(config);
  if (!checked.ok()) {
    return absl::InvalidArgumentError(StrCat("invalid seal configuration: ", Message(checked)));
  }
  const Ceremony ceremony(*this);
  RETURN_IF_ERROR(ClearLeftovers());
  const std::shared_ptr<const Keyring> keyring = Keyring::Create(barrier_.clock().Now());
  const SecretBytes unseal_key = RandomSecret(GcmKey::kKeySize);
  ASSIGN_OR_RETURN(std::vector<SecretBytes> shares, SplitSecret(unseal_key.span(), config));

  // Until the records are stored nothing can open what is written here, and whoever initialises
  // next clears it away: a crash leaves a keystore that isn't initialised.
  barrier_.Unseal(keyring);
  const absl::Status status = [&] {
    RETURN_IF_ERROR(contents());
    ASSIGN_OR_RETURN(std::unique_ptr<BarrierTxn> tree, barrier_.Begin());
    const SecretBytes suffix = EncodeHex(RandomSecret(kClusterSuffix).span());
    const std::string name =
        cluster_name_.empty() ? StrCat("vault-cluster-", suffix.view()) : cluster_name_;
    RETURN_IF_ERROR(tree->root().PutJson(kClusterPath, {{"name", name}, {"id", RandomUuid()}}));
    RETURN_IF_ERROR(CommitAndWait(barrier_, std::move(tree)));

    ASSIGN_OR_RETURN(std::unique_ptr<StoreTxn> txn, barrier_.store().Begin());
    ASSIGN_OR_RETURN(const auto existing, txn->Get(kSealRecord));
    if (existing) return absl::InvalidArgumentError("Vault is already initialized");
    // Contents may be so large that they began a new term.
    const std::shared_ptr<const Keyring> now = barrier_.keyring();
    if (now == nullptr) return absl::AbortedError("sealed while it was being initialized");
    txn->Put(kKeyringRecord, now->record());
    txn->Put(kSealRecord, Record::Make(config, unseal_key, now->root_key().bytes()));
    return CommitAndWait(barrier_.store(), std::move(txn));
  }();
  barrier_.Seal();
  if (!status.ok()) return status;
  return shares;
}

// Deletes what an initialisation that failed left in the store.
absl::Status ShamirSeal::ClearLeftovers() {
  ASSIGN_OR_RETURN(std::unique_ptr<StoreTxn> txn, barrier_.store().Begin());
  ASSIGN_OR_RETURN(const auto record, txn->Get(kSealRecord));
  if (record) return absl::InvalidArgumentError("Vault is already initialized");
  ASSIGN_OR_RETURN(const auto entries, txn->Scan(""));
  std::vector<std::string> keys;
  for (const StoredEntry& entry : entries) {
    if (entry.key.size() != 2 * Names::kMacSize && entry.key != kKeyringRecord &&
        !entry.key.starts_with("usage/")) {
      return absl::FailedPreconditionError(
          "the storage holds data that isn't a keystore's; give the keystore an empty one");
    }
    keys.emplace_back(entry.key);
  }
  for (const std::string& key : keys) txn->Delete(key);
  return CommitAndWait(barrier_.store(), std::move(txn));
}

absl::StatusOr<SealStatus> ShamirSeal::Unseal(std::string_view share) {
  ASSIGN_OR_RETURN(SecretBytes decoded, DecodeShare(share));
  ASSIGN_OR_RETURN(const Record record, ReadRecord());
  if (!barrier_.sealed()) return status();
  if (decoded.size() != record.share_size()) return WrongSize();
  {
    std::lock_guard lock(unseal_mutex_);
    if (unseal_.nonce.empty()) unseal_.nonce = RandomUuid();
    if (!Holds(unseal_.shares, decoded)) unseal_.shares.push_back(std::move(decoded));
    if (static_cast<int>(unseal_.shares.size()) >= record.config().threshold) {
      const Gathering gathered = std::exchange(unseal_, {});
      RETURN_IF_ERROR(OpenBarrier(record, gathered.shares));
    }
  }
  return status();
}

absl::Status ShamirSeal::OpenBarrier(const Record& record, const std::vector<SecretBytes>& shares) {
  absl::StatusOr<SecretBytes> root_key = record.Open(shares);
  if (!root_key.ok()) return absl::InvalidArgumentError("Unseal failed, invalid key");
  ASSIGN_OR_RETURN(const std::unique_ptr<StoreTxn> txn, barrier_.store().Begin());
  ASSIGN_OR_RETURN(const auto stored, txn->Get(kKeyringRecord));
  if (!stored) return absl::DataLossError("the store has no keyring; restore a backup");
  ASSIGN_OR_RETURN(const std::shared_ptr<const Keyring> keyring,
                   Keyring::Open(*std::move(root_key), *stored));
  ASSIGN_OR_RETURN(const auto usage, txn->Get(UsageRecord(keyring->newest().term)));
  if (usage) RETURN_IF_ERROR(keyring->Resume(*usage));
  barrier_.Unseal(keyring);
  return absl::OkStatus();
}

absl::StatusOr<SealStatus> ShamirSeal::ResetUnseal() {
  RETURN_IF_ERROR(ReadRecord().status());
  if (!barrier_.sealed()) return absl::InvalidArgumentError("vault is unsealed");
  {
    std::lock_guard lock(unseal_mutex_);
    unseal_ = {};
  }
  return status();
}

absl::StatusOr<bool> ShamirSeal::Gather(const Record& record, std::string_view share,
                                        std::string_view nonce, std::string_view what,
                                        Gathering* gathering) {
  if (nonce != gathering->nonce) {
    return absl::InvalidArgumentError(StrCat("incorrect nonce supplied; nonce for this ", what,
                                             " operation is \"", gathering->nonce, "\""));
  }
  ASSIGN_OR_RETURN(SecretBytes decoded, DecodeShare(share));
  if (decoded.size() != record.share_size()) return WrongSize();
  if (Holds(gathering->shares, decoded)) {
    return absl::InvalidArgumentError(
        "given key has already been provided during this generation operation");
  }
  gathering->shares.push_back(std::move(decoded));
  if (static_cast<int>(gathering->shares.size()) < record.config().threshold) return false;
  const std::vector<SecretBytes> shares = std::exchange(gathering->shares, {});
  const absl::StatusOr<SecretBytes> root_key = record.Open(shares);
  const std::shared_ptr<const Keyring> keyring = barrier_.keyring();
  if (keyring == nullptr) return absl::UnavailableError("Vault is sealed");
  if (!root_key.ok() || !root_key->Equals(keyring->root_key().bytes().view())) {
    return absl::InvalidArgumentError(StrCat(what, " failed: invalid key; progress starts over"));
  }
  return true;
}

}  // namespace coffer::keystore
