#include "csi/flags_without_effect.h"

#include <algorithm>

namespace coffer::csi {
namespace {

constexpr std::string_view kLogsToStderr = "logs go to stderr: --log-level, --log-format-json";
constexpr std::string_view kNoPprof = "this is no Go program";
constexpr std::string_view kOwnHealth = "--metrics-addr serves /healthz and /readyz";
constexpr std::string_view kNoProbing = "providers are asked when a class needs them";
constexpr std::string_view kNoFilter = "only classes of this node's pods are followed";
constexpr std::string_view kNoCache = "each pod has its own token, kept while its volumes live";
constexpr std::string_view kOneMode = "the plugin registers itself";

constexpr FlagWithoutEffect kFlags[] = {
    {"provider", false, "the class says which"},
    {"grpc-supported-providers", false, "all are spoken to over gRPC"},
    {"min-provider-version", false, "providers of any version are asked"},
    {"enable-pprof", true, kNoPprof},
    {"pprof-port", false, kNoPprof},
    {"provider-health-check", true, kNoProbing},
    {"provider-health-check-interval", false, kNoProbing},
    {"filtered-watch-secret", true, kNoFilter},
    {"logtostderr", true, kLogsToStderr},
    {"alsologtostderr", true, kLogsToStderr},
    {"alsologtostderrthreshold", false, kLogsToStderr},
    {"legacy_stderr_threshold_behavior", true, kLogsToStderr},
    {"stderrthreshold", false, kLogsToStderr},
    {"vmodule", false, kLogsToStderr},
    {"one_output", true, kLogsToStderr},
    {"skip_headers", true, kLogsToStderr},
    {"add_dir_header", true, kLogsToStderr},
    {"log_file", false, kLogsToStderr},
    {"log_dir", false, kLogsToStderr},
    {"log_file_max_size", false, kLogsToStderr},
    {"skip_log_headers", true, kLogsToStderr},
    {"log_backtrace_at", false, kLogsToStderr},
    {"health_addr", false, "use --health-addr"},
    {"write-secrets", true, "files are served from memory"},
    {"hmac-secret-name", false, "versions are made under a key of the process"},
    {"cache-size", false, kNoCache},
    {"http-endpoint", false, kOwnHealth},
    {"health-port", false, kOwnHealth},
    {"metrics-address", false, "use --metrics-addr"},
    {"csi-address", false, "the plugin serves --endpoint itself"},
    {"plugin-registration-path", false, "use --plugin-registration-dir"},
    {"probe-timeout", false, kOneMode},
    {"connection-timeout", false, kOneMode},
    {"operation-timeout", false, kOneMode},
    {"automaxprocs", true, kNoPprof},
    {"timeout", false, kOneMode},
    {"mode", false, kOneMode}};

constexpr std::string_view kRetries = "what may pass is tried again within the kubelet's deadline";
constexpr std::string_view kProxy = "set HTTPS_PROXY, HTTP_PROXY and NO_PROXY";
constexpr std::pair<const char*, std::string_view> kVariables[] = {
    {"VAULT_AGENT_ADDR", "no agent is needed: set VAULT_ADDR"},
    {"VAULT_PROXY_ADDR", kProxy},
    {"VAULT_HTTP_PROXY", kProxy},
    {"VAULT_CLIENT_TIMEOUT", kRetries},
    {"VAULT_MAX_RETRIES", kRetries},
    {"VAULT_RATE_LIMIT", "each path is read once"},
    {"VAULT_SRV_LOOKUP", "set VAULT_ADDR to a host"},
    {"VAULT_DISABLE_REDIRECTS", "one redirect is followed"},
    {"VAULT_TOKEN", "each pod logs in as itself"}};

}  // namespace

std::span<const FlagWithoutEffect> FlagsWithoutEffect() { return kFlags; }

const FlagWithoutEffect* FindFlagWithoutEffect(std::string_view name) {
  const auto found = std::find_if(std::begin(kFlags), std::end(kFlags),
                                  [name](const FlagWithoutEffect& flag) { return flag.name == name; });
  return found == std::end(kFlags) ? nullptr : found;
}

std::span<const std::pair<const char*, std::string_view>> UnreadVariables() { return kVariables; }

}  // namespace coffer::csi
