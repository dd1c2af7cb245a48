#include "csi/volume_log.h"

#include "common/log.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

log::Level LevelOf(const absl::Status& status, bool news) {
  if (absl::IsAborted(status)) return log::Level::kDebug;  // the other call tells
  if (!status.ok()) return log::Level::kWarning;
  return news ? log::Level::kInfo : log::Level::kDebug;
}

std::string_view Event(const PublishOutcome& outcome) {
  if (!outcome.again) return outcome.status.ok() ? "published" : "publish failed";
  if (!outcome.status.ok()) return "a volume was not read anew and keeps its content";
  return outcome.rotated ? "rotated" : "read anew: nothing new";
}

}  // namespace

void VolumeLog::Published(const std::string& target, const VolumeContext& context,
                          PublishOutcome& outcome) {
  log::Write(LevelOf(outcome.status, !outcome.again || outcome.rotated), Event(outcome),
             {{"pod", StrCat(context.pod.kubernetes_namespace, "/", context.pod.name)},
              {"class", context.secret_class},
              {"target", target},
              {"microseconds", absl::ToInt64Microseconds(outcome.took)},
              {"status", outcome.status}});
}

void VolumeLog::Unpublished(const std::string& target, const volume::PodFacts& pod,
                            const absl::Status& status) {
  const std::string_view event = status.ok() ? "unpublished" : "unpublish failed";
  if (pod.name.empty()) {  // of a plugin before this one, or none at all
    log::Write(LevelOf(status, true), event, {{"target", target}, {"status", status}});
    return;
  }
  log::Write(LevelOf(status, true), event,
             {{"pod", StrCat(pod.kubernetes_namespace, "/", pod.name)},
              {"class", pod.secret_class},
              {"target", target},
              {"status", status}});
}

}  // namespace coffer::csi
