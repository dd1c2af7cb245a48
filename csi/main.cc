// coffer-csi: the node plugin. Builds the tree of parts, serves until told to stop.
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
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
#include "csi/plugin.h"
#include "csi/program_pages.h"
#include "csi/secret_checks.h"
#include "csi/version.h"

namespace coffer::csi {
namespace {

constexpr absl::Duration kLastRevocations = absl::Seconds(3);
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

void WarnOfMissing(std::string_view flag, const std::string& folder) {
  struct stat facts = {};
  if (folder.empty() || (stat(folder.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode))) return;
  log::Warning("a folder isn't there", {{"flag", flag}, {"folder", folder}});
}

// None where classes come from a folder.
absl::StatusOr<std::unique_ptr<KubeClient>> ConnectToCluster(const Flags& flags) {
  if (!flags.class_dir.empty()) return nullptr;
  ASSIGN_OR_RETURN(KubeConfig config,
                   flags.kubeconfig.empty() ? InClusterConfig() : LoadKubeConfig(flags.kubeconfig));
  return std::make_unique<KubeClient>(std::move(config));
}

absl::StatusOr<std::unique_ptr<AuditLog>> OpenAuditLog(const Clock& clock, const Flags& flags) {
  if (flags.audit_log.empty()) return nullptr;
  return AuditLog::Open(clock, flags.audit_log);
}

// Hands over first: the next plugin goes on at once, and what follows takes its time.
void Stop(Volumes& volumes, Publishing& publishing, Doors& doors,
          std::optional<SecretChecks>& checks) {
  alarm(kStopSeconds);
  const bool tokens_are_kept = publishing.handover.Holds();
  doors.StopListening();
  volumes.server.HandOver(kKeeperRestart);
  const std::future<void> calls = std::async(std::launch::async, [&] {
    if (publishing.events) publishing.events->Stop();
    doors.server.reset();
    doors.provider_server.reset();
    doors.admin.reset();
    publishing.rotation.Stop();
    checks.reset();
  });
  const bool ended = calls.wait_for(kLastCalls) == std::future_status::ready;
  const Clock& clock = volumes.clock;
  if (volumes.reporter) volumes.reporter->writer().Drain(clock.Now() + kLastWrites);
  if (!tokens_are_kept) publishing.publisher.ForgetTokens();
  doors.provider_service.ForgetTokens();
  if (!publishing.revoker.Drain(clock.Now() + kLastRevocations)) {
    log::Warning("some tokens are not revoked and live until their TTL ends");
  }
  if (ended) return;
  log::Warning("calls that hang are left off");
  volumes.read_times.Save().IgnoreError();
  if (volumes.audit_log != nullptr) volumes.audit_log->Stop();
  _exit(0);
}

absl::Status Run(const Flags& flags, const sigset_t& stop) {
  ASSIGN_OR_RETURN(const std::vector<std::string> sockets, KubeletSockets(flags));
  ASSIGN_OR_RETURN(std::unique_ptr<KubeClient> cluster, ConnectToCluster(flags));
  const SystemClock clock;
  ASSIGN_OR_RETURN(std::unique_ptr<AuditLog> audit_log, OpenAuditLog(clock, flags));
  Volumes volumes(clock, flags, std::move(cluster), std::move(audit_log));
  std::unique_ptr<StatusServer> health;
  if (!flags.health_address.empty() && flags.health_address != flags.metrics_address) {
    ASSIGN_OR_RETURN(health, StatusServer::Start(flags.health_address, {{"/health/ready", Alive}},
                                                 volumes.IfTaken()));
  }
  const absl::Status taken_over = volumes.TakeOver(flags, stop);
  if (absl::IsCancelled(taken_over)) return absl::OkStatus();

  Publishing publishing(flags, volumes);
  Doors doors(flags, volumes, publishing);
  RETURN_IF_ERROR(doors.Open(sockets));
  publishing.Start(clock);
  std::optional<SecretChecks> checks;
  if (volumes.reporter) checks.emplace(*publishing.classes, volumes.server, *volumes.reporter);
  if (!flags.without_effect.empty()) {
    log::Info("flags and variables that have no effect here",
              {{"these", flags.without_effect}});
  }
  WarnOfMissing("--kubelet-root", flags.kubelet_root);
  WarnOfMissing("--secret-provider-class-dir", flags.class_dir);
  LetGoOfProgramPages();
  log::Info("coffer-csi serves",
            {{"version", kVersion},
             {"driver", flags.driver_name},
             {"node", flags.node_id},
             {"endpoint", sockets.front()},
             {"classes", volumes.kube ? volumes.kube->server() : flags.class_dir}});

  const int signal_number = WaitForStop(stop, [&volumes] {
    if (volumes.audit_log != nullptr) volumes.audit_log->Reopen();
  });
  log::Info("stopping; volumes stay mounted", {{"signal", signal_number}});
  Stop(volumes, publishing, doors, checks);
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
