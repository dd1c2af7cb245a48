// Audit: the audit devices of the keystore. Where there are any, nothing is done and nothing is
// answered that at least one of them hasn't taken.
#pragma once

#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "keystore/barrier/txn.h"
#include "keystore/core/audit_device.h"

namespace coffer::keystore {

// An immutable set of devices.
using AuditDevices = std::vector<std::shared_ptr<AuditDevice>>;

// Safe on any thread. `txn`s are of the whole tree.
class Audit {
 public:
  explicit Audit(const Clock& clock) : clock_(clock) {}

  // The devices now. Read and opened with the first call after an unseal; a file that can't be
  // opened then is told of in the log, and the device fails until Reopen(). DataLoss: the stored
  // table isn't what the keystore wrote.
  absl::StatusOr<std::shared_ptr<const AuditDevices>> Devices(Txn& txn);

  // Both take effect once `txn` is committed. InvalidArgument: the path is in use, or what
  // AuditDevice::Make and Reopen refuse.
  absl::Status Enable(Txn& txn, AuditEntry entry);
  // OK where there is none.
  absl::Status Disable(Txn& txn, std::string_view path);

  // InternalError: none of `devices` took it.
  absl::Status LogRequest(const AuditDevices& devices, const Request& request, absl::Status error);
  absl::Status LogResponse(const AuditDevices& devices, const Request& request,
                           const Response& response, absl::Status error);

  // Opens all files again: at SIGHUP.
  void Reopen();
  void OnSeal();

 private:
  void Set(std::shared_ptr<const AuditDevices> devices);
  absl::Status Save(Txn& txn, std::shared_ptr<const AuditDevices> devices);
  absl::Status Log(const AuditDevices& devices, const AuditRecord& record);

  const Clock& clock_;
  std::mutex mutex_;
  std::shared_ptr<const AuditDevices> devices_;  // null: not read since the unseal
};

}  // namespace coffer::keystore
