#include "keystore/system/audit_routes.h"

#include "common/log.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr std::size_t kSaltSize = 32;

absl::StatusOr<std::string> DevicePath(const Request& request) {
  std::string_view path = request.text("path");
  while (path.ends_with('/')) path.remove_suffix(1);
  if (path.empty()) return absl::InvalidArgumentError("the path of the audit device is missing");
  return StrCat(path, "/");
}

absl::StatusOr<Response> List(Audit& audit, Txn& txn) {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const auto devices, audit.Devices(root));
  Json data = Json::object();
  for (const auto& device : *devices) {
    const AuditEntry& entry = device->entry();
    Json options = Json::object();
    for (const auto& [name, value] : entry.options) options[Json::string_t(name)] = value;
    data[Json::string_t(entry.path)] = {{"type", entry.type},
                                        {"path", entry.path},
                                        {"description", entry.description},
                                        {"options", std::move(options)},
                                        {"local", entry.local}};
  }
  return Response::Flattened(std::move(data));
}

absl::StatusOr<Response> Enable(Audit& audit, const Request& request, Txn& txn) {
  if (!request.may_block) return NeedsWorker();  // opens a file
  AuditEntry entry;
  ASSIGN_OR_RETURN(entry.path, DevicePath(request));
  entry.type = std::string(request.text("type"));
  if (entry.type.empty()) return absl::InvalidArgumentError("the field \"type\" is missing");
  entry.description = std::string(request.text("description"));
  entry.local = request.boolean("local");
  entry.salt = RandomSecret(kSaltSize);
  const Json& options = request.json("options");
  for (auto option = options.begin(); option != options.end(); ++option) {
    const Json& value = option.value();
    entry.options[std::string(std::string_view(option.key()))] = std::string(
        value.is_string() ? std::string_view(value.get_ref<const Json::string_t&>())
                          : std::string_view(value.dump()));
  }
  txn.OnCommit([path = entry.path] { log::Info("audit device enabled", {{"path", path}}); });
  Txn root = txn.Root();
  RETURN_IF_ERROR(audit.Enable(root, std::move(entry)));
  return Response::Empty();
}

absl::StatusOr<Response> Disable(Audit& audit, const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const std::string path, DevicePath(request));
  txn.OnCommit([path] { log::Warning("audit device disabled", {{"path", path}}); });
  Txn root = txn.Root();
  RETURN_IF_ERROR(audit.Disable(root, path));
  return Response::Empty();
}

absl::StatusOr<Response> Hash(Audit& audit, const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const std::string path, DevicePath(request));
  if (request.text("input").empty()) {
    return absl::InvalidArgumentError("the \"input\" parameter is empty");
  }
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const auto devices, audit.Devices(root));
  for (const auto& device : *devices) {
    if (device->entry().path != path) continue;
    return Response::Data({{"hash", device->Hash(request.text("input"))}});
  }
  return absl::InvalidArgumentError(StrCat("unknown audit backend: \"", path, "\""));
}

}  // namespace

std::vector<Route> AuditRoutes(Audit& audit) {
  const Field path = {"path", FieldType::kString, "The device's name."};
  return {
      {"audit",
       "The audit devices.",
       {},
       {{Operation::kRead, [&](const Request&, Txn& txn) { return List(audit, txn); }}},
       Access::kSudo},
      {"audit/{path*}",
       "Enables or disables an audit device.",
       {path,
        {"type", FieldType::kString, "\"file\"."},
        {"description", FieldType::kString, "For people."},
        {"options", FieldType::kMap,
         "file_path (also stdout or discard), log_raw, hmac_accessor, mode, format, prefix."},
        {"local", FieldType::kBoolean, "Kept."}},
       {{Operation::kUpdate,
         [&](const Request& request, Txn& txn) { return Enable(audit, request, txn); }},
        {Operation::kDelete,
         [&](const Request& request, Txn& txn) { return Disable(audit, request, txn); }}},
       Access::kSudo},
      {"audit-hash/{path*}",
       "How a text stands in an audit device's log.",
       {path, {"input", FieldType::kString, "The text."}},
       {{Operation::kUpdate,
         [&](const Request& request, Txn& txn) { return Hash(audit, request, txn); }}}},
  };
}

}  // namespace coffer::keystore
