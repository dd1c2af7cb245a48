// status.
#include "cli/output.h"
#include "cli/seal_status.h"
#include "cli/table.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr std::string_view kOrder[] = {
    "type", "initialized", "sealed", "t", "n", "progress", "nonce", "version", "build_date",
    "migration", "cluster_name", "cluster_id", "recovery_seal", "storage_type", "ha_enabled",
    "is_self", "active_time", "leader_address", "leader_cluster_address", "performance_standby",
    "performance_standby_last_remote_wal", "last_wal"};

constexpr std::string_view kNoTime = "0001-01-01T00:00:00Z";

const char* Switch(bool on) { return on ? "true" : "false"; }

void AddHighAvailability(const Json& leader, bool sealed, Table& table) {
  const bool enabled = TrueAt(leader, "ha_enabled");
  table.Add("HA Enabled", Switch(enabled));
  if (!enabled || sealed) return;
  const bool self = TrueAt(leader, "is_self");
  table.Add("HA Cluster", TextAt(leader, "leader_cluster_address"));
  table.Add("HA Mode", self ? "active" : "standby");
  const std::string_view since = TextAt(leader, "active_time");
  if (self && !since.empty() && since != kNoTime) table.Add("Active Since", since);
  if (!self) {
    const std::string_view address = TextAt(leader, "leader_address");
    table.Add("Active Node Address", address.empty() ? "<none>" : address);
  }
}

Table StatusTable(const Json& seal, const Json& leader) {
  const bool sealed = TrueAt(seal, "sealed");
  const std::string prefix = TrueAt(seal, "recovery_seal") ? "Recovery " : "";
  const std::string threshold = StrCat(IntegerAt(seal, "t"));
  Table table = Table::WithHeader("Key", "Value");
  table.Add(StrCat(prefix, "Seal Type"), TextAt(seal, "type"));
  table.Add("Initialized", Switch(TrueAt(seal, "initialized")));
  table.Add("Sealed", Switch(sealed));
  table.Add(StrCat("Total ", prefix, "Shares"), StrCat(IntegerAt(seal, "n")));
  table.Add("Threshold", threshold);
  if (sealed) {
    table.Add("Unseal Progress", StrCat(IntegerAt(seal, "progress"), "/", threshold));
    table.Add("Unseal Nonce", TextAt(seal, "nonce"));
  }
  if (TrueAt(seal, "migration")) table.Add("Seal Migration in Progress", "true");
  table.Add("Version", TextAt(seal, "version"));
  table.Add("Build Date", TextAt(seal, "build_date"));
  table.Add("Storage Type", TextAt(seal, "storage_type"));
  const std::string_view name = TextAt(seal, "cluster_name"), id = TextAt(seal, "cluster_id");
  if (!name.empty() && !id.empty()) {
    table.Add("Cluster Name", name);
    table.Add("Cluster ID", id);
  }
  AddHighAvailability(leader, sealed, table);
  return table;
}

// Both answers in one document, as vault's JSON has them.
Json Merged(const Json& seal, const Json& leader) {
  Json both = seal;
  both["ha_enabled"] = TrueAt(leader, "ha_enabled");
  both["active_time"] = Json::string_t(kNoTime);
  for (const char* name : {"is_self", "active_time", "leader_address", "leader_cluster_address"}) {
    const Json& value = At(leader, name);
    if (value.is_boolean() ? value.get<bool>() : !TextAt(leader, name).empty()) both[name] = value;
  }
  return both;
}

int Status(Session& session) {
  const absl::StatusOr<Json> seal =
      session.api->Call({.method = "GET", .path = "sys/seal-status"});
  if (!seal.ok()) return session.Fail("Error checking seal status", seal.status());
  if (const int code = PrintSealStatus(session, *seal); code != kDone) return code;
  return TrueAt(*seal, "sealed") ? kApiError : kDone;
}

}  // namespace

int PrintSealStatus(Session& session, const Json& seal) {
  absl::StatusOr<Json> leader = session.api->Call({.method = "GET", .path = "sys/leader"});
  if (!leader.ok() && Message(leader.status()).find("Vault is sealed") != std::string_view::npos) {
    // A cluster's node that can't tell its leader before it is unsealed.
    leader = Json{{"ha_enabled", true}};
  }
  if (!leader.ok()) {
    session.Fail("Error checking leader status", leader.status());
    return kUsageError;
  }
  if (!session.table()) return PrintDocument(session, Merged(seal, *leader), kOrder);
  session.console.Line(StatusTable(seal, *leader).Print().view());
  return kDone;
}

std::vector<Command> StatusCommands() {
  return {{.name = "status",
           .synopsis = "Print seal and HA status",
           .usage = "[options]",
           .help = "Prints the current state of the server: whether it is sealed, how many shares it "
                   "takes, its version and cluster. The exit code reflects the seal status:\n"
                   "    - 0 - unsealed\n    - 1 - error\n    - 2 - sealed",
           .prints = Prints::kFormats,
           .run = Status,
           .failure_code = [](const Flags&) { return kUsageError; }}};
}

}  // namespace coffer::cli
