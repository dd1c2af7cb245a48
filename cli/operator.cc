// operator: init, unseal, seal, and the table of the whole family.
#include "cli/operator.h"

#include "cli/output.h"
#include "cli/seal_status.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr std::string_view kInitOrder[] = {
    "unseal_keys_b64", "unseal_keys_hex", "unseal_shares", "unseal_threshold",
    "recovery_keys_b64", "recovery_keys_hex", "recovery_keys_shares", "recovery_keys_threshold",
    "root_token"};

int InitStatus(Session& session) {
  const absl::StatusOr<Json> answer = session.api->Call({.method = "GET", .path = "sys/init"});
  if (!answer.ok()) return session.Fail("Error checking init status", answer.status());
  const bool initialized = TrueAt(*answer, "initialized");
  if (session.table()) {
    session.console.Line(initialized ? "Vault is initialized" : "Vault is not initialized");
  } else {
    PrintDocument(session, *answer);
  }
  return initialized ? kDone : kApiError;
}

int PrintInit(Session& session, const Json& answer, std::int64_t shares, std::int64_t threshold) {
  const Json& keys = At(answer, "keys_base64");
  if (!session.table()) {
    const auto list = [&](std::string_view name) {
      const Json& value = At(answer, name);
      return value.is_array() ? value : Json(Json::array());
    };
    return PrintDocument(session,
                         Json{{"unseal_keys_b64", list("keys_base64")},
                              {"unseal_keys_hex", list("keys")},
                              {"unseal_shares", shares},
                              {"unseal_threshold", threshold},
                              {"recovery_keys_b64", list("recovery_keys_base64")},
                              {"recovery_keys_hex", list("recovery_keys")},
                              {"recovery_keys_shares", 0},
                              {"recovery_keys_threshold", 0},
                              {"root_token", At(answer, "root_token")}},
                         kInitOrder);
  }
  Console& console = session.console;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    SecretBytes line = SecretBytes::CopyOf(StrCat("Unseal Key ", i + 1, ": "));
    line.Append(PrintValue(keys[i]).view());
    console.Line(line.view());
  }
  SecretBytes root = SecretBytes::CopyOf("\nInitial Root Token: ");
  root.Append(TextAt(answer, "root_token"));
  console.Line(root.view());
  if (keys.empty()) return kDone;
  console.Line(StrCat(
      "\n", Wrapped(StrCat("Vault initialized with ", shares, " key shares and a key threshold of ",
                           threshold, ". Please securely distribute the key shares printed above. "
                           "When the Vault is re-sealed, restarted, or stopped, you must supply at "
                           "least ", threshold, " of these keys to unseal it before it can start "
                           "servicing requests."))));
  console.Line(StrCat("\n", Wrapped(StrCat("Vault does not store the generated root key. Without at "
                                           "least ", threshold, " keys to reconstruct the root key, "
                                           "Vault will remain permanently sealed!"))));
  console.Line(StrCat("\n", Wrapped("It is possible to generate new unseal keys, provided you have a "
                                    "quorum of existing unseal keys shares. See \"vault operator "
                                    "rekey\" for more information.")));
  return kDone;
}

int Init(Session& session) {
  if (session.flags.on("status")) return InitStatus(session);
  const std::int64_t shares = session.flags.integer("key-shares");
  const std::int64_t threshold = session.flags.integer("key-threshold");
  const absl::StatusOr<Json> answer = session.api->Write(
      "sys/init", Json{{"secret_shares", shares}, {"secret_threshold", threshold}});
  if (!answer.ok()) return session.Fail("Error initializing", answer.status());
  return PrintInit(session, *answer, shares, threshold);
}

