// kv metadata: get, put, patch and delete.
#include "cli/kv_path.h"
#include "cli/output.h"
#include "cli/values.h"
#include "common/duration.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

// The key, where its mount is of version 2; otherwise prints why not and gives the exit code.
std::optional<KvPath> Resolve(Session& session, int* code) {
  absl::StatusOr<KvPath> key = ResolveKvPath(session, session.args[0]);
  if (!key.ok()) {
    *code = session.Fail(key.status());
  } else if (!key->v2) {
    *code = session.Refuse("Metadata not supported on KV Version 1");
  } else {
    return *std::move(key);
  }
  return std::nullopt;
}

// "10" follows "9".
bool VersionBefore(std::string_view a, std::string_view b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

int PrintMetadata(Session& session, Json secret, const std::string& path) {
  PrintWarnings(session, secret);
  Json data = At(secret, "data");
  const Json versions = At(data, "versions");
  data.erase("versions");
  PrintPath(session, "Metadata Path", path);
  session.console.Line(HeaderFor("Metadata", data));
  PrintMap(session, data);

  std::vector<std::string> numbers;
  for (const auto& [number, version] : versions.items()) {
    numbers.emplace_back(std::string_view(number));
  }
  std::sort(numbers.begin(), numbers.end(), VersionBefore);
  for (const std::string& number : numbers) {
    const Json& version = At(versions, number);
    session.console.Line(StrCat("\n", HeaderFor(StrCat("Version ", number), version)));
    PrintMap(session, version);
  }
  return kDone;
}

int Get(Session& session) {
  int code = kDone;
  const std::optional<KvPath> key = Resolve(session, &code);
  if (!key) return code;
  const std::string path = key->Api("metadata");
  absl::StatusOr<Json> secret = session.api->Read(path);
  if (!secret.ok()) return session.Fail(StrCat("Error reading ", path), secret.status());
  if (secret->is_null()) return session.Fail(StrCat("No value found at ", path));
  if (!session.flags.text("field").empty() || !session.table() ||
      !At(At(*secret, "data"), "versions").is_object()) {
    return PrintAnswer(session, *secret);
  }
  return PrintMetadata(session, *std::move(secret), path);
}

// The members that flags ask to set; what isn't given isn't sent.
Json Changes(const Flags& flags) {
  Json data = Json::object();
  if (flags.given("max-versions") && flags.integer("max-versions") >= 0) {
    data["max_versions"] = flags.integer("max-versions");
  }
  if (flags.given("cas-required")) data["cas_required"] = flags.on("cas-required");
  if (flags.given("delete-version-after") &&
      flags.duration("delete-version-after") >= absl::ZeroDuration()) {
    data["delete_version_after"] =
        Json::string_t(FormatGoDuration(flags.duration("delete-version-after")));
  }
  for (const auto& [name, value] : flags.pairs("custom-metadata")) {
    data["custom_metadata"][Json::string_t(name)] = Json::string_t(value);
  }
  for (const std::string& name : flags.texts("remove-custom-metadata")) {
    data["custom_metadata"][Json::string_t(name)] = nullptr;
  }
  return data;
}

int Change(Session& session, std::string_view method, std::string_view content_type) {
  int code = kDone;
  const std::optional<KvPath> key = Resolve(session, &code);
  if (!key) return code;
  const std::string path = key->Api("metadata");
  const Json body = Changes(session.flags);
  const absl::StatusOr<Json> secret = session.api->Call(
      {.method = method, .path = path, .body = &body, .content_type = content_type});
  if (!secret.ok()) {
    return session.Fail(StrCat("Error writing data to ", path), secret.status());
  }
  return PrintWritten(session, *secret, path);
}

int Put(Session& session) { return Change(session, "PUT", "application/json"); }
int Patch(Session& session) { return Change(session, "PATCH", "application/merge-patch+json"); }

int Delete(Session& session) {
  int code = kDone;
  const std::optional<KvPath> key = Resolve(session, &code);
  if (!key) return code;
  const std::string path = key->Api("metadata");
  const absl::StatusOr<Json> secret = session.api->Delete(path);
  if (!secret.ok()) return session.Fail(StrCat("Error deleting ", path), secret.status());
  if (!secret->is_null()) PrintWarnings(session, *secret);
  session.console.Line(StrCat("Success! Data deleted (if it existed) at: ", path));
  return kDone;
}

}  // namespace

std::vector<Command> KvMetadataCommands() {
  const std::vector<Flag> change = {
      {"cas-required", FlagType::kSwitch,
       "If true, all writes of the key must come with -cas. If not set, the mount's setting counts."},
      {"max-versions", FlagType::kInteger,
       "The number of versions to keep. If not set, the mount's setting counts.", "-1"},
      {"delete-version-after", FlagType::kDuration,
       "How long after its creation a version is deleted; 0s never.", "-1"},
      {"custom-metadata", FlagType::kPairs,
       "Key-value pair that describes the key. Can be given more than once."},
      kMountFlag};
  std::vector<Flag> patch = change;
  patch.push_back({"remove-custom-metadata", FlagType::kTexts,
                   "Name of a pair of custom metadata to remove. Can be given more than once."});
  return {
      {.name = "kv metadata get",
       .synopsis = "Retrieves key metadata from the KV store",
       .usage = "[options] KEY",
       .help = "Retrieves the metadata of a key and of each of its versions.\n"
               "    $ vault kv metadata get secret/foo",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFields,
       .flags = {kMountFlag},
       .run = Get},
      {.name = "kv metadata put",
       .synopsis = "Sets or updates key settings in the KV store",
       .usage = "[options] KEY",
       .help = "Makes a key without versions, or changes the settings of one that is there.\n"
               "    $ vault kv metadata put -max-versions=5 secret/foo",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFormats,
       .flags = change,
       .run = Put},
      {.name = "kv metadata patch",
       .synopsis = "Patches key settings in the KV store",
       .usage = "[options] KEY",
       .help = "Changes only those settings of a key that are given.\n"
               "    $ vault kv metadata patch -max-versions=5 secret/foo",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFormats,
       .flags = patch,
       .run = Patch},
      {.name = "kv metadata delete",
       .synopsis = "Deletes all versions and metadata for a key in the KV store",
       .usage = "[options] PATH",
       .help = "Deletes all versions and metadata of a key. It can't be undone.\n"
               "    $ vault kv metadata delete secret/foo",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFormats,
       .flags = {kMountFlag},
       .run = Delete},
  };
}

}  // namespace coffer::cli
