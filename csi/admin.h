// What the admin socket answers, which `coffer csi …` asks: what there is on this node, and a publish
// and an unpublish as the kubelet would have them.
//
//   GET  /v1/status     {"driver", "node", "version", "pid", "facts": {name: text},
//                        "volumes": [volume]}, sorted by target
//   GET  /v1/unused?days=N   {"days", "files": [{"namespace", "class", "file", "published",
//                        "last_read"?}]}: files of audited volumes that were published N days ago or
//                        longer, and not opened since; the longest unread first
//   POST /v1/publish    {"target", "class", "namespace", "pod", "pod_uid", "service_account",
//                        "volume_id"?, "tokens"?: {audience: token}}   →  {"volume_id", "target"}
//   POST /v1/unpublish  {"target", "volume_id"?}                       →  {"volume_id", "target"}
//
//   volume  := {"target", "volume_id", "mounted": whether it is served,
//               "pod", "namespace", "pod_uid", "service_account", "class", "provider",
//               "objects": [{"id", "version"}],
//               "published", "fetched", "rotated", "failed": times of RFC 3339, "error",
//               "last_read": of a file of this class on this node, where opens are audited,
//               "reader": {"file", "pid", "uid", "command", "container", "time"}: who opened a file of an
//               audited volume last, since this plugin serves it}
//              where what isn't known, or never was, is left out: of a volume that was taken over from
//              the plugin before this one, most of it until it is published again
//   error   := {"code": canonical code, "error": text}, with an HTTP status other than 200
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "csi/admin_server.h"
#include "csi/publisher.h"
#include "csi/read_times.h"
#include "csi/volume_records.h"

namespace coffer::csi {

// All are kept by the caller, as long as the routes.
struct AdminParts {
  const Clock& clock;
  Publisher& publisher;
  const volume::VolumeServer& volumes;
  const VolumeRecords& records;
  const ReadTimes& read_times;
  std::string driver;
  std::string node;
  // What is in force on this node, asked anew each time: "memory" → "memfd_secret".
  std::vector<std::pair<std::string, std::function<std::string()>>> facts;
};

AdminServer::Routes AdminRoutes(AdminParts parts);

}  // namespace coffer::csi
