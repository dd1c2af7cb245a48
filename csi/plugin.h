// The tree of parts of coffer-csi: members in the order in which they are made, each of which uses
// those before it. main() makes the three one after the other, and stops them.
#pragma once

#include <signal.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "csi/admin_server.h"
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
#include "csi/provider_service.h"
#include "csi/publisher.h"
#include "csi/read_times.h"
#include "csi/registration_service.h"
#include "csi/rotation.h"
#include "csi/socket_server.h"
#include "csi/status_server.h"
#include "csi/token_revoker.h"
#include "csi/vendor_providers.h"
#include "csi/volume/keeper_client.h"
#include "csi/volume/volume.h"
#include "csi/volume_log.h"
#include "csi/volume_records.h"
#include "provider/provider.h"
#include "provider/workers.h"

namespace coffer::csi {

// Volumes, and who is told of their opens. Nothing here asks the API server or a keystore: a plugin
// that stands by costs nobody anything.
struct Volumes {
  Volumes(const Clock& its_clock, const Flags& flags, std::unique_ptr<KubeClient> cluster,
          std::unique_ptr<AuditLog> log);
  // What a plugin before this one has left. Cancelled: told to stop.
  absl::Status TakeOver(const Flags& flags, const sigset_t& stop);
  StatusServer::IfTaken IfTaken() const {
    return keeper != nullptr ? StatusServer::IfTaken::kWait : StatusServer::IfTaken::kFail;
  }

  const Clock& clock;
  const std::unique_ptr<KubeClient> kube;  // null: there is no API server
  Metrics metrics;
  std::unique_ptr<KubeReporter> reporter;  // null with it
  std::unique_ptr<volume::KeeperClient> keeper;
  const std::unique_ptr<AuditLog> audit_log;
  ReadTimes read_times;
  VolumeRecords records;
  OpenReporter opens;
  volume::VolumeServer server;
};

// What fills volumes.
struct Publishing {
  Publishing(const Flags& flags, Volumes& volumes);
  Publisher::Options OptionsOf(const Flags& flags, Volumes& volumes);
  void Start(const Clock& clock);

  const std::unique_ptr<ClassSource> classes;
  provider::Workers fetch_workers;
  Handover handover;
  provider::Provider provider;
  TokenRevoker revoker;
  MetricsObserver counts;
  VolumeLog lines;
  VendorProviders vendors;
  provider::Workers rotation_workers;
  Rotation rotation;
  std::unique_ptr<PodTokens> tokens;        // null: there is no API server
  std::unique_ptr<EventSubscriber> events;  // null: the keystore isn't asked for them
  Publisher publisher;
};

// What the kubelet, an upstream driver, Prometheus and people speak to.
struct Doors {
  Doors(const Flags& flags, Volumes& volumes, Publishing& publishing);
  absl::Status Open(const std::vector<std::string>& sockets);
  absl::Status OpenToDriver();
  absl::Status OpenStatus();
  absl::Status OpenAdmin();
  void AddGauges();
  // No new calls.
  void StopListening();

  const Flags& flags;
  Volumes& volumes;
  Publishing& publishing;
  provider::Workers publish_workers;
  provider::Workers unpublish_workers;
  IdentityService identity;
  NodeService node;
  RegistrationService registration;
  std::unique_ptr<SocketServer> server;
  ProviderService provider_service;
  std::unique_ptr<SocketServer> provider_server;  // null: no upstream driver is served
  std::unique_ptr<StatusServer> status;           // or null
  std::unique_ptr<AdminServer> admin;             // or null
};

// The driver's own comes first.
absl::StatusOr<std::vector<std::string>> KubeletSockets(const Flags& flags);

StatusServer::Answer Alive();

}  // namespace coffer::csi
