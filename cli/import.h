// Importer: puts secrets from elsewhere into a kv mount, so that it can be broken off and run again at
// any time: what the mount holds already is the record of what was done. A secret is written with
// check-and-set against what was looked at, so nothing that someone else writes meanwhile is lost.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/command.h"
#include "cli/kv_path.h"

namespace coffer::cli {

// One secret to import.
struct ImportSecret {
  std::string source;          // what it is called where it comes from
  std::string path;            // in the mount
  std::vector<Json> versions;  // contents, the oldest first; at least one
  Json metadata;               // null, or what `kv metadata put` sends: max_versions, custom_metadata, …
  std::string note;            // "": nothing to be said about it
};

class Importer {
 public:
  // Into the mount of the flag -mount. The status is the server's, or says that there is no kv mount.
  static absl::StatusOr<Importer> Open(Session& session);

  bool v2() const { return mount_.v2; }

  // Writes what isn't there yet. There already: the same versions, or the first of them, and then the
  // rest is added. Anything else at the path is a conflict and stays, unless -overwrite is given.
  void Put(const ImportSecret& secret);
  // That it was left out on purpose; that it can't be moved, and why.
  void Skip(std::string_view source, std::string_view why);
  void Fail(std::string_view source, std::string_view path, std::string_view why);

  // Says how far it is; `total` 0: nobody knows of how many.
  void Progress(std::size_t done, std::size_t total);
  // SIGINT or SIGTERM came: what is under way ends, nothing more is begun. A second one kills.
  static bool Stopped();

  // Prints the report; `complete`: all was looked at. kApiError where something wasn't moved.
  int Finish(bool complete);

 private:
  enum class Outcome { kWritten, kSame, kSkipped, kFailed };

  Importer(Session& session, KvPath mount) : session_(&session), mount_(std::move(mount)) {}
  absl::StatusOr<Outcome> PutV1(const ImportSecret& secret);
  absl::StatusOr<Outcome> PutV2(const ImportSecret& secret);
  absl::Status WriteV2(const ImportSecret& secret, std::size_t first, std::int64_t cas);
  // How many of the secret's versions the mount holds; FailedPrecondition: others. `current`: the
  // number of its newest version.
  absl::StatusOr<std::size_t> HeldV2(const ImportSecret& secret, std::int64_t* current,
                                     bool* metadata_same);
  std::string Api(std::string_view kind, const ImportSecret& secret) const;
  void Tell(Outcome outcome, std::string_view source, std::string_view path, std::string_view why);

  Session* session_;
  KvPath mount_;
  std::size_t counts_[4] = {};
  Json entries_ = Json::array();
};

// Those of all imports: -mount, -dry-run, -overwrite.
std::vector<Flag> ImportFlags();

}  // namespace coffer::cli
