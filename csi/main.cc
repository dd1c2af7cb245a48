// coffer-csi: the node plugin. Builds the tree of parts, serves until told to stop.
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <optional>

#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/descriptor_limit.h"
#include "common/hardening.h"
#include "common/kube_config.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/unique_fd.h"
#include "csi/admin.h"
#include "csi/audit_log.h"
#include "csi/class_source.h"
#include "csi/event_subscriber.h"
#include "csi/flags.h"
#include "csi/handover.h"
#include "csi/identity_service.h"
#include "csi/kube_client.h"
#include "csi/kube_reporter.h"
#include "csi/metrics.h"
#include "csi/metrics_observer.h"
#include "csi/node_service.h"
#include "csi/open_reporter.h"
#include "csi/pod_tokens.h"
#include "csi/program_pages.h"
#include "csi/provider_service.h"
#include "csi/publisher.h"
#include "csi/read_times.h"
#include "csi/registration_service.h"
#include "csi/rotation.h"
#include "csi/secret_checks.h"
#include "csi/socket_server.h"
#include "csi/status_server.h"
#include "csi/token_revoker.h"
#include "csi/vendor_providers.h"
#include "csi/version.h"
#include "csi/volume/keeper_client.h"
#include "csi/volume/volume.h"
#include "csi/volume_log.h"
#include "csi/volume_records.h"
#include "provider/provider.h"
#include "provider/workers.h"