int Unseal(Session& session) {
  Json body = Json::object();
  if (session.flags.on("reset")) {
    body["reset"] = true;
  } else {
    const std::optional<SecretBytes> key =
        TakeKey(session, session.args.empty() ? "" : session.args[0], "");
    if (!key) return kUsageError;
    body["key"] = Json::string_t(key->view());
  }
  const absl::StatusOr<Json> seal = session.api->Write("sys/unseal", body);
  if (!seal.ok()) {
    return session.Fail(
        session.flags.on("reset") ? "Error resetting unseal process" : "Error unsealing",
        seal.status());
  }
  return PrintSealStatus(session, *seal);
}

int Seal(Session& session) {
  const absl::StatusOr<Json> answer =
      session.api->Call({.method = "PUT", .path = "sys/seal"});
  if (!answer.ok()) return session.Fail("Error sealing", answer.status());
  session.console.Line("Success! Vault is sealed.");
  return kDone;
}

constexpr std::string_view kNoPgp =
    "Not supported: nothing is encrypted to PGP keys here. Leave it out, and encrypt what is printed "
    "yourself, as by gpg --encrypt.";
constexpr std::string_view kNoBackup =
    "Not supported: the server keeps no copy of the shares. Leave it out, and keep them safe.";
constexpr std::string_view kNoRecovery =
    "Not supported: the server is unsealed by shares, so that there are no recovery keys. Leave it "
    "out; -key-shares and -key-threshold are about the shares.";

const std::vector<Flag> kShareFlags = {
    {"pgp-keys", FlagType::kRefused, kNoPgp},
    {"key-shares", FlagType::kInteger,
     "Number of key shares to split the generated root key into: the number of \"unseal keys\".", "5",
     "n"},
    {"key-threshold", FlagType::kInteger,
     "Number of key shares required to reconstruct the root key, at most -key-shares.", "3", "t"}};

std::vector<Flag> WithShares(std::vector<Flag> flags) {
  flags.insert(flags.end(), kShareFlags.begin(), kShareFlags.end());
  return flags;
}

}  // namespace

std::optional<SecretBytes> TakeKey(Session& session, std::string_view arg,
                                   std::string_view question) {
  arg = Trim(arg);
  if (!arg.empty() && arg != "-") return SecretBytes::CopyOf(arg);
  absl::StatusOr<SecretBytes> text =
      arg == "-" ? session.console.ReadAll()
                 : session.console.Ask(StrCat(question, "Unseal Key (will be hidden): "));
  if (text.ok() && !Trim(text->view()).empty()) return SecretBytes::CopyOf(Trim(text->view()));
  session.Refuse(text.ok() ? "No unseal key was given: standard input is empty"
                           : Wrapped(Message(text.status())));
  return std::nullopt;
}

