// coffer-keystore: builds the keystore from its rooms, left to right, and serves until it is told to
// end.
#include <csignal>
#include <cstdio>

#include "common/clock.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/status_prefix.h"
#include "common/strings.h"
#include "keystore/auth/kubernetes_backend.h"
#include "keystore/auth/token_backend.h"
#include "keystore/barrier/barrier.h"
#include "keystore/barrier/shamir_seal.h"
#include "keystore/config/config.h"
#include "keystore/core/core.h"
#include "keystore/events/event_bus.h"
#include "keystore/http/http_server.h"
#include "keystore/main/command_line.h"
#include "keystore/main/dev.h"
#include "keystore/main/parts.h"
#include "keystore/main/process.h"
#include "keystore/secrets/cubbyhole.h"
#include "keystore/secrets/kv_v1.h"
#include "keystore/secrets/kv_v2.h"
#include "keystore/system/audit_routes.h"
#include "keystore/system/lease_routes.h"
#include "keystore/system/metrics_routes.h"
#include "keystore/system/mount_routes.h"
#include "keystore/system/openapi_routes.h"
#include "keystore/system/policy_routes.h"
#include "keystore/system/remount_routes.h"
#include "keystore/system/seal_routes.h"
#include "keystore/system/system_backend.h"
#include "keystore/system/wrapping_routes.h"

namespace coffer::keystore {
namespace {

// The version of Vault whose API is spoken, for clients that look at it, and our own.
constexpr std::string_view kApiVersion = "1.15.0+coffer." COFFER_VERSION;
// How long requests under way may take once the keystore is told to end.
constexpr absl::Duration kGrace = absl::Seconds(30);

absl::StatusOr<ServerConfig> ConfigFor(const CommandLine& command_line) {
  if (!command_line.dev) return LoadServerConfig(command_line.config_paths);
  ServerConfig config;
  config.storage = StorageConfig{.type = "inmem"};
  config.listeners = {{.place = "-dev-listen-address",
                       .address = command_line.dev_listen_address,
                       .tls_disable = true}};
  return config;
}

absl::Status ConfigureLog(const CommandLine& command_line, const ServerConfig& config) {
  log::Level level;
  RETURN_IF_ERROR(log::ParseLevel(
      command_line.log_level.empty() ? config.log_level : command_line.log_level, &level));
  const std::string& format =
      command_line.log_format.empty() ? config.log_format : command_line.log_format;
  log::Configure(level, format == "json" ? log::Format::kJson : log::Format::kText);
  for (const std::string& warning : config.warnings) log::Warning(warning);
  return absl::OkStatus();
}

// Returns the first listener's URL.
absl::StatusOr<std::string> Listen(const ServerConfig& config, HttpServer& server) {
  std::string url;
  for (const ListenerConfig& listener : config.listeners) {
    const absl::StatusOr<std::string> address = server.Listen(ListenerOptionsFor(config, listener));
    if (!address.ok()) return Prefixed(listener.place, address.status());
    log::Info("listening", {{"address", *address}, {"tls", listener.tls_disable ? "off" : "on"}});
    if (url.empty()) url = StrCat(listener.tls_disable ? "http://" : "https://", *address);
  }
  return url;
}

absl::Status StartDev(const CommandLine& command_line, std::string_view url, ShamirSeal& seal,
                      Core& core) {
  ASSIGN_OR_RETURN(const DevKeys keys, SetUpDev(seal, core, command_line.dev_root_token_id));
  if (!command_line.dev_no_store_token) {
    RETURN_IF_ERROR(StoreTokenForCommandLine(keys.root_token.view()));
  }
  PrintDevBanner(keys, url);
  return absl::OkStatus();
}

// Until SIGTERM or SIGINT; SIGHUP reads the certificates again, and opens the audit files.
void ServeUntilTold(HttpServer& server, Audit& audit) {
  for (;;) {
    const int signal = WaitForSignal();
    if (signal != SIGHUP) {
      log::Info("ending", {{"signal", signal}});
      return;
    }
    audit.Reopen();
    if (const absl::Status reloaded = server.ReloadCertificates(); reloaded.ok()) {
      log::Info("TLS certificates read again");
    } else {
      log::Error("TLS certificates kept as they were", {{"error", reloaded}});
    }
  }
}

absl::Status Run(const CommandLine& command_line) {
  ASSIGN_OR_RETURN(const ServerConfig config, ConfigFor(command_line));
  RETURN_IF_ERROR(ConfigureLog(command_line, config));
  Seccomp seccomp = kDefaultSeccomp;
  ParseSeccomp(command_line.seccomp.c_str(), &seccomp);  // checked
  GiveUpPrivileges(seccomp);
  ASSIGN_OR_RETURN(const std::unique_ptr<PidFile> pid_file, PidFile::Write(config.pid_file));

  ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, OpenStore(*config.storage));
  const SystemClock clock;
  Barrier barrier(*store, clock);
  ShamirSeal seal(barrier, config.cluster_name);

