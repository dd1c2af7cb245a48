// operator generate-root: a state machine on the server; each call is one step of it. The token comes
// back XORed with a one-time password that only the person who started holds.
#include "cli/operator.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/values.h"
#include "common/random.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr std::string_view kOrder[] = {"nonce", "started", "progress", "required", "complete",
                                       "encoded_token", "encoded_root_token", "pgp_fingerprint",
                                       "otp", "otp_length"};
constexpr std::string_view kPath = "sys/generate-root/attempt";

absl::StatusOr<Json> ReadStatus(Session& session) {
  return session.api->Call({.method = "GET", .path = std::string(kPath)});
}

int FailStatus(Session& session, const absl::Status& status) {
  return session.Fail("Error getting root generation status", status);
}

int PrintStatus(Session& session, const Json& status) {
  if (!session.table()) return PrintDocument(session, status, kOrder);
  Table table;
  table.Add("Nonce", TextAt(status, "nonce"));
  table.Add("Started", TrueAt(status, "started") ? "true" : "false");
  table.Add("Progress",
            StrCat(IntegerAt(status, "progress"), "/", IntegerAt(status, "required")));
  table.Add("Complete", TrueAt(status, "complete") ? "true" : "false");
  const std::string_view token = TextAt(status, "encoded_token");
  const std::string_view root = TextAt(status, "encoded_root_token");
  if (!token.empty()) {
    table.Add("Encoded Token", token);
  } else if (!root.empty()) {
    table.Add("Encoded Root Token", root);
  }
  if (!TextAt(status, "otp").empty()) {
    session.console.Warn(Wrapped(
        "A One-Time-Password has been generated for you and is shown in the OTP field. You will need "
        "this value to decode the resulting root token, so keep it safe."));
    table.Add("OTP", TextAt(status, "otp"));
  }
  if (IntegerAt(status, "otp_length") != 0) {
    table.Add("OTP Length", StrCat(IntegerAt(status, "otp_length")));
  }
  session.console.Line(table.Print().view());
  return kDone;
}

int GenerateOtp(Session& session) {
  const absl::StatusOr<Json> status = ReadStatus(session);
  if (!status.ok()) return FailStatus(session, status.status());
  const std::int64_t length = IntegerAt(*status, "otp_length");
  if (length <= 0 || length > 4096) {
    return session.Fail(StrCat("The server asks for a one-time password of ", length,
                               " characters: is it a Vault server?"));
  }
  const SecretBytes otp = RandomBase62(static_cast<std::size_t>(length));
  if (!session.table()) {
    return PrintDocument(session, Json{{"otp", Json::string_t(otp.view())}, {"otp_length", length}});
  }
  session.console.Value(otp.view());
  return kDone;
}

int Decode(Session& session) {
  const std::string_view otp = session.flags.text("otp");
  if (otp.empty()) return session.Refuse("Missing otp: use -otp to supply it");
  SecretBytes encoded = SecretBytes::CopyOf(session.flags.text("decode"));
  if (encoded.view() == "-") {
    absl::StatusOr<SecretBytes> text = session.console.ReadAll();
    if (!text.ok()) return session.Refuse(Message(text.status()));
    encoded = SecretBytes::CopyOf(Trim(text->view()));
    if (encoded.empty()) {
      return session.Refuse(
          "Missing encoded value. When using -decode=\"-\" value must be passed via stdin.");
    }
  }
  absl::StatusOr<SecretBytes> token = DecodeBase64(encoded.view());
  if (!token.ok()) {
    return session.Refuse("Error decoding root token: the encoded value is no base64");
  }
  if (token->size() != otp.size()) {
    return session.Refuse(StrCat("Error decoding root token: the encoded value has ", token->size(),
                                 " bytes and the one-time password ", otp.size()));
  }
  for (std::size_t i = 0; i < otp.size(); ++i) token->data()[i] ^= static_cast<std::uint8_t>(otp[i]);
  if (!session.table()) {
    return PrintDocument(session, Json{{"token", Json::string_t(token->view())}});
  }
  session.console.Value(token->view());
  return kDone;
}

int Start(Session& session) {
  Json body = Json::object();
  if (session.flags.given("otp")) body["otp"] = Json::string_t(session.flags.text("otp"));
  const absl::StatusOr<Json> status = session.api->Write(std::string(kPath), body);
  if (!status.ok()) return session.Fail("Error initializing root generation", status.status());
  return PrintStatus(session, *status);
}

int Cancel(Session& session) {
  const absl::StatusOr<Json> answer = session.api->Delete(std::string(kPath));
  if (!answer.ok()) return session.Fail("Error canceling root token generation", answer.status());
  session.console.Line("Success! Root token generation canceled (if it was started)");
  return kDone;
}

int Provide(Session& session) {
  const absl::StatusOr<Json> status = ReadStatus(session);
  if (!status.ok()) return FailStatus(session, status.status());
  if (!TrueAt(*status, "started")) {
    session.console.Error(
        Wrapped("No root generation is in progress. Start a root generation by running \"vault "
                "operator generate-root -init\"."));
    session.console.Warn(Wrapped(StrCat(
        "If starting root generation using the OTP method and generating your own OTP, the length of "
        "the OTP string needs to be ", IntegerAt(*status, "otp_length"), " characters in length.")));
    return kUsageError;
  }
  const std::string_view arg = session.args.empty() ? "" : std::string_view(session.args[0]);
  const std::string current(TextAt(*status, "nonce"));
  const std::optional<SecretBytes> key =
      TakeKey(session, arg, StrCat("Operation nonce: ", current, "\n"));
  if (!key) return kUsageError;
  const std::string nonce =
      arg.empty() && !session.flags.given("nonce") ? current : std::string(session.flags.text("nonce"));
  if (nonce.empty()) {
    return session.Refuse("Missing nonce value: specify it via the -nonce flag");
  }
  const absl::StatusOr<Json> update = session.api->Write(
      "sys/generate-root/update",
      Json{{"key", Json::string_t(key->view())}, {"nonce", Json::string_t(nonce)}});
  if (!update.ok()) return session.Fail("Error posting unseal key", update.status());
  return PrintStatus(session, *update);
}

}  // namespace

int RunGenerateRoot(Session& session) {
  const Flags& flags = session.flags;
  if (flags.on("generate-otp")) return GenerateOtp(session);
  if (flags.given("decode")) return Decode(session);
  if (flags.on("cancel")) return Cancel(session);
  if (flags.on("init")) return Start(session);
  if (!flags.on("status")) return Provide(session);
  const absl::StatusOr<Json> status = ReadStatus(session);
  return status.ok() ? PrintStatus(session, *status) : FailStatus(session, status.status());
}

}  // namespace coffer::cli
