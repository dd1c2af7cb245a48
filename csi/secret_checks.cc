#include "csi/secret_checks.h"

#include "absl/time/clock.h"
#include "common/log.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

constexpr std::chrono::seconds kLook{5};
constexpr absl::Duration kLongestGet = absl::Seconds(10);

}  // namespace

SecretChecks::SecretChecks(ClassSource& classes, volume::VolumeServer& volumes,
                           KubeReporter& reporter)
    : classes_(classes), volumes_(volumes), reporter_(reporter), thread_([this] { Run(); }) {}

SecretChecks::~SecretChecks() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    stopped_.notify_all();
  }
  thread_.join();
}

void SecretChecks::Run() {
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, kLook, [this] { return stopping_; })) {
    lock.unlock();
    CheckDue();
    lock.lock();
  }
}

void SecretChecks::CheckDue() {
  for (const KubeReporter::Check& check : reporter_.DueChecks()) {
    const absl::StatusOr<ClassObject> secret_class = classes_.Get(
        check.kubernetes_namespace, check.secret_class, absl::Now() + kLongestGet);
    if (!secret_class.ok()) continue;  // its publishes tell
    std::vector<provider::File> files;
    if (!secret_class->secret_objects.empty()) {
      absl::StatusOr<std::vector<volume::SnapshotFile>> held = volumes_.Files(check.target);
      if (!held.ok()) continue;
      for (volume::SnapshotFile& file : *held) {
        files.push_back({.path = std::move(file.path), .content = std::move(file.content)});
      }
    }
    reporter_.Checked(check, secret_class->provider,
                      FillSecretObjects(secret_class->secret_objects, files));
  }
}

}  // namespace coffer::csi
