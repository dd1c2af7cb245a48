// The top of the configuration: which settings there are, and what they mean together.
#include "keystore/config/config.h"

#include "common/lower_case.h"
#include "keystore/config/listener.h"
#include "keystore/config/settings.h"
#include "keystore/hcl/hcl.h"

namespace coffer::keystore {
namespace {

using S = ServerConfig;
using Warnings = std::vector<std::string>;

constexpr Setting<StorageConfig> kLmdb[] = {{"path", &StorageConfig::path},
                                            {"map_size", &StorageConfig::map_size}};

absl::Status ReadStorage(const hcl::Item& item, S& config, Warnings& warnings) {
  ASSIGN_OR_RETURN(const auto blocks, hcl::LabelledBlocks(item));
  for (const hcl::Block& block : blocks) {
    if (config.storage) return hcl::ErrorAt(block.at, "there is more than one storage");
    const std::string& type = *block.label;
    StorageConfig storage;
    if (type == "lmdb") {
      storage.type = "lmdb";
      RETURN_IF_ERROR(
          ReadSettings<StorageConfig>(kLmdb, *block.object, "storage \"lmdb\"", storage, warnings));
      if (storage.path.empty()) {
        return hcl::ErrorAt(block.at, "storage \"lmdb\": \"path\" is missing; it names the folder");
      }
      if (storage.map_size < (1 << 20)) {
        return hcl::ErrorAt(block.at, "storage \"lmdb\": \"map_size\" must be at least 1MiB");
      }
    } else if (type == "inmem" || type == "memory") {
      storage.type = "inmem";
      RETURN_IF_ERROR(ReadSettings<StorageConfig>(
          {}, *block.object, StrCat("storage \"", type, "\""), storage, warnings));
    } else if (type == "file" || type == "raft") {
      return hcl::ErrorAt(block.at, StrCat("storage \"", type, "\" isn't supported: use storage ",
                                           "\"lmdb\" { path = \"…\" } with an empty folder"));
    } else {
      return hcl::ErrorAt(block.at, StrCat("there is no storage \"", type,
                                           "\"; use storage \"lmdb\" { path = \"…\" }, or "
                                           "\"inmem\", which forgets everything at its end"));
    }
    config.storage = std::move(storage);
  }
  return absl::OkStatus();
}

absl::Status ReadSeal(const hcl::Item& item, S&, Warnings&) {
  ASSIGN_OR_RETURN(const auto blocks, hcl::LabelledBlocks(item));
  for (const hcl::Block& block : blocks) {
    if (*block.label != "shamir") {
      return hcl::ErrorAt(block.at, StrCat("seal \"", *block.label,
                                           "\" isn't supported: leave it out, or use seal "
                                           "\"shamir\""));
    }
    if (!block.object->members.empty()) {
      return UnknownSetting(block.object->members.front(), "seal \"shamir\"");
    }
  }
  return absl::OkStatus();
}

using T = TelemetryConfig;
constexpr Setting<T> kTelemetry[] = {
    {"prometheus_retention_time", &T::prometheus_retention_time},
    {"disable_hostname", &T::disable_hostname},
    {"metrics_prefix", &T::metrics_prefix},
    {"enable_hostname_label"},
    {"usage_gauge_period"},
    {"maximum_gauge_cardinality"},
    {"lease_metrics_epsilon"},
    {"num_lease_metrics_buckets"},
    {"add_lease_metrics_namespace_labels"},
    {"add_mount_point_rollback_metrics"},
    {"opentelemetry_disable"},
    {"filter_default"},
    {"prefix_filter"},
    {"statsite_address"},
    {"statsd_address"},
    {"dogstatsd_addr"},
    {"dogstatsd_tags"},
    {"circonus_api_token"},
    {"circonus_api_app"},
    {"circonus_api_url"},
    {"circonus_submission_interval"},
    {"circonus_submission_url"},
    {"circonus_check_id"},
    {"circonus_check_force_metric_activation"},
    {"circonus_check_instance_id"},
    {"circonus_check_search_tag"},
    {"circonus_check_tags"},
    {"circonus_check_display_name"},
    {"circonus_broker_id"},
    {"circonus_broker_select_tag"},
    {"stackdriver_project_id"},
    {"stackdriver_location"},
    {"stackdriver_namespace"},
    {"stackdriver_debug_logs"},
};

absl::Status ReadTelemetry(const hcl::Item& item, S& config, Warnings& warnings) {
  ASSIGN_OR_RETURN(const auto objects, hcl::PlainBlocks(item));
  for (const hcl::Value* object : objects) {
    if (config.telemetry) return hcl::ErrorAt(item.at(), "there is more than one telemetry block");
    RETURN_IF_ERROR(ReadSettings<T>(kTelemetry, *object, "\"telemetry\"",
                                    config.telemetry.emplace(), warnings));
  }
  return absl::OkStatus();
}

const Setting<S> kSettings[] = {
    {"storage", &ReadStorage},
    {"backend", &ReadStorage},  // its older name
    {"listener", &ReadListeners},
    {"seal", &ReadSeal},
    {"telemetry", &ReadTelemetry},
    {"ui", &S::ui},
    {"disable_mlock", &S::disable_mlock},
    {"api_addr", &S::api_addr},
    {"cluster_addr", &S::cluster_addr},
    {"cluster_name", &S::cluster_name},
    {"log_level", &S::log_level},
    {"log_format", &S::log_format},
    {"pid_file", &S::pid_file},
    {"plugin_directory", &S::plugin_directory},
    {"default_lease_ttl", &S::default_lease_ttl},
    {"max_lease_ttl", &S::max_lease_ttl},
    {"default_max_request_duration", &S::default_max_request_duration},
    {"ha_storage", Refused{"every node uses the one storage; leave it out"}},
    {"ha_backend", Refused{"every node uses the one storage; leave it out"}},
    {"hsm", Refused{"keys are kept by Shamir shares; leave it out"}},
    {"kms", Refused{"keys are kept by Shamir shares; leave it out"}},
    {"kms_library", Refused{"keys are kept by Shamir shares; leave it out"}},
    {"entropy", Refused{"randomness comes from OpenSSL; leave it out"}},
    // What tunes or concerns parts of Vault that aren't here.
    {"allow_audit_log_prefixing"},
    {"cache_size"},
    {"cloud"},
    {"cluster_cipher_suites"},
    {"detect_deadlocks"},
    {"disable_cache"},
    {"disable_clustering"},
    {"disable_indexing"},
    {"disable_performance_standby"},
    {"disable_printable_check"},
    {"disable_sealwrap"},
    {"disable_sentinel_trace"},
    {"enable_post_unseal_trace"},
    {"enable_raw_endpoint"},
    {"enable_response_header_hostname"},
    {"enable_response_header_raft_node_id"},
    {"enable_ui"},
    {"experiments"},
    {"imprecise_lease_role_tracking"},
    {"introspection_endpoint"},
    {"license_path"},
    {"log_file"},
    {"log_requests_level"},
    {"log_rotate_bytes"},
    {"log_rotate_duration"},
    {"log_rotate_max_files"},
    {"plugin_file_permissions"},
    {"plugin_file_uid"},
    {"plugin_tmpdir"},
    {"post_unseal_trace_directory"},
    {"raw_storage_endpoint"},
    {"reporting"},
    {"request_limiter"},
    {"service_registration"},
    {"user_lockout"},
};

// The longest lease where no max_lease_ttl is given.
constexpr absl::Duration kMaxLeaseTtl = absl::Hours(768);

// Vault's other spellings of levels, and ours.
constexpr struct {
  std::string_view name;
  std::string_view level;
} kLogLevels[] = {{"", ""},           {"trace", "trace"}, {"debug", "debug"},  {"info", "info"},
                  {"notice", "info"}, {"warn", "warn"},   {"warning", "warn"}, {"err", "error"},
                  {"error", "error"}};

absl::Status ReadAll(std::string_view text, S& config) {
  ASSIGN_OR_RETURN(const hcl::Value document, hcl::Parse(text));
  RETURN_IF_ERROR(
      ReadSettings<S>(kSettings, document, "the configuration", config, config.warnings));
  const auto wrong = [&](std::string_view key, std::string_view message) {
    for (const hcl::Item& item : document.members) {
      if (item.name() == key) return hcl::ErrorAt(item.value.at, message);
    }
    return absl::InvalidArgumentError(ToAbsl(message));
  };
  const std::string level = LowerCase(config.log_level);
  const auto known = std::find_if(std::begin(kLogLevels), std::end(kLogLevels),
                                  [&](const auto& known) { return known.name == level; });
  if (known == std::end(kLogLevels)) {
    return wrong("log_level", "\"log_level\" must be trace, debug, info, warn or error");
  }
  config.log_level = known->level;
  config.log_format = LowerCase(config.log_format);
  if (!config.log_format.empty() && config.log_format != "standard" &&
      config.log_format != "json") {
    return wrong("log_format", "\"log_format\" must be standard or json");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ServerConfig> ParseServerConfig(std::string_view file, std::string_view text) {
  ServerConfig config;
  const absl::Status status = ReadAll(text, config);
  if (!status.ok()) return absl::InvalidArgumentError(StrCat(file, ": ", Message(status)));
  for (std::string& warning : config.warnings) warning = StrCat(file, ": ", warning);
  for (ListenerConfig& listener : config.listeners) {
    listener.place = StrCat(file, ": ", listener.place);
  }
  return config;
}

void MergeServerConfig(ServerConfig from, ServerConfig* into) {
  MergeSettings<S>(kSettings, from, *into);
  if (from.storage) into->storage = std::move(from.storage);
  if (from.telemetry) into->telemetry = std::move(from.telemetry);
  std::move(from.listeners.begin(), from.listeners.end(), std::back_inserter(into->listeners));
  std::move(from.warnings.begin(), from.warnings.end(), std::back_inserter(into->warnings));
}

absl::Status CheckServerConfig(const ServerConfig& config) {
  if (!config.storage) {
    return absl::InvalidArgumentError(
        "the configuration names no storage: add storage \"lmdb\" { path = \"…\" }");
  }
  if (config.listeners.empty()) {
    return absl::InvalidArgumentError(
        "the configuration names no listener: add listener \"tcp\" { address = \"…\" }");
  }
  const bool has_max = config.max_lease_ttl > absl::ZeroDuration();
  if (config.default_lease_ttl > (has_max ? config.max_lease_ttl : kMaxLeaseTtl)) {
    return absl::InvalidArgumentError(
        StrCat("default_lease_ttl is longer than max_lease_ttl", has_max ? "" : ", which is 768h"));
  }
  return absl::OkStatus();
}

}  // namespace coffer::keystore
