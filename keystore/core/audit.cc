#include "keystore/core/audit.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

// The table is stored here as an array of objects: path, type, description, options, salt (base64),
// local.
constexpr char kPath[] = "core/audit";

Json Encode(const AuditEntry& entry) {
  Json options = Json::object();
  for (const auto& [name, value] : entry.options) options[Json::string_t(name)] = value;
  return {{"path", entry.path},
          {"type", entry.type},
          {"description", entry.description},
          {"options", std::move(options)},
          {"salt", Json::string_t(EncodeBase64(entry.salt.span()).view())},
          {"local", entry.local}};
}

std::string_view Text(const Json& object, const char* name) {
  return object.at(name).get_ref<const Json::string_t&>();
}

absl::StatusOr<AuditEntry> Decode(const Json& object) {
  AuditEntry entry;
  entry.path = std::string(Text(object, "path"));
  entry.type = std::string(Text(object, "type"));
  entry.description = std::string(Text(object, "description"));
  const Json& options = object.at("options");
  for (auto option = options.begin(); option != options.end(); ++option) {
    entry.options[std::string(std::string_view(option.key()))] =
        std::string(std::string_view(option.value().get_ref<const Json::string_t&>()));
  }
  ASSIGN_OR_RETURN(entry.salt, DecodeBase64(Text(object, "salt")));
  entry.local = object.at("local").get<bool>();
  return entry;
}

absl::StatusOr<std::vector<AuditEntry>> Parse(const Json& document) {
  std::vector<AuditEntry> entries;
  try {
    for (const Json& object : document) {
      ASSIGN_OR_RETURN(AuditEntry entry, Decode(object));
      entries.push_back(std::move(entry));
    }
  } catch (const Json::exception&) {
    return absl::DataLossError("the stored table of audit devices isn't what the keystore wrote");
  }
  return entries;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const AuditDevices>> Audit::Devices(Txn& txn) {
  {
    std::lock_guard lock(mutex_);
    if (devices_ != nullptr) return devices_;
  }
  ASSIGN_OR_RETURN(const std::optional<Json> stored, txn.GetJson(kPath));
  ASSIGN_OR_RETURN(std::vector<AuditEntry> entries, Parse(stored.value_or(Json::array())));
  auto devices = std::make_shared<AuditDevices>();
  for (AuditEntry& entry : entries) {
    const std::string path = entry.path;
    ASSIGN_OR_RETURN(std::shared_ptr<AuditDevice> device, AuditDevice::Make(std::move(entry)));
    if (const absl::Status opened = device->Reopen(); !opened.ok()) {
      log::Error("audit device can't be opened: mend it and send SIGHUP",
                 {{"path", path}, {"error", opened}});
    }
    devices->push_back(std::move(device));
  }
  std::lock_guard lock(mutex_);
  // Another reader, or a change since, may have been first.
  if (devices_ == nullptr) devices_ = std::move(devices);
  return devices_;
}

void Audit::Set(std::shared_ptr<const AuditDevices> devices) {
  std::lock_guard lock(mutex_);
  devices_ = std::move(devices);
}

absl::Status Audit::Save(Txn& txn, std::shared_ptr<const AuditDevices> devices) {
  // Read in this transaction, so that of two changes at once one is run again.
  RETURN_IF_ERROR(txn.Get(kPath).status());
  Json document = Json::array();
  for (const auto& device : *devices) document.push_back(Encode(device->entry()));
  RETURN_IF_ERROR(txn.PutJson(kPath, document));
  txn.OnCommit([this, devices] { Set(devices); });
  return absl::OkStatus();
}

absl::Status Audit::Enable(Txn& txn, AuditEntry entry) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const AuditDevices> devices, Devices(txn));
  for (const auto& device : *devices) {
    const std::string& taken = device->entry().path;
    if (!taken.starts_with(entry.path) && !entry.path.starts_with(taken)) continue;
    return absl::InvalidArgumentError(StrCat("path already in use: \"", taken, "\""));
  }
  ASSIGN_OR_RETURN(std::shared_ptr<AuditDevice> device, AuditDevice::Make(std::move(entry)));
  const absl::Status opened = device->Reopen();
  if (!opened.ok()) return absl::InvalidArgumentError(ToAbsl(Message(opened)));
  auto changed = std::make_shared<AuditDevices>(*devices);
  changed->push_back(std::move(device));
  return Save(txn, std::move(changed));
}

absl::Status Audit::Disable(Txn& txn, std::string_view path) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const AuditDevices> devices, Devices(txn));
  auto changed = std::make_shared<AuditDevices>(*devices);
  std::erase_if(*changed, [&](const auto& device) { return device->entry().path == path; });
  if (changed->size() == devices->size()) return absl::OkStatus();
  return Save(txn, std::move(changed));
}

absl::Status Audit::LogRequest(const AuditDevices& devices, const Request& request,
                               absl::Status error) {
  return Log(devices, {.time = clock_.Now(), .request = request, .error = std::move(error)});
}

absl::Status Audit::LogResponse(const AuditDevices& devices, const Request& request,
                                const Response& response, absl::Status error) {
  return Log(devices, {.time = clock_.Now(),
                       .request = request,
                       .response = &response,
                       .error = std::move(error)});
}

absl::Status Audit::Log(const AuditDevices& devices, const AuditRecord& record) {
  bool taken = devices.empty();
  for (const auto& device : devices) {
    const absl::Status logged = device->Log(record);
    taken |= logged.ok();
    if (!logged.ok()) log::Error("audit device failed", {{"error", logged}});
  }
  if (taken) return absl::OkStatus();
  return absl::InternalError("no audit device could be written to: the keystore's log says why");
}

void Audit::Reopen() {
  std::shared_ptr<const AuditDevices> devices;
  {
    std::lock_guard lock(mutex_);
    devices = devices_;
  }
  if (devices == nullptr) return;
  for (const auto& device : *devices) {
    if (const absl::Status opened = device->Reopen(); !opened.ok()) {
      log::Error("audit device goes on with its old file", {{"error", opened}});
    }
  }
}

void Audit::OnSeal() { Set(nullptr); }

}  // namespace coffer::keystore
