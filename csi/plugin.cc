#include "csi/plugin.h"

#include <sys/signalfd.h>

#include <functional>

#include "absl/time/clock.h"
#include "common/hardening.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/unique_fd.h"
#include "csi/admin.h"
#include "csi/version.h"

namespace coffer::csi {
namespace {

// Publishes and fetches wait for the keystore most of the time.
constexpr int kPublishThreads = 16;
constexpr int kFetchThreads = 16;
constexpr int kUnpublishThreads = 4;
constexpr int kRotationThreads = 8;
constexpr int kVolumeThreads = 2;
constexpr absl::Duration kRefetch = absl::Seconds(60);
constexpr absl::Duration kKeeperPatience = absl::Seconds(2);

using Answer = StatusServer::Answer;

// What Prometheus and the kubelet's probes ask for.
StatusServer::Pages Pages(std::function<std::string()> metrics,
                          const std::function<Answer()>& alive, std::function<Answer()> ready) {
  return {{"/metrics",
           [metrics = std::move(metrics)] {
             return Answer{200, metrics()};
           }},
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

}  // namespace

StatusServer::Answer Alive() { return {200, "ok\n"}; }

absl::StatusOr<std::vector<std::string>> KubeletSockets(const Flags& flags) {
  std::vector<std::string> endpoints = {flags.endpoint};
  if (!flags.registration_dir.empty()) {
    endpoints.push_back(StrCat(flags.registration_dir, "/", flags.driver_name, "-reg.sock"));
  }
  return SocketPaths(endpoints);
}

Volumes::Volumes(const Clock& its_clock, const Flags& flags, std::unique_ptr<KubeClient> cluster,
                 std::unique_ptr<AuditLog> log)
    : clock(its_clock),
      kube(std::move(cluster)),
      reporter(kube ? std::make_unique<KubeReporter>(clock, *kube, metrics, flags.node_id)
                    : nullptr),
      keeper(flags.keeper_socket.empty()
                 ? nullptr
                 : std::make_unique<volume::KeeperClient>(flags.keeper_socket)),
      audit_log(std::move(log)),
      read_times(clock, flags.state_dir),
      records(clock),
      opens(audit_log.get(), metrics, read_times, records,
            reporter ? [this](const volume::OpenEvent& event) { reporter->CanaryOpened(event); }
                     : std::function<void(const volume::OpenEvent&)>()),
      server(clock, kVolumeThreads, flags.kubelet_root, keeper.get(), &opens, AbilitiesOf(flags)) {
  if (audit_log == nullptr) return;
  metrics.Gauge("coffer_csi_audit_lines_lost", "Lines that the audit log lacks, since the start",
                [this] { return static_cast<double>(audit_log->lost()); });
}

absl::Status Volumes::TakeOver(const Flags& flags, const sigset_t& stop) {
  const auto starts = [this] {
    if (audit_log != nullptr) audit_log->Start(keeper.get());
  };
  if (keeper != nullptr) {
    RETURN_IF_ERROR(AdoptVolumes(flags, stop, server, starts));
  } else {
    starts();
  }
  if (const auto found = server.Recover(); !found.ok()) {
    log::Warning("looking for tmpfs volumes", {{"cause", found.status()}});
  }
  read_times.Load();
  return absl::OkStatus();
}

Publishing::Publishing(const Flags& flags, Volumes& volumes)
    : classes(volumes.kube ? MakeClusterClassSource(*volumes.kube)
                           : MakeDirectoryClassSource(flags.class_dir)),
      fetch_workers(kFetchThreads),
      handover(volumes.keeper.get()),
      provider(volumes.clock, fetch_workers,
               {.defaults = flags.defaults, .version_key = handover.Key()}),
      revoker(volumes.clock, provider, &handover),
      counts(volumes.metrics),
      vendors(flags.provider_dirs, flags.most_answer_bytes),
      rotation_workers(kRotationThreads),
      rotation(volumes.clock, rotation_workers),
      tokens(volumes.kube ? std::make_unique<PodTokens>(*volumes.kube) : nullptr),
      events(flags.events_role.empty()
                 ? nullptr
                 : std::make_unique<EventSubscriber>(
                       volumes.clock, rotation,
                       EventSubscriber::Options{.keystore = flags.defaults,
                                                .role = flags.events_role,
                                                .token_file = flags.events_token_file})),
      publisher(volumes.clock, *classes, provider, volumes.server, revoker, flags.kubelet_root,
                OptionsOf(flags, volumes)) {
  if (volumes.reporter) volumes.reporter->CleanUp();
  publisher.DetachDeadMounts();
  publisher.TakeOver();
}

Publisher::Options Publishing::OptionsOf(const Flags& flags, Volumes& volumes) {
  Publisher::Options options{
      .observers = {&lines, &counts, &volumes.records, &volumes.opens, &rotation},
      .tokens = tokens.get(),
      .vendors = &vendors,
      .rotation = flags.rotation(),
      .handover = &handover};
  if (volumes.reporter) options.observers.push_back(volumes.reporter.get());
  if (events) options.observers.push_back(events.get());
  return options;
}

void Publishing::Start(const Clock& clock) {
  rotation.Start([this, &clock](const std::string& target) {
    return publisher.Refetch(target, clock.Now() + kRefetch);
  });
  if (events) events->Start();
}

Doors::Doors(const Flags& all_flags, Volumes& all_volumes, Publishing& all_publishing)
    : flags(all_flags),
      volumes(all_volumes),
      publishing(all_publishing),
      publish_workers(kPublishThreads),
      unpublish_workers(kUnpublishThreads),
      identity(flags.driver_name, [this] { return publishing.publisher.Ready(); }),
      node(flags.node_id, publishing.publisher, publish_workers, unpublish_workers),
      registration(flags.driver_name, flags.registration_path,
                   [this] {
                     if (volumes.reporter && flags.remove_startup_taint) volumes.reporter->Serves();
                   }),
      provider_service(publishing.provider, publishing.revoker, publish_workers,
                       publishing.tokens.get()) {}

absl::Status Doors::Open(const std::vector<std::string>& sockets) {
  std::vector<grpc::Service*> services = {&identity, &node};
  if (!flags.registration_dir.empty()) services.push_back(&registration);
  ASSIGN_OR_RETURN(server, SocketServer::Start(sockets, services));
  if (!flags.serve_dir.empty()) RETURN_IF_ERROR(OpenToDriver());
  AddGauges();
  if (!flags.metrics_address.empty()) RETURN_IF_ERROR(OpenStatus());
  return flags.admin_socket.empty() ? absl::OkStatus() : OpenAdmin();
}

absl::Status Doors::OpenToDriver() {
  ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                   SocketPaths({StrCat(flags.serve_dir, "/vault.sock"),
                                StrCat(flags.serve_dir, "/coffer.sock")}));
  ASSIGN_OR_RETURN(provider_server, SocketServer::Start(paths, {&provider_service}));
  return absl::OkStatus();
}

void Doors::AddGauges() {
  Metrics& metrics = volumes.metrics;
  metrics.Gauge("coffer_csi_volumes", "Volumes that are published",
                [this] { return static_cast<double>(volumes.server.List().size()); });
  metrics.Gauge("coffer_csi_sockets_in_place",
                "1: the kubelet finds this plugin; 0: another program's sockets are in their place",
                [this] { return server->InPlace().ok() ? 1.0 : 0.0; });
  metrics.Gauge("coffer_csi_serving", "1: this plugin serves the node's volumes; 0: it stands by",
                [] { return 1.0; });
  if (volumes.reporter == nullptr) return;
  metrics.Gauge("coffer_csi_kubernetes_writes_pending", "Writes to the API server that wait",
                [this] { return static_cast<double>(volumes.reporter->writer().pending()); });
}

absl::Status Doors::OpenStatus() {
  const auto displaced = [this](const absl::Status& why) {
    log::Error("not found by the kubelet", {{"cause", why}});
    if (volumes.reporter == nullptr) return;
    volumes.reporter->TellOwnPod(flags.pod_namespace, flags.pod_name, flags.pod_uid,
                                 "DriverDisplaced", why);
  };
  ASSIGN_OR_RETURN(status,
                   StatusServer::Start(flags.metrics_address,
                                       Pages([this] { return volumes.metrics.Text(); }, Alive,
                                             Readiness(publishing.publisher, *server, displaced)),
                                       volumes.IfTaken()));
  return absl::OkStatus();
}

absl::Status Doors::OpenAdmin() {
  AdminParts parts{volumes.clock,      publishing.publisher, volumes.server, volumes.records,
                   volumes.read_times, flags.driver_name,    flags.node_id,  {}};
  const auto keeper = [this] {
    return !volumes.keeper ? "none" : volumes.keeper->connected() ? "connected" : "away";
  };
  const auto events = [this] {
    return !publishing.events ? "off" : publishing.events->subscribed() ? "subscribed" : "away";
  };
  const auto ready = [this] {
    const absl::Status found = publishing.publisher.Ready();
    return found.ok() ? "yes" : found.ToString();
  };
  parts.facts = {
      {"volumes", [this] { return volumes.server.abilities().Backend(); }},
      {"memory", [this] { return volumes.server.abilities().Memory(); }},
      {"hand-over", [this] { return volumes.server.abilities().HandOver(); }},
      {"keeper", keeper},
      {"events", events},
      {"classes", [this] { return volumes.kube ? volumes.kube->server() : flags.class_dir; }},
      {"seccomp", [this] { return SeccompName(flags.seccomp); }},
      {"ready", ready}};
  ASSIGN_OR_RETURN(admin, AdminServer::Start(flags.admin_socket, AdminRoutes(std::move(parts))));
  return absl::OkStatus();
}

void Doors::StopListening() {
  if (admin) admin->StopListening();
  status.reset();
  server->StopListening();
  if (provider_server) provider_server->StopListening();
}

}  // namespace coffer::csi
