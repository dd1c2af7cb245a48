// kv: get, put, list, delete, undelete, destroy and enable-versioning.
#include "cli/arguments.h"
#include "cli/kv_path.h"
#include "cli/output.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {

int RunKvPatch(Session& session);     // kv_change.cc
int RunKvRollback(Session& session);  // kv_change.cc

namespace {

int Put(Session& session) {
  if (session.args.size() == 1) return session.Refuse("Must supply data");
  absl::StatusOr<Json> data = ParseData(std::span(session.args).subspan(1), session.console);
  if (!data.ok()) {
    return session.Refuse(StrCat("Failed to parse K=V data: ", Message(data.status())));
  }
  const absl::StatusOr<KvPath> key = ResolveKvPath(session, session.args[0]);
  if (!key.ok()) return session.Fail(key.status());
  Json body = *std::move(data);
  if (key->v2) {
    Json options = Json::object();
    if (session.flags.integer("cas") > -1) options["cas"] = session.flags.integer("cas");
    body = Json{{"data", std::move(body)}, {"options", std::move(options)}};
  }
  const std::string path = key->Api("data");
  const absl::StatusOr<Json> secret = session.api->Write(path, body);
  if (!secret.ok()) {
    return session.Fail(StrCat("Error writing data to ", path), secret.status());
  }
  return PrintKvWritten(session, *secret, path);
}

int PrintGotten(Session& session, const Json& secret, const KvPath& key, const std::string& path) {
  const Json& data = key.v2 ? At(At(secret, "data"), "data") : At(secret, "data");
  const std::string_view field = session.flags.text("field");
  if (!field.empty()) {
    if (!key.v2) return PrintFieldOfSecret(session, secret, field);
    if (data.is_null()) return session.Fail(StrCat("No data found at ", session.args[0]));
    if (field == "data" && !data.contains("data")) {
      return PrintFieldOfSecret(session, secret, field);
    }
    return PrintFieldOfMap(session, data, field);
  }
  if (!session.table() || At(secret, "wrap_info").is_object()) return PrintSecret(session, secret);
  PrintWarnings(session, secret);
  if (key.v2) {
    PrintPath(session, "Secret Path", path);
    const Json& metadata = At(At(secret, "data"), "metadata");
    if (metadata.is_object()) {
      session.console.Line(HeaderFor("Metadata", metadata));
      PrintMap(session, metadata);
      session.console.Line("");
    }
  }
  if (!data.is_object()) return kDone;
  session.console.Line(HeaderFor("Data", data));
  return PrintMap(session, data);
}

int Get(Session& session) {
  const absl::StatusOr<KvPath> key = ResolveKvPath(session, session.args[0]);
  if (!key.ok()) return session.Fail(key.status());
  const std::string path = key->Api("data");
  Query query;
  const std::int64_t version = session.flags.integer("version");
  if (key->v2 && version > 0) query.emplace_back("version", StrCat(version));
  const absl::StatusOr<Json> secret = session.api->Read(path, std::move(query));
  if (!secret.ok()) return session.Fail(StrCat("Error reading ", path), secret.status());
  if (secret->is_null()) return session.Fail(StrCat("No value found at ", path));
  return PrintGotten(session, *secret, *key, path);
}

int List(Session& session) {
  // Without a key: the mount that -mount names.
  if (session.args.empty() && session.flags.text("mount").empty()) {
    return session.Refuse("Not enough arguments (expected 1, got 0)");
  }
  const std::string_view arg = session.args.empty() ? "" : std::string_view(session.args[0]);
  const absl::StatusOr<KvPath> key = ResolveKvPath(session, arg);
  if (!key.ok()) return session.Fail(key.status());
  const std::string path = key->Api("metadata");
  return PrintKeysBelow(session, path);
}

int Delete(Session& session) {
  const absl::StatusOr<KvPath> key = ResolveKvPath(session, session.args[0]);
  if (!key.ok()) return session.Fail(key.status());
  const Json versions = KvVersions(session.flags);
  const std::string path = key->Api("data");
  absl::StatusOr<Json> secret;
  if (key->v2 && !versions.empty()) {
    secret = session.api->Write(key->Api("delete"), Json{{"versions", versions}});
  } else {
    secret = session.api->Delete(path);
  }
  if (!secret.ok()) return session.Fail(StrCat("Error deleting ", path), secret.status());
  if (!secret->is_null() && !session.table()) return PrintSecret(session, *secret);
  if (!secret->is_null()) PrintWarnings(session, *secret);
  if (session.table()) {
    session.console.Line(StrCat("Success! Data deleted (if it existed) at: ", path));
  }
  return kDone;
}

// undelete and destroy: both write the list of versions to an endpoint of their own name.
int ChangeVersions(Session& session, std::string_view kind, std::string_view title) {
  const Json versions = KvVersions(session.flags);
  if (versions.empty()) {
    return session.Refuse("No versions provided, use the \"-versions\" flag to specify the version "
                          "to act on.");
  }
  const absl::StatusOr<KvPath> key = ResolveKvPath(session, session.args[0]);
  if (!key.ok()) return session.Fail(key.status());
  if (!key->v2) return session.Refuse(StrCat(title, " not supported on KV Version 1"));
  const std::string path = key->Api(kind);
  const absl::StatusOr<Json> secret = session.api->Write(path, Json{{"versions", versions}});
  if (!secret.ok()) {
    return session.Fail(StrCat("Error writing data to ", path), secret.status());
  }
  return PrintWritten(session, *secret, path);
}

int Undelete(Session& session) { return ChangeVersions(session, "undelete", "Undelete"); }
int Destroy(Session& session) { return ChangeVersions(session, "destroy", "Destroy"); }

int EnableVersioning(Session& session) {
  const std::string path = WithSlash(SanitizePath(session.args[0]));
  const Json body = {{"options", {{"version", "2"}}}};
  const absl::StatusOr<Json> answer = session.api->Call(
      {.method = "POST", .path = StrCat("sys/mounts/", path, "tune"), .body = &body});
  if (!answer.ok()) {
    return session.Fail(StrCat("Error tuning secrets engine ", path), answer.status());
  }
  session.console.Line(StrCat("Success! Tuned the secrets engine at: ", path));
  return kDone;
}

}  // namespace

