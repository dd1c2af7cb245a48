#include "cli/kv_path.h"

#include "cli/output.h"
#include "cli/values.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

// Parts joined by single slashes, without one at the ends.
std::string Join(std::initializer_list<std::string_view> parts) {
  std::string path;
  for (std::string_view part : parts) {
    part = SanitizePath(part);
    if (!part.empty()) StrAppend(&path, path.empty() ? "" : "/", part);
  }
  return path;
}

}  // namespace

const Flag kMountFlag = {
    "mount", FlagType::kText,
    "Specifies the path where the KV backend is mounted. If specified, the next argument will be "
    "interpreted as the secret path. If this flag is not specified, the next argument will be "
    "interpreted as the combined mount path and secret path, with /data/ automatically inserted for "
    "KV v2 secrets."};

const Flag kVersionsFlag = {"versions", FlagType::kTexts,
                            "The version numbers, separated by commas or given more than once."};

std::string KvPath::Api(std::string_view kind) const {
  if (!v2) return path;
  std::string_view key = path;
  if (WithSlash(key) == mount) {
    key = {};
  } else if (key.starts_with(mount)) {
    key.remove_prefix(mount.size());
  }
  return Join({mount, kind, key});
}

absl::StatusOr<KvPath> ResolveKvPath(Session& session, std::string_view key) {
  const std::string_view mount = SanitizePath(session.flags.text("mount"));
  KvPath found;
  found.path = Join({mount, key});
  const std::string asked(mount.empty() ? std::string_view(found.path) : mount);
  const absl::StatusOr<Json> answer =
      session.api->Call({.method = "GET",
                         .path = StrCat("sys/internal/ui/mounts/", asked),
                         .preflight = true});
  // Servers without the endpoint know version 1 alone.
  if (absl::IsNotFound(answer.status())) return found;
  if (absl::IsPermissionDenied(answer.status()) && session.api->shows()) {
    return absl::PermissionDeniedError(
        StrCat("This output flag requires the success of a preflight request\nto determine the "
               "version of a KV secrets engine. Please\nre-run this command with a token with read "
               "access to ", asked));
  }
  RETURN_IF_ERROR(answer.status());
  const Json& data = At(*answer, "data");
  found.mount = WithSlash(TextAt(data, "path"));
  found.v2 = TextAt(At(data, "options"), "version") == "2";
  return found;
}

Json KvVersions(const Flags& flags) {
  Json versions = Json::array();
  for (const std::string& list : flags.texts("versions")) {
    for (std::string_view version : Split(list, ',')) {
      if (!Trim(version).empty()) versions.push_back(Json::string_t(Trim(version)));
    }
  }
  return versions;
}

int PrintKvWritten(Session& session, const Json& secret, std::string_view path) {
  if (secret.is_null() || !session.flags.text("field").empty() || !session.table() ||
      At(secret, "wrap_info").is_object()) {
    return PrintWritten(session, secret, path);
  }
  PrintWarnings(session, secret);
  PrintPath(session, "Secret Path", path);
  session.console.Line(HeaderFor("Metadata", At(secret, "data")));
  return PrintMap(session, At(secret, "data"));
}

}  // namespace coffer::cli