  const LeaseTtls ttls = LeaseTtlsFor(config);
  TokenStore tokens(clock, ttls);
  PolicyStore policies;
  MountStore mounts;
  EventBus events(barrier, tokens, policies);
  Audit audit(clock);
  Core core(barrier, tokens, policies, mounts, audit);

  SystemBackend system({SealRoutes(seal, clock,
                                   {std::string(kApiVersion), COFFER_BUILD_DATE,
                                    std::string(store->type())},
                                   {[&core] { return core.InitializeContents(); },
                                    [&core] { return core.CreateRootToken(); },
                                    [&core] { core.Seal(); }}),
                        PolicyRoutes(policies, tokens), MountRoutes(core, mounts, policies, tokens),
                        RemountRoutes(mounts, tokens), LeaseRoutes(tokens),
                        OpenApiRoutes(core, mounts, std::string(kApiVersion)),
                        events.Routes(), AuditRoutes(audit), WrappingRoutes(tokens),
                        MetricsRoutes(core.telemetry(), clock, MetricsOptionsFor(config))});
  core.telemetry().Gauge("core.unsealed", "1 where the keystore is open, 0 where it is sealed",
                         [&barrier] { return barrier.sealed() ? 0 : 1; });
  AddProcessGauges(core.telemetry());
  TokenBackend token(core, mounts, tokens, policies, clock);
  KubernetesBackend kubernetes(clock, {}, ttls);
  Cubbyhole cubbyhole;
  KvV1 kv_v1(&events, ttls);
  KvV2 kv_v2(clock, &events);
  core.Register("system", system);
  core.Register("token", token);
  core.Register("kubernetes", kubernetes);
  core.Register("cubbyhole", cubbyhole);
  core.Register("kv/1", kv_v1);
  core.Register("kv/2", kv_v2);

  HttpServer server(
      [&core](Request& request, HttpServer::Answer answer) {
        core.Handle(request, std::move(answer));
      },
      {});
  ASSIGN_OR_RETURN(const std::string url, Listen(config, server));
  core.StartExpiry();
  if (command_line.dev) RETURN_IF_ERROR(StartDev(command_line, url, seal, core));
  server.Start();
  ServeUntilTold(server, audit);
  server.Stop(kGrace);
  return absl::OkStatus();
}

int Main(std::span<const char* const> arguments) {
  PrepareProcess();
  const absl::StatusOr<CommandLine> command_line = ParseCommandLine(arguments);
  if (command_line.ok() && command_line->help) {
    std::fputs(std::string(UsageText()).c_str(), stdout);
    return 0;
  }
  if (command_line.ok() && command_line->version) {
    std::puts("Coffer v" COFFER_VERSION ", built " COFFER_BUILD_DATE);
    return 0;
  }
  const absl::Status status = command_line.ok() ? Run(*command_line) : command_line.status();
  if (status.ok()) return 0;
  std::fprintf(stderr, "coffer-keystore: %s\n", std::string(Message(status)).c_str());
  return 1;
}

}  // namespace
}  // namespace coffer::keystore

int main(int argc, char** argv) {
  return coffer::keystore::Main({argv + std::min(argc, 1), argv + argc});
}
