// What the csi commands share: the node plugin's admin socket.
#pragma once

#include <string_view>

#include "cli/command.h"

namespace coffer::cli {

extern const Flag kAdminSocketFlag;

// One call of the plugin's admin socket (csi/admin.h has the grammar): that of -socket, of
// COFFER_CSI_SOCKET, or the one that is there. The status carries the plugin's own words and code;
// FailedPrecondition: no socket was found; Unavailable: no plugin answers there.
absl::StatusOr<Json> CallPlugin(Session& session, std::string_view method, std::string_view path,
                                const Json* body = nullptr);

}  // namespace coffer::cli