namespace coffer::csi {
namespace {

// Publishes and fetches wait for the keystore most of the time.
constexpr int kPublishThreads = 16;
constexpr int kFetchThreads = 16;
constexpr int kUnpublishThreads = 4;
constexpr int kRotationThreads = 8;
constexpr int kVolumeThreads = 2;
constexpr absl::Duration kRefetch = absl::Seconds(60);
constexpr absl::Duration kLastRevocations = absl::Seconds(3);
constexpr absl::Duration kKeeperPatience = absl::Seconds(2);
constexpr absl::Duration kKeeperRestart = absl::Seconds(3);
constexpr absl::Duration kLastWrites = absl::Seconds(2);
// A keystore that hangs must not keep a plugin that was told to stop.
constexpr std::chrono::seconds kLastCalls{6};  // more than a gRPC server's grace
constexpr unsigned kStopSeconds = 15;          // in all

// Blocks SIGTERM, SIGINT and SIGHUP, which are waited for, before any thread is made. Returns those that
// stop.
sigset_t BlockStopSignals() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  sigset_t reopen;
  sigemptyset(&reopen);
  sigaddset(&reopen, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &reopen, nullptr);
  return stop;
}

// Mounts take SYS_ADMIN. The kubelet's folders and what lies in them may belong to anyone, and
// files of volumes are given to whom a class names. SYS_PTRACE shows who it is that opens a file,
// of which /proc tells nobody else; ptrace itself is not on the list of system calls. LEASE shows
// that nobody has a file of a tmpfs volume open.
void GiveUpPrivileges(Seccomp seccomp) {
  std::uint64_t kept = 0;
  for (const int capability : {CAP_SYS_ADMIN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_CHOWN,
                               CAP_FOWNER, CAP_IPC_LOCK, CAP_SYS_PTRACE, CAP_LEASE}) {
    kept |= std::uint64_t{1} << capability;
  }
  Harden({.program = "coffer-csi", .capabilities = kept, .mounts = true, .seccomp = seccomp},
         [](const char* what, int error) {
           log::Warning("the kernel refuses a part of the hardening",
                        {{"what", what}, {"cause", strerrordesc_np(error)}});
         });
}

// Which signal it was; calls `reopen` at each SIGHUP until then.
int WaitForStop(sigset_t signals, const std::function<void()>& reopen) {
  sigaddset(&signals, SIGHUP);
  int number = 0;
  while (sigwait(&signals, &number) == 0 && number == SIGHUP) reopen();
  return number;
}

using Answer = StatusServer::Answer;

Answer Alive() { return {200, "ok\n"}; }

// What Prometheus and the kubelet's probes ask for.
StatusServer::Pages Pages(std::function<std::string()> metrics, const std::function<Answer()>& alive,
                          std::function<Answer()> ready) {
  return {{"/metrics", [metrics = std::move(metrics)] { return Answer{200, metrics()}; }},
          {"/healthz", alive},
          {"/health/ready", alive},  // vault-csi-provider's, of which its chart asks for no more
          {"/readyz", std::move(ready)}};
}

// `displaced` is told when the kubelet no longer finds the sockets.
std::function<Answer()> Readiness(const Publisher& publisher, const SocketServer& sockets,
                                  std::function<void(const absl::Status&)> displaced) {
  return [&, displaced = std::move(displaced), in_place = true]() mutable -> Answer {
    absl::Status status = sockets.InPlace();
    if (in_place && !status.ok()) displaced(status);
    in_place = status.ok();
    if (status.ok()) status = publisher.Ready();
    return status.ok() ? Alive() : Answer{503, StrCat(Message(status), "\n")};
  };
}

volume::Abilities AbilitiesOf(const Flags& flags) {
  volume::Abilities found = volume::FindAbilities();
  if (flags.volume_backend == "tmpfs") {
    found.fuse = false;
    found.fuse_refusal = "--volume-backend=tmpfs";
  } else if (flags.volume_backend == "fuse") {
    found.fuse = true;  // or nothing
  }
  for (const std::string& line : found.Fallbacks(!flags.keeper_socket.empty())) {
    log::Warning(line, {});
  }
  return found;
}

// Readers of the volumes wait for this: first of all that takes time. While another plugin serves,
// it lasts. Cancelled: told to stop.
absl::Status AdoptVolumes(const Flags& flags, const sigset_t& stop, volume::VolumeServer& volumes,
                          const std::function<void()>& starts) {
  const UniqueFd stopped(signalfd(-1, &stop, SFD_CLOEXEC));
  absl::StatusOr<std::unique_ptr<StatusServer>> pages = nullptr;
  const auto begins = [&] {
    log::Info("another plugin serves: standing by", {{"version", kVersion}});
    if (flags.metrics_address.empty()) return;
    const auto standby = [] { return Answer{200, "ok (standby)\n"}; };
    pages = StatusServer::Start(flags.metrics_address,
                                Pages([] { return "coffer_csi_serving 0\n"; }, standby, standby),
                                StatusServer::IfTaken::kWait);
    if (!pages.ok()) log::Warning("no health pages while standing by", {{"cause", pages.status()}});
  };
  const absl::StatusOr<std::size_t> adopted =
      volumes.Adopt(kKeeperPatience, {.stop_fd = stopped.get(), .begins = begins, .ends = starts});
  if (absl::IsCancelled(adopted.status())) return adopted.status();
  if (adopted.ok()) {
    log::Info("volumes taken over from the keeper", {{"volumes", *adopted}});
  } else {
    log::Warning("no keeper: volumes will not outlive this plugin unless one comes",
                 {{"cause", adopted.status()}});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> SocketPaths(const std::vector<std::string>& endpoints) {
  std::vector<std::string> paths;
  for (const std::string& endpoint : endpoints) {
    ASSIGN_OR_RETURN(paths.emplace_back(), SocketPath(endpoint));
  }
  return paths;
}

// The driver's own comes first.
absl::StatusOr<std::vector<std::string>> KubeletSockets(const Flags& flags) {
  std::vector<std::string> endpoints = {flags.endpoint};
  if (!flags.registration_dir.empty()) {
    endpoints.push_back(StrCat(flags.registration_dir, "/", flags.driver_name, "-reg.sock"));
  }
  return SocketPaths(endpoints);
}

// All are kept by the caller, as long as the metrics; null `reporter`: there is no API server.
void AddGauges(const volume::VolumeServer& volumes, const SocketServer& server,
               KubeReporter* reporter, Metrics* metrics) {
  metrics->Gauge("coffer_csi_volumes", "Volumes that are published",
                 [&volumes] { return static_cast<double>(volumes.List().size()); });
  metrics->Gauge("coffer_csi_sockets_in_place",
                 "1: the kubelet finds this plugin; 0: another program's sockets are in their place",
                 [&server] { return server.InPlace().ok() ? 1.0 : 0.0; });
  metrics->Gauge("coffer_csi_serving", "1: this plugin serves the node's volumes; 0: it stands by",
                 [] { return 1.0; });
  if (reporter != nullptr) {
    metrics->Gauge("coffer_csi_kubernetes_writes_pending", "Writes to the API server that wait",
                   [reporter] { return static_cast<double>(reporter->writer().pending()); });
  }
}

void WarnOfMissing(std::string_view flag, const std::string& folder) {
  struct stat facts = {};
  if (folder.empty() || (stat(folder.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode))) return;
  log::Warning("a folder isn't there", {{"flag", flag}, {"folder", folder}});
}

absl::Status Run(const Flags& flags, const sigset_t& stop) {
  const SystemClock clock;
  ASSIGN_OR_RETURN(const std::vector<std::string> sockets, KubeletSockets(flags));

  std::optional<KubeClient> kube;
  std::unique_ptr<ClassSource> classes;
  if (!flags.class_dir.empty()) {
    classes = MakeDirectoryClassSource(flags.class_dir);
  } else {
    ASSIGN_OR_RETURN(KubeConfig config, flags.kubeconfig.empty()
                                            ? InClusterConfig()
                                            : LoadKubeConfig(flags.kubeconfig));
    kube.emplace(std::move(config));
  }

  Metrics metrics;
  std::optional<KubeReporter> reporter;
  if (kube) reporter.emplace(clock, *kube, metrics, flags.node_id);
  std::optional<volume::KeeperClient> keeper;
  if (!flags.keeper_socket.empty()) keeper.emplace(flags.keeper_socket);
  std::unique_ptr<AuditLog> audit_log;
  if (!flags.audit_log.empty()) {
    ASSIGN_OR_RETURN(audit_log, AuditLog::Open(clock, flags.audit_log));
    metrics.Gauge("coffer_csi_audit_lines_lost", "Lines that the audit log lacks, since the start",
                  [&audit_log] { return static_cast<double>(audit_log->lost()); });
  }
  ReadTimes read_times(clock, flags.state_dir);
  VolumeRecords records(clock);
  OpenReporter opens(audit_log.get(), metrics, read_times, records,
                     [&reporter](const volume::OpenEvent& event) {
                       if (reporter) reporter->CanaryOpened(event);
                     });
  volume::VolumeServer volumes(clock, kVolumeThreads, flags.kubelet_root,
                               keeper ? &*keeper : nullptr, &opens, AbilitiesOf(flags));
  std::unique_ptr<StatusServer> health;
  if (!flags.health_address.empty() && flags.health_address != flags.metrics_address) {
    ASSIGN_OR_RETURN(health, StatusServer::Start(flags.health_address, {{"/health/ready", Alive}},
                                                 keeper ? StatusServer::IfTaken::kWait
                                                        : StatusServer::IfTaken::kFail));
  }
  if (keeper) {
    const absl::Status adopted = AdoptVolumes(flags, stop, volumes, [&] {
      if (audit_log != nullptr) audit_log->Start(&*keeper);
    });
    if (absl::IsCancelled(adopted)) return absl::OkStatus();
  } else if (audit_log != nullptr) {
    audit_log->Start(nullptr);
  }
  if (const auto found = volumes.Recover(); !found.ok()) {
    log::Warning("looking for tmpfs volumes", {{"cause", found.status()}});
  }

  // Nothing above asks the API server or a keystore: one that stands by costs nobody anything.
  read_times.Load();
  if (kube) classes = MakeClusterClassSource(*kube);
  provider::Workers fetch_workers(kFetchThreads);
  Handover handover(keeper ? &*keeper : nullptr);
  provider::Provider provider(clock, fetch_workers,
                              {.defaults = flags.defaults, .version_key = handover.Key()});
  TokenRevoker revoker(clock, provider, &handover);
  MetricsObserver counts(metrics);
  VolumeLog lines;
  VendorProviders vendors(flags.provider_dirs, flags.most_answer_bytes);
  provider::Workers rotation_workers(kRotationThreads);
  Rotation rotation(clock, rotation_workers);
  Publisher::Options options{.observers = {&lines, &counts, &records, &opens, &rotation},
                             .vendors = &vendors,
                             .rotation = flags.rotation(),
                             .handover = &handover};
  std::optional<PodTokens> tokens;
  if (kube) {
    tokens.emplace(*kube);
    options.observers.push_back(&*reporter);
    options.tokens = &*tokens;
    reporter->CleanUp();
  }
  std::optional<EventSubscriber> events;
  if (!flags.events_role.empty()) {
    events.emplace(clock, rotation,
                   EventSubscriber::Options{.keystore = flags.defaults,
                                            .role = flags.events_role,
                                            .token_file = flags.events_token_file});
    options.observers.push_back(&*events);
  }
  Publisher publisher(clock, *classes, provider, volumes, revoker, flags.kubelet_root,
                      std::move(options));
  publisher.DetachDeadMounts();
  publisher.TakeOver();

  provider::Workers publish_workers(kPublishThreads);
  provider::Workers unpublish_workers(kUnpublishThreads);
  IdentityService identity(flags.driver_name, [&publisher] { return publisher.Ready(); });
  NodeService node(flags.node_id, publisher, publish_workers, unpublish_workers);
  RegistrationService registration(flags.driver_name, flags.registration_path, [&reporter, &flags] {
    if (reporter && flags.remove_startup_taint) reporter->Serves();
  });
  std::vector<grpc::Service*> services = {&identity, &node};
  if (!flags.registration_dir.empty()) services.push_back(&registration);
  ASSIGN_OR_RETURN(std::unique_ptr<SocketServer> server, SocketServer::Start(sockets, services));
  ProviderService provider_service(provider, revoker, publish_workers,
                                   tokens ? &*tokens : nullptr);
  std::unique_ptr<SocketServer> provider_server;
  if (!flags.serve_dir.empty()) {
    ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                     SocketPaths({StrCat(flags.serve_dir, "/vault.sock"),
                                  StrCat(flags.serve_dir, "/coffer.sock")}));
    ASSIGN_OR_RETURN(provider_server, SocketServer::Start(paths, {&provider_service}));
  }
  AddGauges(volumes, *server, reporter ? &*reporter : nullptr, &metrics);
  const auto displaced = [&flags, &reporter](const absl::Status& why) {
    log::Error("not found by the kubelet", {{"cause", why}});
    if (reporter) {
      reporter->TellOwnPod(flags.pod_namespace, flags.pod_name, flags.pod_uid, "DriverDisplaced", why);
    }
  };
  std::unique_ptr<StatusServer> status;
  if (!flags.metrics_address.empty()) {
    ASSIGN_OR_RETURN(status, StatusServer::Start(flags.metrics_address,
                                                  Pages([&metrics] { return metrics.Text(); }, Alive,
                                                        Readiness(publisher, *server, displaced)),
                                                  keeper ? StatusServer::IfTaken::kWait
                                                         : StatusServer::IfTaken::kFail));
  }
  std::unique_ptr<AdminServer> admin;
  if (!flags.admin_socket.empty()) {
    AdminParts parts{clock,      publisher,         volumes,       records,
                     read_times, flags.driver_name, flags.node_id, {}};
    parts.facts = {
        {"volumes", [&] { return volumes.abilities().Backend(); }},
        {"memory", [&] { return volumes.abilities().Memory(); }},
        {"hand-over", [&] { return volumes.abilities().HandOver(); }},
        {"keeper", [&] { return !keeper ? "none" : keeper->connected() ? "connected" : "away"; }},
        {"events", [&] { return !events ? "off" : events->subscribed() ? "subscribed" : "away"; }},
        {"classes", [&] { return kube ? kube->server() : flags.class_dir; }},
        {"seccomp", [&] { return SeccompName(flags.seccomp); }},
        {"ready", [&] { return publisher.Ready().ok() ? "yes" : publisher.Ready().ToString(); }}};
    ASSIGN_OR_RETURN(admin, AdminServer::Start(flags.admin_socket, AdminRoutes(std::move(parts))));
  }
  rotation.Start([&publisher, &clock](const std::string& target) {
    return publisher.Refetch(target, clock.Now() + kRefetch);
  });
  if (events) events->Start();
  std::optional<SecretChecks> checks;
  if (reporter) checks.emplace(*classes, volumes, *reporter);
  if (!flags.without_effect.empty()) {
    log::Info("flags and variables that have no effect here",
              {{"these", flags.without_effect}});
  }
  WarnOfMissing("--kubelet-root", flags.kubelet_root);
  WarnOfMissing("--secret-provider-class-dir", flags.class_dir);
  LetGoOfProgramPages();
  log::Info("coffer-csi serves", {{"version", kVersion},
                                  {"driver", flags.driver_name},
                                  {"node", flags.node_id},
                                  {"endpoint", sockets.front()},
                                  {"classes", kube ? kube->server() : flags.class_dir}});

  const int signal_number = WaitForStop(stop, [&audit_log] {
    if (audit_log != nullptr) audit_log->Reopen();
  });
  log::Info("stopping; volumes stay mounted", {{"signal", signal_number}});
  alarm(kStopSeconds);
  const bool tokens_are_kept = handover.Holds();
  // The next plugin goes on at once; what follows takes its time.
  if (admin) admin->StopListening();
  status.reset();
  server->StopListening();
  if (provider_server) provider_server->StopListening();
  volumes.HandOver(kKeeperRestart);
  const std::future<void> calls = std::async(std::launch::async, [&] {
    if (events) events->Stop();
    server.reset();
    provider_server.reset();
    admin.reset();
    rotation.Stop();
    checks.reset();
  });
  const bool ended = calls.wait_for(kLastCalls) == std::future_status::ready;
  if (reporter) reporter->writer().Drain(clock.Now() + kLastWrites);
  if (!tokens_are_kept) publisher.ForgetTokens();
  provider_service.ForgetTokens();
  if (!revoker.Drain(clock.Now() + kLastRevocations)) {
    log::Warning("some tokens are not revoked and live until their TTL ends");
  }
  if (!ended) {
    log::Warning("calls that hang are left off");
    read_times.Save().IgnoreError();
    if (audit_log != nullptr) audit_log->Stop();
    _exit(0);
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  // One heap for all threads, which give memory back: small before fast.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TRIM_THRESHOLD, 128 * 1024);
  umask(077);
  const absl::StatusOr<Flags> flags =
      ParseFlags(std::span<const char* const>(argv + 1, static_cast<std::size_t>(argc - 1)));
  if (!flags.ok()) {
    std::fprintf(stderr, "coffer-csi: %s\n", std::string(Message(flags.status())).c_str());
    return 2;
  }
  if (flags->help || flags->version) {
    std::printf("%s\n",
                flags->help ? FlagsHelp().c_str() : StrCat("coffer-csi ", kVersion).c_str());
    return 0;
  }
  log::Configure(flags->log_level, flags->log_format);
  if (const int error = RaiseDescriptorLimit(); error != 0) {
    log::Warning("the limit of open files is as it was", {{"cause", strerrordesc_np(error)}});
  }
  GiveUpPrivileges(flags->seccomp);
  const sigset_t stop = BlockStopSignals();
  const absl::Status run = Run(*flags, stop);
  if (run.ok()) return 0;
  std::fprintf(stderr, "coffer-csi: %s\n", std::string(Message(run)).c_str());
  return 1;
}

}  // namespace
}  // namespace coffer::csi

int main(int argc, char** argv) { return coffer::csi::Main(argc, argv); }