std::vector<Command> OperatorCommands() {
  const std::string_view take_key =
      "An unseal key may be given as an argument, which leaves it in the shell's history; \"-\" reads "
      "it from standard input; without an argument it is asked for.";
  return {
      {.name = "operator init",
       .synopsis = "Initializes a server",
       .usage = "[options]",
       .help = "Initializes a server: makes its storage ready, generates the root key, splits it into "
               "shares, and makes the first root token. It can be done once.\n"
               "    $ vault operator init -key-shares=3 -key-threshold=2",
       .prints = Prints::kFormats,
       .flags = WithShares({{"status", FlagType::kSwitch,
                             "Print whether the server is initialized: exit code 0 if it is, 2 if it "
                             "is not, 1 on error."},
                            {"root-token-pgp-key", FlagType::kRefused, kNoPgp},
                            {"recovery-shares", FlagType::kRefused, kNoRecovery},
                            {"recovery-threshold", FlagType::kRefused, kNoRecovery},
                            {"recovery-pgp-keys", FlagType::kRefused, kNoRecovery}}),
       .run = Init,
       .failure_code = [](const Flags& flags) { return flags.on("status") ? kUsageError : kApiError; }},
      {.name = "operator unseal",
       .synopsis = "Unseals the Vault server",
       .usage = "[options] [KEY]",
       .help = take_key,
       .max_args = 1,
       .prints = Prints::kFormats,
       .flags = {{"reset", FlagType::kSwitch,
                  "Discard any previously entered keys to the unseal process."},
                 {"migrate", FlagType::kRefused,
                  "Not supported: there is no other seal to migrate from. Leave it out."}},
       .run = Unseal},
      {.name = "operator seal",
       .synopsis = "Seals the Vault server",
       .usage = "[options]",
       .help = "Seals the server: it forgets its keys and answers nothing but its status until it is "
               "unsealed again.",
       .run = Seal},
      {.name = "operator rekey",
       .synopsis = "Generates new unseal keys",
       .usage = "[options] [KEY]",
       .help = "Generates a new set of unseal keys by a quorum of the old: start with -init, then give "
               "keys with the -nonce that it printed.\n"
               "    $ vault operator rekey -init -key-shares=15 -key-threshold=9\n"
               "    $ vault operator rekey -nonce=4a4b… KEY",
       .max_args = 1,
       .prints = Prints::kFormats,
       .flags = WithShares({{"init", FlagType::kSwitch, "Start rekeying."},
                            {"cancel", FlagType::kSwitch,
                             "Stop rekeying and discard keys that were given. In its first ten "
                             "minutes it takes the -nonce."},
                            {"status", FlagType::kSwitch, "Print how far rekeying has come."},
                            {"nonce", FlagType::kText, "The nonce that -init printed."},
                            {"verify", FlagType::kSwitch,
                             "With -init: the new keys count only after they were given once; "
                             "otherwise -status, -cancel and keys are about that verification."},
                            {"target", FlagType::kText, "Only \"barrier\".", "barrier"},
                            {"backup", FlagType::kRefused, kNoBackup},
                            {"backup-retrieve", FlagType::kRefused, kNoBackup},
                            {"backup-delete", FlagType::kRefused, kNoBackup}}),
       .run = RunRekey},
      {.name = "operator rotate",
       .synopsis = "Rotates the underlying encryption key",
       .usage = "[options]",
       .help = "Makes a new encryption key for what is written from now on. Old data stays readable.",
       .prints = Prints::kFormats,
       .run = RunRotate},
      {.name = "operator key-status",
       .synopsis = "Provides information about the active encryption key",
       .usage = "[options]",
       .help = "Prints the encryption key's term, when it was installed, and how often it was used.",
       .prints = Prints::kFormats,
       .run = RunKeyStatus},
      {.name = "operator generate-root",
       .synopsis = "Generates a new root token",
       .usage = "[options] [KEY]",
       .help = "Generates a new root token by a quorum of unseal keys: start with -init, give keys with "
               "the -nonce that it printed, and -decode the result with the -otp.\n"
               "    $ vault operator generate-root -init\n"
               "    $ vault operator generate-root -nonce=4a4b… KEY\n"
               "    $ vault operator generate-root -decode=… -otp=…",
       .max_args = 1,
       .prints = Prints::kFormats,
       .flags = {{"init", FlagType::kSwitch, "Start a root token generation."},
                 {"cancel", FlagType::kSwitch,
                  "Stop the generation and discard keys that were given."},
                 {"status", FlagType::kSwitch, "Print how far the generation has come."},
                 {"decode", FlagType::kText,
                  "The encoded token to decode, or \"-\" for standard input. Needs -otp."},
                 {"otp", FlagType::kText, "One-time password for -init or -decode."},
                 {"generate-otp", FlagType::kSwitch,
                  "Print a one-time password that fits -init."},
                 {"nonce", FlagType::kText, "The nonce that -init printed."},
                 {"pgp-key", FlagType::kRefused,
                  "Not supported: the token isn't encrypted to a PGP key. Leave it out: a one-time "
                  "password (-otp) protects it."},
                 {"recovery-token", FlagType::kRefused, kNoRecovery}},
       .run = RunGenerateRoot},
  };
}

}  // namespace coffer::cli
