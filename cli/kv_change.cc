// kv patch and kv rollback: writes that build on what the key holds.
#include "cli/arguments.h"
#include "cli/kv_path.h"
#include "cli/output.h"
#include "cli/values.h"
#include "common/status_macros.h"
#include "common/status_prefix.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

struct Stored {
  Json data, metadata;
};

// Reads what a change builds on. The message says what is missing.
absl::StatusOr<Stored> ReadStored(Session& session, const std::string& path, Query query,
                                  std::string_view command) {
  absl::StatusOr<Json> secret = session.api->Call({.method = "GET",
                                                   .path = path,
                                                   .query = std::move(query),
                                                   .preflight = true,
                                                   .null_if_missing = true});
  if (!secret.ok()) {
    return Prefixed(StrCat("Error doing pre-read at ", path), secret.status());
  }
  const Json& data = At(*secret, "data");
  if (!data.is_object()) return absl::NotFoundError(StrCat("No value found at ", path));
  if (!At(data, "metadata").is_object()) {
    return absl::NotFoundError(
        StrCat("No metadata found at ", path, "; ", command, " only works on existing data"));
  }
  return Stored{At(data, "data"), At(data, "metadata")};
}

absl::StatusOr<Json> WriteVersion(Session& session, const std::string& path, Json data,
                                  const Json& cas) {
  const Json body = {{"data", std::move(data)}, {"options", {{"cas", cas}}}};
  absl::StatusOr<Json> secret = session.api->Write(path, body);
  if (secret.ok()) return secret;
  return absl::Status(
      secret.status().code(),
      ToAbsl(StrCat("Error writing data to ", path, ": ", Message(secret.status()))));
}

absl::StatusOr<Json> ReadThenWrite(Session& session, const std::string& path, const Json& changes) {
  ASSIGN_OR_RETURN(Stored stored, ReadStored(session, path, {}, "patch"));
  if (!stored.data.is_object()) {
    return absl::NotFoundError(
        StrCat("No data found at ", path, "; patch only works on existing data"));
  }
  stored.data.merge_patch(changes);
  return WriteVersion(session, path, std::move(stored.data), At(stored.metadata, "version"));
}

absl::StatusOr<Json> MergePatch(Session& session, const std::string& path, const Json& changes,
                                bool fall_back) {
  Json options = Json::object();
  if (session.flags.integer("cas") > 0) options["cas"] = session.flags.integer("cas");
  const Json body = {{"data", changes}, {"options", std::move(options)}};
  absl::StatusOr<Json> secret =
      session.api->Call({.method = "PATCH",
                         .path = path,
                         .body = &body,
                         .content_type = "application/merge-patch+json"});
  if (secret.ok() || absl::IsCancelled(secret.status())) return secret;
  if (fall_back && absl::IsUnimplemented(secret.status())) {
    return ReadThenWrite(session, path, changes);
  }
  if (fall_back && absl::IsPermissionDenied(secret.status())) {
    absl::StatusOr<Json> written = ReadThenWrite(session, path, changes);
    if (written.ok()) {
      session.console.Warn(StrCat("Data was written to ", path, " but we recommend that you add the "
                                  "\"patch\" capability to your ACL policy in order to use HTTP "
                                  "PATCH in the future."));
    }
    return written;
  }
  return absl::Status(
      secret.status().code(),
      ToAbsl(StrCat("Error writing data to ", path, ": ", Message(secret.status()))));
}

}  // namespace

int RunKvPatch(Session& session) {
  const std::vector<std::string>& removed = session.flags.texts("remove-data");
  if (session.args.size() == 1 && removed.empty()) return session.Refuse("Must supply data");
  absl::StatusOr<Json> changes = ParseData(std::span(session.args).subspan(1), session.console);
  if (!changes.ok()) {
    return session.Refuse(StrCat("Failed to parse K=V data: ", Message(changes.status())));
  }
  for (const std::string& key : removed) (*changes)[Json::string_t(key)] = nullptr;
  const std::string_view method = session.flags.text("method");
  if (method != "" && method != "rw" && method != "patch") {
    return session.Fail(StrCat("Unsupported method provided to -method flag: ", method));
  }
  const absl::StatusOr<KvPath> key = ResolveKvPath(session, session.args[0]);
  if (!key.ok()) return session.Fail(key.status());
  if (!key->v2) return session.Fail("K/V engine mount must be version 2 for patch support");
  const std::string path = key->Api("data");
  const absl::StatusOr<Json> secret =
      method == "rw" ? ReadThenWrite(session, path, *changes)
                     : MergePatch(session, path, *changes, method.empty());
  if (!secret.ok()) return session.Fail(secret.status());
  return PrintKvWritten(session, *secret, path);
}

int RunKvRollback(Session& session) {
  if (!session.flags.given("version")) {
    return session.Refuse("Version flag must be specified");
  }
  const std::int64_t version = session.flags.integer("version");
  if (version <= 0) {
    return session.Refuse(StrCat("Invalid value ", version, " for the version flag"));
  }
  const absl::StatusOr<KvPath> key = ResolveKvPath(session, session.args[0]);
  if (!key.ok()) return session.Fail(key.status());
  if (!key->v2) return session.Fail("K/V engine mount must be version 2 for rollback support");
  const std::string path = key->Api("data");

  // The newest version's number keeps another write from being lost between read and write.
  const absl::StatusOr<Stored> newest = ReadStored(session, path, {}, "rollback");
  if (!newest.ok()) return session.Fail(newest.status());
  absl::StatusOr<Stored> old =
      ReadStored(session, path, {{"version", StrCat(version)}}, "rollback");
  if (!old.ok()) return session.Fail(old.status());
  if (TrueAt(old->metadata, "destroyed")) {
    return session.Fail("Cannot roll back to a version that has been destroyed");
  }
  if (!old->data.is_object()) {
    return session.Fail("Cannot roll back to a version that has been deleted");
  }
  const absl::StatusOr<Json> secret =
      WriteVersion(session, path, std::move(old->data), At(newest->metadata, "version"));
  if (!secret.ok()) return session.Fail(secret.status());
  return PrintWritten(session, *secret, path);
}

}  // namespace coffer::cli