std::vector<Command> KvCommands() {
  const Flag cas = {"cas", FlagType::kInteger,
                    "Check-and-set: the write is allowed only if the key's current version is this "
                    "one; 0 only if the key doesn't exist.",
                    "-1"};
  return {
      {.name = "kv put",
       .synopsis = "Sets or updates data in the KV store",
       .usage = "[options] KEY [DATA]",
       .help = "Writes the data to the given path in the key-value store. The data can be of any "
               "type: K=V pairs, K=@file, K=- for standard input, @file or - for a JSON object.\n"
               "    $ vault kv put -mount=secret foo bar=baz\n"
               "    $ vault kv put secret/foo @data.json",
       .min_args = 1,
       .max_args = kAnyNumber,
       .prints = Prints::kFields,
       .flags = {cas, kMountFlag},
       .run = Put},
      {.name = "kv get",
       .synopsis = "Retrieves data from the KV store",
       .usage = "[options] KEY",
       .help = "Retrieves the value at the given key name. If no key exists with that name, an error "
               "is returned. If a key exists with that name but has no data, nothing is returned.\n"
               "    $ vault kv get -mount=secret foo\n"
               "    $ vault kv get -version=1 secret/foo",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFields,
       .flags = {{"version", FlagType::kInteger, "The version to read; the newest if not given."},
                 kMountFlag},
       .run = Get},
      {.name = "kv list",
       .synopsis = "List data or secrets",
       .usage = "[options] PATH",
       .help = "Lists the names of keys at the given path. Folders end with /. The values are not "
               "shown.\n    $ vault kv list secret/my-app/",
       .min_args = 0,
       .max_args = 1,
       .prints = Prints::kFormats,
       .flags = {kMountFlag},
       .run = List},
      {.name = "kv delete",
       .synopsis = "Deletes versions in the KV store",
       .usage = "[options] PATH",
       .help = "Deletes the data for the provided version and path. The versioned data will not be "
               "fully removed, but marked as deleted and will no longer be returned in normal get "
               "requests.\n    $ vault kv delete -versions=3 secret/foo",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFormats,
       .flags = {kVersionsFlag, kMountFlag},
       .run = Delete},
      {.name = "kv undelete",
       .synopsis = "Undeletes versions in the KV store",
       .usage = "[options] KEY",
       .help = "Undeletes the data for the provided versions and path, so that get requests return "
               "it again.\n    $ vault kv undelete -versions=3 secret/foo",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFormats,
       .flags = {kVersionsFlag, kMountFlag},
       .run = Undelete},
      {.name = "kv destroy",
       .synopsis = "Permanently removes one or more versions in the KV store",
       .usage = "[options] KEY",
       .help = "Permanently removes the data of the given versions. It can't be undone.\n"
               "    $ vault kv destroy -versions=3 secret/foo",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFormats,
       .flags = {kVersionsFlag, kMountFlag},
       .run = Destroy},
      {.name = "kv patch",
       .synopsis = "Sets or updates data in the KV store without overwriting",
       .usage = "[options] KEY [DATA]",
       .help = "Merges the data into what the key holds. By default an HTTP PATCH is tried and, where "
               "it isn't allowed, a read and a write.\n"
               "    $ vault kv patch -mount=secret foo bar=baz",
       .min_args = 1,
       .max_args = kAnyNumber,
       .prints = Prints::kFields,
       .flags = {cas,
                 {"method", FlagType::kText,
                  "\"patch\": an HTTP PATCH and nothing else. \"rw\": a read, a local change, a "
                  "write. Default: patch, then rw if patch is refused."},
                 {"remove-data", FlagType::kTexts,
                  "Key to remove from the data. Can be given more than once."},
                 kMountFlag},
       .run = RunKvPatch},
      {.name = "kv rollback",
       .synopsis = "Rolls back to a previous version of data",
       .usage = "[options] KEY",
       .help = "Restores a given previous version to the current version at the given path, as a new "
               "version.\n    $ vault kv rollback -version=2 secret/foo",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFields,
       .flags = {{"version", FlagType::kInteger, "The version to make the newest again."},
                 kMountFlag},
       .run = RunKvRollback},
      {.name = "kv enable-versioning",
       .synopsis = "Turns on versioning for a KV store",
       .usage = "[options] MOUNT",
       .help = "Turns on versioning for a version 1 store at the given path.\n"
               "    $ vault kv enable-versioning secret",
       .min_args = 1,
       .max_args = 1,
       .run = EnableVersioning},
  };
}

}  // namespace coffer::cli
