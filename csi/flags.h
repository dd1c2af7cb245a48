// The command line of coffer-csi. Flags are written as in Go: -name=value, --name=value, --name
// value, and a name alone for true.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/hardening.h"
#include "common/log.h"
#include "csi/rotation_rule.h"
#include "provider/provider.h"

namespace coffer::csi {

struct Flags {
  std::string endpoint = "unix:///csi/csi.sock";
  std::string driver_name = "secrets-store.csi.k8s.io";
  std::string node_id;
  // The plugin's own pod: POD_NAMESPACE, POD_NAME, POD_UID; "" = nobody says.
  std::string pod_namespace, pod_name, pod_uid;
  std::string kubelet_root = "/var/lib/kubelet";
  std::string registration_dir;   // "" = no registration
  std::string registration_path;  // "" = no registration
  std::string class_dir;          // "" = the API server
  std::string kubeconfig;         // "" = in-cluster
  std::string keeper_socket;      // "" = no keeper
  // Where other vendors' providers have their sockets.
  std::vector<std::string> provider_dirs = {"/var/run/secrets-store-csi-providers",
                                            "/etc/kubernetes/secrets-store-csi-providers"};
  int most_answer_bytes = 4 << 20;  // of such a provider
  std::string serve_dir;          // where we are a provider ourselves; "" = nowhere
  std::string audit_log;          // "" = none
  std::string state_dir;          // "" = nothing is kept over a restart
  std::string metrics_address;    // "" = no metrics, no health pages
  std::string health_address;     // vault-csi-provider's /health/ready; "" = none
  std::string volume_backend = "auto";  // or fuse, tmpfs
  std::string admin_socket;       // "" = none
  std::string events_role;        // the node's own at the keystore; "" = no events
  std::string events_token_file = "/var/run/secrets/kubernetes.io/serviceaccount/token";
  bool remove_startup_taint = false;
  Seccomp seccomp = kDefaultSeccomp;
  // As given; `rotation` is what that means.
  std::optional<bool> enable_rotation;
  std::optional<absl::Duration> rotation_interval;
  // Where a class is silent. Without either flag the kubelet's republishes fetch, each; asked for
  // without an interval it has the upstream driver's.
  RotationRule rotation() const;
  // Flags and variables of the upstream driver, its provider and its sidecars that were given and do
  // nothing, and why.
  std::string without_effect;
  log::Level log_level = log::Level::kInfo;
  log::Format log_format = log::Format::kText;
  provider::Defaults defaults;  // VAULT_ADDR and the like, then --vault-addr and the like
  bool help = false;
  bool version = false;
};

// `arguments` without the program's name. InvalidArgument names the flag.
absl::StatusOr<Flags> ParseFlags(std::span<const char* const> arguments);

// One line a flag.
std::string FlagsHelp();

}  // namespace coffer::csi
