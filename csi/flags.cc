#include "csi/flags.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <vector>

#include "absl/strings/numbers.h"
#include "common/duration.h"
#include "common/go_bool.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "csi/flags_without_effect.h"

namespace coffer::csi {
namespace {

struct Flag {
  std::string_view name;
  bool boolean;  // may stand without a value
  std::string_view help;
  std::function<absl::Status(std::string_view, Flags*)> set;
};

absl::Status ParseBool(std::string_view text, bool* value) {
  const std::optional<bool> parsed = ParseGoBool(text);
  if (!parsed) return absl::InvalidArgumentError("must be true or false");
  *value = *parsed;
  return absl::OkStatus();
}

// A flag that is a text somewhere in Flags.
template <class Place>
Flag Text(std::string_view name, std::string_view help, Place place) {
  return {name, false, help, [place](std::string_view text, Flags* flags) {
            place(*flags) = text;
            return absl::OkStatus();
          }};
}

template <class Place>
Flag Switch(std::string_view name, std::string_view help, Place place) {
  return {name, true, help,
          [place](std::string_view text, Flags* flags) { return ParseBool(text, &place(*flags)); }};
}

absl::Status SetLogFormat(std::string_view text, Flags* flags) {
  bool json = false;
  RETURN_IF_ERROR(ParseBool(text, &json));
  flags->log_format = json ? log::Format::kJson : log::Format::kText;
  return absl::OkStatus();
}

// klog's verbosity: the driver logs debugging details from 5 on.
absl::Status SetVerbosity(std::string_view text, Flags* flags) {
  if (text.empty() || text.find_first_not_of("0123456789") != text.npos) {
    return absl::InvalidArgumentError("must be a number");
  }
  if (text.size() > 1 || text[0] >= '5') flags->log_level = log::Level::kDebug;
  return absl::OkStatus();
}

// As in the upstream driver, --provider-volume comes before the additional paths, whichever comes
// first on the command line.
absl::Status SetProviderDir(std::string_view text, Flags* flags) {
  flags->provider_dirs.front() = text;
  return absl::OkStatus();
}

absl::Status AddProviderDirs(std::string_view text, Flags* flags) {
  flags->provider_dirs.resize(1);
  for (const std::string_view folder : Split(text, ',')) {
    if (!Trim(folder).empty()) flags->provider_dirs.emplace_back(Trim(folder));
  }
  return absl::OkStatus();
}

absl::Status SetSeccomp(std::string_view text, Flags* flags) {
  if (ParseSeccomp(std::string(text).c_str(), &flags->seccomp)) return absl::OkStatus();
  return absl::InvalidArgumentError("must be enforce, log or off");
}

absl::Status SetRotation(std::string_view text, Flags* flags) {
  return ParseBool(text, &flags->enable_rotation.emplace());
}

absl::Status SetRotationInterval(std::string_view text, Flags* flags) {
  const absl::StatusOr<absl::Duration> parsed = ParseDuration(text);
  if (!parsed.ok() || *parsed < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("must be a duration as 2m or 30s, or 0");
  }
  flags->rotation_interval = *parsed;
  return absl::OkStatus();
}

absl::Status SetLogLevel(std::string_view text, Flags* flags) {
  return log::ParseLevel(text == "off" ? "error" : text, &flags->log_level);
}

absl::Status SetDebug(std::string_view text, Flags* flags) {
  bool debug = false;
  RETURN_IF_ERROR(ParseBool(text, &debug));
  if (debug) flags->log_level = log::Level::kDebug;
  return absl::OkStatus();
}

absl::Status SetStartupTaint(std::string_view text, Flags* flags) {
  return ParseBool(text, &flags->remove_startup_taint);
}

void AddWithoutEffect(std::string_view name, std::string_view why, Flags* flags) {
  StrAppend(&flags->without_effect, flags->without_effect.empty() ? "" : "; ", name, " (", why, ")");
}

// Vault's Helm chart points its provider at an agent beside it.
absl::Status SetVaultAddress(std::string_view text, Flags* flags) {
  if (text.starts_with("unix:")) {
    AddWithoutEffect(StrCat("the keystore's address ", text),
                     "no agent is needed: tokens and leases are kept and renewed here; give the "
                     "keystore's own URL",
                     flags);
    return absl::OkStatus();
  }
  flags->defaults.address = text;
  return absl::OkStatus();
}

absl::Status SetMostBytes(std::string_view text, Flags* flags) {
  if (absl::SimpleAtoi(ToAbsl(text), &flags->most_answer_bytes) && flags->most_answer_bytes > 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("must be a positive number");
}

absl::Status SetAuthType(std::string_view text, Flags*) {
  if (text == "kubernetes" || text == "jwt") return absl::OkStatus();
  return absl::InvalidArgumentError(
      "must be kubernetes or jwt: pods log in with their ServiceAccount's token");
}

absl::Status SetVolumeBackend(std::string_view text, Flags* flags) {
  if (text != "auto" && text != "fuse" && text != "tmpfs") {
    return absl::InvalidArgumentError("must be auto, fuse or tmpfs");
  }
  flags->volume_backend = text;
  return absl::OkStatus();
}

const std::vector<Flag>& Table() {
  static const auto* table = new std::vector<Flag>{
      Text(
          "endpoint", "the CSI socket: unix:///csi/csi.sock",
          [](Flags & f) -> auto& { return f.endpoint; }),
      Text(
          "driver-name", "secrets-store.csi.k8s.io, or another to run beside the upstream driver",
          [](Flags & f) -> auto& { return f.driver_name; }),
      Text(
          "drivername", "the same, as the upstream driver spells it",
          [](Flags & f) -> auto& { return f.driver_name; }),
      Text(
          "nodeid", "the node's name; required", [](Flags & f) -> auto& { return f.node_id; }),
      Text(
          "kubelet-root", "targets must lie below this folder: /var/lib/kubelet",
          [](Flags & f) -> auto& { return f.kubelet_root; }),
      Text(
          "plugin-registration-dir", "the kubelet's plugins_registry folder as it is seen here",
          [](Flags & f) -> auto& { return f.registration_dir; }),
      Text(
          "kubelet-registration-path", "the CSI socket's path as the kubelet sees it",
          [](Flags & f) -> auto& { return f.registration_path; }),
      Text(
          "secret-provider-class-dir", "SecretProviderClasses from a folder of YAML files",
          [](Flags & f) -> auto& { return f.class_dir; }),
      Text(
          "kubeconfig", "how to reach the API server from outside of a cluster",
          [](Flags & f) -> auto& { return f.kubeconfig; }),
      Text(
          "keeper-socket", "coffer-keeper's socket: it holds the volumes while this restarts",
          [](Flags & f) -> auto& { return f.keeper_socket; }),
      {"volume-backend", false,
       "fuse, tmpfs (no rules of files, no audit), or auto: tmpfs where there is no FUSE",
       SetVolumeBackend},
      Text(
          "metrics-addr", "/metrics, /healthz and /readyz over HTTP here, e.g. :8095",
          [](Flags & f) -> auto& { return f.metrics_address; }),
      Text(
          "health-addr", "/health/ready over HTTP here, too, as in vault-csi-provider: none",
          [](Flags & f) -> auto& { return f.health_address; }),
      Text(
          "audit-log", "each open of audited volumes becomes a line of this file",
          [](Flags & f) -> auto& { return f.audit_log; }),
      Text(
          "state-dir", "a folder that outlives restarts: when secrets were last read; no secrets",
          [](Flags & f) -> auto& { return f.state_dir; }),
      Text(
          "admin-socket", "`coffer csi …` asks here, root alone: /csi/admin.sock",
          [](Flags & f) -> auto& { return f.admin_socket; }),
      {"provider-volume", false,
       "other vendors' providers have their sockets in this folder", SetProviderDir},
      {"additional-provider-volume-paths", false, "and in these, with commas between",
       AddProviderDirs},
      {"enable-secret-rotation", true,
       "whether published volumes are read anew where a class is silent: true", SetRotation},
      {"rotation-poll-interval", false,
       "how often: 2m with --enable-secret-rotation, else (or 0) at each republish of the kubelet",
       SetRotationInterval},
      {"max-call-recv-msg-size", false, "bytes of such a provider's answer at most: 4194304",
       SetMostBytes},
      Text(
          "provider-socket-dir",
          "serve the upstream driver's provider protocol at vault.sock and coffer.sock here",
          [](Flags & f) -> auto& { return f.serve_dir; }),
      Text(
          "events-role",
          "the node's own role at --vault-addr, to hear of changed secrets at once: no events",
          [](Flags & f) -> auto& { return f.events_role; }),
      Text(
          "events-token-file", "its ServiceAccount token: the pod's own",
          [](Flags & f) -> auto& { return f.events_token_file; }),
      {"remove-startup-taint", true,
       "once registered, takes secrets-store.csi.k8s.io/agent-not-ready from the node: false",
       SetStartupTaint},
      {"seccomp", false,
       "system calls beyond the plugin's list: enforce (they are refused), log, or off: enforce",
       SetSeccomp},
      {"log-level", false, "trace, debug, info, warn, error, or off, which is error", SetLogLevel},
      {"debug", true, "the same as --log-level=debug, as in vault-csi-provider", SetDebug},
      {"log-format-json", true, "logs as JSON, one object a line", SetLogFormat},
      {"v", false, "log verbosity as in the upstream driver: 5 and more for details", SetVerbosity},
      {"vault-addr", false, "the keystore where a class names none; also VAULT_ADDR",
       SetVaultAddress},
      Text(
          "vault-namespace", "its namespace; also VAULT_NAMESPACE",
          [](Flags & f) -> auto& { return f.defaults.vault_namespace; }),
      Text(
          "vault-mount", "the auth mount where a class names none; also VAULT_MOUNT: kubernetes",
          [](Flags & f) -> auto& { return f.defaults.auth_mount; }),
      {"vault-auth-type", false,
       "its kind, as in vault-csi-provider: kubernetes or jwt, which log in alike", SetAuthType},
      Text(
          "vault-tls-ca-cert", "a PEM file; also VAULT_CACERT",
          [](Flags & f) -> auto& { return f.defaults.tls.ca_file; }),
      Text(
          "vault-tls-ca-directory", "a folder of PEM files; also VAULT_CAPATH",
          [](Flags & f) -> auto& { return f.defaults.tls.ca_directory; }),
      Text(
          "vault-tls-server-name",
          "the name that the certificate must have; also VAULT_TLS_SERVER_NAME",
          [](Flags & f) -> auto& { return f.defaults.tls.server_name; }),
      Text(
          "vault-tls-client-cert", "a PEM file; also VAULT_CLIENT_CERT",
          [](Flags & f) -> auto& { return f.defaults.tls.client_certificate_file; }),
      Text(
          "vault-tls-client-key", "a PEM file; also VAULT_CLIENT_KEY",
          [](Flags & f) -> auto& { return f.defaults.tls.client_key_file; }),
      Switch(
          "vault-tls-skip-verify", "trust any certificate; also VAULT_SKIP_VERIFY",
          [](Flags & f) -> auto& { return f.defaults.tls.skip_verify; }),
      Switch(
          "version", "prints the version", [](Flags & f) -> auto& { return f.version; }),
      Switch(
          "help", "prints this", [](Flags & f) -> auto& { return f.help; }),
  };
  return *table;
}

const Flag* Find(std::string_view name) {
  const auto found = std::find_if(Table().begin(), Table().end(),
                                  [name](const Flag& flag) { return flag.name == name; });
  return found == Table().end() ? nullptr : &*found;
}

// The environment of vault-csi-provider, and who the plugin's pod is.
absl::Status ReadEnvironment(Flags* flags) {
  const std::pair<const char*, std::string_view> names[] = {
      {"VAULT_ADDR", "vault-addr"},
      {"VAULT_MOUNT", "vault-mount"},
      {"VAULT_NAMESPACE", "vault-namespace"},
      {"VAULT_CACERT", "vault-tls-ca-cert"},
      {"VAULT_CAPATH", "vault-tls-ca-directory"},
      {"VAULT_TLS_SERVER_NAME", "vault-tls-server-name"},
      {"VAULT_CLIENT_CERT", "vault-tls-client-cert"},
      {"VAULT_CLIENT_KEY", "vault-tls-client-key"},
      {"VAULT_SKIP_VERIFY", "vault-tls-skip-verify"}};
  for (const auto& [variable, flag] : names) {
    const char* value = std::getenv(variable);
    if (value == nullptr || *value == '\0') continue;
    const absl::Status set = Find(flag)->set(value, flags);
    if (!set.ok()) return absl::InvalidArgumentError(StrCat(variable, " ", Message(set)));
  }
  const std::pair<const char*, std::string*> own[] = {{"POD_NAMESPACE", &flags->pod_namespace},
                                                      {"POD_NAME", &flags->pod_name},
                                                      {"POD_UID", &flags->pod_uid}};
  for (const auto& [variable, field] : own) {
    if (const char* value = std::getenv(variable); value != nullptr) *field = value;
  }
  for (const auto& [variable, why] : UnreadVariables()) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') AddWithoutEffect(variable, why, flags);
  }
  return absl::OkStatus();
}

absl::Status Check(const Flags& flags) {
  if (flags.help || flags.version) return absl::OkStatus();
  if (flags.node_id.empty()) {
    return absl::InvalidArgumentError("--nodeid is missing: give the node's name");
  }
  // The rule of CSI, which the kubelet's folder names rest on.
  const std::string& name = flags.driver_name;
  const bool valid =
      !name.empty() && name.size() <= 63 &&
      std::all_of(name.begin(), name.end(),
                  [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '.'; }) &&
      std::isalpha(static_cast<unsigned char>(name.front())) &&
      std::isalnum(static_cast<unsigned char>(name.back()));
  if (!valid) {
    return absl::InvalidArgumentError(
        StrCat("--driver-name \"", name, "\" must be a domain name of at most 63 characters"));
  }
  if (flags.endpoint.ends_with("/vault.sock")) {
    return absl::InvalidArgumentError(
        "--endpoint is the CSI socket: where vault-csi-provider has its socket, give the folder with "
        "--provider-socket-dir");
  }
  if (!flags.kubelet_root.starts_with('/')) {
    return absl::InvalidArgumentError("--kubelet-root must be an absolute path");
  }
  if (flags.registration_dir.empty() != flags.registration_path.empty()) {
    return absl::InvalidArgumentError(
        "--plugin-registration-dir and --kubelet-registration-path belong together: give both");
  }
  if (!flags.class_dir.empty() && !flags.kubeconfig.empty()) {
    return absl::InvalidArgumentError(
        "--secret-provider-class-dir and --kubeconfig exclude each other");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Flags> ParseFlags(std::span<const char* const> arguments) {
  Flags flags;
  RETURN_IF_ERROR(ReadEnvironment(&flags));
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view argument = arguments[i];
    if (!argument.starts_with('-') || argument == "-") {
      return absl::InvalidArgumentError(StrCat("unexpected argument \"", argument, "\""));
    }
    argument.remove_prefix(argument.starts_with("--") ? 2 : 1);
    const std::size_t equals = argument.find('=');
    const std::string name(argument.substr(0, equals));
    const Flag* flag = Find(name);
    const FlagWithoutEffect* accepted = FindFlagWithoutEffect(name);
    if (flag == nullptr && accepted == nullptr) {
      return absl::InvalidArgumentError(StrCat("unknown flag --", name, ": see --help"));
    }
    const bool boolean = flag != nullptr ? flag->boolean : accepted->boolean;
    std::string_view value = "true";
    if (equals != argument.npos) {
      value = argument.substr(equals + 1);
    } else if (!boolean) {
      if (++i == arguments.size()) {
        return absl::InvalidArgumentError(StrCat("--", name, " needs a value"));
      }
      value = arguments[i];
    }
    if (flag == nullptr) {
      AddWithoutEffect(StrCat("--", name), accepted->why, &flags);
      continue;
    }
    const absl::Status set = flag->set(value, &flags);
    if (!set.ok()) return absl::InvalidArgumentError(StrCat("--", name, ": ", Message(set)));
  }
  RETURN_IF_ERROR(Check(flags));
  while (flags.kubelet_root.size() > 1 && flags.kubelet_root.ends_with('/')) {
    flags.kubelet_root.pop_back();
  }
  return flags;
}

RotationRule Flags::rotation() const {
  const absl::Duration otherwise =
      enable_rotation.value_or(false) ? kUpstreamRotationInterval : absl::ZeroDuration();
  return {.on = enable_rotation.value_or(true), .interval = rotation_interval.value_or(otherwise)};
}

std::string FlagsHelp() {
  std::string text = "coffer-csi: the CSI node plugin of Coffer\n\n";
  for (const Flag& flag : Table()) {
    StrAppend(&text, "  --", flag.name,
              std::string(28 - std::min<std::size_t>(27, flag.name.size()), ' '), flag.help, "\n");
  }
  StrAppend(&text, "\nOf the upstream driver and its sidecars, accepted without effect:\n");
  for (const FlagWithoutEffect& flag : FlagsWithoutEffect()) {
    StrAppend(&text, "  --", flag.name,
              std::string(36 - std::min<std::size_t>(35, flag.name.size()), ' '), flag.why, "\n");
  }
  return text;
}

}  // namespace coffer::csi
