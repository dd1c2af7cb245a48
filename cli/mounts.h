// What "secrets", "auth" and "audit" share: each enables, lists and disables entries of a table of the
// server's, and the first two tune and move them.
#pragma once

#include "cli/command.h"
#include "common/json.h"

namespace coffer::cli {

// One of the tables: where it is and vault's words for what is done to it. In the words $0 is the type
// of an entry, $1 its path.
struct MountTable {
  std::string_view api;  // "sys/mounts"
  std::string_view enable_method;
  // What enable sends beside the type. InvalidArgument: what was typed, in words to be printed.
  absl::StatusOr<Json> (*enable_body)(const Session&);
  int (*print)(Session&, const Json& entries);

  struct Words {
    std::string_view failed, done;
  };
  Words enable, disable;
  std::string_view list_failed;
  Words tune = {};
  std::string_view moved = {};  // what move calls an entry

  int Enable(Session& session) const;
  int Disable(Session& session) const;
  int List(Session& session) const;
  int Tune(Session& session) const;
  // From the path args[0] to args[1], as sys/remount takes them: of an auth method with "auth/".
  int Move(Session& session) const;
};

// Flags of enable and tune: description, lease times, visibility, headers, options.
std::vector<Flag> MountFlags();

// The body of enable: description, local, options and config.
absl::StatusOr<Json> MountBody(const Session& session);

// The entries of an answer, by path.
Json MountsOf(const Json& answer);
// Paths, types and so on as lines; `with_version` as in "auth list".
int PrintMounts(Session& session, const Json& mounts, bool with_version);

}  // namespace coffer::cli
