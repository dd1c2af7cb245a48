// Parts that "secrets" and "auth" share: both are tables of mounts.
#pragma once

#include "cli/command.h"
#include "common/json.h"

namespace coffer::cli {

// Flags of enable and tune: description, lease times, visibility, headers, options.
std::vector<Flag> MountFlags();

// What enable sends beside the type: description, local, options and config.
Json MountBody(const Flags& flags);
// What tune sends: only what was given.
Json TuneBody(const Flags& flags);

// "config" of MountBody and the members of TuneBody that both have.
void AddMountConfig(const Flags& flags, Json& config);

// The mounts of an answer, by path.
Json MountsOf(const Json& answer);
// Paths, types and so on as lines; `with_version` as in "auth list".
int PrintMounts(Session& session, const Json& mounts, bool with_version);

}  // namespace coffer::cli
