// operator rekey: a state machine on the server; each call is one step of it.
#include "cli/operator.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr std::string_view kStatusOrder[] = {
    "nonce", "started", "t", "n", "progress", "required", "pgp_fingerprints", "backup",
    "verification_required", "verification_nonce"};
constexpr std::string_view kUpdateOrder[] = {
    "nonce", "complete", "keys", "keys_base64", "pgp_fingerprints", "backup",
    "verification_required", "verification_nonce"};

std::string Progress(const Json& status, std::string_view of) {
  return StrCat(IntegerAt(status, "progress"), "/", IntegerAt(status, of));
}

const char* Switch(bool on) { return on ? "true" : "false"; }

int PrintStatus(Session& session, const Json& status, bool verify) {
  if (!session.table()) return PrintDocument(session, status, kStatusOrder);
  Table table = Table::WithHeader("Key", "Value");
  if (!verify) table.Add("Nonce", TextAt(status, "nonce"));
  table.Add("Started", Switch(TrueAt(status, "started")));
  if (TrueAt(status, "started") || verify) {
    if (!verify) table.Add("Rekey Progress", Progress(status, "required"));
    table.Add("New Shares", StrCat(IntegerAt(status, "n")));
    table.Add("New Threshold", StrCat(IntegerAt(status, "t")));
    if (verify) {
      table.Add("Verification Nonce", TextAt(status, "nonce"));
      table.Add("Verification Progress", Progress(status, "t"));
    } else {
      table.Add("Verification Required", Switch(TrueAt(status, "verification_required")));
    }
  }
  session.console.Line(table.Print().view());
  return kDone;
}

absl::StatusOr<Json> ReadStatus(Session& session, bool verify) {
  return session.api->Call(
      {.method = "GET", .path = verify ? "sys/rekey/verify" : "sys/rekey/init"});
}

int ShowStatus(Session& session, bool verify) {
  const absl::StatusOr<Json> status = ReadStatus(session, verify);
  if (!status.ok()) return session.Fail("Error reading rekey status", status.status());
  return PrintStatus(session, *status, verify);
}

int Start(Session& session, bool verify) {
  const absl::StatusOr<Json> status =
      session.api->Write("sys/rekey/init", Json{{"secret_shares", session.flags.integer("key-shares")},
                                                {"secret_threshold",
                                                 session.flags.integer("key-threshold")},
                                                {"require_verification", verify}});
  if (!status.ok()) return session.Fail("Error initializing rekey", status.status());
  if (session.table()) {
    session.console.Warn(Wrapped(
        "WARNING! If you lose the keys after they are returned, there is no recovery. Consider "
        "canceling this operation and re-initializing with the -verify flag, so that the new keys "
        "count only after they were given once."));
    session.console.Line("");
  }
  // Servers that answer nothing are asked for what they started.
  if (status->is_null()) return ShowStatus(session, false);
  return PrintStatus(session, *status, false);
}

int Cancel(Session& session, bool verify) {
  const Json body = {{"nonce", Json::string_t(session.flags.text("nonce"))}};
  const bool by_nonce = !verify && session.flags.given("nonce");
  const absl::StatusOr<Json> answer =
      session.api->Call({.method = "DELETE",
                         .path = verify ? "sys/rekey/verify" : "sys/rekey/init",
                         .body = by_nonce ? &body : nullptr});
  if (!answer.ok()) return session.Fail("Error canceling rekey", answer.status());
  session.console.Line("Success! Canceled rekeying (if it was started)");
  return kDone;
}

