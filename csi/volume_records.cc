#include "csi/volume_records.h"

#include "common/strings.h"

namespace coffer::csi {
namespace {

constexpr std::size_t kMostFailures = 200;

bool NeverPublished(const VolumeRecord& record) {
  return record.published == absl::InfinitePast();
}

void SetPod(const VolumeContext& context, VolumeRecord* record) {
  record->pod = context.pod.name;
  record->kubernetes_namespace = context.pod.kubernetes_namespace;
  record->pod_uid = context.pod.uid;
  record->service_account = context.pod.service_account;
  record->secret_class = context.secret_class;
}

}  // namespace

void VolumeRecords::Published(const std::string& target, const VolumeContext& context,
                              PublishOutcome& outcome) {
  if (absl::IsAborted(outcome.status)) return;  // the other call on the volume tells
  const absl::Time now = clock_.Now();
  std::lock_guard lock(mutex_);
  VolumeRecord& record = records_[target];
  SetPod(context, &record);
  if (!outcome.secret_class.provider.empty()) record.provider = outcome.secret_class.provider;
  if (!outcome.status.ok()) {
    record.failed = now;
    record.error = Message(outcome.status);
    DropOldFailures();
    return;
  }
  if (NeverPublished(record) || !outcome.again) record.published = now;
  if (outcome.rotated) record.rotated = now;
  record.fetched = now;
  record.failed = absl::InfinitePast();
  record.error.clear();
  record.versions = outcome.versions;
}

void VolumeRecords::TakenOver(const std::string& target, const VolumeContext& context,
                              const std::vector<provider::ObjectVersion>& versions,
                              absl::Time fetched) {
  std::lock_guard lock(mutex_);
  VolumeRecord& record = records_[target];
  SetPod(context, &record);
  record.versions = versions;
  record.published = record.fetched = fetched;
}

void VolumeRecords::Unpublished(const std::string& target, const volume::PodFacts&,
                                const absl::Status& status) {
  std::lock_guard lock(mutex_);
  if (status.ok()) {
    records_.erase(target);
  } else if (const auto found = records_.find(target);
             found != records_.end() && !absl::IsAborted(status)) {
    found->second.failed = clock_.Now();
    found->second.error = Message(status);
  }
}

void VolumeRecords::Opened(const volume::OpenEvent& event) {
  const volume::Opener& opener = event.opener;
  std::lock_guard lock(mutex_);
  const auto found = records_.find(event.volume->target);
  if (found == records_.end()) return;
  found->second.reader = {event.file,      opener.pid,       opener.uid,
                          opener.command, opener.container, event.time};
}

void VolumeRecords::DropOldFailures() {
  std::size_t count = 0;
  auto oldest = records_.end();
  for (auto at = records_.begin(); at != records_.end(); ++at) {
    if (!NeverPublished(at->second)) continue;
    ++count;
    if (oldest == records_.end() || at->second.failed < oldest->second.failed) oldest = at;
  }
  if (count > kMostFailures) records_.erase(oldest);
}

std::map<std::string, VolumeRecord> VolumeRecords::All() const {
  std::lock_guard lock(mutex_);
  return records_;
}

}  // namespace coffer::csi
