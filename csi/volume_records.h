// VolumeRecords: what became of each volume of this node, for people who ask (csi/admin.h).
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "common/clock.h"
#include "csi/volume/open_listener.h"
#include "csi/volume_observer.h"

namespace coffer::csi {

// Who opened a file of an audited volume last.
struct LastReader {
  std::string file;
  std::uint32_t pid = 0;                            // 0: not known
  std::uint32_t uid = volume::Opener::kUnknownId;
  std::string command;
  std::string container;
  absl::Time time = absl::InfinitePast();           // never, as far as this plugin knows
};

struct VolumeRecord {
  std::string pod;
  std::string kubernetes_namespace;
  std::string pod_uid;
  std::string service_account;
  std::string secret_class;
  std::string provider;                           // "": the class wasn't found
  std::vector<provider::ObjectVersion> versions;  // of the content
  // InfinitePast: never.
  absl::Time published = absl::InfinitePast();
  absl::Time fetched = absl::InfinitePast();  // the last time without an error
  absl::Time rotated = absl::InfinitePast();  // the content changed
  // Of the last call, where that failed.
  absl::Time failed = absl::InfinitePast();
  std::string error;
  LastReader reader;
};

// Safe on any thread. A volume's record ends with the volume; of those that never were published,
// which nobody may unpublish, the newest 200 are kept.
class VolumeRecords : public VolumeObserver {
 public:
  // `clock` is kept by the caller.
  explicit VolumeRecords(const Clock& clock) : clock_(clock) {}

  void Published(const std::string& target, const VolumeContext& context,
                 PublishOutcome& outcome) override;
  void Unpublished(const std::string& target, const volume::PodFacts& pod,
                   const absl::Status& status) override;
  void TakenOver(const std::string& target, const VolumeContext& context,
                 const std::vector<provider::ObjectVersion>& versions,
                 absl::Time fetched) override;

  void Opened(const volume::OpenEvent& event);

  std::map<std::string, VolumeRecord> All() const;  // by target

 private:
  void DropOldFailures();

  const Clock& clock_;
  mutable std::mutex mutex_;
  std::map<std::string, VolumeRecord> records_;  // by target
};

}  // namespace coffer::csi
