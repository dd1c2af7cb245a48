// lease: lookup, renew, revoke.
#include "cli/output.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

int Lookup(Session& session) {
  const std::string id(Trim(session.args[0]));
  const absl::StatusOr<Json> secret =
      session.api->Write("sys/leases/lookup", Json{{"lease_id", Json::string_t(id)}});
  if (!secret.ok()) return session.Fail(StrCat("error looking up lease id ", id), secret.status());
  return PrintAnswer(session, *secret);
}

int Renew(Session& session) {
  const std::string id(Trim(session.args[0]));
  Json body = {{"lease_id", Json::string_t(id)}};
  if (session.flags.given("increment")) {
    body["increment"] = absl::ToInt64Seconds(session.flags.duration("increment"));
  }
  const absl::StatusOr<Json> secret = session.api->Write("sys/leases/renew", body);
  if (!secret.ok()) return session.Fail(StrCat("Error renewing ", id), secret.status());
  return PrintSecret(session, *secret);
}

int Revoke(Session& session) {
  const std::string id(Trim(session.args[0]));
  const bool force = session.flags.on("force"), prefix = session.flags.on("prefix"),
             sync = session.flags.on("sync");
  if (force && !prefix) return session.Refuse("Specifying -force requires also specifying -prefix");
  if (force) {
    session.console.Warn(Wrapped(
        "Warning! Force-removing leases can cause Vault to become out of sync with secret engines!"));
  }
  std::string path = prefix ? StrCat("sys/leases/revoke-", force ? "force/" : "prefix/", id)
                            : "sys/leases/revoke";
  Json body = Json::object();
  if (!force) body["sync"] = sync;
  if (!prefix) body["lease_id"] = Json::string_t(id);
  const absl::StatusOr<Json> answer = session.api->Write(std::move(path), body);
  if (!answer.ok()) {
    return session.Fail(StrCat("Error ", force ? "force " : "",
                               prefix ? "revoking leases with prefix " : "revoking lease ", id),
                        answer.status());
  }
  session.console.Line(force ? StrCat("Success! Force revoked any leases with prefix: ", id)
                       : sync && prefix ? StrCat("Success! Revoked any leases with prefix: ", id)
                       : sync           ? StrCat("Success! Revoked lease: ", id)
                                        : "All revocation operations queued successfully!");
  return kDone;
}

}  // namespace

std::vector<Command> LeaseCommands() {
  return {
      {.name = "lease lookup",
       .synopsis = "Lookup the lease of a secret",
       .usage = "ID",
       .help = "Prints when a lease was made, renewed, and ends.",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFields,
       .run = Lookup},
      {.name = "lease renew",
       .synopsis = "Renews the lease of a secret",
       .usage = "[options] ID",
       .help = "Renews a lease, so that its secret stays valid.",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFormats,
       .flags = {{"increment", FlagType::kDuration, "How long the lease shall last from now on.", "",
                  "i"}},
       .run = Renew},
      {.name = "lease revoke",
       .synopsis = "Revokes leases and secrets",
       .usage = "[options] ID",
       .help = "Revokes a lease and with it its secret.",
       .min_args = 1,
       .max_args = 1,
       .flags = {{"force", FlagType::kSwitch,
                  "Forget the lease even if its secret can't be revoked. Needs -prefix.", "", "f"},
                 {"prefix", FlagType::kSwitch, "Revoke all leases whose ID begins so."},
                 {"sync", FlagType::kSwitch, "Wait until it is done."}},
       .run = Revoke},
  };
}

}  // namespace coffer::cli