int PrintKeys(Session& session, const Json& update, const Json& status) {
  if (!session.table()) return PrintDocument(session, update, kUpdateOrder);
  Console& console = session.console;
  console.Line("");
  const Json& base64 = At(update, "keys_base64");
  const Json& keys = base64.is_array() ? base64 : At(update, "keys");
  for (std::size_t i = 0; i < keys.size(); ++i) {
    SecretBytes line = SecretBytes::CopyOf(StrCat("Key ", i + 1, ": "));
    line.Append(PrintValue(keys[i]).view());
    console.Line(line.view());
  }
  console.Line(StrCat("\nOperation nonce: ", TextAt(update, "nonce")));
  const std::int64_t shares = IntegerAt(status, "n"), threshold = IntegerAt(status, "t");
  if (!TrueAt(status, "verification_required")) {
    console.Line(StrCat(
        "\n", Wrapped(StrCat("Vault unseal keys rekeyed with ", shares, " key shares and a key "
                             "threshold of ", threshold, ". Please securely distribute the key shares printed "
                             "above. When Vault is re-sealed, restarted, or stopped, you must supply "
                             "at least ", threshold, " of these keys to unseal it before it can start "
                             "servicing requests."))));
    return kDone;
  }
  console.Line(StrCat(
      "\n", Wrapped(StrCat("Vault has created a new unseal key, split into ", shares, " key shares and "
                           "a key threshold of ", threshold, ". These will not be active until after "
                           "verification is complete. Please securely distribute the key shares "
                           "printed above. When Vault is re-sealed, restarted, or stopped, you must "
                           "supply at least ", threshold, " of these keys to unseal it before it can "
                           "start servicing requests."))));
  console.Line("");
  console.Warn(Wrapped(
      "Again, these key shares are _not_ valid until verification is performed. Do not lose or "
      "discard your current key shares until after verification is complete or you will be unable "
      "to unseal Vault. If you cancel the rekey process or seal Vault before verification is "
      "complete the new shares will be discarded and the current shares will remain valid."));
  console.Line("");
  console.Warn("The current verification status, including initial nonce, is shown below.");
  console.Line("");
  return ShowStatus(session, true);
}

int Provide(Session& session, bool verify) {
  const absl::StatusOr<Json> status = ReadStatus(session, verify);
  if (!status.ok()) return session.Fail("Error getting rekey status", status.status());
  if (!TrueAt(*status, "started")) {
    return session.Refuse(
        Wrapped("No rekey is in progress. Start a rekey process by running \"vault operator rekey "
                "-init\"."));
  }
  const std::string_view arg = session.args.empty() ? "" : std::string_view(session.args[0]);
  const std::string current(TextAt(*status, "nonce"));
  const std::optional<SecretBytes> key =
      TakeKey(session, arg, StrCat("Rekey operation nonce: ", current, "\n"));
  if (!key) return kUsageError;
  // Who is asked for a key sees the nonce; who hands one over must know it.
  const std::string nonce =
      arg.empty() && !session.flags.given("nonce") ? current : std::string(session.flags.text("nonce"));
  if (nonce.empty()) {
    return session.Refuse("Missing nonce value: specify it via the -nonce flag");
  }
  const absl::StatusOr<Json> update =
      session.api->Write(verify ? "sys/rekey/verify" : "sys/rekey/update",
                         Json{{"key", Json::string_t(key->view())}, {"nonce", Json::string_t(nonce)}});
  if (!update.ok()) return session.Fail("Error posting unseal key", update.status());
  if (!TrueAt(*update, "complete")) return ShowStatus(session, verify);
  if (!verify) return PrintKeys(session, *update, *status);
  session.console.Line(Wrapped(
      "Rekey verification successful. The rekey operation is complete and the new keys are now "
      "active."));
  return kDone;
}

}  // namespace

int RunRekey(Session& session) {
  if (session.flags.text("target") != "barrier") {
    return session.Refuse(StrCat("Unknown target: ", session.flags.text("target")));
  }
  const bool verify = session.flags.on("verify");
  if (session.flags.on("cancel")) return Cancel(session, verify);
  if (session.flags.on("init")) return Start(session, verify);
  if (session.flags.on("status")) return ShowStatus(session, verify);
  return Provide(session, verify);
}

}  // namespace coffer::cli
