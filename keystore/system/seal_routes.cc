#include "keystore/system/seal_routes.h"

#include <utility>

#include "absl/time/time.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/core/rfc3339.h"

namespace coffer::keystore {
namespace {

constexpr Operation kRead = Operation::kRead;
constexpr Operation kUpdate = Operation::kUpdate;
constexpr Operation kDelete = Operation::kDelete;

// Texts of a request that name PGP keys, which Coffer doesn't encrypt shares to.
absl::Status RefusePgp(const Request& request) {
  for (const std::string_view name : {"pgp_keys", "pgp_key", "root_token_pgp_key"}) {
    const auto given = request.data.find(name);
    if (given == request.data.end() || given->empty() || *given == "") continue;
    return absl::InvalidArgumentError(
        StrCat("'", name, "' is not supported: shares and tokens are not encrypted to PGP keys"));
  }
  for (const std::string_view name : {"backup", "migrate"}) {
    if (!request.boolean(name)) continue;
    return absl::InvalidArgumentError(StrCat("'", name, "' is not supported"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string_view> KeyOf(const Request& request) {
  const std::string_view key = request.text("key");
  if (key.empty()) {
    return absl::InvalidArgumentError("'key' must be specified in request body as JSON");
  }
  return key;
}

Json SecretText(const SecretBytes& bytes) { return Json::string_t(bytes.view()); }

// "keys" in hex and "keys_base64".
void AddShares(const std::vector<SecretBytes>& shares, Json* answer) {
  Json& hex = (*answer)["keys"] = Json::array();
  Json& base64 = (*answer)["keys_base64"] = Json::array();
  for (const SecretBytes& share : shares) {
    hex.push_back(SecretText(EncodeHex(share.span())));
    base64.push_back(SecretText(EncodeBase64(share.span())));
  }
}

class SealHandlers {
 public:
  SealHandlers(ShamirSeal& seal, const Clock& clock, ServerFacts facts, SealHooks hooks)
      : seal_(seal), clock_(clock), facts_(std::move(facts)), hooks_(std::move(hooks)) {}

  absl::StatusOr<Response> InitStatus() const {
    ASSIGN_OR_RETURN(const SealStatus status, seal_.status());
    return Response::Bare({{"initialized", status.initialized}});
  }

  absl::StatusOr<Response> Init(const Request& request) const {
    RETURN_IF_ERROR(RefusePgp(request));
    for (const std::string_view name : {"recovery_shares", "recovery_threshold"}) {
      if (request.integer(name) != 0) {
        return absl::InvalidArgumentError("parameters specific to auto unseal seals present");
      }
    }
    ASSIGN_OR_RETURN(const ShareConfig config, ConfigOf(request));
    SecretBytes root_token;
    ASSIGN_OR_RETURN(const std::vector<SecretBytes> shares, seal_.Initialize(config, [&] {
      absl::StatusOr<SecretBytes> made = hooks_.initialize_contents();
      if (made.ok()) root_token = *std::move(made);
      return made.status();
    }));
    hooks_.seal();  // forgets what was parsed on the way
    Json answer = {{"root_token", SecretText(root_token)}};
    AddShares(shares, &answer);
    return Response::Bare(std::move(answer));
  }

  absl::StatusOr<Response> Status() const {
    ASSIGN_OR_RETURN(const SealStatus status, seal_.status());
    return Describe(status);
  }

  absl::StatusOr<Response> Unseal(const Request& request) const {
    RETURN_IF_ERROR(RefusePgp(request));
    if (request.boolean("reset")) {
      ASSIGN_OR_RETURN(const SealStatus status, seal_.ResetUnseal());
      return Describe(status);
    }
    if (request.text("key").empty()) {
      return absl::InvalidArgumentError(
          "'key' must be specified in request body as JSON, or 'reset' set to true");
    }
    ASSIGN_OR_RETURN(const SealStatus status, seal_.Unseal(request.text("key")));
    return Describe(status);
  }

  // The request's own transaction ends first: sealed, it couldn't.
  absl::StatusOr<Response> Seal(Txn& txn) const {
    txn.OnCommit([seal = hooks_.seal] { seal(); });
    return Response::Empty();
  }

  absl::StatusOr<Response> Health(const Request& request) const {
    const auto code = [&](std::string_view name, int otherwise) {
      return request.has(name) ? request.integer(name) : otherwise;
    };
    ASSIGN_OR_RETURN(const SealStatus status, seal_.status());
    // There is no standby here, of whatever kind, so their parameters are checked and not used.
    std::int64_t answered = code("activecode", 200);
    for (const std::string_view name : {"standbycode", "drsecondarycode", "performancestandbycode",
                                        "haunhealthycode", "removedcode"}) {
      RETURN_IF_ERROR(CheckCode(code(name, 200)));
    }
    const std::int64_t sealed = code("sealedcode", 503);
    const std::int64_t uninitialized = code("uninitcode", 501);
    for (const std::int64_t given : {answered, sealed, uninitialized}) {
      RETURN_IF_ERROR(CheckCode(given));
    }
    if (status.sealed) answered = sealed;
    if (!status.initialized) answered = uninitialized;
    const char* replication = status.sealed ? "unknown" : "disabled";
    Json answer = {{"initialized", status.initialized},
                   {"sealed", status.sealed},
                   {"standby", status.sealed},
                   {"performance_standby", false},
                   {"replication_performance_mode", replication},
                   {"replication_dr_mode", replication},
                   {"server_time_utc", absl::ToUnixSeconds(clock_.Now())},
                   {"version", facts_.version},
                   {"enterprise", false},
                   {"echo_duration_ms", 0},
                   {"clock_skew_ms", 0},
                   {"replication_primary_canary_age_ms", 0}};
    AddCluster(status, &answer);
    return Response::Bare(std::move(answer), static_cast<int>(answered));
  }

  absl::StatusOr<Response> Leader() const {
    // One node: sealed or not, there is no leader to find.
    return Response::Bare({{"ha_enabled", false},
                           {"is_self", false},
                           {"active_time", "0001-01-01T00:00:00Z"},
                           {"leader_address", ""},
                           {"leader_cluster_address", ""},
                           {"performance_standby", false},
                           {"performance_standby_last_remote_wal", 0}});
  }

  absl::StatusOr<Response> RekeyStatus() const {
    ASSIGN_OR_RETURN(const auto status, seal_.rekey_status());
    return Response::Bare(Describe(status));
  }

  absl::StatusOr<Response> StartRekey(const Request& request) const {
    RETURN_IF_ERROR(RefusePgp(request));
    ASSIGN_OR_RETURN(const ShareConfig config, ConfigOf(request));
    ASSIGN_OR_RETURN(const auto status,
                     seal_.StartRekey(config, request.boolean("require_verification")));
    return Response::Bare(Describe(status));
  }

  absl::StatusOr<Response> CancelRekey(const Request& request) const {
    RETURN_IF_ERROR(seal_.CancelRekey(request.text("nonce")));
    return Response::Empty();
  }

  absl::StatusOr<Response> UpdateRekey(const Request& request) const {
    ASSIGN_OR_RETURN(const std::string_view key, KeyOf(request));
    ASSIGN_OR_RETURN(const RekeyUpdate update, seal_.UpdateRekey(key, request.text("nonce")));
    if (!update.complete) return Response::Bare(Describe(update.status));
    Json answer = {{"nonce", update.status.nonce},
                   {"complete", true},
                   {"pgp_fingerprints", nullptr},
                   {"backup", false},
                   {"verification_required", update.status.verification_required}};
    if (update.status.verification_required) {
      answer["verification_nonce"] = update.status.verification_nonce;
    }
    AddShares(update.shares, &answer);
    return Response::Bare(std::move(answer));
  }

  absl::StatusOr<Response> VerifyStatus() const {
    ASSIGN_OR_RETURN(const VerifyUpdate update, seal_.verify_status());
    return Response::Bare(Describe(update));
  }

  absl::StatusOr<Response> RestartVerify() const {
    ASSIGN_OR_RETURN(const VerifyUpdate update, seal_.RestartVerify());
    return Response::Bare(Describe(update));
  }

  absl::StatusOr<Response> UpdateVerify(const Request& request) const {
    ASSIGN_OR_RETURN(const std::string_view key, KeyOf(request));
    ASSIGN_OR_RETURN(const VerifyUpdate update, seal_.UpdateVerify(key, request.text("nonce")));
    if (!update.complete) return Response::Bare(Describe(update));
    return Response::Bare({{"nonce", update.status.nonce}, {"complete", true}});
  }

  absl::StatusOr<Response> Rotate() const {
    RETURN_IF_ERROR(seal_.barrier().Rotate());
    return Response::Empty();
  }

  absl::StatusOr<Response> KeyStatus() const {
    ASSIGN_OR_RETURN(const auto status, seal_.barrier().key_status());
    return Response::Flattened({{"term", status.term},
                                {"install_time", FormatRfc3339(status.install_time)},
                                {"encryptions", status.encryptions}});
  }

  absl::StatusOr<Response> GenerateRootStatus() const {
    ASSIGN_OR_RETURN(const auto status, seal_.generate_root_status());
    return Response::Bare(Describe(status));
  }

  absl::StatusOr<Response> StartGenerateRoot(const Request& request) const {
    RETURN_IF_ERROR(RefusePgp(request));
    ASSIGN_OR_RETURN(const auto status, seal_.StartGenerateRoot(request.text("otp")));
    return Response::Bare(Describe(status));
  }

  absl::StatusOr<Response> CancelGenerateRoot() const {
    RETURN_IF_ERROR(seal_.CancelGenerateRoot());
    return Response::Empty();
  }

  absl::StatusOr<Response> UpdateGenerateRoot(const Request& request) const {
    ASSIGN_OR_RETURN(const std::string_view key, KeyOf(request));
    ASSIGN_OR_RETURN(const auto status, seal_.UpdateGenerateRoot(key, request.text("nonce"),
                                                                 hooks_.create_root_token));
    return Response::Bare(Describe(status));
  }

 private:
  static absl::StatusOr<ShareConfig> ConfigOf(const Request& request) {
    const std::int64_t shares = request.integer("secret_shares");
    const std::int64_t threshold = request.integer("secret_threshold");
    const std::int64_t stored = request.integer("stored_shares");
    if (stored != 0 && stored != 1) {
      return absl::InvalidArgumentError("'stored_shares' is not supported by a shamir seal");
    }
    // Out of an int's range, they are out of ShareConfig's too.
    const auto clamp = [](std::int64_t n) {
      return static_cast<int>(std::clamp<std::int64_t>(n, -1, 999));
    };
    return ShareConfig{clamp(shares), clamp(threshold)};
  }

  static absl::Status CheckCode(std::int64_t code) {
    // Below 200, the client would go on waiting for the answer.
    if (code >= 200 && code <= 599) return absl::OkStatus();
    return absl::InvalidArgumentError("a status code must be 200 to 599");
  }

  static void AddCluster(const SealStatus& status, Json* answer) {
    if (status.cluster_name.empty()) return;
    (*answer)["cluster_name"] = status.cluster_name;
    (*answer)["cluster_id"] = status.cluster_id;
  }

  Response Describe(const SealStatus& status) const {
    Json answer = {{"type", "shamir"},
                   {"initialized", status.initialized},
                   {"sealed", status.sealed},
                   {"t", status.config.threshold},
                   {"n", status.config.shares},
                   {"progress", status.progress},
                   {"nonce", status.nonce},
                   {"version", facts_.version},
                   {"build_date", facts_.build_date},
                   {"migration", false},
                   {"recovery_seal", false},
                   {"storage_type", facts_.storage_type}};
    AddCluster(status, &answer);
    return Response::Bare(std::move(answer));
  }

  static Json Describe(const coffer::keystore::RekeyStatus& status) {
    Json answer = {{"nonce", status.nonce},
                   {"started", status.started},
                   {"t", status.config.threshold},
                   {"n", status.config.shares},
                   {"progress", status.progress},
                   {"required", status.required},
                   {"pgp_fingerprints", nullptr},
                   {"backup", false},
                   {"verification_required", status.verification_required}};
    if (!status.verification_nonce.empty()) {
      answer["verification_nonce"] = status.verification_nonce;
    }
    return answer;
  }

  static Json Describe(const VerifyUpdate& update) {
    return {{"nonce", update.status.nonce},
            {"started", update.status.started},
            {"t", update.config.threshold},
            {"n", update.config.shares},
            {"progress", update.status.progress}};
  }

  static Json Describe(const coffer::keystore::GenerateRootStatus& status) {
    return {{"nonce", status.nonce},
            {"started", status.started},
            {"progress", status.progress},
            {"required", status.required},
            {"complete", status.complete},
            {"encoded_token", SecretText(status.encoded_token)},
            {"encoded_root_token", SecretText(status.encoded_token)},
            {"pgp_fingerprint", ""},
            {"otp", SecretText(status.otp)},
            {"otp_length", ShamirSeal::kOtpLength}};
  }

  ShamirSeal& seal_;
  const Clock& clock_;
  const ServerFacts facts_;
  const SealHooks hooks_;
};

// Runs `handler` where it may wait for the disk.
template <class Work>
Handler OnWorker(Work work) {
  return [work](const Request& request, Txn&) -> absl::StatusOr<Response> {
    if (!request.may_block) return NeedsWorker();
    return work(request);
  };
}

template <class Work>
Handler AtOnce(Work work) {
  return [work](const Request& request, Txn&) -> absl::StatusOr<Response> { return work(request); };
}

std::vector<Field> ShareFields() {
  return {{"secret_shares", FieldType::kInteger, "How many shares to make, 1 to 255."},
          {"secret_threshold", FieldType::kInteger, "How many of them are needed together."},
          {"stored_shares", FieldType::kInteger, "Not used by a shamir seal."},
          {"pgp_keys", FieldType::kAny, "Not supported."}};
}

const Field kKey = {"key", FieldType::kString, "One share, in hex or base64."};
const Field kNonce = {"nonce", FieldType::kString, "The nonce of the operation under way."};

}  // namespace

std::vector<Route> SealRoutes(ShamirSeal& seal, const Clock& clock, ServerFacts facts,
                              SealHooks hooks) {
  const auto h = std::make_shared<SealHandlers>(seal, clock, std::move(facts), std::move(hooks));
  using R = const Request&;
  std::vector<Field> init_fields = ShareFields();
  init_fields.push_back({"root_token_pgp_key", FieldType::kAny, "Not supported."});
  init_fields.push_back({"recovery_shares", FieldType::kInteger, "Not used by a shamir seal."});
  init_fields.push_back({"recovery_threshold", FieldType::kInteger, "Not used by a shamir seal."});
  std::vector<Field> rekey_fields = ShareFields();
  rekey_fields.push_back({"backup", FieldType::kBoolean, "Not supported."});
  rekey_fields.push_back({"require_verification", FieldType::kBoolean,
                          "Whether the new shares must be given once before they count."});
  rekey_fields.push_back({"nonce", FieldType::kString,
                          "To cancel: the nonce of the rekey, needed in its first ten minutes."});
  return {
      {"init",
       "Whether the keystore is initialized; initializes it.",
       std::move(init_fields),
       {{kRead, AtOnce([h](R) { return h->InitStatus(); })},
        {kUpdate, OnWorker([h](R request) { return h->Init(request); })}},
       Access::kBarrierless},
      {"unseal",
       "Adds one share to the unseal under way.",
       {kKey,
        {"reset", FieldType::kBoolean, "Forget the shares given so far."},
        {"migrate", FieldType::kBoolean, "Not supported."}},
       {{kUpdate, AtOnce([h](R request) { return h->Unseal(request); })}},
       Access::kBarrierless},
      {"seal",
       "Seals the keystore.",
       {},
       {{kUpdate, [h](R, Txn& txn) { return h->Seal(txn); }}},
       Access::kSudo},
      {"seal-status",
       "Whether the keystore is sealed, and how many shares the unseal under way has.",
       {},
       {{kRead, AtOnce([h](R) { return h->Status(); })}},
       Access::kBarrierless},
      {"health",
       "The state of the keystore as a status code.",
       {{"standbyok", FieldType::kBoolean, "Answer as active where this is a standby."},
        {"perfstandbyok", FieldType::kBoolean, "The same for a performance standby."},
        {"activecode", FieldType::kInteger, "The code of an active keystore; 200."},
        {"standbycode", FieldType::kInteger, "The code of a standby; 429."},
        {"drsecondarycode", FieldType::kInteger, "The code of a DR secondary; 472."},
        {"performancestandbycode", FieldType::kInteger, "The code of a performance standby; 473."},
        {"haunhealthycode", FieldType::kInteger, "The code of a standby without leader; 474."},
        {"removedcode", FieldType::kInteger, "The code of a node that was removed; 530."},
        {"sealedcode", FieldType::kInteger, "The code of a sealed keystore; 503."},
        {"uninitcode", FieldType::kInteger, "The code of one that isn't initialized; 501."}},
       {{kRead, AtOnce([h](R request) { return h->Health(request); })}},
       Access::kBarrierless},
      {"leader",
       "The leader of a cluster.",
       {},
       {{kRead, AtOnce([h](R) { return h->Leader(); })}},
       Access::kBarrierless},
      {"rekey/init",
       "Starts, shows or cancels a rekey, which replaces the shares.",
       std::move(rekey_fields),
       {{kRead, OnWorker([h](R) { return h->RekeyStatus(); })},
        {kUpdate, OnWorker([h](R request) { return h->StartRekey(request); })},
        {kDelete, OnWorker([h](R request) { return h->CancelRekey(request); })}},
       Access::kBarrierless},
      {"rekey/update",
       "Adds one of the old shares to the rekey under way.",
       {kKey, kNonce},
       {{kUpdate, OnWorker([h](R request) { return h->UpdateRekey(request); })}},
       Access::kBarrierless},
      {"rekey/verify",
       "Adds one of the new shares to the verification under way.",
       {kKey, kNonce},
       {{kRead, OnWorker([h](R) { return h->VerifyStatus(); })},
        {kUpdate, OnWorker([h](R request) { return h->UpdateVerify(request); })},
        {kDelete, OnWorker([h](R) { return h->RestartVerify(); })}},
       Access::kBarrierless},
      {"rotate",
       "Begins a new key, under which all is encrypted from now on.",
       {},
       {{kUpdate, OnWorker([h](R) { return h->Rotate(); })}},
       Access::kSudo},
      {"key-status", "The term, age and use of the newest key.", {}, {{kRead, AtOnce([h](R) {
                                                                         return h->KeyStatus();
                                                                       })}}},
      {"generate-root/attempt",
       "Starts, shows or cancels the making of a root token.",
       {{"otp", FieldType::kString, "What the token is to be XORed with; drawn if not given."},
        {"pgp_key", FieldType::kAny, "Not supported."}},
       {{kRead, OnWorker([h](R) { return h->GenerateRootStatus(); })},
        {kUpdate, OnWorker([h](R request) { return h->StartGenerateRoot(request); })},
        {kDelete, OnWorker([h](R) { return h->CancelGenerateRoot(); })}},
       Access::kBarrierless},
      {"generate-root/update",
       "Adds one share to the making of a root token.",
       {kKey, kNonce},
       {{kUpdate, OnWorker([h](R request) { return h->UpdateGenerateRoot(request); })}},
       Access::kBarrierless},
  };
}

}  // namespace coffer::keystore
